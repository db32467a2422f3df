// The motion map: what the networks see of a window's poses at the texels, half, channels last. Meaning:
// Avatar.motion_map. An item is one texel's, or one pixel's, three channels: one of PARTS vectors.

// Vertex values [n_vertices, 3] less an origin, at a texel.
__device__ __forceinline__ float3 at_texel(
    int4 corners, float4 weights, const float* __restrict__ values, float3 origin) {
    float3 a = subtract3(load3(values + corners.x * 3), origin), b = subtract3(load3(values + corners.y * 3), origin);
    float3 c = subtract3(load3(values + corners.z * 3), origin);
    return add3(add3(scale3(a, weights.x), scale3(b, weights.y)), scale3(c, weights.z));
}

// Released avatars: positions of three poses about the newest root dofs, then their normals.
//   in   corners int4 [n_texels]: vertices of the texel's face, place in the map   weights float4 [n_texels]
//        vertices, normals float [slots, n_vertices, 3]   root float [slots, 16]   window int [3], newest first
//   out  map half [r, r, 24], of which 18 are written; one thread an item
extern "C" __global__ void __launch_bounds__(THREADS) motion_map_texels(
    int n_texels, const int4* __restrict__ corners, const float4* __restrict__ weights,
    const float* __restrict__ vertices, const float* __restrict__ normals, const float* __restrict__ root,
    const int* __restrict__ window, int n_vertices, unsigned short* __restrict__ map) {
    begin_kernel();
    int item = blockIdx.x * blockDim.x + threadIdx.x, texel = item / PARTS, part = item - texel * PARTS;
    if (texel >= n_texels) return;
    int4 at = corners[texel];
    bool position = part < 3;
    const float* values = (position ? vertices : normals) + window[position ? part : part - 3] * n_vertices * 3;
    float3 origin = position ? load3(root + window[0] * ROOT_FLOATS) : make_float3(0.0f, 0.0f, 0.0f);
    float3 seen = at_texel(at, weights[texel], values, origin);
    unsigned short* out = map + (size_t)at.w * 24 + part * 3;
    out[0] = float_to_half(seen.x), out[1] = float_to_half(seen.y), out[2] = float_to_half(seen.z);
}

// Native avatars: about the newest heading joint, from its heading; 2x2 texels are a pixel's channels c 4 + sub.
//   part  0 position   1 ... 4 moves, from a pose of the window to the next newer one, times gains
//         5 the newest normal
//   in   pixels int [n_pixels]: places in the map   quads int4 [n_pixels]: their texels, -1 off the mesh
//        window int [5], newest first   gains float [4]
//   out  map half [r / 2, r / 2, 72], zero where a pixel's texel is off the mesh; one thread an item
extern "C" __global__ void __launch_bounds__(THREADS) motion_map_pixels(
    int n_pixels, const int* __restrict__ pixels, const int4* __restrict__ quads, const int4* __restrict__ corners,
    const float4* __restrict__ weights, const float* __restrict__ vertices, const float* __restrict__ normals,
    const float* __restrict__ root, const int* __restrict__ window, int n_vertices,
    const float* __restrict__ gains, unsigned short* __restrict__ map) {
    begin_kernel();
    int item = blockIdx.x * blockDim.x + threadIdx.x, pixel = item / PARTS, part = item - pixel * PARTS;
    if (pixel >= n_pixels) return;
    const float* newest = root + window[0] * ROOT_FLOATS;
    float3 t0 = load3(newest + 6), t1 = load3(newest + 9), t2 = load3(newest + 12);
    bool normal = part == 5, move = !normal && part > 0;
    float3 origin = normal ? make_float3(0.0f, 0.0f, 0.0f) : load3(newest + 3);
    const float* older = vertices + window[move ? part : 0] * n_vertices * 3;
    const float* values = normal ? normals + window[0] * n_vertices * 3
                                 : vertices + window[move ? part - 1 : 0] * n_vertices * 3;
    float gain = move ? gains[part - 1] : 1.0f;
    int4 quad = quads[pixel];
    int texels[4] = {quad.x, quad.y, quad.z, quad.w};
    float3 seen[4];
    for (int sub = 0; sub < 4; ++sub) {
        int texel = max(texels[sub], 0);
        int4 at = corners[texel];
        float4 by = weights[texel];
        float3 v = at_texel(at, by, values, origin);
        float on = texels[sub] < 0 ? 0.0f : gain;
        if (move) v = subtract3(v, at_texel(at, by, older, origin));
        seen[sub] = scale3(add3(add3(scale3(t0, v.x), scale3(t1, v.y)), scale3(t2, v.z)), on);  // v @ R_body_heading
    }
    uint2* out = reinterpret_cast<uint2*>(map + ((size_t)pixels[pixel] * 18 + part * 3) * 4);
    out[0] = make_uint2(float2_to_half2(seen[0].x, seen[1].x), float2_to_half2(seen[2].x, seen[3].x));
    out[1] = make_uint2(float2_to_half2(seen[0].y, seen[1].y), float2_to_half2(seen[2].y, seen[3].y));
    out[2] = make_uint2(float2_to_half2(seen[0].z, seen[1].z), float2_to_half2(seen[2].z, seen[3].z));
}
