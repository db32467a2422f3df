#version 330 core
// Project the true surface of one pose for a camera. Arriving light and shadows are attributes of the
// vertices: they are the same for all cameras.

layout(location = 0) in vec3 position;  // m, world
layout(location = 1) in vec3 normal;    // unit, world
layout(location = 2) in vec3 arriving;  // light on a white matt surface there, linear RGB
layout(location = 3) in vec3 reached;   // share of the light of lamps 0, 1 and all others
layout(location = 4) in vec2 uv;        // v up
layout(location = 5) in float material; // an integer

uniform mat4 clip_from_world;

// Centroid sampling: at an edge the centre of the pixel may lie outside, on another chart.
centroid out vec3 place;
centroid out vec3 direction;
centroid out vec3 light;
centroid out vec3 free;
centroid out vec2 texel;
// The relief takes differences between pixels: centroids jump at edges, the pixels' centres do not.
out vec3 centre_place;
out vec2 centre_texel;
flat out int kind;

void main() {
    place = centre_place = position;
    direction = normal;
    light = arriving;
    free = reached;
    texel = centre_texel = uv;
    kind = int(material + 0.5);
    gl_Position = clip_from_world * vec4(position, 1.0);
}
