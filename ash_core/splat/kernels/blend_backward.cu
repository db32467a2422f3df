// Gradients of the pictures, summed for each Gaussian in each image.
//   in   as blend.cu, what it kept, its pictures, and the gradients of rgb, alpha and depth (null: zero)
//   out  sums [C, N, 12], added to: with d the pixel's offset from the centre and w the gradient of log(alpha)
//        [0-5] w, w dx, w dy, w dx^2, w dx dy, w dy^2   [6] depth   [7-9] colour   [10-11] -
// grid: as many blocks as run at once, which take the occupied tiles one by one; block TILE_THREADS, each warp has an
// 8x4 half of the tile.
//
// A lane is a Gaussian: 32 of those that reach the half-tile meet its pixels one after the other. Transmittance
// in front of each and what lies behind it come from two scans over the lanes, the sums stay in registers, and a
// Gaussian costs three vector atomics for 32 pixels. Front to back: what is behind = all - what is in front.

#ifdef DETERMINISTIC
typedef unsigned long long Sum;  // fixed point: the order of additions does not matter
__device__ __forceinline__ void add_to(Sum* at, float value) {
    atomicAdd(at, (unsigned long long)(long long)rint((double)value * SUM_SCALE));
}
__device__ __forceinline__ void add_sums(Sum* at, float x, float y, float z, float w) {
    add_to(at, x), add_to(at + 1, y), add_to(at + 2, z), add_to(at + 3, w);
}
__device__ __forceinline__ float sum_of(Sum value) { return (float)((double)(long long)value / SUM_SCALE); }
__device__ __forceinline__ float4 load_sums(const Sum* at) {
    return make_float4(sum_of(at[0]), sum_of(at[1]), sum_of(at[2]), sum_of(at[3]));
}
#else
typedef float Sum;
__device__ __forceinline__ void add_sums(Sum* at, float x, float y, float z, float w) { add4(at, x, y, z, w); }
__device__ __forceinline__ float4 load_sums(const Sum* at) { return *(const float4*)at; }
#endif

struct PixelState {
    float4 gradient;      // of red, green, blue, and of the sum of weight x depth
    float transmittance;  // in front of the next Gaussian
    float rest;           // gradient . everything from here on, background included
    int last, padding;
};

// Up to 32 Gaussians, front to back, against the 32 pixels of a half-tile.
__device__ __forceinline__ void gather_gradients(
    int count, int2 entry, const float4* __restrict__ records, PixelState* pixels, float x0, float y0,
    Sum* __restrict__ sums) {
    int lane = threadIdx.x & 31;
    bool mine = lane < count;
    float4 r0 = make_float4(0, 0, 0, 0), r1 = make_float4(0, NEVER, 0, 0), r2 = r0;
    if (mine) {
        const float4* record = records + (size_t)entry.x * RECORD;
        r0 = record[0], r1 = record[1], r2 = record[2];
    }
    float s0 = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0, sd = 0, sr = 0, sg = 0, sb = 0;
    for (int p = 0; p < 32; p++) {
        float transmittance = pixels[p].transmittance;
        bool alive = mine && entry.y < pixels[p].last;
        float dx = x0 + (p & 7) - r0.x, dy = y0 + (p >> 3) - r0.y;
        float raw = exp2f(r1.y + log2_falloff(r0.z, r0.w, r1.x, dx, dy));
        float a = fminf(raw, ALPHA_MAX);
        alive = alive && a >= ALPHA_MIN;
        if (!__any_sync(ALL_LANES, alive)) continue;
        float4 gradient = pixels[p].gradient;
        float rest = pixels[p].rest;

        // Transmittance up to and with each lane; then in front of it.
        float keep = alive ? 1.0f - a : 1.0f, through = keep;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            float other = __shfl_up_sync(ALL_LANES, through, step);
            if (lane >= step) through *= other;
        }
        float front = __shfl_up_sync(ALL_LANES, through, 1);
        front = transmittance * (lane == 0 ? 1.0f : front);
        float weight = alive ? a * front : 0.0f;
        float value = gradient.x * r1.w + gradient.y * r2.x + gradient.z * r2.y + gradient.w * r1.z;
        float shown = weight * value;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            float other = __shfl_up_sync(ALL_LANES, shown, step);
            if (lane >= step) shown += other;
        }
        float behind = rest - shown;
        // d picture / d alpha = front value - behind / (1 - alpha)
        float w = alive && raw <= ALPHA_MAX ? a * (front * value - __fdividef(behind, keep)) : 0.0f;
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
        if (lane == 31) {
            pixels[p].transmittance = transmittance * through;
            pixels[p].rest = behind;
        }
    }
    __syncwarp();
    if (mine) {
        Sum* at = sums + (size_t)entry.x * SUMS;
        add_sums(at, s0, sx, sy, sxx);
        add_sums(at + 4, sxy, syy, sd, sr);
        add_sums(at + 8, sg, sb, 0.0f, 0.0f);
    }
}

__device__ __forceinline__ void tile_gradients(
    TileList& list, PixelState* pixels, int2* queue, const Camera& camera, int own, const float4* __restrict__ records,
    int count, int capacity, const Tiles& tiles, const unsigned* __restrict__ all_ordered, const uint2* __restrict__ arena,
    const float* __restrict__ rgb, const float* __restrict__ alpha, const float* __restrict__ depth,
    const int* __restrict__ last, const float* __restrict__ rgb_gradient,
    const float* __restrict__ alpha_gradient, const float* __restrict__ depth_gradient, Sum* __restrict__ sums) {
    int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    int tile_y = own / camera.tiles_x, tile_x = own - tile_y * camera.tiles_x, tile = camera.first_tile + own;
    int x0 = tile_x * TILE, y0 = tile_y * TILE, half_y0 = y0 + warp * 4;

    // depth = D / A, A = alpha: its gradient is one of D and one of A. A = 1 - T, T the transmittance left.
    int x = x0 + (lane & 7), y = half_y0 + (lane >> 3), my_last = 0;
    __syncwarp();
    if (x < camera.width && y < camera.height) {
        size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
        float covered = alpha[pixel], left = 1.0f - covered;
        float4 gradient = make_float4(0, 0, 0, 0);
        float of_covered = alpha_gradient ? alpha_gradient[pixel] : 0.0f, everything = 0.0f;
        if (rgb_gradient) {
            gradient.x = rgb_gradient[3 * pixel];
            gradient.y = rgb_gradient[3 * pixel + 1];
            gradient.z = rgb_gradient[3 * pixel + 2];
            everything = gradient.x * rgb[3 * pixel] + gradient.y * rgb[3 * pixel + 1] + gradient.z * rgb[3 * pixel + 2];
        }
        if (depth_gradient && covered > 0.0f) {
            float of_depth = depth_gradient[pixel];
            gradient.w = of_depth / covered;
            of_covered -= gradient.w * depth[pixel];
            everything += of_depth * depth[pixel];
        }
        pixels[lane].gradient = gradient;
        pixels[lane].transmittance = 1.0f;
        pixels[lane].rest = everything - left * of_covered;
        my_last = last[pixel];
    }
    pixels[lane].last = my_last;
    int warp_last = __reduce_max_sync(ALL_LANES, my_last);
    __syncwarp();

    bool kept = tiles.counts[tile] <= capacity;
    const unsigned* ordered = all_ordered + (size_t)tile * capacity;
    TileSource source = source_of_tile(nullptr, arena, records, count, tiles, tile, false, x0, y0);
    int position = 0, queued = 0;
    while (true) {
        int n = !kept ? next_window(list, source, position) : position == 0 ? warp_last : 0;
        if (n == 0) break;
        for (int base = 0; base < n && position + base < warp_last; base += 32) {
            int at = base + lane, id = 0;
            bool hit = false;
            if (at < n) {
                id = kept ? ordered[at] : list.ids[at];
                const float4* record = records + (size_t)id * RECORD;
                float4 r1 = record[1];
                hit = reaches(record[0], r1.x, r1.y, x0, half_y0, 8, 4);
            }
            unsigned mask = __ballot_sync(ALL_LANES, hit);
            if (hit) queue[queued + __popc(mask & ((1u << lane) - 1))] = make_int2(id, position + at);
            queued += __popc(mask);
            __syncwarp();
            if (queued >= 32) {
                gather_gradients(32, queue[lane], records, pixels, x0 + 0.5f, half_y0 + 0.5f, sums);
                queued -= 32;
                int2 moved = make_int2(0, 0);
                if (lane < queued) moved = queue[32 + lane];
                __syncwarp();
                if (lane < queued) queue[lane] = moved;
                __syncwarp();
            }
        }
        if (kept) break;
        position += n;
        if (!__syncthreads_or(position < warp_last)) break;
    }
    if (queued > 0) {
        int2 entry = lane < queued ? queue[lane] : make_int2(0, 0);
        gather_gradients(queued, entry, records, pixels, x0 + 0.5f, half_y0 + 0.5f, sums);
    }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, RESIDENT) blend_backward(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ records, int capacity, int n_tiles,
    int* tile_state, const unsigned* __restrict__ ordered, const uint2* __restrict__ arena, const float* __restrict__ rgb,
    const float* __restrict__ alpha, const float* __restrict__ depth, const int* __restrict__ last,
    const float* __restrict__ rgb_gradient, const float* __restrict__ alpha_gradient,
    const float* __restrict__ depth_gradient, Sum* __restrict__ sums) {
    begin_kernel();
    __shared__ TileList list;
    __shared__ PixelState states[2][32];
    __shared__ int2 queues[2][64];
    __shared__ int taken;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    int occupied = tiles.control[OCCUPIED], warp = threadIdx.x >> 5, following = 0;
    if (threadIdx.x == 0) following = atomicAdd(&tiles.control[NEXT_BACKWARD], 1);
    while (true) {
        if (threadIdx.x == 0) taken = following;
        __syncthreads();
        int work = taken;
        __syncthreads();
        if (work >= occupied) break;
        if (threadIdx.x == 0) following = atomicAdd(&tiles.control[NEXT_BACKWARD], 1);  // comes while this is done
        int2 at = tiles.queue[work];
        size_t first = (size_t)at.x * count;
        tile_gradients(list, states[warp], queues[warp], cameras[at.x], at.y, records + first * RECORD, count, capacity,
                       tiles, ordered, arena, rgb, alpha, depth, last, rgb_gradient, alpha_gradient, depth_gradient,
                       sums + first * SUMS);
    }
    if (threadIdx.x == 0 && atomicAdd(&tiles.control[DONE_BACKWARD], 1) == gridDim.x - 1) {
        tiles.control[NEXT_BACKWARD] = 0;
        tiles.control[DONE_BACKWARD] = 0;
    }
}
