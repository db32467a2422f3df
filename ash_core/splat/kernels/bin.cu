// Bin projected Gaussians: append each to the bins of the tiles that it reaches.
//
// A block bins `group` Gaussians (32 or 64). The candidate tiles of a Gaussian are the box of its ellipse, where alpha
// reaches ALPHA_MIN. All threads of the block share the candidates: each tests one tile exactly and appends to its bin
// by one atomic. There is no scan and no sort.
// A full bin keeps counting, and its tile becomes an overflow tile (sort_overflow.cu).
// BIN_THREADS, MAX_GROUP: upper bounds of a block's threads and Gaussians.

struct BinningBlock {
    int first[MAX_GROUP + 1];     // candidates before each Gaussian
    float4 shape[MAX_GROUP];      // projected Gaussian [0]
    float4 rest[MAX_GROUP];       // c, log2_opacity, depth, -
    int4 box[MAX_GROUP];          // x and y of the first tile, tiles in a row, index of the Gaussian
};

// Compute the box of candidate tiles of one Gaussian, and count them.
__device__ __forceinline__ int count_candidates(
    const Camera& camera, const Projection& projection, float log2_opacity, int4& box) {
    float reach = sqrtf(fmaxf(2.0f * LN_2 * (log2_opacity - LOG2_ALPHA_MIN), 0.0f)) * 1.0001f;
    float extent_x = fmaf(reach, sqrtf(projection.xx), 0.01f), extent_y = fmaf(reach, sqrtf(projection.yy), 0.01f);
    if (!(extent_x >= 0.0f) || !(extent_y >= 0.0f)) return 0;  // not a number
    float last_x = camera.tiles_x - 1, last_y = camera.tiles_y - 1;
    float x0 = fmaxf(ceilf((projection.x - extent_x - (TILE - 0.5f)) / TILE), 0.0f);
    float y0 = fmaxf(ceilf((projection.y - extent_y - (TILE - 0.5f)) / TILE), 0.0f);
    float x1 = fminf(floorf((projection.x + extent_x - 0.5f) / TILE), last_x);
    float y1 = fminf(floorf((projection.y + extent_y - 0.5f) / TILE), last_y);
    if (!(x0 <= x1) || !(y0 <= y1)) return 0;
    box.x = (int)x0;
    box.y = (int)y0;
    box.z = (int)x1 - box.x + 1;
    return box.z * ((int)y1 - box.y + 1);
}

// Append the block's Gaussians to the bins of those candidate tiles that they reach. All threads call it together.
__device__ __forceinline__ void append_to_tile_bins(
    BinningBlock& block, int group, int count, const Camera& camera, int capacity, const Tiles& tiles,
    uint2* tile_bins) {
    int thread = threadIdx.x;
    // Inclusive prefix sum of the candidates, warp by warp.
    int sum = count;
    if (thread < group) {
        for (int step = 1; step < 32; step *= 2) {
            int other = __shfl_up_sync(ALL_LANES, sum, step);
            if ((thread & 31) >= step) sum += other;
        }
        block.first[thread + 1] = sum;
    }
    if (thread == 0) block.first[0] = 0;
    __syncthreads();
    if (group > 32) {
        if (thread >= 32 && thread < group) block.first[thread + 1] = sum + block.first[32];
        __syncthreads();
    }

    // One candidate a thread: find its Gaussian by bisection, test its tile, append.
    int total = block.first[group];
    for (int candidate = thread; candidate < total; candidate += blockDim.x) {
        int owner = 0;
        for (int step = group / 2; step > 0; step /= 2)
            if (block.first[owner + step] <= candidate) owner += step;
        int4 box = block.box[owner];
        int local = candidate - block.first[owner];
        int row = local / box.z;
        int tile_x = box.x + local - row * box.z, tile_y = box.y + row;
        float4 rest = block.rest[owner];
        if (!reaches(block.shape[owner], rest.x, rest.y, tile_x * TILE, tile_y * TILE, TILE, TILE)) continue;
        int local_tile = tile_y * camera.tiles_x + tile_x, tile = camera.first_tile + local_tile;
        unsigned slot = atomicAdd(&tiles.counts[tile], 1u);
        if (slot < (unsigned)capacity)
            tile_bins[(size_t)tile * capacity + slot] = make_uint2(__float_as_uint(rest.z), (unsigned)box.w);
        if (slot == 0) {
            tiles.marks[tile] = mark_of_frame(tiles);
            tiles.queue[atomicAdd(&tiles.header[OCCUPIED], 1)] = make_int2(blockIdx.y, local_tile);
        }
        if (slot == (unsigned)capacity)
            tiles.overflow[atomicAdd(&tiles.header[OVERFLOW_TILES], 1)] = make_int2(blockIdx.y, local_tile);
    }
}

// Project one thread's Gaussian, write it, and stage it for append_to_tile_bins. Returns its number of candidates.
// colour_of() is evaluated only for a Gaussian with candidates.
template <class Colour>
__device__ __forceinline__ int bin_gaussian(
    BinningBlock& block, const Camera& camera, int index, float3 mean, float4 quat, float3 scale, float opacity,
    float4* __restrict__ gaussian, Colour colour_of) {
    Projection projection;
    int4 box = make_int4(0, 0, 1, index);
    float log2_opacity = log2f(opacity);
    int n_candidates = 0;
    float4 shape = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float3 colour = make_float3(0.0f, 0.0f, 0.0f);
    float c = 0.0f;
    if (opacity >= ALPHA_MIN && opacity <= MOST && project(camera, mean, quat, scale, projection)) {
        float factor = -0.5f * LOG2_E / projection.determinant;
        shape = make_float4(projection.x, projection.y, factor * projection.yy, -2.0f * factor * projection.xy);
        c = factor * projection.xx;
        float size = fabsf(shape.x) + fabsf(shape.y) + fabsf(shape.z) + fabsf(shape.w) + fabsf(c);
        if (size <= MOST && projection.determinant <= MOST)  // else something was not finite
            n_candidates = count_candidates(camera, projection, log2_opacity, box);
    }
    if (n_candidates > 0) {
        colour = colour_of();
        if (!(fabsf(colour.x) + fabsf(colour.y) + fabsf(colour.z) <= MOST)) n_candidates = 0;
    }
    if (n_candidates == 0) {
        gaussian[1] = make_float4(0.0f, NEVER, 0.0f, 0.0f);
        return 0;
    }
    block.shape[threadIdx.x] = shape;
    block.rest[threadIdx.x] = make_float4(c, log2_opacity, projection.depth, 0.0f);
    block.box[threadIdx.x] = box;
    gaussian[0] = shape;
    gaussian[1] = make_float4(c, log2_opacity, projection.depth, colour.x);
    gaussian[2] = make_float4(colour.y, colour.z, 0.0f, 0.0f);
    return n_candidates;
}

// Load a camera by the block's threads; a barrier must follow.
__device__ __forceinline__ void load_camera(Camera& camera, const Camera* __restrict__ source) {
    if (threadIdx.x < sizeof(Camera) / 4) ((int*)&camera)[threadIdx.x] = ((const int*)source)[threadIdx.x];
}
