// Tiles with more Gaussians than their lists hold: an extreme close-up, a body far away. Their Gaussians are collected
// anew and sorted in memory that all tiles share, the arena.
//   in   records, tile_state (project.cu), cameras
//   out  tile_state.sorted, arena [units * ARENA_UNIT] (depth bits, index)
//        needed [2]: raised to the longest list that did not fit, and to the units that a frame asked for in vain
// grid: any, a block takes every gridDim.x-th crowded tile; block TILE_THREADS.

struct Sorting {
    unsigned bins[2][BINS];       // of each warp's half
    unsigned found[2 * BATCH];
    int start;
};

// Where BINS counts start, in place: an exclusive sum over both warps' bins, bin by bin. Warp 0 comes.
__device__ __forceinline__ void starts_of_bins(unsigned (*bins)[BINS]) {
    const int EACH = BINS / 32, lane = threadIdx.x & 31;
    unsigned own = 0;
    for (int i = 0; i < EACH; i++) own += bins[0][lane * EACH + i] + bins[1][lane * EACH + i];
    unsigned sum = own;
    for (int step = 1; step < 32; step *= 2) {
        unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= step) sum += other;
    }
    sum -= own;
    for (int i = 0; i < EACH; i++)
        for (int warp = 0; warp < 2; warp++) {
            unsigned count = bins[warp][lane * EACH + i];
            bins[warp][lane * EACH + i] = sum;
            sum += count;
        }
}

// Collect a tile's Gaussians from all records, by index, and sort them by depth: a radix sort, each warp one half.
// All threads of the block call it together.
__device__ __forceinline__ void sort_tile(
    Sorting& sorting, const TileSource& source, const Tiles& tiles, int tile, uint2* arena, int units, int* needed) {
    const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    const unsigned before = (1u << lane) - 1;
    unsigned(*bins)[BINS] = sorting.bins;

    // The rectangle's test is a little generous: there may be more than were counted.
    int counted = tiles.counts[tile], own = (counted + counted / 4 + ARENA_UNIT) / ARENA_UNIT, room = own * ARENA_UNIT;
    if (thread == 0) {
        int start = atomicAdd(&tiles.control[ASKED], 2 * own);
        bool fits = start >= 0 && start + 2 * own <= units && start + 2 * own > 0;
        sorting.start = fits ? start : -1;
        tiles.sorted[tile] = make_int2(0, 0);
        atomicMax(needed, counted);
        if (!fits) atomicMax(needed + 1, start < 0 || start + 2 * own < 0 ? 0x7fffffff : start + 2 * own);
    }
    __syncthreads();
    int start = sorting.start;
    if (start < 0) return;
    uint2 *from = arena + (size_t)start * ARENA_UNIT, *to = from + room;

    // 1. Collect, in the order of the records.
    int total = 0;
    for (int first = 0; first < source.total; first += BATCH * TILE_THREADS) {
        Key keys[BATCH];
        unsigned masks[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int at = first + j * TILE_THREADS + thread;
            bool there = at < source.total && source_entry(source, at, keys[j]);
            masks[j] = __ballot_sync(ALL_LANES, there);
            if (lane == 0) sorting.found[j * 2 + warp] = __popc(masks[j]);
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int slot = total + (warp ? sorting.found[j * 2] : 0) + __popc(masks[j] & before);
            if ((masks[j] >> lane & 1) && slot < room) from[slot] = make_uint2((unsigned)(keys[j] >> 32), (unsigned)keys[j]);
            total += sorting.found[j * 2] + sorting.found[j * 2 + 1];
        }
        __syncthreads();
    }
    if (total > room) return;

    // 2. Four stable passes over the depths' bytes.
    int half = (total + 1) / 2, first = warp * half, last = min(first + half, total);
    for (int shift = 0; shift < 32; shift += 8) {
        for (int i = thread; i < 2 * BINS; i += TILE_THREADS) (&bins[0][0])[i] = 0;
        __syncthreads();
        for (int i = first + lane; i < last; i += 32) atomicAdd(&bins[warp][from[i].x >> shift & (BINS - 1)], 1u);
        __syncthreads();
        if (warp == 0) starts_of_bins(bins);
        __syncthreads();
        for (int base = first; base < last; base += 32) {
            bool there = base + lane < last;
            uint2 entry = there ? from[base + lane] : make_uint2(0, 0);
            unsigned digit = there ? entry.x >> shift & (BINS - 1) : BINS;
            unsigned same = __match_any_sync(ALL_LANES, digit), place = there ? bins[warp][digit] : 0;
            __syncwarp();
            if (there) {
                to[place + __popc(same & before)] = entry;
                if ((same & before) == 0) bins[warp][digit] = place + __popc(same);
            }
            __syncwarp();
        }
        __syncthreads();
        uint2* swapped = from;
        from = to;
        to = swapped;
    }
    if (thread == 0) tiles.sorted[tile] = make_int2(start, total);  // four passes: where they began
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS) sort_crowded(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ records, int n_tiles, int* tile_state,
    uint2* arena, int units, int* needed) {
    __shared__ Sorting sorting;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    for (int i = blockIdx.x; i < tiles.control[CROWDED]; i += gridDim.x) {
        int2 at = tiles.crowded[i];
        const Camera& camera = cameras[at.x];
        int tile_y = at.y / camera.tiles_x, tile_x = at.y - tile_y * camera.tiles_x;
        TileSource source = {
            nullptr, records + (size_t)at.x * count * RECORD, count, tile_x * TILE, tile_y * TILE, nullptr};
        sort_tile(sorting, source, tiles, camera.first_tile + at.y, arena, units, needed);
        __syncthreads();
    }
}
