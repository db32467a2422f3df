#version 330 core
// Shade a mesh, premultiplied: lit from the eye, textured, or its edges alone.

in Surface {
    vec3 place;
    vec3 normal;
    vec2 uv;
    vec3 corner;
} surface;

uniform int mode;          // 0 shaded, 1 textured, 2 wire
uniform vec3 eye;          // m, world
uniform vec3 colour;       // colour of the shaded surface and of the wire
uniform float half_px;     // half the width of the wire, pixels
uniform sampler2D image;   // row 0 is v = 1

out vec4 rgba;

const float AMBIENT = 0.25;
const float SPARSE_PX = 8.0, FAINT = 0.3;

// Coverage of the nearest edge, reduced where small triangles would be filled by edges.
float edge_cover() {
    vec3 across = dFdx(surface.corner), down = dFdy(surface.corner);
    vec3 height = 1.0 / max(sqrt(across * across + down * down), vec3(1e-12));  // pixels
    vec3 away = abs(surface.corner) * height;
    float nearest = min(away.x, min(away.y, away.z));
    float least = min(height.x, min(height.y, height.z));
    float line = 1.0 - smoothstep(half_px - 0.5, half_px + 0.5, nearest);
    return line * clamp(least / SPARSE_PX, FAINT, 1.0);
}

void main() {
    if (mode == 0) {
        // Either side of the surface is lit; a normal of zero length (no face about it) is dark.
        vec3 towards = normalize(eye - surface.place);
        float size = max(length(surface.normal), 1e-6);
        float lit = abs(dot(surface.normal, towards)) / size;
        rgba = vec4((AMBIENT + (1.0 - AMBIENT) * lit) * colour, 1.0);
    } else if (mode == 1) {
        rgba = vec4(texture(image, vec2(surface.uv.x, 1.0 - surface.uv.y)).rgb, 1.0);
    } else {
        // The interior hides what lies behind it: it writes depth and a transparent colour.
        float line = edge_cover();
        rgba = vec4(line * colour, line);
    }
}
