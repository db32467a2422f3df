// A peer for bench_raster.py: what the numba rasterizer does, written by hand in C++ with vector
// types. Degree-0 colour, black background, forward only. Meaning: ash_core/splat/reference.py.
//   in   means [N, 3] m   quats [N, 4] wxyz   scales [N, 3] m   opacities [N]   dc [N, 3]
//        view [4, 4] camera from world   lens (fx, fy, cx, cy) pixels
//   out  rgb [h, w, 3]   alpha [h, w]   depth [h, w], all zeroed by the caller
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>

namespace {

constexpr int kTileW = 64, kTileH = 16, kLanes = 16, kPitch = kTileW + kLanes;
constexpr float kBlur = 0.3f, kNear = 0.2f, kAlphaMin = 1.0f / 255, kAlphaMax = 0.99f, kStop = 1e-4f;
const float kLog2AlphaMin = std::log2(1.0f / 255);
constexpr float kLog2e = 1.44269504f;

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

inline Vec load(const float* p) { Vec v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec all(float x) { return x - Vec{}; }

inline Vec exp2_of(Vec t) {
    // -ffast-math would fold (t + c) - c away; nearest by conversion instead.
    Ints n = __builtin_convertvector(t - 0.5f, Ints);
    Vec f = t - __builtin_convertvector(n, Vec);
    Vec p = all(1.5353362e-4f);
    p = p * f + 1.3398874e-3f;
    p = p * f + 9.6184373e-3f;
    p = p * f + 5.5503324e-2f;
    p = p * f + 2.4022648e-1f;
    p = p * f + 6.9314720e-1f;
    p = p * f + 1.0f;
    return (Vec)((Ints)p + (n << 23));
}

struct Splat {
    float mx, my, slope, across, down, top, reach, widest, r, g, b, depth;
};

void tile_rows(const Splat& s, int tiles_y, int& first, int& last) {
    first = int(std::min(std::max(s.my - 0.5f - s.reach - 1e-3f, 0.0f), float(tiles_y * kTileH))) / kTileH;
    last = int(std::min(std::max(s.my - 0.5f + s.reach + 1e-3f, -1.0f), tiles_y * kTileH - 1.0f) + kTileH) / kTileH;
}

void tile_columns(const Splat& s, int row, int tiles_x, int& first, int& last) {
    float low = row * kTileH + 0.5f - s.my, high = low + kTileH - 1, room = s.top - kLog2AlphaMin;
    float dy = std::min(std::max(-s.widest, low), high);
    float left = s.mx - 0.5f + s.slope * dy - std::sqrt(std::max(room - s.down * dy * dy, 0.0f) / s.across) - 1e-3f;
    dy = std::min(std::max(s.widest, low), high);
    float right = s.mx - 0.5f + s.slope * dy + std::sqrt(std::max(room - s.down * dy * dy, 0.0f) / s.across) + 1e-3f;
    first = int(std::min(std::max(left, 0.0f), float(tiles_x * kTileW))) / kTileW;
    last = int(std::min(std::max(right, -1.0f), tiles_x * kTileW - 1.0f) + kTileW) / kTileW;
}

std::vector<int> depth_order(const std::vector<uint32_t>& keys) {
    uint32_t low = ~0u, high = 0;
    std::vector<int> order, other;
    order.reserve(keys.size());
    for (size_t i = 0; i < keys.size(); i++)
        if (keys[i]) low = std::min(low, keys[i]), high = std::max(high, keys[i]), order.push_back(int(i));
    if (order.size() < 2) return order;
    other.resize(order.size());
    int bits = 0;
    while ((high - low) >> bits && bits < 31) bits++;
    int passes = std::max((bits + 11) / 12, 1), width = (bits + passes - 1) / passes;
    std::vector<int> starts((size_t(1) << width) + 1);
    uint32_t mask = (1u << width) - 1;
    for (int step = 0; step < passes; step++) {
        std::fill(starts.begin(), starts.end(), 0);
        for (int i : order) starts[((keys[i] - low) >> (step * width) & mask) + 1]++;
        for (size_t d = 0; d + 1 < starts.size(); d++) starts[d + 1] += starts[d];
        for (int i : order) other[starts[(keys[i] - low) >> (step * width) & mask]++] = i;
        order.swap(other);
    }
    return order;
}

Splat project(int i, const float* means, const float* quats, const float* scales,
              const float* opacities, const float* dc, const float* V, const float* lens,
              float limit_u, float limit_v) {
    const float *m = means + 3 * i, *q = quats + 4 * i, *s = scales + 3 * i;
    float z = V[8] * m[0] + V[9] * m[1] + V[10] * m[2] + V[11];
    float u = (V[0] * m[0] + V[1] * m[1] + V[2] * m[2] + V[3]) / z;
    float v = (V[4] * m[0] + V[5] * m[1] + V[6] * m[2] + V[7]) / z;
    float ju = lens[0] / z, jv = lens[1] / z;
    float wu = -ju * std::clamp(u, -limit_u, limit_u), wv = -jv * std::clamp(v, -limit_v, limit_v);
    float w = q[0], x = q[1], y = q[2], k = q[3];
    float R[3][3] = {{1 - 2 * (y * y + k * k), 2 * (x * y - w * k), 2 * (x * k + w * y)},
                     {2 * (x * y + w * k), 1 - 2 * (x * x + k * k), 2 * (y * k - w * x)},
                     {2 * (x * k - w * y), 2 * (y * k + w * x), 1 - 2 * (x * x + y * y)}};
    float a[3], b[3];
    for (int c = 0; c < 3; c++) {
        a[c] = b[c] = 0;
        for (int r = 0; r < 3; r++) {
            a[c] += (ju * V[r] + wu * V[8 + r]) * R[r][c];
            b[c] += (jv * V[4 + r] + wv * V[8 + r]) * R[r][c];
        }
        a[c] *= s[c], b[c] *= s[c];
    }
    float xx = a[0] * a[0] + a[1] * a[1] + a[2] * a[2] + kBlur;
    float yy = b[0] * b[0] + b[1] * b[1] + b[2] * b[2] + kBlur;
    float xy = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    float c0 = a[1] * b[2] - a[2] * b[1], c1 = a[2] * b[0] - a[0] * b[2], c2 = a[0] * b[1] - a[1] * b[0];
    float det = c0 * c0 + c1 * c1 + c2 * c2 + kBlur * (xx + yy - kBlur);
    float top = std::log2(opacities[i]);
    float room = std::max(top - kLog2AlphaMin, 0.0f) * (2 / kLog2e);
    Splat p;
    p.mx = lens[0] * u + lens[2], p.my = lens[1] * v + lens[3];
    p.slope = xy / yy, p.across = 0.5f * kLog2e * yy / det, p.down = 0.5f * kLog2e / yy, p.top = top;
    p.reach = std::sqrt(room * yy), p.widest = xy * std::sqrt(room / xx);
    const float* colour = dc + 3 * i;
    p.r = std::max(0.5f + 0.2820948f * colour[0], 0.0f);
    p.g = std::max(0.5f + 0.2820948f * colour[1], 0.0f);
    p.b = std::max(0.5f + 0.2820948f * colour[2], 0.0f);
    p.depth = z;
    return p;
}

bool any_live(const float* state, bool* live, int rows) {
    bool any = false;
    for (int y = 0; y < rows; y++) {
        if (!live[y]) continue;
        Ints going{};
        for (int x = 0; x < kTileW; x += kLanes) going |= load(state + y * 5 * kPitch + x) > 0.0f;
        int found = 0;
        for (int lane = 0; lane < kLanes; lane++) found |= going[lane];
        live[y] = found != 0;
        any |= live[y];
    }
    return any;
}

// First pixel and steps of each row of a tile where alpha reaches 1/255, all rows at once.
void row_spans(const Splat& s, float mx, float my, int* first, int* steps, float* centres, float* peaks) {
    const float narrow = 1 / s.across;
#pragma omp simd
    for (int y = 0; y < kTileH; y++) {
        float dy = y - my, peak = s.top - s.down * dy * dy, centre = mx + s.slope * dy;
        float half = std::sqrt(std::max(peak - kLog2AlphaMin, 0.0f) * narrow) + 1e-3f;
        int x = int(std::min(std::max(centre - half, 0.0f), float(kTileW)));
        int x_end = int(std::min(std::max(centre + half + 1, 0.0f), float(kTileW)));
        int needed = (x_end - x + kLanes - 1) / kLanes;
        first[y] = x;
        steps[y] = peak >= kLog2AlphaMin ? needed : 0;
        centres[y] = centre;
        peaks[y] = peak;
    }
}

void blend_tile(float* state, const int* list, int count, const Splat* splats, int tile_x, int tile_y, int rows) {
    Vec lane;
    for (int i = 0; i < kLanes; i++) lane[i] = float(i);
    bool live[kTileH];
    alignas(64) int first[kTileH], steps[kTileH];
    alignas(64) float centres[kTileH], peaks[kTileH];
    std::fill(live, live + kTileH, true);
    for (int number = 0; number < count; number++) {
        if (number % 16 == 15 && !any_live(state, live, rows)) return;
        const Splat& s = splats[list[number]];
        __builtin_prefetch(&splats[list[std::min(number + 2, count - 1)]]);
        float my = s.my - (tile_y + 0.5f), mx = s.mx - (tile_x + 0.5f);
        row_spans(s, mx, my, first, steps, centres, peaks);
        int y_end = int(std::min(std::max(my + s.reach + 1, 0.0f), float(rows)));
        for (int y = int(std::max(my - s.reach, 0.0f)); y < y_end; y++) {
            if (!live[y]) continue;
            int x = first[y];
            float centre = centres[y], peak = peaks[y];
            float* row = state + y * 5 * kPitch;
            for (int left = steps[y]; left > 0; left--, x += kLanes) {
                float* v = row + x;
                Vec u = lane + (x - centre), t = peak - s.across * u * u;
                Vec alpha = exp2_of(t);
                alpha = alpha < kAlphaMax ? alpha : all(kAlphaMax);
                Vec before = load(v), weight = alpha * before, after = before - weight;
                Ints hit = t >= kLog2AlphaMin, kept = hit & (after >= kStop);
                weight = kept ? weight : Vec{};
                Vec stopped = before < 0.0f ? before : -before;
                store(v, kept ? after : (hit ? stopped : before));
                store(v + kPitch, load(v + kPitch) + weight * s.r);
                store(v + 2 * kPitch, load(v + 2 * kPitch) + weight * s.g);
                store(v + 3 * kPitch, load(v + 3 * kPitch) + weight * s.b);
                store(v + 4 * kPitch, load(v + 4 * kPitch) + weight * s.depth);
            }
        }
    }
}

}  // namespace

extern "C" void render(int n, const float* means, const float* quats, const float* scales,
                       const float* opacities, const float* dc, const float* view, const float* lens,
                       int width, int height, int threads, float* rgb, float* alpha, float* depth) {
    omp_set_num_threads(threads);
    const float limit_u = 1.3f * width / (2 * lens[0]), limit_v = 1.3f * height / (2 * lens[1]);
    std::vector<uint32_t> keys(n);
#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        const float* m = means + 3 * i;
        float z = view[8] * m[0] + view[9] * m[1] + view[10] * m[2] + view[11];
        uint32_t key = 0;
        if (z > kNear && opacities[i] >= kAlphaMin) std::memcpy(&key, &z, 4);
        keys[i] = key;
    }
    std::vector<int> order = depth_order(keys);
    const int count = int(order.size());
    std::vector<int> ranks(n, -1);
    for (int rank = 0; rank < count; rank++) ranks[order[rank]] = rank;
    std::vector<Splat> splats(count);
#pragma omp parallel for
    for (int i = 0; i < n; i++)
        if (ranks[i] >= 0)
            splats[ranks[i]] = project(i, means, quats, scales, opacities, dc, view, lens, limit_u, limit_v);

    const int tiles_x = (width + kTileW - 1) / kTileW, tiles_y = (height + kTileH - 1) / kTileH;
    const int tiles = tiles_x * tiles_y;
    std::vector<int> counts(size_t(threads) * tiles), bounds(tiles + 1), list;
    auto walk = [&](int worker, auto&& visit) {
        int first = int(int64_t(worker) * count / threads), last = int(int64_t(worker + 1) * count / threads);
        for (int rank = first; rank < last; rank++) {
            int row, row_end, column, column_end;
            for (tile_rows(splats[rank], tiles_y, row, row_end); row < row_end; row++)
                for (tile_columns(splats[rank], row, tiles_x, column, column_end); column < column_end; column++)
                    visit(rank, counts[size_t(worker) * tiles + row * tiles_x + column]);
        }
    };
#pragma omp parallel for schedule(static, 1)
    for (int worker = 0; worker < threads; worker++) walk(worker, [](int, int& at) { at++; });
    int total = 0;
    for (int tile = 0; tile < tiles; tile++) {
        bounds[tile] = total;
        for (int worker = 0; worker < threads; worker++) {
            int here = counts[size_t(worker) * tiles + tile];
            counts[size_t(worker) * tiles + tile] = total;
            total += here;
        }
    }
    bounds[tiles] = total;
    list.resize(total);
#pragma omp parallel for schedule(static, 1)
    for (int worker = 0; worker < threads; worker++) walk(worker, [&](int rank, int& at) { list[at++] = rank; });

    std::vector<int> queue;
    for (int tile = 0; tile < tiles; tile++)
        if (bounds[tile + 1] > bounds[tile]) queue.push_back(tile);
    std::sort(queue.begin(), queue.end(), [&](int a, int b) {
        return bounds[a + 1] - bounds[a] > bounds[b + 1] - bounds[b];
    });
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t number = 0; number < queue.size(); number++) {
        alignas(64) float state[kTileH * 5 * kPitch + kLanes];
        int tile = queue[number], tile_x = tile % tiles_x * kTileW, tile_y = tile / tiles_x * kTileH;
        int rows = std::min(kTileH, height - tile_y), columns = std::min(kTileW, width - tile_x);
        std::memset(state, 0, sizeof state);
        for (int y = 0; y < rows; y++) std::fill_n(state + y * 5 * kPitch, columns, 1.0f);
        blend_tile(state, list.data() + bounds[tile], bounds[tile + 1] - bounds[tile], splats.data(), tile_x, tile_y, rows);
        for (int y = 0; y < rows; y++)
            for (int x = 0; x < columns; x++) {
                const float* v = state + y * 5 * kPitch + x;
                size_t at = size_t(tile_y + y) * width + tile_x + x;
                float left = std::fabs(v[0]);
                for (int c = 0; c < 3; c++) rgb[3 * at + c] = v[(c + 1) * kPitch];
                alpha[at] = 1 - left;
                depth[at] = left < 1 ? v[4 * kPitch] / (1 - left) : 0;
            }
    }
}
