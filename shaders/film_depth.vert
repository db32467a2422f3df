#version 330 core
// The true surface's places alone: for what a lamp reaches, and for depth.

layout(location = 0) in vec3 position;  // m, world

uniform mat4 clip_from_world;

void main() { gl_Position = clip_from_world * vec4(position, 1.0); }
