#version 330 core
// Shade the true surface for one camera of the stage: arriving light times colour, and gloss by
// material and view. Light is linear inside; the output is encoded in sRGB, as photographs are.

centroid in vec3 place;
centroid in vec3 direction;
centroid in vec3 light;
centroid in vec3 free;
centroid in vec2 texel;
in vec3 centre_place;
in vec2 centre_texel;
flat in int kind;

const int MATERIALS = 9, LAMPS = 6, HAIR = 1;

uniform vec3 eye;                     // m, world
uniform sampler2D image;              // albedo, row 0 is v = 1
uniform sampler2D finish;             // red: 0 matt, 1 like a mirror; green, blue: slopes of the paint
uniform float slope_m;                // range of the slopes, m per unit of uv
uniform vec4 materials[MATERIALS];    // roughness, reflectance head-on, softness, fuzz
uniform vec3 lamp_ways[LAMPS];        // unit, world: towards the lamp
uniform vec3 lamp_lights[LAMPS];      // linear RGB
uniform vec3 sky, ground;             // linear RGB of the light from above and from the floor

out vec4 rgba;

// Light of one lamp that a glossy surface reflects to the eye (GGX). A white matt surface that faces
// the lamp reflects 1.
float glint(float n_l, float n_v, float n_h, float v_h, float roughness, float head_on) {
    float a = roughness * roughness, a2 = a * a;
    float d = n_h * n_h * (a2 - 1.0) + 1.0;
    float k = 0.5 * a;
    float visibility = 0.25 / ((n_l * (1.0 - k) + k) * (n_v * (1.0 - k) + k));
    float rest = 1.0 - v_h, rest2 = rest * rest;
    float fresnel = head_on + (1.0 - head_on) * rest2 * rest2 * rest;
    return a2 / (d * d) * visibility * fresnel * n_l;
}

// Normal of the surface with its paint's relief. slope: m per unit of uv. Steep edges are bounded.
// Source: Mikkelsen 2010, "Bump Mapping Unparametrized Surfaces on the GPU".
vec3 bumped(vec3 normal, vec2 slope) {
    vec3 across = dFdx(centre_place), up = dFdy(centre_place);
    vec2 uv = vec2(centre_texel.x, 1.0 - centre_texel.y);
    vec3 a = cross(up, normal), b = cross(normal, across);
    float area = dot(across, a);
    vec3 steep = (dot(slope, dFdx(uv)) * a + dot(slope, dFdy(uv)) * b)
               / (abs(area) < 1e-12 ? 1e-12 : area);
    return normalize(normal - steep * min(1.0, 0.9 / max(length(steep), 1e-6)));
}

vec3 encoded(vec3 linear) {
    vec3 low = 12.92 * linear, high = 1.055 * pow(max(linear, 1e-5), vec3(1.0 / 2.4)) - 0.055;
    return mix(low, high, step(0.0031308, linear));
}

void main() {
    vec3 view = normalize(eye - place);
    vec3 normal = normalize(direction);
    // Row 0 of the image is the top: front and back are swapped.
    if (gl_FrontFacing) normal = -normal;
    vec2 uv = vec2(texel.x, 1.0 - texel.y);
    vec3 coat = texture(finish, uv).rgb;
    vec3 smooth_normal = normal;
    normal = bumped(normal, (coat.gb - 128.0 / 255.0) * slope_m);
    // Near the outline the interpolated normal turns away from the eye before the surface does.
    float n_v = max(dot(normal, view), 0.02);

    vec3 stored = texture(image, uv, -0.5).rgb;
    vec3 albedo = mix(stored / 12.92, pow((stored + 0.055) / 1.055, vec3(2.4)),
                      step(0.04045, stored));
    vec4 material = materials[kind];
    float shine = coat.r;
    float roughness = mix(material.x, min(material.x, 0.30), shine);
    float head_on = mix(material.y, max(material.y, 0.06), shine);

    // Arriving light is that of the smooth surface: the relief turns it.
    vec3 mirrored = vec3(0.0), turned = light;
    float soft = material.z;
    for (int n = 0; n < LAMPS; n++) {
        float n_l = dot(normal, lamp_ways[n]);
        float gain = (max(n_l + soft, 0.0) - max(dot(smooth_normal, lamp_ways[n]) + soft, 0.0))
                   / ((1.0 + soft) * (1.0 + soft));
        turned += free[min(n, 2)] * gain * lamp_lights[n];
        vec3 half_way = normalize(lamp_ways[n] + view);
        float reflected = glint(max(n_l, 0.0), n_v, max(dot(normal, half_way), 0.0),
                                max(dot(view, half_way), 0.0), roughness, head_on);
        mirrored += reflected * free[min(n, 2)] * lamp_lights[n];
    }
    turned = max(turned, 0.25 * light);
    // Reflection of the lit room: broad, and strongest along the outline.
    vec3 back = reflect(-view, normal);
    float slant = 1.0 - n_v, slant3 = slant * slant * slant;
    vec3 room = mix(ground, sky, smoothstep(-0.4, 0.8, back.z)) * free.z * free.z;
    mirrored += room * (head_on + (1.0 - head_on) * slant3 * slant * slant * 0.5)
              * (1.0 - roughness) * 0.8;
    // Most light that hair reflects has been through it, and has its colour.
    if (kind == HAIR) mirrored *= mix(vec3(1.0), albedo / max(max(albedo.r, albedo.g), 0.02), 0.6);
    vec3 fuzz = material.w * slant3 * turned * (0.3 + albedo);
    rgba = vec4(encoded(min(albedo * turned + mirrored + fuzz, 1.0)), 1.0);
}
