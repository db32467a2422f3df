// Project Gaussians to the images of several cameras and lay them into the tiles' lists.
//   in   means [N, 3] m, world   quats [N, 4] wxyz, unit   scales [N, 3] m   opacities [N]   sh [N, K, 3]
//        cameras [C]
//   out  records [C, N, 3] float4 (records.cu)   tile_counts [tiles of all cameras], counted up from zero
//        lists [tiles, capacity] (depth bits, index)
// grid (ceil(N / GROUP), C), block of at least GROUP threads. The backward kernel keeps this order of work.
// Source: Zwicker et al. 2001, "EWA Volume Splatting". Differs: exact support where alpha >= 1/255.

template <int K>
__device__ __forceinline__ float3 sh_colour(const float* __restrict__ sh, float3 direction) {
    float basis[K];
    sh_basis<K>(direction.x, direction.y, direction.z, basis);
    float3 colour = make_float3(0.5f, 0.5f, 0.5f);
#pragma unroll
    for (int k = 0; k < K; k++) {
        colour.x = fmaf(basis[k], __ldg(sh + 3 * k), colour.x);
        colour.y = fmaf(basis[k], __ldg(sh + 3 * k + 1), colour.y);
        colour.z = fmaf(basis[k], __ldg(sh + 3 * k + 2), colour.z);
    }
    return make_float3(fmaxf(colour.x, 0.0f), fmaxf(colour.y, 0.0f), fmaxf(colour.z, 0.0f));
}

__device__ __forceinline__ float3 seen_colour(
    const float* __restrict__ sh, int bases, const Camera& camera, float3 mean) {
    if (bases == 1) return sh_colour<1>(sh, make_float3(0.0f, 0.0f, 0.0f));
    float inverse_length;
    float3 direction = view_direction(camera, mean, inverse_length);
    if (bases == 4) return sh_colour<4>(sh, direction);
    if (bases == 9) return sh_colour<9>(sh, direction);
    return sh_colour<16>(sh, direction);
}

extern "C" __global__ void __launch_bounds__(BIN_THREADS) project_gaussians(
    int count, int bases, const float* __restrict__ means, const float4* __restrict__ quats,
    const float* __restrict__ scales, const float* __restrict__ opacities, const float* __restrict__ sh,
    const Camera* __restrict__ cameras, int capacity, float4* __restrict__ records,
    unsigned* __restrict__ tile_counts, uint2* __restrict__ lists) {
    __shared__ Bin bin;
    __shared__ Camera camera;
    load_camera(camera, cameras + blockIdx.y);
    int index = blockIdx.x * GROUP + threadIdx.x, found = 0;
    if (threadIdx.x < GROUP && index < count) {
        float3 mean = make_float3(means[3 * index], means[3 * index + 1], means[3 * index + 2]);
        float3 scale = make_float3(scales[3 * index], scales[3 * index + 1], scales[3 * index + 2]);
        float4* record = records + ((size_t)blockIdx.y * count + index) * RECORD;
        found = lay(bin, camera, index, mean, quats[index], scale, opacities[index], record, [&] {
            return seen_colour(sh + (size_t)index * bases * 3, bases, camera, mean);
        });
    }
    append_to_tiles(bin, found, camera, capacity, tile_counts, lists);
}
