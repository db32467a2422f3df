// Tiles with more Gaussians than their lists hold: an extreme close-up, a body far away. Their Gaussians are collected
// anew and sorted in memory that all tiles share, the arena.
//   in   records, tile_state (project.cu), cameras
//   out  tile_state.sorted, arena [units * ARENA_UNIT] (depth bits, index)
//        needed [2]: raised to the longest list that did not fit, and to the units that a frame asked for in vain
// grid: any, a block takes every gridDim.x-th crowded tile; block SORT_THREADS: a frame waits for its most crowded tile.

#define SORT_WARPS (SORT_THREADS / 32)

struct Sorting {
    unsigned bins[SORT_WARPS][BINS];  // of each warp's share
    unsigned found[BATCH * SORT_WARPS + 1];
    unsigned sums[BINS / 32];
    int start;
};

// In place: how many were found before each warp's, and all. Warp 0 comes.
__device__ __forceinline__ void places_of_found(unsigned* found) {
    const int EACH = BATCH * SORT_WARPS / 32, lane = threadIdx.x & 31;
    unsigned own = 0;
    for (int i = 0; i < EACH; i++) own += found[lane * EACH + i];
    unsigned sum = own;
    for (int step = 1; step < 32; step *= 2) {
        unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) found[BATCH * SORT_WARPS] = sum;
    sum -= own;
    for (int i = 0; i < EACH; i++) {
        unsigned count = found[lane * EACH + i];
        found[lane * EACH + i] = sum;
        sum += count;
    }
}

// Where BINS counts start, in place: an exclusive sum over all warps' bins, bin by bin. All threads come, one a bin.
__device__ __forceinline__ void starts_of_bins(Sorting& sorting) {
    const int bin = threadIdx.x, warp = bin >> 5, lane = bin & 31;
    unsigned own = 0, sum = 0;
    if (bin < BINS) {
        for (int i = 0; i < SORT_WARPS; i++) own += sorting.bins[i][bin];
        sum = own;
        for (int step = 1; step < 32; step *= 2) {
            unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
            if (lane >= step) sum += other;
        }
        if (lane == 31) sorting.sums[warp] = sum;
    }
    __syncthreads();
    if (bin >= BINS) return;
    for (int i = 0; i < warp; i++) sum += sorting.sums[i];
    sum -= own;
    for (int i = 0; i < SORT_WARPS; i++) {
        unsigned count = sorting.bins[i][bin];
        sorting.bins[i][bin] = sum;
        sum += count;
    }
}

// Collect a tile's Gaussians from all records, by index, and sort them by depth: a radix sort, each warp its share.
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
    for (int first = 0; first < source.total; first += BATCH * SORT_THREADS) {
        Key keys[BATCH];
        unsigned masks[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int at = first + j * SORT_THREADS + thread;
            bool there = at < source.total && source_entry(source, at, keys[j]);
            masks[j] = __ballot_sync(ALL_LANES, there);
            if (lane == 0) sorting.found[j * SORT_WARPS + warp] = __popc(masks[j]);
        }
        __syncthreads();
        if (warp == 0) places_of_found(sorting.found);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int slot = total + sorting.found[j * SORT_WARPS + warp] + __popc(masks[j] & before);
            if ((masks[j] >> lane & 1) && slot < room) from[slot] = make_uint2((unsigned)(keys[j] >> 32), (unsigned)keys[j]);
        }
        total += sorting.found[BATCH * SORT_WARPS];
        __syncthreads();
    }
    if (total > room) return;

    // 2. Four stable passes over the depths' bytes.
    int share = (total + SORT_WARPS - 1) / SORT_WARPS, first = min(warp * share, total), last = min(first + share, total);
    for (int shift = 0; shift < 32; shift += 8) {
        for (int i = thread; i < SORT_WARPS * BINS; i += SORT_THREADS) (&bins[0][0])[i] = 0;
        __syncthreads();
        for (int i = first + lane; i < last; i += 32) atomicAdd(&bins[warp][from[i].x >> shift & (BINS - 1)], 1u);
        __syncthreads();
        starts_of_bins(sorting);
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

extern "C" __global__ void __launch_bounds__(SORT_THREADS) sort_crowded(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ records, int n_tiles, int* tile_state,
    uint2* arena, int units, int* needed) {
    begin_kernel();
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
