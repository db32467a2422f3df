// Motion map: input of the networks at the texels for a window of poses, half, channels last. Meaning:
// Avatar.motion_map. An item is three channels of one texel, or pixel: one of PARTS vectors. One thread an item.

// Interpolate vertex values [n_vertices, 3], minus an origin, at a texel.
__device__ __forceinline__ float3 at_texel(
    int4 corners, float4 weights, const float* __restrict__ values, float3 origin) {
    float3 a = subtract3(load3(values + corners.x * 3), origin), b = subtract3(load3(values + corners.y * 3), origin);
    float3 c = subtract3(load3(values + corners.z * 3), origin);
    return add3(add3(scale3(a, weights.x), scale3(b, weights.y)), scale3(c, weights.z));
}

// Released avatars: positions of three poses about the newest root dofs, then their normals.
//   in   corners int4 [n_texels]: vertices of the texel's face, position in the map   weights float4 [n_texels]
//        vertices, normals float [slots, n_vertices, 3]   root float [slots, 16]   window int [3], newest first
//   out  map half [r, r, 24], of which 18 are written
// grid ceil(n_texels PARTS / THREADS), block THREADS.
extern "C" __global__ void __launch_bounds__(THREADS) motion_map_texels(
    int n_texels, const int4* __restrict__ corners, const float4* __restrict__ weights,
    const float* __restrict__ vertices, const float* __restrict__ normals, const float* __restrict__ root,
    const int* __restrict__ window, int n_vertices, unsigned short* __restrict__ map) {
    begin_kernel();
    int item = blockIdx.x * blockDim.x + threadIdx.x, texel = item / PARTS, part = item - texel * PARTS;
    if (texel >= n_texels) return;
    int4 corner = corners[texel];
    bool position = part < 3;
    const float* values = (position ? vertices : normals) + window[position ? part : part - 3] * n_vertices * 3;
    float3 origin = position ? load3(root + window[0] * ROOT_FLOATS) : make_float3(0.0f, 0.0f, 0.0f);
    float3 value = at_texel(corner, weights[texel], values, origin);
    unsigned short* out = map + (size_t)corner.w * 24 + part * 3;
    out[0] = float_to_half(value.x), out[1] = float_to_half(value.y), out[2] = float_to_half(value.z);
}

// Native avatars: relative to position and heading of the newest heading joint. A pixel has 2x2 texels, as channels
// 4 c + sub.
//   part  0 position   1 ... 4 moves, from a pose of the window to the next newer one, times gains
//         5 the newest normal
//   in   pixels int [n_pixels]: positions in the map   quads int4 [n_pixels]: their texels, -1 off the mesh
//        window int [5], newest first   gains float [4]
//   out  map half [r / 2, r / 2, 72], zero where a texel is off the mesh
// grid ceil(n_pixels PARTS / THREADS), block THREADS.
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
    float3 turned[4];
    for (int sub = 0; sub < 4; ++sub) {
        int texel = max(texels[sub], 0);
        int4 corner = corners[texel];
        float4 weight = weights[texel];
        float3 v = at_texel(corner, weight, values, origin);
        float factor = texels[sub] < 0 ? 0.0f : gain;
        if (move) v = subtract3(v, at_texel(corner, weight, older, origin));
        // v @ R_body_heading
        turned[sub] = scale3(add3(add3(scale3(t0, v.x), scale3(t1, v.y)), scale3(t2, v.z)), factor);
    }
    uint2* out = reinterpret_cast<uint2*>(map + ((size_t)pixels[pixel] * 18 + part * 3) * 4);
    out[0] = make_uint2(float2_to_half2(turned[0].x, turned[1].x), float2_to_half2(turned[2].x, turned[3].x));
    out[1] = make_uint2(float2_to_half2(turned[0].y, turned[1].y), float2_to_half2(turned[2].y, turned[3].y));
    out[2] = make_uint2(float2_to_half2(turned[0].z, turned[1].z), float2_to_half2(turned[2].z, turned[3].z));
}
