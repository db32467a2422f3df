// The two graph networks side by side. Meaning: networks/graph_net.py.
//
// A node of either network is a row: first the n_nodes of the embedded graph (spatial), then the n_vertices (delta).
// A graph convolution maps every row by its own kernel, then takes the mean over neighbours. One launch here ends one
// convolution and begins the next: it takes the mean of the neighbours' mapped features, does what stands between the
// two, and maps by the row's own next kernel. Features are float32, a warp a row; lane l holds the four features
// 4 (l % 4) ..., eight neighbours are read at once.
//
// mapped, next, kept float [rows, 16]   bias float [rows, 16]   starts int [rows + 1], neighbours (row, weight)
// norm float [n_nodes, 32]: the spatial network's scales, then shifts   kernels [rows of the network, 16 outputs, 16]
//
// Defined by the compiler: FEATURES a row; THREADS and WARPS of a block; DENSE_TILE rows of a block of the half dense
// layer and inputs of one of its steps; the bits of a mode, what stands between two convolutions, in this order:
// ADD_KEPT, KEEP, NORMALISE, ELU; and instead of mapping FOR_DENSE (features as they are) or FINISH (affine transforms).

// The dense layer's features as halves must not overflow: a power of two.
#define DENSE_SCALE 0.015625f

__device__ __forceinline__ float warp_sum_of_eight(float value) {  // over lanes of the same l % 4
    for (int step = 16; step >= 4; step /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, step);
    return value;
}
__device__ __forceinline__ float4 sum_of_eight(float4 v) {
    return make_float4(warp_sum_of_eight(v.x), warp_sum_of_eight(v.y), warp_sum_of_eight(v.z), warp_sum_of_eight(v.w));
}
__device__ __forceinline__ float elu(float x) { return x > 0.0f ? x : expm1f(x); }

// Eight weights of a row's kernel: output lane % 16, inputs 8 (lane / 16) ...
struct Weights {
    float v[8];
};
__device__ __forceinline__ Weights load_weights(const float* kernels, const unsigned short* half_kernels, int row) {
    const int lane = threadIdx.x & 31;
    const size_t at = ((size_t)row * FEATURES + (lane & 15)) * FEATURES + lane / 16 * 8;
    if (half_kernels) {
        uint4 raw = *reinterpret_cast<const uint4*>(half_kernels + at);
        float2 a = half2_to_float2(raw.x), b = half2_to_float2(raw.y);
        float2 c = half2_to_float2(raw.z), d = half2_to_float2(raw.w);
        return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
    }
    float4 a = reinterpret_cast<const float4*>(kernels + at)[0], b = reinterpret_cast<const float4*>(kernels + at)[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

// A feature of lane / 16's eight, from the lanes that hold them.
__device__ __forceinline__ float feature(float4 v, int i) {
    float own = i % 4 == 0 ? v.x : i % 4 == 1 ? v.y : i % 4 == 2 ? v.z : v.w;
    return __shfl_sync(WHOLE_WARP, own, (threadIdx.x & 31) / 16 * 2 + i / 4);
}

// The row's features by its kernel, into next.
__device__ __forceinline__ void map_row(float4 v, const Weights& weights, float* next, int row) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += weights.v[i] * feature(v, i);
    sum += __shfl_xor_sync(WHOLE_WARP, sum, 16);
    const int lane = threadIdx.x & 31;
    if (lane < 16) next[row * FEATURES + lane] = sum;
}

// What stands between a mean and the next product: bias, residual, norm, ELU.
__device__ __forceinline__ float4 between(
    float4 v, int row, int mode, const float* bias, const float* norm, float* kept) {
    const int lane = threadIdx.x & 31, quad = lane & 3;
    const float4 own_bias = reinterpret_cast<const float4*>(bias)[row * 4 + quad];
    add_scaled(v, own_bias, 1.0f);
    float4* own = reinterpret_cast<float4*>(kept) + row * 4 + quad;
    if (mode & ADD_KEPT) add_scaled(v, *own, 1.0f);
    __syncwarp();  // every lane of a quad has read what its first lane writes
    if ((mode & KEEP) && lane < 4) *own = v;
    if (mode & NORMALISE) {
        const float4* affine = reinterpret_cast<const float4*>(norm) + row * 8 + quad;
        float4 scale = affine[0], shift = affine[4];
        v = make_float4(v.x * scale.x + shift.x, v.y * scale.y + shift.y, v.z * scale.z + shift.z, v.w * scale.w + shift.w);
    }
    if (mode & ELU) v = make_float4(elu(v.x), elu(v.y), elu(v.z), elu(v.w));
    return v;
}

// A node's translation and Euler angles (x, y, z) to the affine transform about itself: Rz Ry Rx.
__device__ __forceinline__ void finish_node(float4 v, const float* places, float* moves, int node) {
    float ay = __shfl_sync(WHOLE_WARP, v.x, 1), az = __shfl_sync(WHOLE_WARP, v.y, 1);
    if ((threadIdx.x & 31) != 0) return;
    float sx = sinf(v.w), cx = cosf(v.w), sy = sinf(ay), cy = cosf(ay), sz = sinf(az), cz = cosf(az);
    float turn[3][3] = {{cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx},
                        {sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx},
                        {-sy, cy * sx, cy * cx}};
    float3 p = load3(places + node * 3);
    float start[3] = {p.x + v.x, p.y + v.y, p.z + v.z};
    for (int r = 0; r < 3; ++r)
        reinterpret_cast<float4*>(moves)[node * 3 + r] =
            make_float4(turn[r][0], turn[r][1], turn[r][2],
                        start[r] - (turn[r][0] * p.x + turn[r][1] * p.y + turn[r][2] * p.z));
}

// One row from one convolution to the next; the whole warp comes.
__device__ __forceinline__ void step_row(
    int row, int mode, int n_nodes, const int* starts, const uint2* neighbours, const float* mapped,
    const float* bias, const float* norm, const float* kernels, const float* vertex_kernels,
    const unsigned short* half_kernels, const float* places, float* kept, float* next, unsigned short* dense_input,
    float* moves) {
    const int lane = threadIdx.x & 31, quad = lane & 3;
    const bool spatial = row < n_nodes;
    Weights weights = {};
    if (!(mode & (FOR_DENSE | FINISH)))  // asked for early: they come from far
        weights = spatial ? load_weights(kernels, nullptr, row) : load_weights(vertex_kernels, half_kernels, row - n_nodes);

    float4 v = make_float4(0, 0, 0, 0);
    const int end = starts[row + 1];
    for (int i = starts[row] + lane / 4; i < end; i += 8) {
        uint2 neighbour = neighbours[i];
        add_scaled(v, reinterpret_cast<const float4*>(mapped)[neighbour.x * 4 + quad], __uint_as_float(neighbour.y));
    }
    v = between(sum_of_eight(v), row, mode, bias, norm, kept);

    if (mode & FINISH) {
        finish_node(v, places, moves, row);
    } else if (!(mode & FOR_DENSE)) {
        map_row(v, weights, next, row);
    } else if (lane < 4) {
        if (dense_input) {
            int vertex = row - n_nodes;
            unsigned short* out =
                dense_input + ((size_t)(vertex / DENSE_TILE) * FEATURES + quad * 4) * DENSE_TILE + vertex % DENSE_TILE;
            out[0] = float_to_half(v.x * DENSE_SCALE), out[DENSE_TILE] = float_to_half(v.y * DENSE_SCALE);
            out[2 * DENSE_TILE] = float_to_half(v.z * DENSE_SCALE), out[3 * DENSE_TILE] = float_to_half(v.w * DENSE_SCALE);
        } else {
            reinterpret_cast<float4*>(next)[row * 4 + quad] = v;
        }
    }
}

// What the networks see, mapped by their first kernels.
//   in   node_inputs float [n_nodes, 18]   node_kernels float [n_nodes, 18, 16]
//        matrices float [n_nodes, 3, 3, 4]: of the normalised poses n-2, n-1, n   link_starts, links: as pose_vertices
//        vertex_template float [n_vertices, 3]   vertex_kernels float or half_kernels half [n_vertices, 9, 16]
//   out  mapped
extern "C" __global__ void __launch_bounds__(THREADS) first_maps(
    int n_nodes, int n_vertices, const float* __restrict__ node_inputs, const float* __restrict__ node_kernels,
    const float* __restrict__ matrices, const int* __restrict__ link_starts, const uint2* __restrict__ links,
    const float* __restrict__ vertex_template, const float* __restrict__ vertex_kernels,
    const unsigned short* __restrict__ half_kernels, float* __restrict__ mapped) {
    begin_kernel();
    const int row = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x & 31, output = lane & 15;
    if (row >= n_nodes + n_vertices) return;
    float sum = 0.0f;
    if (row < n_nodes) {
        for (int i = lane / 16 * 9; i < lane / 16 * 9 + 9; ++i)
            sum += node_inputs[row * 18 + i] * node_kernels[((size_t)row * 18 + i) * FEATURES + output];
        sum += __shfl_xor_sync(WHOLE_WARP, sum, 16);
    } else {
        // The template posed by linear blending: lane l has coordinate l % 9 of three poses, every third link.
        const int vertex = row - n_nodes, part = lane % 9, begin = lane / 9;
        float3 p = load3(vertex_template + vertex * 3);
        float4 point = make_float4(p.x, p.y, p.z, 1.0f);
        float place = 0.0f;
        if (begin < 3)
            for (int i = link_starts[vertex] + begin; i < link_starts[vertex + 1]; i += 3)
                place += __uint_as_float(links[i].y) *
                         dot4(reinterpret_cast<const float4*>(matrices)[links[i].x * 9 + part], point);
        float second = __shfl_down_sync(WHOLE_WARP, place, 9), third = __shfl_down_sync(WHOLE_WARP, place, 18);
        place = (place + second + third) * 1000.0f;  // the delta network sees millimetres
        for (int i = 0; i < 9; ++i) {
            size_t at = ((size_t)vertex * 9 + i) * FEATURES + output;
            float weight = half_kernels ? half_to_float(half_kernels[at]) : vertex_kernels[at];
            sum += __shfl_sync(WHOLE_WARP, place, i) * weight;
        }
    }
    if (lane < 16) mapped[row * FEATURES + lane] = sum;
}

// Every row from one convolution to the next, a warp a row; grid ceil(n_rows / WARPS).
//   vertex_kernels float or half_kernels half: the delta network's   places float [n_nodes, 3]: the nodes, m
//   dense_input half [chunks, 16, DENSE_TILE] where the dense layer is half   moves float [n_nodes, 3, 4]
extern "C" __global__ void __launch_bounds__(THREADS) graph_step(
    int n_rows, int n_nodes, int node_mode, int vertex_mode, const int* __restrict__ starts,
    const uint2* __restrict__ neighbours, const float* __restrict__ mapped, const float* __restrict__ bias,
    const float* __restrict__ norm, const float* __restrict__ kernels, const float* __restrict__ vertex_kernels,
    const unsigned short* __restrict__ half_kernels, const float* __restrict__ places, float* __restrict__ kept,
    float* __restrict__ next, unsigned short* __restrict__ dense_input, float* __restrict__ moves) {
    begin_kernel();
    const int row = blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= n_rows) return;
    step_row(row, row < n_nodes ? node_mode : vertex_mode, n_nodes, starts, neighbours, mapped, bias, norm, kernels,
             vertex_kernels, half_kernels, places, kept, next, dense_input, moves);
}

// The delta network's dense layer, DENSE_TILE vertices a block, and the spatial network's step beside it.
//   dense half [tiles of 16 vertices, chunks, 2, 8, 4, 8]: vertex tile 16 + half 8 + i, inputs chunk 32 + t 8 + k; or,
//   null, dense_floats [n_vertices, n_vertices] and the features in mapped
// grid ceil(n_vertices / DENSE_TILE) + ceil(n_nodes / WARPS)
extern "C" __global__ void __launch_bounds__(THREADS) graph_dense(
    int n_nodes, int n_vertices, int node_mode, int vertex_mode, const int* __restrict__ starts,
    const uint2* __restrict__ neighbours, const float* __restrict__ mapped, const float* __restrict__ bias,
    const float* __restrict__ norm, const float* __restrict__ kernels, const float* __restrict__ vertex_kernels,
    const unsigned short* __restrict__ half_kernels, float* __restrict__ kept, float* __restrict__ next,
    const float* __restrict__ dense_floats, const unsigned short* __restrict__ dense,
    const unsigned short* __restrict__ dense_input) {
    begin_kernel();
    __shared__ float4 partial[WARPS][DENSE_TILE][FEATURES / 4];
    const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, quad = lane & 3;
    const int tiles = (n_vertices + DENSE_TILE - 1) / DENSE_TILE;
    if (blockIdx.x >= tiles) {
        int row = (blockIdx.x - tiles) * WARPS + warp;
        if (row < n_nodes)
            step_row(row, node_mode, n_nodes, starts, neighbours, mapped, bias, norm, kernels, nullptr, nullptr, nullptr,
                     kept, next, nullptr, nullptr);
        return;
    }

    // Every warp takes each eighth chunk of the inputs.
    if (dense) {
        const int chunks = tiles * DENSE_TILE / DENSE_TILE;
        const uint4* weights = reinterpret_cast<const uint4*>(dense) + (size_t)blockIdx.x * 2 * chunks * 64;
        const uint4* input = reinterpret_cast<const uint4*>(dense_input);
        float sums[2][2][4] = {};
#pragma unroll 2
        for (int chunk = warp; chunk < chunks; chunk += WARPS) {
            uint4 b[2], low[2], high[2];
            for (int i = 0; i < 2; ++i) {
                const uint4* tile = weights + ((size_t)i * chunks + chunk) * 64 + lane;
                low[i] = tile[0], high[i] = tile[32];
                b[i] = input[(chunk * 2 + i) * 32 + lane];
            }
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 2; ++j) {
                    multiply_add(sums[i][j], {low[i].x, high[i].x, low[i].y, high[i].y}, b[j].x, b[j].y);
                    multiply_add(sums[i][j], {low[i].z, high[i].z, low[i].w, high[i].w}, b[j].z, b[j].w);
                }
        }
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j)
                for (int k = 0; k < 4; ++k) {
                    float* row = reinterpret_cast<float*>(partial[warp][i * 16 + k / 2 * 8 + lane / 4]);
                    row[j * 8 + quad * 2 + (k & 1)] = sums[i][j][k] * (1.0f / DENSE_SCALE);
                }
        __syncthreads();
    }

    for (int i = warp; i < DENSE_TILE; i += WARPS) {
        int vertex = blockIdx.x * DENSE_TILE + i;
        if (vertex >= n_vertices) return;
        float4 v = make_float4(0, 0, 0, 0);
        if (dense) {
            v = partial[lane / 4][i][quad];
        } else {
            for (int k = lane / 4; k < n_vertices; k += 8)
                add_scaled(v, reinterpret_cast<const float4*>(mapped)[(n_nodes + k) * 4 + quad],
                           dense_floats[(size_t)vertex * n_vertices + k]);
        }
        Weights weights = load_weights(vertex_kernels, half_kernels, vertex);
        v = between(sum_of_eight(v), n_nodes + vertex, vertex_mode, bias, norm, kept);
        map_row(v, weights, next, n_nodes + vertex);
    }
}
