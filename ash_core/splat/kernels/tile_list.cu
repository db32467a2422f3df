// A tile's Gaussians, front to back, a window of at most WINDOW at a time: the part that blending and its
// backward pass share. Order: depth bits, then index.
//
// Short lists are one window. Longer ones are cut where a histogram says: most of what is behind is never sorted, since
// the pixels are full before. Lists that did not fit into memory are not read at all: they come from the arena, where
// sort_crowded.cu has them in order. Should that be full too, all records are searched for each window, so that nothing
// is ever left out.

#define SLOT_BITS 8
#define WINDOW (1 << SLOT_BITS)
#define SCRATCH (WINDOW / 4 > 64 * RECORD ? WINDOW / 4 : 64 * RECORD)
#define BINS 256

typedef unsigned long long Key;  // depth bits, index: unique

struct TileList {
    float4 scratch[SCRATCH];      // depth bits, then sorting; free after next_window()
    unsigned ids[WINDOW];         // indices: after next_window() in order
    unsigned low[2], high[2];
    int filled;
    Key begin, end, most;
};

struct TileSource {
    const uint2* list;        // null: search the records
    const float4* records;    // of this camera
    int total;                // entries of the list or of `sorted`, or all records
    int x0, y0;               // the tile's first pixel
    const uint2* sorted;      // or null; then the rest is not asked
};

__device__ __forceinline__ bool source_entry(const TileSource& source, int at, Key& key) {
    if (source.list) {
        uint2 entry = source.list[at];
        key = ((Key)entry.x << 32) | entry.y;
        return true;
    }
    const float4* record = source.records + (size_t)at * RECORD;
    float4 rest = record[1];
    if (!(rest.y >= LOG2_ALPHA_MIN - SLACK)) return false;
    if (!reaches(record[0], rest.x, rest.y, source.x0, source.y0, TILE, TILE)) return false;
    key = ((Key)__float_as_uint(rest.z) << 32) | (unsigned)at;
    return true;
}

// What a thread does with each of its entries, BATCH at a time: their loads are on their way together.
#define BATCH 4
template <class Use>
__device__ __forceinline__ void for_each_entry(const TileSource& source, Use use) {
    for (int first = threadIdx.x; first < source.total; first += BATCH * TILE_THREADS) {
        Key keys[BATCH];
        bool there[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int at = first + j * TILE_THREADS;
            there[j] = at < source.total && source_entry(source, at, keys[j]);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (there[j]) use(keys[j]);
    }
}

// Bitonic sort of K keys a thread, thread t holding elements t K ... t K + K - 1; every comparison ascending.
template <int K>
__device__ __forceinline__ void sort_block(unsigned (&key)[K], unsigned* scratch) {
    int thread = threadIdx.x;
#pragma unroll
    for (int size = 2; size <= K * TILE_THREADS; size *= 2) {
        // Mirror: element i meets i ^ (size - 1).
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
            } else {  // the two warps meet
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

// keys[0, n) depth bits and ids[0, n) -> ids in order. Sorts 32-bit words: the depth above the tile's nearest,
// shifted to what SLOT_BITS leave, and the slot. Neighbours that this cannot tell apart are put right afterwards.
template <int K>
__device__ __forceinline__ void order(TileList& list, const float4* records, int n) {
    int thread = threadIdx.x, warp = thread >> 5;
    unsigned* keys = (unsigned*)list.scratch;
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
        list.low[warp] = low;
        list.high[warp] = high;
    }
    __syncthreads();
    low = min(list.low[0], list.low[1]);
    high = max(list.high[0], list.high[1]);
    int shift = max(0, SLOT_BITS - __clz(high - low));
#pragma unroll
    for (int r = 0; r < K; r++) {
        unsigned slot = r * TILE_THREADS + thread;
        depth[r] = slot < n ? (((depth[r] - low) >> shift) << SLOT_BITS) | slot : 0xffffffffu;
    }
    sort_block<K>(depth, keys);

    // Ties: equal words but for the slot.
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
                    unsigned id_a = list.ids[a & (WINDOW - 1)], id_b = list.ids[b & (WINDOW - 1)];
                    float depth_a = records[(size_t)id_a * RECORD + 1].z, depth_b = records[(size_t)id_b * RECORD + 1].z;
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
    unsigned id[K];
#pragma unroll
    for (int r = 0; r < K; r++) {
        int i = r * TILE_THREADS + thread;
        id[r] = i < n ? list.ids[keys[i] & (WINDOW - 1)] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < K; r++) {
        int i = r * TILE_THREADS + thread;
        if (i < n) list.ids[i] = id[r];
    }
    __syncthreads();
}

__device__ __forceinline__ void order_window(TileList& list, const float4* records, int n) {
    if (n <= TILE_THREADS) order<1>(list, records, n);
    else if (n <= 2 * TILE_THREADS) order<2>(list, records, n);
    else order<4>(list, records, n);
}

// [list.begin, list.most): the keys of the source.
__device__ __forceinline__ void find_range(TileList& list, const TileSource& source) {
    int thread = threadIdx.x;
    unsigned low = 0xffffffffu, high = 0;
    for_each_entry(source, [&](Key key) {
        low = min(low, (unsigned)(key >> 32));
        high = max(high, (unsigned)(key >> 32));
    });
    low = __reduce_min_sync(ALL_LANES, low);
    high = __reduce_max_sync(ALL_LANES, high);
    if ((thread & 31) == 0) {
        list.low[thread >> 5] = low;
        list.high[thread >> 5] = high;
    }
    __syncthreads();
    if (thread == 0) {
        list.begin = (Key)min(list.low[0], list.low[1]) << 32;
        list.most = (Key)(max(list.high[0], list.high[1]) + 1) << 32;
    }
    __syncthreads();
}

// Find list.end: the keys in [list.begin, end) are at most WINDOW, and at least one unless none is left.
__device__ __forceinline__ void find_end(TileList& list, const TileSource& source) {
    int thread = threadIdx.x;
    unsigned* bins = (unsigned*)list.scratch;
    Key low = list.begin, high = list.most;
    while (true) {
        int shift = max(0, 64 - 8 - __clzll((long long)(high - low - 1)));  // 2^8 = BINS
        for (int i = thread; i < BINS; i += TILE_THREADS) bins[i] = 0;
        __syncthreads();
        for_each_entry(source, [&](Key key) {
            if (key >= low && key < high) atomicAdd(&bins[(int)((key - low) >> shift)], 1u);
        });
        __syncthreads();
        if (thread < 32) {  // how many bins from the first on hold no more than WINDOW, and whether anything
            const int EACH = BINS / 32;
            unsigned own = 0;
            for (int i = 0; i < EACH; i++) own += bins[thread * EACH + i];
            unsigned sum = own;
            for (int step = 1; step < 32; step *= 2) {
                unsigned other = __shfl_up_sync(ALL_LANES, sum, step);
                if (thread >= step) sum += other;
            }
            sum -= own;
            int fitting = 0;
            unsigned held = 0;
            for (int i = 0; i < EACH; i++) {
                sum += bins[thread * EACH + i];
                if (sum <= WINDOW) {
                    fitting++;
                    held = sum;
                }
            }
            fitting = __reduce_add_sync(ALL_LANES, fitting);
            held = __reduce_max_sync(ALL_LANES, held);
            if (thread == 0) {
                list.filled = fitting < BINS && held == 0 ? fitting : -1;  // a bin too full: look closer
                list.end = fitting < BINS ? low + ((Key)fitting << shift) : high;
            }
        }
        __syncthreads();
        int crowded = list.filled;
        if (crowded >= 0) {
            Key start = low + ((Key)crowded << shift);
            Key stop = start + ((Key)1 << shift);
            low = start;
            high = stop < high ? stop : high;
        }
        __syncthreads();
        if (crowded < 0) return;
    }
}

// Where a tile's Gaussians are to be had. own: its list.
__device__ __forceinline__ TileSource source_of_tile(
    const uint2* own, const uint2* arena, const float4* records, int count, const Tiles& tiles, int tile, bool fits,
    int x0, int y0) {
    TileSource source = {fits ? own : nullptr, records, fits ? (int)tiles.counts[tile] : count, x0, y0, nullptr};
    if (!fits && tiles.sorted[tile].y > 0) {
        source.sorted = arena + (size_t)tiles.sorted[tile].x * ARENA_UNIT;
        source.total = tiles.sorted[tile].y;
    }
    return source;
}

// Bring the next window's indices in order into list.ids; returns how many, 0 at the end. `position` is how many
// came before. All threads of the block call it together.
__device__ __forceinline__ int next_window(TileList& list, const TileSource& source, int position) {
    int thread = threadIdx.x, n;
    unsigned* keys = (unsigned*)list.scratch;
    if (source.sorted) {
        n = min(source.total - position, WINDOW);
        __syncthreads();
        for (int i = thread; i < n; i += TILE_THREADS) list.ids[i] = source.sorted[position + i].y;
        __syncthreads();
        return n;
    }
    if (source.list && source.total <= WINDOW) {
        if (position > 0) return 0;
        n = source.total;
        uint2 entries[WINDOW / TILE_THREADS];
#pragma unroll
        for (int j = 0; j < WINDOW / TILE_THREADS; j++)
            if (thread + j * TILE_THREADS < n) entries[j] = source.list[thread + j * TILE_THREADS];
#pragma unroll
        for (int j = 0; j < WINDOW / TILE_THREADS; j++) {
            int i = thread + j * TILE_THREADS;
            if (i >= n) continue;
            keys[i] = entries[j].x;
            list.ids[i] = entries[j].y;
        }
        __syncthreads();
    } else {
        __syncthreads();
        if (position == 0) {
            find_range(list, source);
        } else {
            if (thread == 0) list.begin = list.end;
            __syncthreads();
        }
        if (list.begin >= list.most) return 0;
        find_end(list, source);
        if (thread == 0) list.filled = 0;
        __syncthreads();
        Key begin = list.begin, end = list.end;
        for_each_entry(source, [&](Key key) {
            if (key < begin || key >= end) return;
            int slot = atomicAdd(&list.filled, 1);
            keys[slot] = (unsigned)(key >> 32);
            list.ids[slot] = (unsigned)key;
        });
        __syncthreads();
        n = list.filled;
        if (n == 0) return 0;
    }
    order_window(list, source.records, n);
    return n;
}
