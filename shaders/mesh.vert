#version 330 core
// Project the vertices of a mesh. Row 0 of the image is y = 0 of the framebuffer, so that
// gl_FragCoord counts pixels as cameras do: the centre of the top-left one is (0.5, 0.5).

layout(location = 0) in vec3 position;  // m, world
layout(location = 1) in vec3 normal;    // unit, world
layout(location = 2) in vec2 uv;        // v up, as in the OBJ file
layout(location = 3) in float cover;    // 1: the resting template covers it

uniform mat4 clip_from_world;
uniform vec3 eye;          // m, world
uniform float covered_m;   // shift of covered vertices, m
uniform float behind_m;    // shift of all vertices of this pass, m

out Surface {
    vec3 place;
    vec3 normal;
    vec2 uv;
    vec3 corner;
} surface;

void main() {
    surface.place = position;
    surface.normal = normal;
    surface.uv = uv;
    surface.corner = vec3(0.0);
    gl_Position = clip_from_world * vec4(position, 1.0);
    // The position in the image is unchanged; the depth is that of a point farther along the ray.
    vec3 away = (cover * covered_m + behind_m) * normalize(position - eye);
    vec4 farther = clip_from_world * vec4(position + away, 1.0);
    if (gl_Position.w > 0.0) gl_Position.z = farther.z / farther.w * gl_Position.w;
}
