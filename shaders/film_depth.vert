#version 330 core
// Project the positions of the true surface alone, for shadows and depth maps.

layout(location = 0) in vec3 position;  // m, world

uniform mat4 clip_from_world;

void main() { gl_Position = clip_from_world * vec4(position, 1.0); }
