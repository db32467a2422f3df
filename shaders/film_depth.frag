#version 330 core
// Nothing but depth: what a lamp reaches, or how far away a camera sees the surface.

void main() {}
