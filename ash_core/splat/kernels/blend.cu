// Blend each tile's Gaussians front to back: sort the tile's list, then one thread a pixel.
//   in   records, tile_counts, lists (project.cu)   background RGB
//   out  rgba8 [pixels] (premultiplied, coverage in alpha), or rgb [pixels, 3], alpha [pixels], depth [pixels] m
//        kept for the backward pass, where `last` is given: last [pixels], how many entries of the list a pixel
//        passed, and the lists, in order. Otherwise the counts are set back to zero for the next frame.
//        needed: the longest list that was too long for `capacity`
// grid (tiles of the largest camera, C), block TILE_THREADS.

extern "C" __global__ void __launch_bounds__(TILE_THREADS, 12) blend(
    int count, const Camera* __restrict__ cameras, const float4* __restrict__ all_records, int capacity,
    unsigned* __restrict__ tile_counts, uint2* __restrict__ lists, const float* __restrict__ background,
    float rounding, uchar4* __restrict__ rgba8, float* __restrict__ rgb, float* __restrict__ alpha,
    float* __restrict__ depth, int* __restrict__ last, int* __restrict__ needed) {
    __shared__ TileList list;
    const Camera& camera = cameras[blockIdx.y];
    int tiles_x = camera.tiles_x, width = camera.width, height = camera.height;
    if ((int)blockIdx.x >= tiles_x * camera.tiles_y) return;
    int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
    int tile_y = blockIdx.x / tiles_x, tile_x = blockIdx.x - tile_y * tiles_x;
    int tile = camera.first_tile + blockIdx.x;
    int x0 = tile_x * TILE, y0 = tile_y * TILE;
    int x = x0 + (lane & 7), y = y0 + warp * 4 + (lane >> 3);
    float px = x + 0.5f, py = y + 0.5f;
    bool inside = x < width && y < height, done = !inside;
    float transmittance = 1.0f, r = 0.0f, g = 0.0f, b = 0.0f, d = 0.0f;
    int stopped = -1, position = 0;

    int total = tile_counts[tile];
    if (total > 0) {
        const float4* records = all_records + (size_t)blockIdx.y * count * RECORD;
        bool fits = total <= capacity;
        TileSource source = {fits ? lists + (size_t)tile * capacity : nullptr, records, fits ? total : count, x0, y0};
        while (true) {
            int n = next_window(list, source, position);
            if (n == 0) break;
            if (last && fits && total <= WINDOW)
                for (int i = thread; i < n; i += TILE_THREADS) lists[(size_t)tile * capacity + i].y = list.ids[i];

            // Each warp keeps the records of 32 Gaussians at hand.
            float4* staged = list.scratch + warp * 32 * RECORD;
            float4 r0, r1, r2;
            if (lane < n) {
                const float4* record = records + (size_t)list.ids[lane] * RECORD;
                r0 = record[0], r1 = record[1], r2 = record[2];
            }
            for (int base = 0; base < n; base += 32) {
                if (__all_sync(ALL_LANES, done)) break;
                int at = base + lane;
                bool hit = at < n && reaches(r0, r1.x, r1.y, x0, y0 + warp * 4, 8, 4);
                unsigned mask = __ballot_sync(ALL_LANES, hit);
                if (hit) {
                    float4* mine = staged + RECORD * __popc(mask & ((1u << lane) - 1));
                    r2.z = __int_as_float(position + at);
                    mine[0] = r0;
                    mine[1] = r1;
                    mine[2] = r2;
                }
                at += 32;
                if (at < n) {  // on their way while these are blended
                    const float4* record = records + (size_t)list.ids[at] * RECORD;
                    r0 = record[0], r1 = record[1], r2 = record[2];
                }
                __syncwarp();
                int hits = __popc(mask);
#pragma unroll 4
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
        if (thread == 0) {
            if (!last) tile_counts[tile] = 0;
            if (!fits) atomicMax(needed, total);
        }
    }

    if (!inside) return;
    size_t pixel = camera.first_pixel + (size_t)y * width + x;
    float covered = 1.0f - transmittance;
    if (background) {
        r = fmaf(transmittance, background[0], r);
        g = fmaf(transmittance, background[1], g);
        b = fmaf(transmittance, background[2], b);
    }
    if (rgba8) {
        rgba8[pixel] = make_uchar4(
            (unsigned char)(__saturatef(r) * 255.0f + rounding), (unsigned char)(__saturatef(g) * 255.0f + rounding),
            (unsigned char)(__saturatef(b) * 255.0f + rounding), (unsigned char)(covered * 255.0f + 0.5f));
        return;
    }
    rgb[3 * pixel] = r;
    rgb[3 * pixel + 1] = g;
    rgb[3 * pixel + 2] = b;
    alpha[pixel] = covered;
    depth[pixel] = covered > 0.0f ? d / covered : 0.0f;
    if (last) last[pixel] = stopped >= 0 ? stopped : position;
}
