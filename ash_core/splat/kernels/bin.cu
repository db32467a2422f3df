// Lay projected Gaussians into the lists of the tiles that they reach.
//
// A block holds `group` Gaussians (32 or 64); their candidate tiles (the box of the ellipse where alpha reaches
// ALPHA_MIN) are spread over all its threads, each tests one tile exactly and appends to its list: one atomic each, no
// scan, no sort. A list that is full keeps counting, and its tile is crowded (sort_crowded.cu).
// BIN_THREADS and MAX_GROUP are the most that a block has.


struct Bin {
    int first[MAX_GROUP + 1];     // candidates before each Gaussian
    float4 shape[MAX_GROUP];      // record [0]
    float4 rest[MAX_GROUP];       // c, log2_opacity, depth, -
    int4 box[MAX_GROUP];          // first tile x and y, tiles in a row, index of the Gaussian
};

// Threads below `group` bring a Gaussian each: its record's shape and its covariance's extents.
__device__ __forceinline__ int candidates(
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

__device__ __forceinline__ void append_to_tiles(
    Bin& bin, int group, int count, const Camera& camera, int capacity, const Tiles& tiles, uint2* lists) {
    int thread = threadIdx.x;
    // Inclusive sums of the candidates, warp by warp.
    int sum = count;
    if (thread < group) {
        for (int step = 1; step < 32; step *= 2) {
            int other = __shfl_up_sync(ALL_LANES, sum, step);
            if ((thread & 31) >= step) sum += other;
        }
        bin.first[thread + 1] = sum;
    }
    if (thread == 0) bin.first[0] = 0;
    __syncthreads();
    if (group > 32) {
        if (thread >= 32 && thread < group) bin.first[thread + 1] = sum + bin.first[32];
        __syncthreads();
    }
    int total = bin.first[group];
    for (int candidate = thread; candidate < total; candidate += blockDim.x) {
        int owner = 0;
        for (int step = group / 2; step > 0; step /= 2)
            if (bin.first[owner + step] <= candidate) owner += step;
        int4 box = bin.box[owner];
        int local = candidate - bin.first[owner];
        int row = local / box.z;
        int tile_x = box.x + local - row * box.z, tile_y = box.y + row;
        float4 rest = bin.rest[owner];
        if (!reaches(bin.shape[owner], rest.x, rest.y, tile_x * TILE, tile_y * TILE, TILE, TILE)) continue;
        int own = tile_y * camera.tiles_x + tile_x, tile = camera.first_tile + own;
        unsigned slot = atomicAdd(&tiles.counts[tile], 1u);
        if (slot < (unsigned)capacity)
            lists[(size_t)tile * capacity + slot] = make_uint2(__float_as_uint(rest.z), (unsigned)box.w);
        if (slot == 0) {
            tiles.marks[tile] = mark_of_frame(tiles);
            tiles.queue[atomicAdd(&tiles.control[OCCUPIED], 1)] = make_int2(blockIdx.y, own);
        }
        if (slot == (unsigned)capacity)
            tiles.crowded[atomicAdd(&tiles.control[CROWDED], 1)] = make_int2(blockIdx.y, own);
    }
}

// One thread's Gaussian: project it, write its record, and hand its candidates to append_to_tiles. The colour is
// only asked for if there are any. Returns how many candidates.
template <class Colour>
__device__ __forceinline__ int lay(
    Bin& bin, const Camera& camera, int index, float3 mean, float4 quat, float3 scale, float opacity,
    float4* __restrict__ record, Colour colour_of) {
    Projection projection;
    int4 box = make_int4(0, 0, 1, index);
    float log2_opacity = log2f(opacity);
    int found = 0;
    float4 shape = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float3 colour = make_float3(0.0f, 0.0f, 0.0f);
    float c = 0.0f;
    if (opacity >= ALPHA_MIN && opacity <= MOST && project(camera, mean, quat, scale, projection)) {
        float factor = -0.5f * LOG2_E / projection.determinant;
        shape = make_float4(projection.x, projection.y, factor * projection.yy, -2.0f * factor * projection.xy);
        c = factor * projection.xx;
        float size = fabsf(shape.x) + fabsf(shape.y) + fabsf(shape.z) + fabsf(shape.w) + fabsf(c);
        if (size <= MOST && projection.determinant <= MOST)  // else something was not finite
            found = candidates(camera, projection, log2_opacity, box);
    }
    if (found > 0) {
        colour = colour_of();
        if (!(fabsf(colour.x) + fabsf(colour.y) + fabsf(colour.z) <= MOST)) found = 0;
    }
    if (found == 0) {
        record[1] = make_float4(0.0f, NEVER, 0.0f, 0.0f);
        return 0;
    }
    bin.shape[threadIdx.x] = shape;
    bin.rest[threadIdx.x] = make_float4(c, log2_opacity, projection.depth, 0.0f);
    bin.box[threadIdx.x] = box;
    record[0] = shape;
    record[1] = make_float4(c, log2_opacity, projection.depth, colour.x);
    record[2] = make_float4(colour.y, colour.z, 0.0f, 0.0f);
    return found;
}

// The block's threads bring a camera; a barrier must follow.
__device__ __forceinline__ void load_camera(Camera& camera, const Camera* __restrict__ from) {
    if (threadIdx.x < sizeof(Camera) / 4) ((int*)&camera)[threadIdx.x] = ((const int*)from)[threadIdx.x];
}
