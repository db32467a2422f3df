// Sort the overflow tiles: collect their Gaussians from all projected ones and sort them in the overflow buffer.
// Overflow tiles have more Gaussians than the capacity of a bin: an extreme close-up, a body far away.
//   in   projected, tile_state (project.cu)   cameras [C]
//   out  tile_state.sorted   overflow [units * OVERFLOW_UNIT] (depth bits, index)
//        demand [2]: maxima of the entries of a bin that overflowed, and of the units that did not fit
// grid: any; a block sorts every gridDim.x-th overflow tile. block SORT_THREADS: the fullest tile bounds the latency.

#define SORT_WARPS (SORT_THREADS / 32)

struct Sorting {
    unsigned histograms[SORT_WARPS][RADIX];  // one a warp
    unsigned matches[BATCH * SORT_WARPS + 1];  // Gaussians in the tile, by warp and round
    unsigned sums[RADIX / 32];
    int start;
};

// Exclusive prefix sum of `matches`, in place, with the total at the end. For one warp.
__device__ __forceinline__ void prefix_sum_matches(unsigned* matches) {
    const int EACH = BATCH * SORT_WARPS / 32, lane = threadIdx.x & 31;
    unsigned own = 0;
    for (int i = 0; i < EACH; i++) own += matches[lane * EACH + i];
    unsigned sum = own;
    for (int step = 1; step < 32; step *= 2) {
        unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) matches[BATCH * SORT_WARPS] = sum;
    sum -= own;
    for (int i = 0; i < EACH; i++) {
        unsigned count = matches[lane * EACH + i];
        matches[lane * EACH + i] = sum;
        sum += count;
    }
}

// Exclusive prefix sum of the histograms, in place: by digit, then by warp. For all threads, one a digit.
__device__ __forceinline__ void prefix_sum_histograms(Sorting& sorting) {
    const int digit = threadIdx.x, warp = digit >> 5, lane = digit & 31;
    unsigned own = 0, sum = 0;
    if (digit < RADIX) {
        for (int i = 0; i < SORT_WARPS; i++) own += sorting.histograms[i][digit];
        sum = own;
        for (int step = 1; step < 32; step *= 2) {
            unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
            if (lane >= step) sum += other;
        }
        if (lane == 31) sorting.sums[warp] = sum;
    }
    __syncthreads();
    if (digit >= RADIX) return;
    for (int i = 0; i < warp; i++) sum += sorting.sums[i];
    sum -= own;
    for (int i = 0; i < SORT_WARPS; i++) {
        unsigned count = sorting.histograms[i][digit];
        sorting.histograms[i][digit] = sum;
        sum += count;
    }
}

// Collect the Gaussians of a tile by index and sort them by depth: a radix sort, each warp a part of the entries.
// All threads of the block call it together.
__device__ __forceinline__ void sort_tile(
    Sorting& sorting, const TileSource& source, const Tiles& tiles, int tile, uint2* overflow, int units, int* demand) {
    const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    const unsigned before = (1u << lane) - 1;
    unsigned(*histograms)[RADIX] = sorting.histograms;

    // Reserve memory, with a margin: the rectangle test may find more Gaussians than were counted.
    int counted = tiles.counts[tile], n_units = (counted + counted / 4 + OVERFLOW_UNIT) / OVERFLOW_UNIT;
    int capacity = n_units * OVERFLOW_UNIT;
    if (thread == 0) {
        int start = atomicAdd(&tiles.header[REQUESTED_UNITS], 2 * n_units);
        bool fits = start >= 0 && start + 2 * n_units <= units && start + 2 * n_units > 0;
        sorting.start = fits ? start : -1;
        tiles.sorted[tile] = make_int2(0, 0);
        atomicMax(demand, counted);
        if (!fits) atomicMax(demand + 1, start < 0 || start + 2 * n_units < 0 ? 0x7fffffff : start + 2 * n_units);
    }
    __syncthreads();
    int start = sorting.start;
    if (start < 0) return;
    uint2 *entries = overflow + (size_t)start * OVERFLOW_UNIT, *scratch = entries + capacity;

    // 1. Collect, in the order of the indices.
    int total = 0;
    for (int first = 0; first < source.total; first += BATCH * SORT_THREADS) {
        Key keys[BATCH];
        unsigned masks[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int index = first + j * SORT_THREADS + thread;
            bool valid = index < source.total && source_entry(source, index, keys[j]);
            masks[j] = __ballot_sync(ALL_LANES, valid);
            if (lane == 0) sorting.matches[j * SORT_WARPS + warp] = __popc(masks[j]);
        }
        __syncthreads();
        if (warp == 0) prefix_sum_matches(sorting.matches);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int slot = total + sorting.matches[j * SORT_WARPS + warp] + __popc(masks[j] & before);
            if ((masks[j] >> lane & 1) && slot < capacity)
                entries[slot] = make_uint2((unsigned)(keys[j] >> 32), (unsigned)keys[j]);
        }
        total += sorting.matches[BATCH * SORT_WARPS];
        __syncthreads();
    }
    if (total > capacity) return;

    // 2. Four stable passes, one a byte of the depth. The last one writes to where the first one read.
    int part = (total + SORT_WARPS - 1) / SORT_WARPS, first = min(warp * part, total), last = min(first + part, total);
    for (int shift = 0; shift < 32; shift += 8) {
        for (int i = thread; i < SORT_WARPS * RADIX; i += SORT_THREADS) (&histograms[0][0])[i] = 0;
        __syncthreads();
        for (int i = first + lane; i < last; i += 32)
            atomicAdd(&histograms[warp][entries[i].x >> shift & (RADIX - 1)], 1u);
        __syncthreads();
        prefix_sum_histograms(sorting);
        __syncthreads();
        for (int base = first; base < last; base += 32) {
            bool valid = base + lane < last;
            uint2 entry = valid ? entries[base + lane] : make_uint2(0, 0);
            unsigned digit = valid ? entry.x >> shift & (RADIX - 1) : RADIX;
            unsigned same = __match_any_sync(ALL_LANES, digit), place = valid ? histograms[warp][digit] : 0;
            __syncwarp();
            if (valid) {
                scratch[place + __popc(same & before)] = entry;
                if ((same & before) == 0) histograms[warp][digit] = place + __popc(same);
            }
            __syncwarp();
        }
        __syncthreads();
        uint2* swapped = entries;
        entries = scratch;
        scratch = swapped;
    }
    if (thread == 0) tiles.sorted[tile] = make_int2(start, total);
}

extern "C" __global__ void __launch_bounds__(SORT_THREADS) sort_overflow(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ projected, int n_tiles, int* tile_state,
    uint2* overflow, int units, int* demand) {
    begin_kernel();
    __shared__ Sorting sorting;
    Tiles tiles = tiles_in(tile_state, n_tiles);
    for (int i = blockIdx.x; i < tiles.header[OVERFLOW_TILES]; i += gridDim.x) {
        int2 tile = tiles.overflow[i];  // camera, tile of that camera
        const Camera& camera = cameras[tile.x];
        int tile_y = tile.y / camera.tiles_x, tile_x = tile.y - tile_y * camera.tiles_x;
        TileSource source = {
            nullptr, projected + (size_t)tile.x * count * VECTORS, count, tile_x * TILE, tile_y * TILE, nullptr};
        sort_tile(sorting, source, tiles, camera.first_tile + tile.y, overflow, units, demand);
        __syncthreads();
    }
}
