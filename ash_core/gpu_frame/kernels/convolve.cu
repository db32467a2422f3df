// Convolutions on tensor cores with what follows them: bias, leaky ReLU, up-sampling onto a skip.
//   in   map half [side_in, side_in, channels]; channels a multiple of 8
//        weight, as gpu_frame/convolutions.py packs it: [tile of N outputs, chunk of 16 inputs, tap, N, 16], the two
//        halves of a row of 16 swapped where bit 2 of its number is set   bias [outputs], outputs a multiple of 8
//   out  out half [side, side, outputs], side = side_in / STRIDE; or, lifted, added to out [2 side, 2 side, outputs]
// Defined by the compiler: KERNEL taps a side, STRIDE, POSITIONS (64 or 128) and N (a multiple of 16), what a block
// makes, STAGES, CHUNK, TILE_WIDTH. grid (ceil(outputs / N), tiles of positions), block THREADS
//
// A block of four warps makes POSITIONS / 8 rows of 8 positions, times N outputs. It walks over the inputs in chunks
// of 16 channels: the positions that its taps see and the chunk's weights come to shared memory by asynchronous copies,
// STAGES - 1 chunks ahead; every tap is then one step of 16x8x16 products. Sums are float32.
// Shared rows are 32 bytes; their halves are swapped where bit 2 of the row is set, so that eight neighbours' halves
// lie in different banks.

#ifdef CUDA_ON_CPU

__device__ __forceinline__ void copy_async(void* to, const void* from, bool wanted) {
    const unsigned* source = static_cast<const unsigned*>(from);
    for (int i = 0; i < 4; ++i) static_cast<unsigned*>(to)[i] = wanted ? source[i] : 0u;
}
__device__ __forceinline__ void close_copies() {}
template <int LEFT>
__device__ __forceinline__ void wait_for_copies() {}

static const void* matrix_rows[32][32];
__device__ __forceinline__ void load_matrices(unsigned (&m)[4], const unsigned short* row) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    matrix_rows[warp][lane] = row;
    __syncwarp();
    for (int i = 0; i < 4; ++i)
        m[i] = static_cast<const unsigned*>(matrix_rows[warp][8 * i + lane / 4])[lane & 3];
    __syncwarp();
}

#else

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}
// 16 bytes of global to shared memory; zeros where they are not wanted.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(wanted ? 16 : 0));
}
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;"); }
// Until all but the newest LEFT groups of this thread's copies have landed.
template <int LEFT>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
// Four 8x8 matrices of halves; lane l brings the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(unsigned (&m)[4], const unsigned short* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#endif

// Where half `half` of row `row` stands, in units of eight halves.
__device__ __forceinline__ int swapped(int row, int half) { return row * 2 + (half ^ (row >> 2 & 1)); }

extern "C" __global__ void __launch_bounds__(THREADS) convolve(
    const unsigned short* __restrict__ map, const unsigned short* __restrict__ all_weights,
    const float* __restrict__ bias, int side_in, int channels, int outputs, float slope, int lifted,
    unsigned short* out) {
    await_previous();
    const int TAPS = KERNEL * KERNEL, TILE_HEIGHT = POSITIONS / TILE_WIDTH, ROWS_OF_16 = POSITIONS / 64;
    const int SEEN_WIDTH = (TILE_WIDTH - 1) * STRIDE + KERNEL, SEEN = ((TILE_HEIGHT - 1) * STRIDE + KERNEL) * SEEN_WIDTH;
    const int STAGE = (SEEN + TAPS * N) * CHUNK, PITCH = N + 8;
    const int SIZE = STAGES * STAGE > POSITIONS * PITCH ? STAGES * STAGE : POSITIONS * PITCH;
    __shared__ uint4 packs[SIZE / 8];
    unsigned short* memory = reinterpret_cast<unsigned short*>(packs);

    const int thread = threadIdx.x, lane = thread & 31, warp = thread / 32;
    const int side = side_in / STRIDE;
    const int tiles_across = (side + TILE_WIDTH - 1) / TILE_WIDTH;
    const int tile_y = blockIdx.y / tiles_across, tile_x = blockIdx.y - tile_y * tiles_across;
    const int top = tile_y * TILE_HEIGHT, left = tile_x * TILE_WIDTH;
    const int chunks = (channels + CHUNK - 1) / CHUNK;
    const unsigned short* weight = all_weights + (size_t)blockIdx.x * chunks * TAPS * N * CHUNK;

    auto load = [&](int chunk) {
        unsigned short* seen = memory + chunk % STAGES * STAGE;
        for (int i = thread; i < SEEN * 2; i += THREADS) {
            int position = i / 2, half = i & 1, channel = chunk * CHUNK + half * 8;
            int y = top * STRIDE - KERNEL / 2 + position / SEEN_WIDTH;
            int x = left * STRIDE - KERNEL / 2 + position % SEEN_WIDTH;
            bool wanted = (unsigned)y < (unsigned)side_in && (unsigned)x < (unsigned)side_in && channel < channels;
            const unsigned short* from = map + (wanted ? ((size_t)y * side_in + x) * channels + channel : 0);
            copy_async(seen + swapped(position, half) * 8, from, wanted);
        }
        unsigned short* weights = seen + SEEN * CHUNK;
        const unsigned short* from = weight + (size_t)chunk * TAPS * N * CHUNK;
        for (int i = thread; i < TAPS * N * 2; i += THREADS)
            copy_async(weights + i * 8, from + i * 8, true);
    };

    float sums[ROWS_OF_16][N / 8][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < STAGES - 1; ++chunk) {
        if (chunk < chunks) load(chunk);
        close_copies();
    }
    // Of a warp's 16 positions (two rows of eight), this lane addresses one, and one half of the channels.
    const int own_row = (lane >> 3) & 1, own_column = lane & 7, own_half = lane >> 4;
    // Of 16 outputs likewise.
    const int own_output = (lane & 7) + (lane >> 4) * 8, own_weight_half = (lane >> 3) & 1;
    for (int chunk = 0; chunk < chunks; ++chunk) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();
        if (chunk + STAGES - 1 < chunks) load(chunk + STAGES - 1);
        close_copies();
        const unsigned short* seen = memory + chunk % STAGES * STAGE;
        const unsigned short* weights = seen + SEEN * CHUNK;
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            unsigned a[ROWS_OF_16][4];
#pragma unroll
            for (int m = 0; m < ROWS_OF_16; ++m) {
                int y = ((warp * ROWS_OF_16 + m) * 2 + own_row) * STRIDE + tap / KERNEL;
                int position = y * SEEN_WIDTH + own_column * STRIDE + tap % KERNEL;
                load_matrices(a[m], seen + swapped(position, own_half) * 8);
            }
#pragma unroll
            for (int n = 0; n < N / 16; ++n) {
                unsigned b[4];
                load_matrices(b, weights + swapped(tap * N + n * 16 + own_output, own_weight_half) * 8);
#pragma unroll
                for (int m = 0; m < ROWS_OF_16; ++m) {
                    multiply_add(sums[m][2 * n], a[m], b[0], b[1]);
                    multiply_add(sums[m][2 * n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // Through shared memory, so that threads write whole packs.
    __syncthreads();
    const int first_output = blockIdx.x * N;
#pragma unroll
    for (int m = 0; m < ROWS_OF_16; ++m)
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
            int output = n * 8 + 2 * (lane & 3);
            float bias_a = 0.0f, bias_b = 0.0f;
            if (first_output + output < outputs) {
                bias_a = bias[first_output + output];
                bias_b = bias[first_output + output + 1];
            }
#pragma unroll
            for (int upper = 0; upper < 2; ++upper) {
                float x = sums[m][n][2 * upper] + bias_a, y = sums[m][n][2 * upper + 1] + bias_b;
                x = x > 0.0f ? x : slope * x;
                y = y > 0.0f ? y : slope * y;
                int position = (warp * ROWS_OF_16 + m) * 16 + upper * 8 + lane / 4;
                *reinterpret_cast<unsigned*>(memory + position * PITCH + output) = float2_to_half2(x, y);
            }
        }
    __syncthreads();
    for (int i = thread; i < POSITIONS * (N / 8); i += THREADS) {
        int position = i / (N / 8), output = i % (N / 8) * 8;
        int y = top + position / TILE_WIDTH, x = left + position % TILE_WIDTH;
        if (y >= side || x >= side || first_output + output >= outputs) continue;
        uint4 values = *reinterpret_cast<const uint4*>(memory + position * PITCH + output);
        if (!lifted) {
            size_t at = ((size_t)y * side + x) * outputs + first_output + output;
            *reinterpret_cast<uint4*>(out + at) = values;
            continue;
        }
        Pack added = unpack(values);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            size_t place = (size_t)(2 * y + corner / 2) * 2 * side + 2 * x + corner % 2;
            unsigned short* at = out + place * outputs + first_output + output;
            Pack sum = unpack(load_raw(at));
#pragma unroll
            for (int k = 0; k < 8; ++k) sum.v[k] += added.v[k];
            store_raw(at, packed(sum));
        }
    }
}
