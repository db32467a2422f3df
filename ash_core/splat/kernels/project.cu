// Project Gaussians into several cameras and bin them by tiles.
//   in   means [N, 3] m, world   quats [N, 4] wxyz, unit   scales [N, 3] m   opacities [N]   sh [N, K, 3]
//        cameras [C]
//   out  projected [C, N, VECTORS] float4 (projected.cu)   tile_state (struct Tiles), counters incremented from zero
//        tile_bins [tiles, capacity] (depth bits, index)
// grid (ceil(N / group), C), block of at least `group` threads. The backward kernel has the same order of work.
// Source: Zwicker et al. 2001, "EWA Volume Splatting". Differs: exact support where alpha >= 1/255.

template <int K>
__device__ __forceinline__ float3 sh_colour(const float* sh, float3 direction) {
    float basis[K];
    sh_basis<K>(direction.x, direction.y, direction.z, basis);
    float3 colour = make_float3(0.5f, 0.5f, 0.5f);
#pragma unroll
    for (int k = 0; k < K; k++) {
        colour.x = fmaf(basis[k], sh[3 * k], colour.x);
        colour.y = fmaf(basis[k], sh[3 * k + 1], colour.y);
        colour.z = fmaf(basis[k], sh[3 * k + 2], colour.z);
    }
    return make_float3(positive(colour.x), positive(colour.y), positive(colour.z));
}

// Colour of a Gaussian as one camera sees it, from row `row` of the staged coefficients.
__device__ __forceinline__ float3 view_colour(
    const float* staged, int row, int bases, const Camera& camera, float3 mean) {
    if (bases == 1) return sh_colour<1>(staged + row * SH_PITCH(1), make_float3(0.0f, 0.0f, 0.0f));
    float inverse_length;
    float3 direction = view_direction(camera, mean, inverse_length);
    if (bases == 4) return sh_colour<4>(staged + row * SH_PITCH(4), direction);
    if (bases == 9) return sh_colour<9>(staged + row * SH_PITCH(9), direction);
    return sh_colour<16>(staged + row * SH_PITCH(16), direction);
}

extern "C" __global__ void __launch_bounds__(BIN_THREADS) project_gaussians(
    int count, int group, int bases, const float* __restrict__ means, const float4* __restrict__ quats,
    const float* __restrict__ scales, const float* __restrict__ opacities, const float* __restrict__ sh,
    const Camera* __restrict__ cameras, int capacity, float4* __restrict__ projected, int n_tiles,
    int* __restrict__ tile_state, uint2* __restrict__ tile_bins) {
    begin_kernel();
    __shared__ BinningBlock block;
    __shared__ Camera camera;
    __shared__ float staged[MAX_GROUP * SH_PITCH(16)];

    // Load one Gaussian a thread, and stage the coefficients of the block.
    int first = blockIdx.x * group, index = first + threadIdx.x, n_candidates = 0;
    bool active = threadIdx.x < group && index < count;
    float3 mean = make_float3(0, 0, 0), scale = mean;
    float4 quat = make_float4(0, 0, 0, 0);
    float opacity = 0.0f;
    if (active) {
        mean = make_float3(means[3 * index], means[3 * index + 1], means[3 * index + 2]);
        scale = make_float3(scales[3 * index], scales[3 * index + 1], scales[3 * index + 2]);
        quat = quats[index];
        opacity = opacities[index];
    }
    load_camera(camera, cameras + blockIdx.y);
    const float* rows = sh + (size_t)first * bases * 3;
    int n_rows = min(group, count - first);
    if (bases == 1) stage_rows<1>(rows, n_rows, staged);
    else if (bases == 4) stage_rows<4>(rows, n_rows, staged);
    else if (bases == 9) stage_rows<9>(rows, n_rows, staged);
    else stage_rows<16>(rows, n_rows, staged);
    stage_end();
    __syncthreads();

    // Project and bin.
    if (active) {
        float4* gaussian = projected + ((size_t)blockIdx.y * count + index) * VECTORS;
        n_candidates = bin_gaussian(block, camera, index, mean, quat, scale, opacity, gaussian, [&] {
            return view_colour(staged, threadIdx.x, bases, camera, mean);
        });
    }
    append_to_tile_bins(block, group, n_candidates, camera, capacity, tiles_in(tile_state, n_tiles), tile_bins);
}
