#version 330 core
// Composite the layers of a view, back to front: background, floor, then the mesh under or over the
// splats. Layers are premultiplied, with row 0 at the top; the result is opaque.

uniform vec2 size;               // size of the image, pixels
uniform vec4 background;         // rgb; alpha 0: a checkerboard
uniform bool has_floor;
uniform mat3 floor_from_pixel;   // (x w, y w, w) m, world, z = 0; w > 0 before the camera
uniform sampler2D splats;
uniform bool splats_cover;       // true if they include the background
uniform sampler2D mesh;
uniform float mesh_opacity;      // 0: no mesh
uniform bool mesh_over;

out vec4 rgba;

const float SQUARE_PX = 12.0;
const vec3 DARK = vec3(102.0 / 255.0), LIGHT = vec3(140.0 / 255.0);
const vec3 PALE = vec3(0.55, 0.58, 0.62), DIM = vec3(0.10, 0.11, 0.12);  // lines on dark, on light
const vec3 AXIS_X = vec3(0.86, 0.30, 0.30), AXIS_Y = vec3(0.36, 0.74, 0.36);
const float LINE_ALPHA = 0.45, AXIS_ALPHA = 0.9;
const float GONE_PX = 3.0, FULL_PX = 24.0;  // spacing of the lines at which they fade

// Coverage of a line of the floor, given by its homogeneous pixel coordinates.
float line_cover(vec3 line, vec3 pixel, float half_px) {
    float away = abs(dot(line, pixel)) / max(length(line.xy), 1e-20);
    return 1.0 - smoothstep(half_px - 0.5, half_px + 0.5, away);
}

// Draw the grid and the axes of the floor over a colour.
vec3 with_floor(vec3 below, vec2 position) {
    vec3 pixel = vec3(position, 1.0), along_x = transpose(floor_from_pixel)[0],
         along_y = transpose(floor_from_pixel)[1], along_w = transpose(floor_from_pixel)[2];
    float w = dot(along_w, pixel);
    if (w <= 0.0) return below;  // above the horizon
    vec2 place = vec2(dot(along_x, pixel), dot(along_y, pixel)) / w;
    // Change of x and y from pixel to pixel, m.
    vec2 slope = vec2(length(along_x.xy - place.x * along_w.xy),
                      length(along_y.xy - place.y * along_w.xy)) / w;
    float metre_px = 1.0 / max(max(slope.x, slope.y), 1e-20);
    bool is_light = background.a == 0.0 || dot(background.rgb, vec3(1.0 / 3.0)) > 0.35;
    vec3 line = is_light ? DIM : PALE, result = below;
    for (float step_m = 1.0; step_m < 11.0; step_m *= 10.0) {
        vec2 near = step_m * round(place / step_m);
        float cover = max(line_cover(along_x - near.x * along_w, pixel, 0.6),
                          line_cover(along_y - near.y * along_w, pixel, 0.6));
        float fade = smoothstep(GONE_PX, FULL_PX, step_m * metre_px);
        result = mix(result, line, LINE_ALPHA * fade * cover);
    }
    float fade = AXIS_ALPHA * smoothstep(GONE_PX, FULL_PX, 10.0 * metre_px);
    result = mix(result, AXIS_X, fade * line_cover(along_y, pixel, 0.9));
    return mix(result, AXIS_Y, fade * line_cover(along_x, pixel, 0.9));
}

void main() {
    vec2 position = gl_FragCoord.xy;
    vec2 square = floor(position / SQUARE_PX);
    vec3 squares = mod(square.x + square.y, 2.0) < 0.5 ? DARK : LIGHT;
    vec3 result = background.a > 0.0 ? background.rgb : squares;
    if (has_floor) result = with_floor(result, position);
    vec4 surface = mesh_opacity > 0.0 ? mesh_opacity * texture(mesh, position / size) : vec4(0.0);
    vec4 splat = texture(splats, position / size);
    if (splats_cover) splat.a = 1.0;
    vec4 first = mesh_over ? splat : surface, second = mesh_over ? surface : splat;
    result = first.rgb + (1.0 - first.a) * result;
    result = second.rgb + (1.0 - second.a) * result;
    rgba = vec4(result, 1.0);
}
