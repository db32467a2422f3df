#version 330 core
// A mesh's vertices to the picture. Row 0 of the picture is y = 0 of the framebuffer, so that
// gl_FragCoord counts pixels as cameras do: the centre of the top-left one is (0.5, 0.5).

layout(location = 0) in vec3 position;  // m, world
layout(location = 1) in vec3 normal;    // unit, world
layout(location = 2) in vec2 uv;        // v up, as in the OBJ file

uniform mat4 clip_from_world;

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
}
