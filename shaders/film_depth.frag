#version 330 core
// Write depth alone: for the shadows of a lamp, or for the depth map of a camera.

void main() {}
