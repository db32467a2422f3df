// Blend the Gaussians of each tile front to back: sort the tile bin, then one thread a pixel.
//   in   projected, tile_state, tile_bins (project.cu)   overflow (sort_overflow.cu)   background RGB, or null
//   out  rgba8 [pixels] (premultiplied, coverage in alpha), or rgb [pixels, 3], alpha [pixels], depth [pixels] m
//        for the backward pass, or null: last [pixels], number of Gaussians of its tile that a pixel passed;
//        sorted_ids [tiles, capacity], their indices
//        tile_state: unchanged with `last`, else reset for the next frame
// grid: number of resident blocks; block TILE_THREADS. Persistent blocks take the occupied tiles one by one, then
// chunks of tiles for the background of empty ones.

// Unrolling of the loop over Gaussians; a larger one spills registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define UNROLL 4
#else
#define UNROLL 3
#endif

// Tiles of a chunk, and of one of its two warps.
#define CHUNK_TILES 16
#define WARP_TILES (CHUNK_TILES / 2)

struct Canvas {
    float3 background;
    float rounding;
    uchar4* rgba8;
    float *rgb, *alpha, *depth;
    int* last;
};

// Round product and sum separately, as the conversion to bytes on the host does.
__device__ __forceinline__ unsigned char as_byte(float value, float rounding) {
    return (unsigned char)__fadd_rn(__fmul_rn(__saturatef(value), 255.0f), rounding);
}

// Write one pixel over the background, as bytes or floats.
__device__ __forceinline__ void write_pixel(
    const Canvas& canvas, size_t pixel, float transmittance, float r, float g, float b, float d, int last) {
    float covered = 1.0f - transmittance;
    r = fmaf(transmittance, canvas.background.x, r);
    g = fmaf(transmittance, canvas.background.y, g);
    b = fmaf(transmittance, canvas.background.z, b);
    if (canvas.rgba8) {
        canvas.rgba8[pixel] = make_uchar4(
            as_byte(r, canvas.rounding), as_byte(g, canvas.rounding), as_byte(b, canvas.rounding),
            as_byte(covered, 0.5f));
        return;
    }
    canvas.rgb[3 * pixel] = r;
    canvas.rgb[3 * pixel + 1] = g;
    canvas.rgb[3 * pixel + 2] = b;
    canvas.alpha[pixel] = covered;
    canvas.depth[pixel] = covered > 0.0f ? d / covered : 0.0f;
    if (canvas.last) canvas.last[pixel] = last;
}

// Blend one tile by all threads of the block. local_tile: index among the tiles of the camera.
__device__ __forceinline__ void blend_tile(
    TileWindow& window, const Camera& camera, int local_tile, const float4* __restrict__ projected, int count,
    int capacity, const Tiles& tiles, const uint2* __restrict__ tile_bins, const uint2* __restrict__ overflow,
    unsigned* __restrict__ sorted_ids, const Canvas& canvas) {
    int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    int tile_y = local_tile / camera.tiles_x, tile_x = local_tile - tile_y * camera.tiles_x;
    int tile = camera.first_tile + local_tile;
    int x0 = tile_x * TILE, y0 = tile_y * TILE;
    int x = x0 + (lane & 7), y = y0 + warp * 4 + (lane >> 3);
    float px = x + 0.5f, py = y + 0.5f;
    bool inside = x < camera.width && y < camera.height, done = !inside;
    float transmittance = 1.0f, r = 0.0f, g = 0.0f, b = 0.0f, d = 0.0f;
    int stopped = -1, position = 0;

    // Walk over the windows until all pixels are opaque.
    bool fits = tiles.counts[tile] <= capacity;
    TileSource source =
        source_of_tile(tile_bins + (size_t)tile * capacity, overflow, projected, count, tiles, tile, fits, x0, y0);
    while (true) {
        int n = next_window(window, source, position);
        if (n == 0) break;
        if (sorted_ids && fits)
            for (int i = thread; i < n; i += TILE_THREADS)
                sorted_ids[(size_t)tile * capacity + position + i] = window.ids[i];

        // Each warp stages those of 32 Gaussians that reach its half of the tile.
        float4* staged = window.scratch + warp * 32 * VECTORS;
        float4 r0, r1;
        float2 r2;
        if (lane < n) {
            const float4* gaussian = projected + (size_t)window.ids[lane] * VECTORS;
            r0 = gaussian[0], r1 = gaussian[1], r2 = *(const float2*)(gaussian + 2);
        }
        for (int base = 0; base < n; base += 32) {
            if (__all_sync(ALL_LANES, done)) break;
            int index = base + lane;
            bool hit = index < n && reaches(r0, r1.x, r1.y, x0, y0 + warp * 4, 8, 4);
            unsigned mask = __ballot_sync(ALL_LANES, hit);
            if (hit) {
                float4* slot = staged + VECTORS * __popc(mask & ((1u << lane) - 1));
                slot[0] = r0;
                slot[1] = r1;
                slot[2] = make_float4(r2.x, r2.y, __int_as_float(position + index), 0.0f);
            }
            // Prefetch the next 32 while these are blended.
            index += 32;
            if (index < n) {
                const float4* gaussian = projected + (size_t)window.ids[index] * VECTORS;
                r0 = gaussian[0], r1 = gaussian[1], r2 = *(const float2*)(gaussian + 2);
            }
            __syncwarp();

            // Blend.
            int hits = __popc(mask);
#pragma unroll UNROLL
            for (int i = 0; i < hits; i++) {
                float4 s0 = staged[VECTORS * i], s1 = staged[VECTORS * i + 1], s2 = staged[VECTORS * i + 2];
                float dx = px - s0.x, dy = py - s0.y;
                float a = fminf(exp2f(s1.y + log2_falloff(s0.z, s0.w, s1.x, dx, dy)), ALPHA_MAX);
                bool visible = a >= ALPHA_MIN && !done;
                float weight = a * transmittance, after = transmittance - weight;
                if (visible && after < TRANSMITTANCE_MIN) {
                    done = true;
                    visible = false;
                    stopped = __float_as_int(s2.z);
                }
                weight = visible ? weight : 0.0f;
                transmittance = visible ? after : transmittance;
                r = fmaf(weight, s1.w, r);
                g = fmaf(weight, s2.x, g);
                b = fmaf(weight, s2.y, b);
                d = fmaf(weight, s1.z, d);
            }
            __syncwarp();
        }
        position += n;
        if (source.bin && source.total <= WINDOW) break;
        if (__syncthreads_and(done)) break;
    }

    // Reset the tile and write the pixel.
    if (thread == 0 && !canvas.last) tiles.counts[tile] = 0;
    if (!inside) return;
    size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
    write_pixel(canvas, pixel, transmittance, r, g, b, d, stopped >= 0 ? stopped : position);
}

// Write the background of those tiles of a chunk that are not occupied.
__device__ __forceinline__ void fill_background(
    const Camera* __restrict__ cameras, int views, int first, const Tiles& tiles, int n_tiles, const Canvas& canvas) {
    int lane = threadIdx.x & 31;
    first += threadIdx.x / 32 * WARP_TILES;
    int last = min(first + WARP_TILES, n_tiles), frame = mark_of_frame(tiles);
    bool blank = first + lane < last && tiles.marks[first + lane] != frame;
    unsigned remaining = __ballot_sync(ALL_LANES, blank);
    int view = 0;
    for (; remaining; remaining &= remaining - 1) {
        int tile = first + __ffs(remaining) - 1;
        while (view + 1 < views && cameras[view + 1].first_tile <= tile) view++;
        const Camera& camera = cameras[view];
        int local_tile = tile - camera.first_tile;
        int tile_y = local_tile / camera.tiles_x, tile_x = local_tile - tile_y * camera.tiles_x;
        int x = tile_x * TILE + (lane & 7), y = tile_y * TILE + (lane >> 3);
        size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
        if (x >= camera.width) continue;
        if (y < camera.height) write_pixel(canvas, pixel, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0);
        if (y + 4 < camera.height) write_pixel(canvas, pixel + 4 * camera.width, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0);
    }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, RESIDENT) blend(
    int count, int views, const Camera* __restrict__ cameras, const float4* __restrict__ projected, int capacity,
    int n_tiles, int* tile_state, const uint2* __restrict__ tile_bins, const uint2* __restrict__ overflow,
    unsigned* __restrict__ sorted_ids, const float* __restrict__ background, float rounding, uchar4* __restrict__ rgba8,
    float* __restrict__ rgb, float* __restrict__ alpha, float* __restrict__ depth, int* __restrict__ last) {
    begin_kernel();
    __shared__ TileWindow window;
    __shared__ int block_work;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    float3 under = make_float3(0.0f, 0.0f, 0.0f);
    if (background) under = make_float3(background[0], background[1], background[2]);
    Canvas canvas = {under, rounding, rgba8, rgb, alpha, depth, last};
    int occupied = tiles.header[OCCUPIED], chunks = (n_tiles + CHUNK_TILES - 1) / CHUNK_TILES, next_work = 0;

    // Work items: occupied tiles, then chunks. The next one is requested while this one is processed.
    if (threadIdx.x == 0) next_work = atomicAdd(&tiles.header[NEXT], 1);
    while (true) {
        if (threadIdx.x == 0) block_work = next_work;
        __syncthreads();
        int work = block_work;
        __syncthreads();
        if (work >= occupied + chunks) break;
        if (threadIdx.x == 0) next_work = atomicAdd(&tiles.header[NEXT], 1);
        if (work >= occupied) {
            fill_background(cameras, views, (work - occupied) * CHUNK_TILES, tiles, n_tiles, canvas);
            continue;
        }
        int2 tile = tiles.queue[work];  // camera, tile of that camera
        blend_tile(window, cameras[tile.x], tile.y, projected + (size_t)tile.x * count * VECTORS, count, capacity, tiles,
                   tile_bins, overflow, sorted_ids, canvas);
    }

    // The last block resets the header.
    if (threadIdx.x == 0 && atomicAdd(&tiles.header[DONE], 1) == gridDim.x - 1) {
        tiles.header[NEXT] = 0;
        tiles.header[DONE] = 0;
        if (!last) {
            tiles.header[OCCUPIED] = 0;
            tiles.header[OVERFLOW_TILES] = 0;
            tiles.header[REQUESTED_UNITS] = 0;
            tiles.header[FRAME] += 1;
        }
    }
}
