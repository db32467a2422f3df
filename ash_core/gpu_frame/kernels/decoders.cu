// What stands between the convolutions of the published U-Nets: norms, poolings, up-samplings, the last layer.
//
// Maps are half [height, width, channels]. All sums and statistics are float32. Meaning: ash_core/networks/unet.py.
// Defined by the compiler: SUM_THREADS, POINT_THREADS, ONE_BLOCK_QUADS, and SLAB: packs that a block of normalize_large
// normalises.

#define MAX_CODE 64         // widest layer of the root's small network
#define EMBEDDING 39

struct Affine {
    float scale[8], shift[8];
};

// relu(scale x + shift)
__device__ __forceinline__ Pack activated(const Pack& x, const Affine& norm) {
    Pack y;
#pragma unroll
    for (int i = 0; i < 8; ++i) y.v[i] = fmaxf(fmaf(x.v[i], norm.scale[i], norm.shift[i]), 0.0f);
    return y;
}

// The first position of a 2x2 quad; the others are 1, side and side + 1 further.
__device__ __forceinline__ int quad_start(int quad, int side) {
    int half_side = side / 2, row = quad / half_side;
    return 2 * row * side + 2 * (quad - row * half_side);
}

__device__ __forceinline__ int quad_position(int start, int corner, int side) {
    return start + (corner & 1) + (corner >> 1) * side;
}

// Normalise a quad, write it, and its maximum where `pooled` is wanted.
__device__ __forceinline__ void write_quad(
    const uint4 (&raw)[4], const Affine& norm, int quad, int side, int channels, int first,
    unsigned short* out, int out_channels, unsigned short* pooled) {
    int start = quad_start(quad, side);
    Pack most;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
        Pack y = activated(unpack(raw[corner]), norm);
        store_raw(out + (size_t)quad_position(start, corner, side) * out_channels + first, packed(y));
#pragma unroll
        for (int i = 0; i < 8; ++i) most.v[i] = corner ? fmaxf(most.v[i], y.v[i]) : y.v[i];
    }
    if (pooled) store_raw(pooled + (size_t)quad * channels + first, packed(most));
}

// Eight sums over a warp by halving the values that a lane carries: the lane's channel is lane / 4.
__device__ __forceinline__ float warp_sum_of_channel(const Pack& p, int lane) {
    float four[4], two[2], one;
    bool high = lane & 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float other = __shfl_xor_sync(0xffffffffu, high ? p.v[i] : p.v[i + 4], 16);
        four[i] = (high ? p.v[i + 4] : p.v[i]) + other;
    }
    high = lane & 8;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        float other = __shfl_xor_sync(0xffffffffu, high ? four[i] : four[i + 2], 8);
        two[i] = (high ? four[i + 2] : four[i]) + other;
    }
    high = lane & 4;
    one = (high ? two[1] : two[0]) + __shfl_xor_sync(0xffffffffu, high ? two[0] : two[1], 4);
    one += __shfl_xor_sync(0xffffffffu, one, 2);
    return one + __shfl_xor_sync(0xffffffffu, one, 1);
}

// Eight sums over a block; `parts` is scratch, `total` the result for everybody.
__device__ __forceinline__ Pack block_sum(const Pack& p, float (*parts)[8], float4 (&total)[2]) {
    int thread = threadIdx.x, warps = blockDim.x / 32;
    float sum = warp_sum_of_channel(p, thread & 31);
    if ((thread & 3) == 0) parts[thread / 32][(thread & 31) / 4] = sum;
    __syncthreads();
    if (thread < 8) {
        float all = 0.0f;
        for (int warp = 0; warp < warps; ++warp) all += parts[warp][thread];
        reinterpret_cast<float*>(total)[thread] = all;
    }
    __syncthreads();
    return load_floats(reinterpret_cast<const float*>(total));
}

// Batch norm by the map's own statistics, then ReLU, for maps of up to ONE_BLOCK_QUADS quads.
//   in   map [side, side, channels], side even   gain, bias [channels]
//   out  out [side, side, out_channels], its first `channels`; may be `in` where the widths agree
//        pooled [side / 2, side / 2, channels], the 2x2 maxima, or null
// A block of as many threads as quads (rounded up to warps) owns eight channels; a thread keeps its quad.
extern "C" __global__ void __launch_bounds__(ONE_BLOCK_QUADS) normalize_small(
    const unsigned short* in, const float* __restrict__ gain, const float* __restrict__ bias, float eps,
    int side, int channels, unsigned short* out, int out_channels, unsigned short* pooled) {
    begin_kernel();
    __shared__ float parts[32][8];
    __shared__ float4 totals[2][2];
    int quad = threadIdx.x, quads = side * side / 4, first = blockIdx.x * 8;
    bool here = quad < quads;
    uint4 raw[4];
    Pack sums = {};
    if (here) {
        int start = quad_start(quad, side);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner)
            raw[corner] = load_raw(in + (size_t)quad_position(start, corner, side) * channels + first);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            Pack x = unpack(raw[corner]);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums.v[i] += x.v[i];
        }
    }
    Pack mean = block_sum(sums, parts, totals[0]);
    float share = 1.0f / (4.0f * quads);
#pragma unroll
    for (int i = 0; i < 8; ++i) mean.v[i] *= share;

    // A second pass over the registers: no cancellation, however large the mean.
    Pack squares = {};
    if (here) {
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            Pack x = unpack(raw[corner]);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float off = x.v[i] - mean.v[i];
                squares.v[i] = fmaf(off, off, squares.v[i]);
            }
        }
    }
    Pack variance = block_sum(squares, parts, totals[1]);
    if (!here) return;
    Pack gains = load_floats(gain + first), biases = load_floats(bias + first);
    Affine norm;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        norm.scale[i] = gains.v[i] * rsqrtf(fmaf(variance.v[i], share, eps));
        norm.shift[i] = fmaf(-mean.v[i], norm.scale[i], biases.v[i]);
    }
    write_quad(raw, norm, quad, side, channels, first, out, out_channels, pooled);
}

// Sums of the values and of their squares, both about the map's first position: neither cancels.
//   in   map [positions, channels]; channels / 8 divides SUM_THREADS
//   out  partial [gridDim.x, channels / 8, 16]: eight sums, eight sums of squares; then the first position [channels]
extern "C" __global__ void __launch_bounds__(SUM_THREADS) channel_sums(
    const unsigned short* __restrict__ map, int positions, int channels, float* __restrict__ partial) {
    begin_kernel();
    __shared__ float mine[SUM_THREADS * 17];  // 17: the columns below fall into different banks
    int packs = channels / 8, rows = SUM_THREADS / packs, thread = threadIdx.x;
    int row = thread / packs, pack = thread - row * packs;
    Pack origin = unpack(load_raw(map + pack * 8));
    Pack sums = {}, squares = {};
    int stride = gridDim.x * rows;
#pragma unroll 4
    for (int position = blockIdx.x * rows + row; position < positions; position += stride) {
        Pack x = unpack(load_raw(map + (size_t)position * channels + pack * 8));
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            float off = x.v[i] - origin.v[i];
            sums.v[i] += off;
            squares.v[i] = fmaf(off, off, squares.v[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        mine[thread * 17 + i] = sums.v[i];
        mine[thread * 17 + 8 + i] = squares.v[i];
    }
    __syncthreads();
    for (int column = thread; column < packs * 16; column += SUM_THREADS) {
        float sum = 0.0f;
        for (int r = 0; r < rows; ++r) sum += mine[(r * packs + column / 16) * 17 + (column & 15)];
        partial[(size_t)blockIdx.x * packs * 16 + column] = sum;
    }
    if (blockIdx.x == 0 && row == 0)
        for (int i = 0; i < 8; ++i) partial[(size_t)gridDim.x * packs * 16 + pack * 8 + i] = origin.v[i];
}

// The norm of `PACKS` packs from `first_pack` on, out of what channel_sums left: scale and shift in shared memory.
template <int PACKS>
__device__ __forceinline__ void combine_sums(
    const float* partial, int parts, int positions, int channels, int first_pack,
    const float* gain, const float* bias, float eps, float* scale, float* shift) {
    const int COLUMNS = PACKS * 4, GROUPS = SUM_THREADS / COLUMNS;  // columns of four numbers
    __shared__ float4 sums[GROUPS][COLUMNS];
    int thread = threadIdx.x, column = thread % COLUMNS, group = thread / COLUMNS;
    const float* origin = partial + (size_t)parts * channels * 2;
    const float4* from = reinterpret_cast<const float4*>(partial) + first_pack * 4 + column;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
    for (int part = group; part < parts; part += GROUPS) {
        float4 one = from[(size_t)part * (channels / 2)];
        sum.x += one.x;
        sum.y += one.y;
        sum.z += one.z;
        sum.w += one.w;
    }
    sums[group][column] = sum;
    __syncthreads();
    if (thread < PACKS * 8) {
        int pack = thread / 8, lane = thread & 7, channel = first_pack * 8 + thread;
        const float* values = reinterpret_cast<const float*>(sums);
        float mean = 0.0f, square = 0.0f;
        for (int g = 0; g < GROUPS; ++g) {
            mean += values[(g * PACKS + pack) * 16 + lane];
            square += values[(g * PACKS + pack) * 16 + 8 + lane];
        }
        float share = 1.0f / positions;
        mean *= share;  // about the first position
        float variance = fmaxf(fmaf(-mean, mean, square * share), 0.0f);
        float factor = gain[channel] * rsqrtf(variance + eps);
        scale[thread] = factor;
        shift[thread] = fmaf(-(mean + origin[channel]), factor, bias[channel]);
    }
    __syncthreads();
}


// Batch norm by what channel_sums left, then ReLU; arguments as normalize_small. grid (quads, channels / 8 / SLAB)
extern "C" __global__ void __launch_bounds__(SUM_THREADS) normalize_large(
    const unsigned short* in, const float* __restrict__ partial, int parts, const float* __restrict__ gain,
    const float* __restrict__ bias, float eps, int side, int channels, unsigned short* out, int out_channels,
    unsigned short* pooled) {
    begin_kernel();
    __shared__ float scale[SLAB * 8], shift[SLAB * 8];
    int first_pack = blockIdx.y * SLAB;
    combine_sums<SLAB>(partial, parts, side * side, channels, first_pack, gain, bias, eps, scale, shift);
    int pack = threadIdx.x % SLAB, first = (first_pack + pack) * 8, quads = side * side / 4;
    Affine norm;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        norm.scale[i] = scale[pack * 8 + i];
        norm.shift[i] = shift[pack * 8 + i];
    }
    const int AT_ONCE = SUM_THREADS / SLAB;
    for (int quad = blockIdx.x * AT_ONCE + threadIdx.x / SLAB; quad < quads; quad += gridDim.x * AT_ONCE) {
        int start = quad_start(quad, side);
        uint4 raw[4];
#pragma unroll
        for (int corner = 0; corner < 4; ++corner)
            raw[corner] = load_raw(in + (size_t)quad_position(start, corner, side) * channels + first);
        write_quad(raw, norm, quad, side, channels, first, out, out_channels, pooled);
    }
}

// The last norm with its ReLU, and the network's last layer, a 1x1 convolution of 64 channels.
//   in   map [positions, 64]   partial of channel_sums   gain, bias [64]   weight [64, PADDED]   offset [PADDED]
//   out  out [positions, PADDED], zero past USED
template <int USED, int PADDED>
__device__ __forceinline__ void head(
    const unsigned short* map, const float* partial, int parts, const float* gain, const float* bias, float eps,
    int positions, const float* weight, const float* offset, unsigned short* out) {
    const int FOURS = (USED + 3) / 4;
    __shared__ float scale[64], shift[64];
    __shared__ float4 weights[64][FOURS];
    for (int i = threadIdx.x; i < 64 * FOURS; i += SUM_THREADS)
        weights[i / FOURS][i % FOURS] = reinterpret_cast<const float4*>(weight)[i / FOURS * (PADDED / 4) + i % FOURS];
    combine_sums<8>(partial, parts, positions, 64, 0, gain, bias, eps, scale, shift);
    int position = blockIdx.x * SUM_THREADS + threadIdx.x;
    if (position >= positions) return;
    float sums[PADDED];
#pragma unroll
    for (int o = 0; o < PADDED; ++o) sums[o] = o < USED ? offset[o] : 0.0f;
#pragma unroll 2
    for (int pack = 0; pack < 8; ++pack) {
        Pack x = unpack(load_raw(map + (size_t)position * 64 + pack * 8));
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            int channel = pack * 8 + i;
            float y = fmaxf(fmaf(x.v[i], scale[channel], shift[channel]), 0.0f);
#pragma unroll
            for (int o = 0; o < FOURS; ++o) {
                float4 w = weights[channel][o];
                sums[4 * o] = fmaf(y, w.x, sums[4 * o]);
                sums[4 * o + 1] = fmaf(y, w.y, sums[4 * o + 1]);
                sums[4 * o + 2] = fmaf(y, w.z, sums[4 * o + 2]);
                sums[4 * o + 3] = fmaf(y, w.w, sums[4 * o + 3]);
            }
        }
    }
#pragma unroll
    for (int o = 0; o < PADDED; o += 8) {
        Pack y;
#pragma unroll
        for (int i = 0; i < 8; ++i) y.v[i] = o + i < USED ? sums[o + i] : 0.0f;
        store_raw(out + (size_t)position * PADDED + o, packed(y));
    }
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS) head_geometry(
    const unsigned short* __restrict__ map, const float* __restrict__ partial, int parts,
    const float* __restrict__ gain, const float* __restrict__ bias, float eps, int positions,
    const float* __restrict__ weight, const float* __restrict__ offset, unsigned short* __restrict__ out) {
    begin_kernel();
    head<11, 16>(map, partial, parts, gain, bias, eps, positions, weight, offset, out);
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS) head_appearance(
    const unsigned short* __restrict__ map, const float* __restrict__ partial, int parts,
    const float* __restrict__ gain, const float* __restrict__ bias, float eps, int positions,
    const float* __restrict__ weight, const float* __restrict__ offset, unsigned short* __restrict__ out) {
    begin_kernel();
    head<3, 8>(map, partial, parts, gain, bias, eps, positions, weight, offset, out);
}

// A transposed convolution's output (2x2, stride 2), laid into the right part of a joined map, with its bias.
//   in   corners [side, side, 4 (2 row + column), channels]   bias [4, channels]
//   out  joined [2 side, 2 side, joined_channels], from channel `first` on
// One thread a pack.
extern "C" __global__ void __launch_bounds__(POINT_THREADS) lay_corners(
    const unsigned short* __restrict__ corners, const float* __restrict__ bias, int side, int channels,
    unsigned short* __restrict__ joined, int joined_channels, int first) {
    begin_kernel();
    int packs = channels / 8, index = blockIdx.x * POINT_THREADS + threadIdx.x;
    if (index >= 4 * side * side * packs) return;
    int position = index / packs, channel = (index - position * packs) * 8;
    int row = position / (2 * side), column = position - row * 2 * side;
    int corner = 2 * (row & 1) + (column & 1);
    size_t from = ((size_t)((row / 2) * side + column / 2) * 4 + corner) * channels + channel;
    Pack x = unpack(load_raw(corners + from)), add = load_floats(bias + corner * channels + channel);
#pragma unroll
    for (int i = 0; i < 8; ++i) x.v[i] += add.v[i];
    store_raw(joined + (size_t)position * joined_channels + first + channel, packed(x));
}

__device__ __forceinline__ void dense(
    const float* from, const float* weight, const float* bias, int inputs, int outputs, bool relu, float* to) {
    int thread = threadIdx.x;
    if (thread < outputs) {
        float sum = bias[thread];
#pragma unroll 8
        for (int i = 0; i < inputs; ++i) sum = fmaf(from[i], weight[i * outputs + thread], sum);
        to[thread] = relu ? fmaxf(sum, 0.0f) : sum;
    }
    __syncthreads();
}

// The root's place as the bias of the transposed convolution that would see it as constant channels.
//   in   root [3] m; the network sees root * scale - translation [3], embedded
//        w1 [39, 64] b1 [64] w2 [64, 32] b2 [32] w3 [32, 16] b3 [16]   code_weight [16, outputs]   base [outputs]
//   out  bias [outputs]
// One thread an output, blocks of POINT_THREADS; each runs the small network by itself.
// Source: docs/released_behaviour.md A17, A21.
extern "C" __global__ void __launch_bounds__(POINT_THREADS) code_bias(
    const float* __restrict__ root, float scale, const float* __restrict__ translation,
    const float* __restrict__ w1, const float* __restrict__ b1, const float* __restrict__ w2,
    const float* __restrict__ b2, const float* __restrict__ w3, const float* __restrict__ b3,
    const float* __restrict__ code_weight, const float* __restrict__ base, int outputs,
    float* __restrict__ bias) {
    begin_kernel();
    __shared__ float a[MAX_CODE], b[MAX_CODE];
    int thread = threadIdx.x;
    if (thread < EMBEDDING) {
        int axis = thread % 3, wave = thread / 3;  // wave 0: the place itself
        float x = root[axis] * scale - translation[axis];
        float angle = x * (float)(1 << (wave ? (wave - 1) / 2 : 0));
        a[thread] = wave == 0 ? x : (wave & 1) ? sinf(angle) : cosf(angle);
    }
    __syncthreads();
    dense(a, w1, b1, EMBEDDING, 64, true, b);
    dense(b, w2, b2, 64, 32, true, a);
    dense(a, w3, b3, 32, 16, false, b);
    int output = blockIdx.x * POINT_THREADS + thread;
    if (output >= outputs) return;
    float sum = base[output];
#pragma unroll
    for (int i = 0; i < 16; ++i) sum = fmaf(b[i], code_weight[i * outputs + output], sum);
    bias[output] = sum;
}
