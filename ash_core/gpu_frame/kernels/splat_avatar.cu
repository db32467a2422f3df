// Skin an avatar's texels, project them and lay them into the tiles' lists: one launch from the networks' raw
// values to records, without Gaussians in between. Meaning: Avatar.assemble, then project.cu.
//   in   corners int4 [N]: vertices of the texel's face, its place in the networks' output
//        weights float4 [N]: barycentrics, which corner is the heaviest
//        canonical [slots, V, 3] m, transforms [slots, V, 8]: ring of posed meshes; window [H]: slots of the poses, newest first
//        raw values, half, channels last; cameras, group, capacity, records, n_tiles, tile_state, lists as in project.cu
// grid (ceil(N / group), C), block of at least `group` threads.

__device__ __forceinline__ float4 quat_times(float4 a, float4 b) {  // wxyz in x, y, z, w
    return make_float4(
        a.x * b.x - a.y * b.y - a.z * b.z - a.w * b.w, a.x * b.y + a.y * b.x + a.z * b.w - a.w * b.z,
        a.x * b.z - a.y * b.w + a.z * b.x + a.w * b.y, a.x * b.w + a.y * b.z - a.z * b.y + a.w * b.x);
}

__device__ __forceinline__ float3 turned_by(float4 q, float3 v) {
    float3 t = make_float3(2 * (q.z * v.z - q.w * v.y), 2 * (q.w * v.x - q.y * v.z), 2 * (q.y * v.y - q.z * v.x));
    return make_float3(
        v.x + q.x * t.x + q.z * t.z - q.w * t.y, v.y + q.x * t.y + q.w * t.x - q.y * t.z,
        v.z + q.x * t.z + q.y * t.y - q.z * t.x);
}

__device__ __forceinline__ float4 unit_quat(float4 q) {
    float inverse = rsqrtf(fmaxf(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w, 1e-24f));
    return make_float4(q.x * inverse, q.y * inverse, q.z * inverse, q.w * inverse);
}

__device__ __forceinline__ float3 at3(const float* __restrict__ values, int index) {
    return make_float3(values[3 * index], values[3 * index + 1], values[3 * index + 2]);
}

// A texel on the body: where it is before posing, and the dual quaternion that poses it.
struct Texel {
    float3 canonical;
    float4 real, dual;
};

__device__ __forceinline__ Texel skinned_texel(
    int4 corners, float4 weights, const float* __restrict__ canonical, const float4* __restrict__ transforms) {
    float3 a = at3(canonical, corners.x), b = at3(canonical, corners.y), c = at3(canonical, corners.z);
    float4 ra = transforms[2 * corners.x], rb = transforms[2 * corners.y], rc = transforms[2 * corners.z];
    float4 da = transforms[2 * corners.x + 1], db = transforms[2 * corners.y + 1], dc = transforms[2 * corners.z + 1];
    // All to the side of the heaviest corner, or q and -q would cancel.
    float4 side = weights.w == 0.0f ? ra : weights.w == 1.0f ? rb : rc;
    float wa = ra.x * side.x + ra.y * side.y + ra.z * side.z + ra.w * side.w > 0 ? weights.x : -weights.x;
    float wb = rb.x * side.x + rb.y * side.y + rb.z * side.z + rb.w * side.w > 0 ? weights.y : -weights.y;
    float wc = rc.x * side.x + rc.y * side.y + rc.z * side.z + rc.w * side.w > 0 ? weights.z : -weights.z;
    float4 real = make_float4(
        wa * ra.x + wb * rb.x + wc * rc.x, wa * ra.y + wb * rb.y + wc * rc.y, wa * ra.z + wb * rb.z + wc * rc.z,
        wa * ra.w + wb * rb.w + wc * rc.w);
    float4 dual = make_float4(
        wa * da.x + wb * db.x + wc * dc.x, wa * da.y + wb * db.y + wc * dc.y, wa * da.z + wb * db.z + wc * dc.z,
        wa * da.w + wb * db.w + wc * dc.w);
    float inverse = rsqrtf(fmaxf(real.x * real.x + real.y * real.y + real.z * real.z + real.w * real.w, 1e-24f));
    Texel texel;
    texel.real = make_float4(real.x * inverse, real.y * inverse, real.z * inverse, real.w * inverse);
    texel.dual = make_float4(dual.x * inverse, dual.y * inverse, dual.z * inverse, dual.w * inverse);
    texel.canonical = make_float3(
        weights.x * a.x + weights.y * b.x + weights.z * c.x, weights.x * a.y + weights.y * b.y + weights.z * c.y,
        weights.x * a.z + weights.y * b.z + weights.z * c.z);
    return texel;
}

__device__ __forceinline__ float3 posed_in_world(const Texel& texel, float3 offset) {
    float3 place = make_float3(
        texel.canonical.x + offset.x, texel.canonical.y + offset.y, texel.canonical.z + offset.z);
    float4 inverse = make_float4(texel.real.x, -texel.real.y, -texel.real.z, -texel.real.w);
    float4 move = quat_times(texel.dual, inverse);
    float3 turned = turned_by(texel.real, place);
    float3 body = make_float3(turned.x + 2 * move.y, turned.y + 2 * move.z, turned.z + 2 * move.w);
    return turned_by(make_float4(WORLD_W, WORLD_X, WORLD_Y, WORLD_Z), body);
}

//        geometry half [r, r, 16]: log-scales, quaternion, opacity logit, offset   appearance half [r, r, 8]
extern "C" __global__ void __launch_bounds__(BIN_THREADS) splat_released(
    int count, const int4* __restrict__ corners, const float4* __restrict__ weights,
    const float* __restrict__ canonical, const float4* __restrict__ transforms, const int* __restrict__ window,
    int n_vertices, const uint4* __restrict__ geometry, const uint4* __restrict__ appearance,
    const Camera* __restrict__ cameras, int group, int capacity, float4* __restrict__ records, int n_tiles,
    int* __restrict__ tile_state, uint2* __restrict__ lists) {
    begin_kernel();
    __shared__ Bin bin;
    __shared__ Camera camera;
    load_camera(camera, cameras + blockIdx.y);
    __syncthreads();
    int index = blockIdx.x * group + threadIdx.x, found = 0;
    if (threadIdx.x < group && index < count) {
        int4 at = corners[index];
        size_t vertex = (size_t)window[0] * n_vertices;
        Texel texel = skinned_texel(at, weights[index], canonical + 3 * vertex, transforms + 2 * vertex);
        uint4 low = geometry[2 * (size_t)at.w], high = geometry[2 * (size_t)at.w + 1], tint = appearance[at.w];
        float2 g0 = half2_to_float2(low.x), g1 = half2_to_float2(low.y), g2 = half2_to_float2(low.z);
        float2 g3 = half2_to_float2(low.w), g4 = half2_to_float2(high.x);
        float3 scale = make_float3(expf(g0.x), expf(g0.y), expf(g1.x));
        float4 quat = unit_quat(make_float4(g1.y, g2.x, g2.y, g3.x));
        float opacity = 1.0f / (1.0f + expf(-g3.y));
        float3 offset = make_float3(g4.x, g4.y, half2_to_float2(high.y).x);
        float4* record = records + ((size_t)blockIdx.y * count + index) * RECORD;
        found = lay(bin, camera, index, posed_in_world(texel, offset), quat, scale, opacity, record, [&] {
            float2 c0 = half2_to_float2(tint.x);
            float c1 = half2_to_float2(tint.y).x;
            return make_float3(
                positive(fmaf(SH_C0, c0.x, 0.5f)), positive(fmaf(SH_C0, c0.y, 0.5f)), positive(fmaf(SH_C0, c1, 0.5f)));
        });
    }
    append_to_tiles(bin, group, found, camera, capacity, tiles_in(tile_state, n_tiles), lists);
}

// Channel c of a texel of a native avatar stands in channel 4 c + sub of its 2x2 pixel: what the network says of
// this pose, and what it says of every pose.
struct Raw {
    const unsigned short *at, *base;
    __device__ __forceinline__ float operator[](int channel) const {
        return half_to_float(at[4 * channel]) + half_to_float(base[4 * channel]);
    }
};

template <int K>
__device__ __forceinline__ float3 raw_colour(const Raw& raw, float3 base, float3 direction) {
    float basis[K];
    sh_basis<K>(direction.x, direction.y, direction.z, basis);
    float3 colour = make_float3(
        fmaf(SH_C0, base.x, 0.5f), fmaf(SH_C0, base.y, 0.5f), fmaf(SH_C0, base.z, 0.5f));
#pragma unroll
    for (int k = 0; k < K; k++) {
        colour.x = fmaf(basis[k], raw[10 + 3 * k], colour.x);
        colour.y = fmaf(basis[k], raw[11 + 3 * k], colour.y);
        colour.z = fmaf(basis[k], raw[12 + 3 * k], colour.z);
    }
    return make_float3(positive(colour.x), positive(colour.y), positive(colour.z));
}

__device__ __forceinline__ float stretched(float3 a, float3 b, float along, float across, float rest_length) {
    float x = a.x * along + b.x * across, y = a.y * along + b.y * across, z = a.z * along + b.z * across;
    return clamped(sqrtf(x * x + y * y + z * z) / rest_length, STRETCH_LEAST, STRETCH_MOST);
}

//        vertices [slots, V, 3] posed   frames float4 [N, 4]: quaternion; scales, -; the face's main directions as
//        combinations of its edges (two numbers each, columns); their lengths, -, -   base_sh [N, 3]
//        raw, base half [r / 2, r / 2, channels]; corners.w = 4 (place of the pixel) + sub
extern "C" __global__ void __launch_bounds__(BIN_THREADS) splat_native(
    int count, int bases, int channels, float offset_limit, const int4* __restrict__ corners,
    const float4* __restrict__ weights, const float* __restrict__ canonical, const float4* __restrict__ transforms,
    const int* __restrict__ window, int n_vertices, const float* __restrict__ vertices,
    const float4* __restrict__ frames, const float* __restrict__ base_sh,
    const unsigned short* __restrict__ all_raw, const unsigned short* __restrict__ all_base,
    const Camera* __restrict__ cameras, int group, int capacity, float4* __restrict__ records, int n_tiles,
    int* __restrict__ tile_state, uint2* __restrict__ lists) {
    begin_kernel();
    __shared__ Bin bin;
    __shared__ Camera camera;
    load_camera(camera, cameras + blockIdx.y);
    __syncthreads();
    int index = blockIdx.x * group + threadIdx.x, found = 0;
    if (threadIdx.x < group && index < count) {
        int4 at = corners[index];
        size_t vertex = (size_t)window[0] * n_vertices;
        Texel texel = skinned_texel(at, weights[index], canonical + 3 * vertex, transforms + 2 * vertex);
        size_t first = (size_t)(at.w >> 2) * channels + (at.w & 3);
        Raw raw = {all_raw + first, all_base + first};
        float4 frame = frames[4 * index], size = frames[4 * index + 1];
        float4 axes = frames[4 * index + 2], lengths = frames[4 * index + 3];

        float bend = OFFSET_STEP_M / offset_limit;
        float3 offset = make_float3(
            offset_limit * tanhf(bend * raw[0]), offset_limit * tanhf(bend * raw[1]),
            offset_limit * tanhf(bend * raw[2]));
        float3 mean = posed_in_world(texel, offset);
        float4 turned = quat_times(make_float4(WORLD_W, WORLD_X, WORLD_Y, WORLD_Z), texel.real);
        float4 local = make_float4(1.0f, raw[3], raw[4], raw[5]);
        float4 quat = unit_quat(quat_times(turned, quat_times(frame, local)));

        // How far the posed triangle stretches the texel.
        const float* posed = vertices + 3 * vertex;
        float3 v0 = at3(posed, at.x), v1 = at3(posed, at.y), v2 = at3(posed, at.z);
        float3 a = make_float3(v1.x - v0.x, v1.y - v0.y, v1.z - v0.z);
        float3 b = make_float3(v2.x - v0.x, v2.y - v0.y, v2.z - v0.z);
        float3 scale = make_float3(
            size.x * stretched(a, b, axes.x, axes.z, lengths.x) * expf(LOG_SCALE_LIMIT * tanhf(raw[6])),
            size.y * stretched(a, b, axes.y, axes.w, lengths.y) * expf(LOG_SCALE_LIMIT * tanhf(raw[7])),
            size.z * expf(LOG_SCALE_LIMIT * tanhf(raw[8])));
        float opacity = 1.0f / (1.0f + expf(-raw[9] - OPACITY_LOGIT));

        float4* record = records + ((size_t)blockIdx.y * count + index) * RECORD;
        found = lay(bin, camera, index, mean, quat, scale, opacity, record, [&] {
            float inverse_length;
            float3 seen = view_direction(camera, mean, inverse_length);
            // Colours turn with the surface: look from the other side's way instead.
            float3 direction = turned_by(make_float4(turned.x, -turned.y, -turned.z, -turned.w), seen);
            float3 base = at3(base_sh, index);
            if (bases == 1) return raw_colour<1>(raw, base, direction);
            if (bases == 4) return raw_colour<4>(raw, base, direction);
            return raw_colour<9>(raw, base, direction);
        });
    }
    append_to_tiles(bin, group, found, camera, capacity, tiles_in(tile_state, n_tiles), lists);
}
