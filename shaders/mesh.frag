#version 330 core
// A mesh's surface, premultiplied: lit from the eye, as its texture is, or its edges alone.

in Surface {
    vec3 place;
    vec3 normal;
    vec2 uv;
    vec3 corner;
} surface;

uniform int mode;          // 0 shaded, 1 textured, 2 wire
uniform vec3 eye;          // m, world
uniform vec3 colour;       // of the shaded surface and of the wire
uniform float half_px;     // of the wire's width, pixels
uniform sampler2D image;   // row 0 is v = 1

out vec4 rgba;

const float AMBIENT = 0.25;

// Distance to the nearest edge, pixels.
float edge_px() {
    vec3 across = dFdx(surface.corner), down = dFdy(surface.corner);
    vec3 slope = sqrt(across * across + down * down);
    vec3 away = abs(surface.corner) / max(slope, vec3(1e-12));
    return min(away.x, min(away.y, away.z));
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
        // What is not an edge still hides what lies behind: it is written as nothing.
        float line = 1.0 - smoothstep(half_px - 0.5, half_px + 0.5, edge_px());
        rgba = vec4(line * colour, line);
    }
}
