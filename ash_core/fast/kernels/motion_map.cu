// The motion map: positions and normals of three poses at the texels, half, channels last. Meaning:
// Avatar.motion_map. An item is one texel's, or one pixel's, three channels of one pose's positions or normals.

// Channels 3 part ... 3 part + 2 of a texel: positions of the window's three poses, then normals.
__device__ __forceinline__ float3 seen_at_texel(
    int4 corners, float4 weights, int part, const float* __restrict__ vertices, const float* __restrict__ normals,
    const int* __restrict__ window, int n_vertices, float3 origin) {
    bool position = part < 3;
    const float* values = (position ? vertices : normals) + window[position ? part : part - 3] * n_vertices * 3;
    float3 a = load3(values + corners.x * 3), b = load3(values + corners.y * 3), c = load3(values + corners.z * 3);
    if (position) a = subtract3(a, origin), b = subtract3(b, origin), c = subtract3(c, origin);
    return add3(add3(scale3(a, weights.x), scale3(b, weights.y)), scale3(c, weights.z));
}

// Released avatars: about the newest root dofs.
//   in   corners int4 [n_texels]: vertices of the texel's face, place in the map   weights float4 [n_texels]
//        vertices, normals float [slots, n_vertices, 3]   root float [slots, 16]   window int [3], newest first
//   out  map half [r, r, 24], of which 18 are written; one thread an item
extern "C" __global__ void __launch_bounds__(256) motion_map_texels(
    int n_texels, const int4* __restrict__ corners, const float4* __restrict__ weights,
    const float* __restrict__ vertices, const float* __restrict__ normals, const float* __restrict__ root,
    const int* __restrict__ window, int n_vertices, unsigned short* __restrict__ map) {
    begin_kernel();
    int item = blockIdx.x * blockDim.x + threadIdx.x, texel = item / 6, part = item - texel * 6;
    if (texel >= n_texels) return;
    int4 at = corners[texel];
    float3 origin = load3(root + window[0] * 16);
    float3 seen = seen_at_texel(at, weights[texel], part, vertices, normals, window, n_vertices, origin);
    unsigned short* out = map + (size_t)at.w * 24 + part * 3;
    out[0] = float_to_half(seen.x), out[1] = float_to_half(seen.y), out[2] = float_to_half(seen.z);
}

// Native avatars: about the newest heading joint, from its heading; 2x2 texels are a pixel's channels c 4 + sub.
//   part  0 position   1, 2 the last moves   3, 4 normals   5 the newest normal as it stands in the room
//   in   pixels int [n_pixels]: places in the map   quads int4 [n_pixels]: their texels, -1 off the mesh
//   out  map half [r / 2, r / 2, 72], zero where a pixel's texel is off the mesh; one thread an item
extern "C" __global__ void __launch_bounds__(256) motion_map_pixels(
    int n_pixels, const int* __restrict__ pixels, const int4* __restrict__ quads, const int4* __restrict__ corners,
    const float4* __restrict__ weights, const float* __restrict__ vertices, const float* __restrict__ normals,
    const float* __restrict__ root, const int* __restrict__ window, int n_vertices,
    unsigned short* __restrict__ map) {
    begin_kernel();
    int item = blockIdx.x * blockDim.x + threadIdx.x, pixel = item / 6, part = item - pixel * 6;
    if (pixel >= n_pixels) return;
    const float* newest = root + window[0] * 16;
    float3 origin = load3(newest + 3), t0 = load3(newest + 6), t1 = load3(newest + 9), t2 = load3(newest + 12);
    bool moves = part == 1 || part == 2, in_room = part == 5;
    int first = moves ? part - 1 : in_room ? 3 : part;
    int4 quad = quads[pixel];
    int texels[4] = {quad.x, quad.y, quad.z, quad.w};
    float3 seen[4];
    for (int sub = 0; sub < 4; ++sub) {
        int texel = max(texels[sub], 0);
        int4 at = corners[texel];
        float4 by = weights[texel];
        float3 v = seen_at_texel(at, by, first, vertices, normals, window, n_vertices, origin);
        float on = texels[sub] < 0 ? 0.0f : 1.0f;
        if (moves) {
            v = subtract3(v, seen_at_texel(at, by, part, vertices, normals, window, n_vertices, origin));
            on *= MOVE_GAIN;
        }
        if (!in_room) v = add3(add3(scale3(t0, v.x), scale3(t1, v.y)), scale3(t2, v.z));  // v @ R_body_heading
        seen[sub] = scale3(v, on);
    }
    uint2* out = reinterpret_cast<uint2*>(map + ((size_t)pixels[pixel] * 18 + part * 3) * 4);
    out[0] = make_uint2(float2_to_half2(seen[0].x, seen[1].x), float2_to_half2(seen[2].x, seen[3].x));
    out[1] = make_uint2(float2_to_half2(seen[0].y, seen[1].y), float2_to_half2(seen[2].y, seen[3].y));
    out[2] = make_uint2(float2_to_half2(seen[0].z, seen[1].z), float2_to_half2(seen[2].z, seen[3].z));
}
