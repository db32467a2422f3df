#version 330 core
// Give each fragment its barycentric coordinates in the triangle, for the wire.
// Source: Baerentzen et al. 2006, "Single-pass wireframe rendering". Differs: correct under clipping.

layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;

in Surface {
    vec3 place;
    vec3 normal;
    vec2 uv;
    vec3 corner;
} vertices[];

out Surface {
    vec3 place;
    vec3 normal;
    vec2 uv;
    vec3 corner;
} surface;

void main() {
    for (int i = 0; i < 3; ++i) {
        surface.place = vertices[i].place;
        surface.normal = vertices[i].normal;
        surface.uv = vertices[i].uv;
        surface.corner = vec3(i == 0, i == 1, i == 2);
        gl_Position = gl_in[i].gl_Position;
        EmitVertex();
    }
    EndPrimitive();
}
