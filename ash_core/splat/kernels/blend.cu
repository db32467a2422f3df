// Blend each tile's Gaussians front to back: sort the tile's list, then one thread a pixel.
//   in   records, tile_state, lists (project.cu)   arena (sort_crowded.cu)   background RGB
//   out  rgba8 [pixels] (premultiplied, coverage in alpha), or rgb [pixels, 3], alpha [pixels], depth [pixels] m
//        kept for the backward pass, where `last` is given: last [pixels], how many Gaussians of its tile a pixel
//        passed; ordered [tiles, capacity], which; and the tile state. Otherwise that is ready for the next frame.
// grid: as many blocks as run at once; block TILE_THREADS. Blocks take the occupied tiles one by one, then chunks of
// tiles where only the background is to be drawn.

// Of the loop over a tile's Gaussians: more would spill registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define UNROLL 4
#else
#define UNROLL 3
#endif

// Tiles of a chunk, and of one warp of the block.
#define CHUNK_TILES 16
#define WARP_TILES (CHUNK_TILES / 2)

struct Canvas {
    float3 background;
    float rounding;
    uchar4* rgba8;
    float *rgb, *alpha, *depth;
    int* last;
};

// Product and sum rounded each, as the picture's bytes are made on the host.
__device__ __forceinline__ unsigned char as_byte(float value, float rounding) {
    return (unsigned char)__fadd_rn(__fmul_rn(__saturatef(value), 255.0f), rounding);
}

__device__ __forceinline__ void put(
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

__device__ __forceinline__ void blend_tile(
    TileList& list, const Camera& camera, int own, const float4* __restrict__ records, int count, int capacity,
    const Tiles& tiles, const uint2* __restrict__ lists, const uint2* __restrict__ arena,
    unsigned* __restrict__ ordered, const Canvas& canvas) {
    int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    int tile_y = own / camera.tiles_x, tile_x = own - tile_y * camera.tiles_x, tile = camera.first_tile + own;
    int x0 = tile_x * TILE, y0 = tile_y * TILE;
    int x = x0 + (lane & 7), y = y0 + warp * 4 + (lane >> 3);
    float px = x + 0.5f, py = y + 0.5f;
    bool inside = x < camera.width && y < camera.height, done = !inside;
    float transmittance = 1.0f, r = 0.0f, g = 0.0f, b = 0.0f, d = 0.0f;
    int stopped = -1, position = 0;

    bool fits = tiles.counts[tile] <= capacity;
    TileSource source =
        source_of_tile(lists + (size_t)tile * capacity, arena, records, count, tiles, tile, fits, x0, y0);
    while (true) {
        int n = next_window(list, source, position);
        if (n == 0) break;
        if (ordered && fits)
            for (int i = thread; i < n; i += TILE_THREADS) ordered[(size_t)tile * capacity + position + i] = list.ids[i];

        // Each warp keeps the records of 32 Gaussians at hand.
        float4* staged = list.scratch + warp * 32 * RECORD;
        float4 r0, r1;
        float2 r2;
        if (lane < n) {
            const float4* record = records + (size_t)list.ids[lane] * RECORD;
            r0 = record[0], r1 = record[1], r2 = *(const float2*)(record + 2);
        }
        for (int base = 0; base < n; base += 32) {
            if (__all_sync(ALL_LANES, done)) break;
            int at = base + lane;
            bool hit = at < n && reaches(r0, r1.x, r1.y, x0, y0 + warp * 4, 8, 4);
            unsigned mask = __ballot_sync(ALL_LANES, hit);
            if (hit) {
                float4* mine = staged + RECORD * __popc(mask & ((1u << lane) - 1));
                mine[0] = r0;
                mine[1] = r1;
                mine[2] = make_float4(r2.x, r2.y, __int_as_float(position + at), 0.0f);
            }
            at += 32;
            if (at < n) {  // on their way while these are blended
                const float4* record = records + (size_t)list.ids[at] * RECORD;
                r0 = record[0], r1 = record[1], r2 = *(const float2*)(record + 2);
            }
            __syncwarp();
            int hits = __popc(mask);
#pragma unroll UNROLL
            for (int i = 0; i < hits; i++) {
                float4 s0 = staged[RECORD * i], s1 = staged[RECORD * i + 1], s2 = staged[RECORD * i + 2];
                float dx = px - s0.x, dy = py - s0.y;
                float a = fminf(exp2f(s1.y + log2_falloff(s0.z, s0.w, s1.x, dx, dy)), ALPHA_MAX);
                bool seen = a >= ALPHA_MIN && !done;
                float weight = a * transmittance, after = transmittance - weight;
                if (seen && after < TRANSMITTANCE_MIN) {
                    done = true;
                    seen = false;
                    stopped = __float_as_int(s2.z);
                }
                weight = seen ? weight : 0.0f;
                transmittance = seen ? after : transmittance;
                r = fmaf(weight, s1.w, r);
                g = fmaf(weight, s2.x, g);
                b = fmaf(weight, s2.y, b);
                d = fmaf(weight, s1.z, d);
            }
            __syncwarp();
        }
        position += n;
        if (source.list && source.total <= WINDOW) break;
        if (__syncthreads_and(done)) break;
    }
    if (thread == 0 && !canvas.last) tiles.counts[tile] = 0;
    if (!inside) return;
    size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
    put(canvas, pixel, transmittance, r, g, b, d, stopped >= 0 ? stopped : position);
}

// The background where a chunk's tiles are not occupied.
__device__ __forceinline__ void blank_tiles(
    const Camera* __restrict__ cameras, int views, int first, const Tiles& tiles, int n_tiles, const Canvas& canvas) {
    int lane = threadIdx.x & 31;
    first += threadIdx.x / 32 * WARP_TILES;
    int last = min(first + WARP_TILES, n_tiles), frame = mark_of_frame(tiles);
    bool blank = first + lane < last && tiles.marks[first + lane] != frame;
    unsigned left = __ballot_sync(ALL_LANES, blank);
    int view = 0;
    for (; left; left &= left - 1) {
        int tile = first + __ffs(left) - 1;
        while (view + 1 < views && cameras[view + 1].first_tile <= tile) view++;
        const Camera& camera = cameras[view];
        int own = tile - camera.first_tile, tile_y = own / camera.tiles_x, tile_x = own - tile_y * camera.tiles_x;
        int x = tile_x * TILE + (lane & 7), y = tile_y * TILE + (lane >> 3);
        size_t pixel = camera.first_pixel + (size_t)y * camera.width + x;
        if (x >= camera.width) continue;
        if (y < camera.height) put(canvas, pixel, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0);
        if (y + 4 < camera.height) put(canvas, pixel + 4 * camera.width, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0);
    }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS, RESIDENT) blend(
    int count, int views, const Camera* __restrict__ cameras, const float4* __restrict__ records, int capacity,
    int n_tiles, int* tile_state, const uint2* __restrict__ lists, const uint2* __restrict__ arena,
    unsigned* __restrict__ ordered, const float* __restrict__ background, float rounding, uchar4* __restrict__ rgba8, float* __restrict__ rgb,
    float* __restrict__ alpha, float* __restrict__ depth, int* __restrict__ last) {
    begin_kernel();
    __shared__ TileList list;
    __shared__ int taken;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    float3 under = make_float3(0.0f, 0.0f, 0.0f);
    if (background) under = make_float3(background[0], background[1], background[2]);
    Canvas canvas = {under, rounding, rgba8, rgb, alpha, depth, last};
    int occupied = tiles.control[OCCUPIED], chunks = (n_tiles + CHUNK_TILES - 1) / CHUNK_TILES, following = 0;
    if (threadIdx.x == 0) following = atomicAdd(&tiles.control[NEXT], 1);
    while (true) {
        if (threadIdx.x == 0) taken = following;
        __syncthreads();
        int work = taken;
        __syncthreads();
        if (work >= occupied + chunks) break;
        if (threadIdx.x == 0) following = atomicAdd(&tiles.control[NEXT], 1);  // comes while this is done
        if (work >= occupied) {
            blank_tiles(cameras, views, (work - occupied) * CHUNK_TILES, tiles, n_tiles, canvas);
            continue;
        }
        int2 at = tiles.queue[work];
        blend_tile(list, cameras[at.x], at.y, records + (size_t)at.x * count * RECORD, count, capacity, tiles, lists,
                   arena, ordered, canvas);
    }
    if (threadIdx.x == 0 && atomicAdd(&tiles.control[DONE], 1) == gridDim.x - 1) {
        tiles.control[NEXT] = 0;
        tiles.control[DONE] = 0;
        if (!last) {
            tiles.control[OCCUPIED] = 0;
            tiles.control[CROWDED] = 0;
            tiles.control[ASKED] = 0;
            tiles.control[FRAME] += 1;
        }
    }
}
