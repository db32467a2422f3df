// Sum the gradients of the images over pixels, for each Gaussian in each camera.
//   in   as blend.cu; its outputs; gradients of rgb, alpha and depth, or null for zero
//   out  sums [C, N, SUMS], accumulated. With d the pixel's offset from the centre and w the gradient of log(alpha):
//        [0-5] w, w dx, w dy, w dx^2, w dx dy, w dy^2   [6] depth   [7-9] colour   [10-11] -
// grid: number of resident blocks, which take the occupied tiles one by one; block TILE_THREADS, one warp for each 8x4
// half of the tile.
//
// A lane is a Gaussian: 32 that reach the half-tile visit its pixels one after the other. Two scans over the lanes give
// the transmittance in front of each and the colour behind it. The sums stay in registers, so that a Gaussian costs
// three vector atomics for 32 pixels. The walk is front to back: behind = total - in front.

#ifdef DETERMINISTIC
typedef unsigned long long Sum;  // fixed point: the order of additions does not matter
__device__ __forceinline__ void add_to(Sum* sum, float value) {
    atomicAdd(sum, (unsigned long long)(long long)rint((double)value * SUM_SCALE));
}
__device__ __forceinline__ void add_sums(Sum* sums, float x, float y, float z, float w) {
    add_to(sums, x), add_to(sums + 1, y), add_to(sums + 2, z), add_to(sums + 3, w);
}
__device__ __forceinline__ float sum_of(Sum value) { return (float)((double)(long long)value / SUM_SCALE); }
__device__ __forceinline__ float4 load_sums(const Sum* sums) {
    return make_float4(sum_of(sums[0]), sum_of(sums[1]), sum_of(sums[2]), sum_of(sums[3]));
}
#else
typedef float Sum;
__device__ __forceinline__ void add_sums(Sum* sums, float x, float y, float z, float w) { add4(sums, x, y, z, w); }
__device__ __forceinline__ float4 load_sums(const Sum* sums) { return *(const float4*)sums; }
#endif

struct PixelState {
    float4 gradient;      // gradient of red, green, blue, and of the sum of weight x depth
    float transmittance;  // in front of the next Gaussian
    float rest;           // gradient . (all from the next Gaussian on, background included)
    int last, padding;
};

// Accumulate the sums of up to 32 Gaussians, front to back, over the 32 pixels of a half-tile.
__device__ __forceinline__ void gather_gradients(
    int count, int2 entry, const float4* __restrict__ projected, PixelState* pixels, float x0, float y0,
    Sum* __restrict__ sums) {
    int lane = threadIdx.x & 31;
    bool active = lane < count;
    float4 r0 = make_float4(0, 0, 0, 0), r1 = make_float4(0, NEVER, 0, 0), r2 = r0;
    if (active) {
        const float4* gaussian = projected + (size_t)entry.x * VECTORS;
        r0 = gaussian[0], r1 = gaussian[1], r2 = gaussian[2];
    }
    float s0 = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0, sd = 0, sr = 0, sg = 0, sb = 0;
    for (int p = 0; p < 32; p++) {
        float transmittance = pixels[p].transmittance;
        bool alive = active && entry.y < pixels[p].last;
        float dx = x0 + (p & 7) - r0.x, dy = y0 + (p >> 3) - r0.y;
        float raw = exp2f(r1.y + log2_falloff(r0.z, r0.w, r1.x, dx, dy));
        float a = fminf(raw, ALPHA_MAX);
        alive = alive && a >= ALPHA_MIN;
        if (!__any_sync(ALL_LANES, alive)) continue;
        float4 gradient = pixels[p].gradient;
        float rest = pixels[p].rest;

        // Transmittance behind each lane by a scan, then in front of it.
        float passed = alive ? 1.0f - a : 1.0f, through = passed;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            float other = __shfl_up_sync(ALL_LANES, through, step);
            if (lane >= step) through *= other;
        }
        float front = __shfl_up_sync(ALL_LANES, through, 1);
        front = transmittance * (lane == 0 ? 1.0f : front);

        // Contribution of each lane, and of all behind it.
        float weight = alive ? a * front : 0.0f;
        float value = gradient.x * r1.w + gradient.y * r2.x + gradient.z * r2.y + gradient.w * r1.z;
        float shown = weight * value;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            float other = __shfl_up_sync(ALL_LANES, shown, step);
            if (lane >= step) shown += other;
        }
        float behind = rest - shown;

        // d image / d alpha = front value - behind / (1 - alpha)
        float w = alive && raw <= ALPHA_MAX ? a * (front * value - __fdividef(behind, passed)) : 0.0f;
        float wx = w * dx, wy = w * dy;
        s0 += w;
        sx += wx;
        sy += wy;
        sxx = fmaf(wx, dx, sxx);
        sxy = fmaf(wx, dy, sxy);
        syy = fmaf(wy, dy, syy);
        sr = fmaf(weight, gradient.x, sr);
        sg = fmaf(weight, gradient.y, sg);
        sb = fmaf(weight, gradient.z, sb);
        sd = fmaf(weight, gradient.w, sd);
        __syncwarp();

        // State of the pixel for the next 32.
        if (lane == 31) {
            pixels[p].transmittance = transmittance * through;
            pixels[p].rest = behind;
        }
    }
    __syncwarp();
    if (active) {
        Sum* own_sums = sums + (size_t)entry.x * SUMS;
        add_sums(own_sums, s0, sx, sy, sxx);
        add_sums(own_sums + 4, sxy, syy, sd, sr);
        add_sums(own_sums + 8, sg, sb, 0.0f, 0.0f);
    }
}

// Accumulate the gradients of one tile, each warp those of its half. queue: scratch of the warp, 64 entries.
__device__ __forceinline__ void tile_gradients(
    TileWindow& window, PixelState* pixels, int2* queue, const Camera& camera, int local_tile,
    const float4* __restrict__ projected, int count, int capacity, const Tiles& tiles,
    const unsigned* __restrict__ all_sorted_ids, const uint2* __restrict__ overflow,
    const float* __restrict__ rgb, const float* __restrict__ alpha, const float* __restrict__ depth,
    const int* __restrict__ last, const float* __restrict__ rgb_gradient,
    const float* __restrict__ alpha_gradient, const float* __restrict__ depth_gradient, Sum* __restrict__ sums) {
    int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    int tile_y = local_tile / camera.tiles_x, tile_x = local_tile - tile_y * camera.tiles_x;
    int tile = camera.first_tile + local_tile;
    int x0 = tile_x * TILE, y0 = tile_y * TILE, half_y0 = y0 + warp * 4;

    // Initial state of the pixels. depth = D / A with A = alpha: its gradient is split into those of D and A.
    // A = 1 - T with T the final transmittance.
    int x = x0 + (lane & 7), y = half_y0 + (lane >> 3), my_last = 0;
    __syncwarp();
    if (x < camera.width && y < camera.height) {
        size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
        float covered = alpha[pixel], transmittance = 1.0f - covered;
        float4 gradient = make_float4(0, 0, 0, 0);
        float of_covered = alpha_gradient ? alpha_gradient[pixel] : 0.0f, total = 0.0f;
        if (rgb_gradient) {
            gradient.x = rgb_gradient[3 * pixel];
            gradient.y = rgb_gradient[3 * pixel + 1];
            gradient.z = rgb_gradient[3 * pixel + 2];
            total = gradient.x * rgb[3 * pixel] + gradient.y * rgb[3 * pixel + 1] + gradient.z * rgb[3 * pixel + 2];
        }
        if (depth_gradient && covered > 0.0f) {
            float of_depth = depth_gradient[pixel];
            gradient.w = of_depth / covered;
            of_covered -= gradient.w * depth[pixel];
            total += of_depth * depth[pixel];
        }
        pixels[lane].gradient = gradient;
        pixels[lane].transmittance = 1.0f;
        pixels[lane].rest = total - transmittance * of_covered;
        my_last = last[pixel];
    }
    pixels[lane].last = my_last;
    int warp_last = __reduce_max_sync(ALL_LANES, my_last);
    __syncwarp();

    // Queue the Gaussians that reach the half-tile, and process them 32 at a time.
    bool is_sorted = tiles.counts[tile] <= capacity;
    const unsigned* sorted_ids = all_sorted_ids + (size_t)tile * capacity;
    TileSource source = source_of_tile(nullptr, overflow, projected, count, tiles, tile, false, x0, y0);
    int position = 0, queued = 0;
    while (true) {
        int n = !is_sorted ? next_window(window, source, position) : position == 0 ? warp_last : 0;
        if (n == 0) break;
        for (int base = 0; base < n && position + base < warp_last; base += 32) {
            int index = base + lane, id = 0;
            bool hit = false;
            if (index < n) {
                id = is_sorted ? sorted_ids[index] : window.ids[index];
                const float4* gaussian = projected + (size_t)id * VECTORS;
                float4 r1 = gaussian[1];
                hit = reaches(gaussian[0], r1.x, r1.y, x0, half_y0, 8, 4);
            }
            unsigned mask = __ballot_sync(ALL_LANES, hit);
            if (hit) queue[queued + __popc(mask & ((1u << lane) - 1))] = make_int2(id, position + index);
            queued += __popc(mask);
            __syncwarp();
            if (queued >= 32) {
                gather_gradients(32, queue[lane], projected, pixels, x0 + 0.5f, half_y0 + 0.5f, sums);
                queued -= 32;
                int2 moved = make_int2(0, 0);
                if (lane < queued) moved = queue[32 + lane];
                __syncwarp();
                if (lane < queued) queue[lane] = moved;
                __syncwarp();
            }
        }
        if (is_sorted) break;
        position += n;
        if (!__syncthreads_or(position < warp_last)) break;
    }
    if (queued > 0) {
        int2 entry = lane < queued ? queue[lane] : make_int2(0, 0);
        gather_gradients(queued, entry, projected, pixels, x0 + 0.5f, half_y0 + 0.5f, sums);
    }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, RESIDENT) blend_backward(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ projected, int capacity, int n_tiles,
    int* tile_state, const unsigned* __restrict__ sorted_ids, const uint2* __restrict__ overflow,
    const float* __restrict__ rgb, const float* __restrict__ alpha, const float* __restrict__ depth,
    const int* __restrict__ last, const float* __restrict__ rgb_gradient, const float* __restrict__ alpha_gradient,
    const float* __restrict__ depth_gradient, Sum* __restrict__ sums) {
    begin_kernel();
    __shared__ TileWindow window;
    __shared__ PixelState states[2][32];
    __shared__ int2 queues[2][64];
    __shared__ int block_work;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    int occupied = tiles.header[OCCUPIED], warp = threadIdx.x >> 5, next_work = 0;

    // Work items: occupied tiles. The next one is requested while this one is processed.
    if (threadIdx.x == 0) next_work = atomicAdd(&tiles.header[NEXT_BACKWARD], 1);
    while (true) {
        if (threadIdx.x == 0) block_work = next_work;
        __syncthreads();
        int work = block_work;
        __syncthreads();
        if (work >= occupied) break;
        if (threadIdx.x == 0) next_work = atomicAdd(&tiles.header[NEXT_BACKWARD], 1);
        int2 tile = tiles.queue[work];  // camera, tile of that camera
        size_t first = (size_t)tile.x * count;
        tile_gradients(window, states[warp], queues[warp], cameras[tile.x], tile.y, projected + first * VECTORS, count,
                       capacity, tiles, sorted_ids, overflow, rgb, alpha, depth, last, rgb_gradient, alpha_gradient,
                       depth_gradient, sums + first * SUMS);
    }

    // The last block resets the header.
    if (threadIdx.x == 0 && atomicAdd(&tiles.header[DONE_BACKWARD], 1) == gridDim.x - 1) {
        tiles.header[NEXT_BACKWARD] = 0;
        tiles.header[DONE_BACKWARD] = 0;
    }
}
