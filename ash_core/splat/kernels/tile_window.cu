// Read the Gaussians of a tile front to back, in windows of at most WINDOW. Shared by blending and its backward pass.
// Order: depth bits, then index.
//
// A small tile bin is one window. A larger one is split by a histogram of depths. Most of its far entries are never
// sorted, since the pixels are opaque before.
// The bin of an overflow tile is not read: its entries come sorted from the overflow buffer (sort_overflow.cu). If that
// is full too, every window searches all projected Gaussians, so that none is ever left out.

#define SLOT_BITS 8
#define WINDOW (1 << SLOT_BITS)
#define SCRATCH (WINDOW / 4 > 64 * VECTORS ? WINDOW / 4 : 64 * VECTORS)
#define RADIX 256

typedef unsigned long long Key;  // depth bits, index: unique

struct TileWindow {
    float4 scratch[SCRATCH];      // depth bits, then scratch of the sort; free after next_window()
    unsigned ids[WINDOW];         // indices, sorted after next_window()
    unsigned low[2], high[2];
    int filled;                   // entries of the window; in find_end() the bin to split, or -1
    Key begin, end;               // keys of the window
    Key most;                     // exclusive upper bound of the tile's keys
};

struct TileSource {
    const uint2* bin;         // tile bin; null: search `projected`
    const float4* projected;  // projected Gaussians of this camera
    int total;                // number of entries of the bin or of `sorted`, or of all Gaussians
    int x0, y0;               // first pixel of the tile
    const uint2* sorted;      // sorted entries of an overflow tile, used alone; or null
};

// Read one entry. Returns false if that Gaussian does not reach the tile.
__device__ __forceinline__ bool source_entry(const TileSource& source, int index, Key& key) {
    if (source.bin) {
        uint2 entry = source.bin[index];
        key = ((Key)entry.x << 32) | entry.y;
        return true;
    }
    const float4* gaussian = source.projected + (size_t)index * VECTORS;
    float4 rest = gaussian[1];
    if (!(rest.y >= LOG2_ALPHA_MIN - SLACK)) return false;
    if (!reaches(gaussian[0], rest.x, rest.y, source.x0, source.y0, TILE, TILE)) return false;
    key = ((Key)__float_as_uint(rest.z) << 32) | (unsigned)index;
    return true;
}

// Apply `use` to each entry of a thread, BATCH at a time, so that their loads overlap.
#define BATCH 4
template <class Use>
__device__ __forceinline__ void for_each_entry(const TileSource& source, Use use) {
    for (int first = threadIdx.x; first < source.total; first += BATCH * TILE_THREADS) {
        Key keys[BATCH];
        bool valid[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int index = first + j * TILE_THREADS;
            valid[j] = index < source.total && source_entry(source, index, keys[j]);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (valid[j]) use(keys[j]);
    }
}

// Bitonic sort of K keys a thread, all comparisons ascending. Thread t holds elements t K ... t K + K - 1.
template <int K>
__device__ __forceinline__ void sort_block(unsigned (&key)[K], unsigned* scratch) {
    int thread = threadIdx.x;
#pragma unroll
    for (int size = 2; size <= K * TILE_THREADS; size *= 2) {
        // Mirror step: compare element i with i ^ (size - 1).
        if (size <= K) {
#pragma unroll
            for (int r = 0; r < K; r++) {
                int partner = r ^ (size - 1);
                if (partner > r) {
                    unsigned a = key[r], b = key[partner];
                    key[r] = min(a, b);
                    key[partner] = max(a, b);
                }
            }
        } else {
            unsigned other[K];
            int flip = size / K - 1;
            if (flip < 32) {
#pragma unroll
                for (int r = 0; r < K; r++) other[r] = __shfl_xor_sync(ALL_LANES, key[K - 1 - r], flip);
            } else {  // across the two warps
                __syncthreads();
#pragma unroll
                for (int r = 0; r < K; r++) scratch[r * TILE_THREADS + thread] = key[r];
                __syncthreads();
#pragma unroll
                for (int r = 0; r < K; r++)
                    other[r] = scratch[(K - 1 - r) * TILE_THREADS + (thread ^ flip)];
            }
            bool lower = (thread & (size / K / 2)) == 0;
#pragma unroll
            for (int r = 0; r < K; r++) key[r] = lower ? min(key[r], other[r]) : max(key[r], other[r]);
        }
        // Halving steps: compare element i with i ^ stride.
#pragma unroll
        for (int stride = size / 4; stride > 0; stride /= 2) {
            if (stride < K) {
#pragma unroll
                for (int r = 0; r < K; r++) {
                    if ((r & stride) == 0) {
                        unsigned a = key[r], b = key[r ^ stride];
                        key[r] = min(a, b);
                        key[r ^ stride] = max(a, b);
                    }
                }
            } else {
                bool lower = (thread & (stride / K)) == 0;
#pragma unroll
                for (int r = 0; r < K; r++) {
                    unsigned other = __shfl_xor_sync(ALL_LANES, key[r], stride / K);
                    key[r] = lower ? min(key[r], other) : max(key[r], other);
                }
            }
        }
    }
}

// Sort ids[0, n) by the depth bits in keys[0, n). The sorted words have 32 bits: the depth above the nearest one,
// shifted to make place for SLOT_BITS, and the slot. Neighbours with equal shifted depths are fixed afterwards.
template <int K>
__device__ __forceinline__ void sort_window(TileWindow& window, const float4* projected, int n) {
    int thread = threadIdx.x, warp = thread >> 5;
    unsigned* keys = (unsigned*)window.scratch;

    // Range of the depths.
    unsigned depth[K];
    unsigned low = 0xffffffffu, high = 0;
#pragma unroll
    for (int r = 0; r < K; r++) {
        int slot = r * TILE_THREADS + thread;
        depth[r] = slot < n ? keys[slot] : 0;
        if (slot < n) {
            low = min(low, depth[r]);
            high = max(high, depth[r]);
        }
    }
    low = __reduce_min_sync(ALL_LANES, low);
    high = __reduce_max_sync(ALL_LANES, high);
    if ((thread & 31) == 0) {
        window.low[warp] = low;
        window.high[warp] = high;
    }
    __syncthreads();
    low = min(window.low[0], window.low[1]);
    high = max(window.high[0], window.high[1]);

    // Sort the words.
    int shift = max(0, SLOT_BITS - __clz(high - low));
#pragma unroll
    for (int r = 0; r < K; r++) {
        unsigned slot = r * TILE_THREADS + thread;
        depth[r] = slot < n ? (((depth[r] - low) >> shift) << SLOT_BITS) | slot : 0xffffffffu;
    }
    sort_block<K>(depth, keys);

    // Fix ties, words that differ by the slot alone: odd-even transposition by full depth, then index.
    __syncthreads();
#pragma unroll
    for (int r = 0; r < K; r++) keys[thread * K + r] = depth[r];
    __syncthreads();
    bool tie = false;
    for (int i = thread; i + 1 < n; i += TILE_THREADS)
        tie |= (keys[i] >> SLOT_BITS) == (keys[i + 1] >> SLOT_BITS);
    if (__syncthreads_or(tie)) {
        bool swapped = true;
        while (swapped) {
            swapped = false;
            for (int odd = 0; odd < 2; odd++) {
                for (int i = 2 * thread + odd; i + 1 < n; i += 2 * TILE_THREADS) {
                    unsigned a = keys[i], b = keys[i + 1];
                    if (a >> SLOT_BITS != b >> SLOT_BITS) continue;
                    unsigned id_a = window.ids[a & (WINDOW - 1)], id_b = window.ids[b & (WINDOW - 1)];
                    float depth_a = projected[(size_t)id_a * VECTORS + 1].z;
                    float depth_b = projected[(size_t)id_b * VECTORS + 1].z;
                    if (depth_a > depth_b || (depth_a == depth_b && id_a > id_b)) {
                        keys[i] = b;
                        keys[i + 1] = a;
                        swapped = true;
                    }
                }
                __syncthreads();
            }
            swapped = __syncthreads_or(swapped);
        }
    }

    // Slots to indices.
    unsigned id[K];
#pragma unroll
    for (int r = 0; r < K; r++) {
        int i = r * TILE_THREADS + thread;
        id[r] = i < n ? window.ids[keys[i] & (WINDOW - 1)] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < K; r++) {
        int i = r * TILE_THREADS + thread;
        if (i < n) window.ids[i] = id[r];
    }
    __syncthreads();
}

__device__ __forceinline__ void sort_entries(TileWindow& window, const float4* projected, int n) {
    if (n <= TILE_THREADS) sort_window<1>(window, projected, n);
    else if (n <= 2 * TILE_THREADS) sort_window<2>(window, projected, n);
    else sort_window<4>(window, projected, n);
}

// Set [window.begin, window.most) to the range of the source's keys.
__device__ __forceinline__ void find_depth_range(TileWindow& window, const TileSource& source) {
    int thread = threadIdx.x;
    unsigned low = 0xffffffffu, high = 0;
    for_each_entry(source, [&](Key key) {
        low = min(low, (unsigned)(key >> 32));
        high = max(high, (unsigned)(key >> 32));
    });
    low = __reduce_min_sync(ALL_LANES, low);
    high = __reduce_max_sync(ALL_LANES, high);
    if ((thread & 31) == 0) {
        window.low[thread >> 5] = low;
        window.high[thread >> 5] = high;
    }
    __syncthreads();
    if (thread == 0) {
        window.begin = (Key)min(window.low[0], window.low[1]) << 32;
        window.most = (Key)(max(window.high[0], window.high[1]) + 1) << 32;
    }
    __syncthreads();
}

// Set window.end: [window.begin, window.end) holds at most WINDOW keys, and at least one unless none remains.
__device__ __forceinline__ void find_end(TileWindow& window, const TileSource& source) {
    int thread = threadIdx.x;
    unsigned* histogram = (unsigned*)window.scratch;
    Key low = window.begin, high = window.most;
    while (true) {
        // Histogram of [low, high).
        int shift = max(0, 64 - 8 - __clzll((long long)(high - low - 1)));  // 2^8 = RADIX
        for (int i = thread; i < RADIX; i += TILE_THREADS) histogram[i] = 0;
        __syncthreads();
        for_each_entry(source, [&](Key key) {
            if (key >= low && key < high) atomicAdd(&histogram[(int)((key - low) >> shift)], 1u);
        });
        __syncthreads();

        // One warp counts the leading bins that together hold at most WINDOW keys.
        if (thread < 32) {
            const int EACH = RADIX / 32;
            unsigned own = 0;
            for (int i = 0; i < EACH; i++) own += histogram[thread * EACH + i];
            unsigned sum = own;
            for (int step = 1; step < 32; step *= 2) {
                unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
                if (thread >= step) sum += other;
            }
            sum -= own;
            int fitting = 0;
            unsigned held = 0;
            for (int i = 0; i < EACH; i++) {
                sum += histogram[thread * EACH + i];
                if (sum <= WINDOW) {
                    fitting++;
                    held = sum;
                }
            }
            fitting = __reduce_add_sync(ALL_LANES, fitting);
            held = __reduce_max_sync(ALL_LANES, held);
            if (thread == 0) {
                window.filled = fitting < RADIX && held == 0 ? fitting : -1;  // bin of more than WINDOW keys
                window.end = fitting < RADIX ? low + ((Key)fitting << shift) : high;
            }
        }
        __syncthreads();

        // If the first bin with keys has more than WINDOW, split that one.
        int full = window.filled;
        if (full >= 0) {
            Key start = low + ((Key)full << shift);
            Key stop = start + ((Key)1 << shift);
            low = start;
            high = stop < high ? stop : high;
        }
        __syncthreads();
        if (full < 0) return;
    }
}

// Select the source of a tile's Gaussians. bin: of this tile; fits: all of its entries fit.
__device__ __forceinline__ TileSource source_of_tile(
    const uint2* bin, const uint2* overflow, const float4* projected, int count, const Tiles& tiles, int tile,
    bool fits, int x0, int y0) {
    TileSource source = {fits ? bin : nullptr, projected, fits ? (int)tiles.counts[tile] : count, x0, y0, nullptr};
    if (!fits && tiles.sorted[tile].y > 0) {
        source.sorted = overflow + (size_t)tiles.sorted[tile].x * OVERFLOW_UNIT;
        source.total = tiles.sorted[tile].y;
    }
    return source;
}

// Read the sorted indices of the next window into window.ids. Returns their number, 0 at the end.
// position: number of Gaussians in the windows before. All threads of the block call it together.
__device__ __forceinline__ int next_window(TileWindow& window, const TileSource& source, int position) {
    int thread = threadIdx.x, n;
    unsigned* keys = (unsigned*)window.scratch;

    // An overflow tile, sorted: copy.
    if (source.sorted) {
        n = min(source.total - position, WINDOW);
        __syncthreads();
        for (int i = thread; i < n; i += TILE_THREADS) window.ids[i] = source.sorted[position + i].y;
        __syncthreads();
        return n;
    }
    // A bin of one window: load it. Otherwise find the range of keys of the window, and collect those.
    if (source.bin && source.total <= WINDOW) {
        if (position > 0) return 0;
        n = source.total;
        uint2 entries[WINDOW / TILE_THREADS];
#pragma unroll
        for (int j = 0; j < WINDOW / TILE_THREADS; j++)
            if (thread + j * TILE_THREADS < n) entries[j] = source.bin[thread + j * TILE_THREADS];
#pragma unroll
        for (int j = 0; j < WINDOW / TILE_THREADS; j++) {
            int i = thread + j * TILE_THREADS;
            if (i >= n) continue;
            keys[i] = entries[j].x;
            window.ids[i] = entries[j].y;
        }
        __syncthreads();
    } else {
        __syncthreads();
        if (position == 0) {
            find_depth_range(window, source);
        } else {
            if (thread == 0) window.begin = window.end;
            __syncthreads();
        }
        if (window.begin >= window.most) return 0;
        find_end(window, source);
        if (thread == 0) window.filled = 0;
        __syncthreads();
        Key begin = window.begin, end = window.end;
        for_each_entry(source, [&](Key key) {
            if (key < begin || key >= end) return;
            int slot = atomicAdd(&window.filled, 1);
            keys[slot] = (unsigned)(key >> 32);
            window.ids[slot] = (unsigned)key;
        });
        __syncthreads();
        n = window.filled;
        if (n == 0) return 0;
    }
    sort_entries(window, source.projected, n);
    return n;
}
