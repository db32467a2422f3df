// Convolution, bias and leaky ReLU on tensor cores, then a store or an addition to an up-sampled skip.
//   in   map half [side_in, side_in, channels]; channels a multiple of 8
//        weight half [tile of N outputs, chunk of 16 inputs, tap, N, 16], packed by gpu_frame/convolutions.py: the
//        halves of a row of 16 are swapped where bit 2 of its number is set   bias [outputs], a multiple of 8
//   out  out half [side, side, outputs], side = side_in / STRIDE; if lifted, added to out [2 side, 2 side, outputs]
// grid (ceil(outputs / N), tiles of positions), block THREADS.
// Defined by the compiler: KERNEL taps a side; STRIDE; POSITIONS (64 or 128) and N outputs (a multiple of 16) of a
// block; STAGES; CHUNK; TILE_WIDTH.
//
// A block of four warps computes POSITIONS / 8 rows of 8 positions, times N outputs. It walks over the inputs in chunks
// of 16 channels. Asynchronous copies load the positions under its taps and the weights of a chunk, STAGES - 1 chunks
// ahead. Every tap is one step of 16x8x16 products. Sums are float32.
// Shared rows have 32 bytes. Their halves are swapped where bit 2 of the row is set: eight neighbouring halves lie in
// different banks.

#ifdef CUDA_ON_CPU

__device__ __forceinline__ void copy_async(void* target, const void* source, bool valid) {
    const unsigned* words = static_cast<const unsigned*>(source);
    for (int i = 0; i < 4; ++i) static_cast<unsigned*>(target)[i] = valid ? words[i] : 0u;
}
__device__ __forceinline__ void close_copies() {}
template <int PENDING>
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
// Copy 16 bytes of global to shared memory, or zeros if not `valid`.
__device__ __forceinline__ void copy_async(void* target, const void* source, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(valid ? 16 : 0));
}
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;"); }
// Wait until all but the newest PENDING groups of this thread's copies are complete.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
// Load four 8x8 matrices of halves; lane l has the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(unsigned (&m)[4], const unsigned short* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#endif

// Position of half `half` of row `row`, in units of eight halves.
__device__ __forceinline__ int swapped(int row, int half) { return row * 2 + (half ^ (row >> 2 & 1)); }

extern "C" __global__ void __launch_bounds__(THREADS) convolve(
    const unsigned short* __restrict__ map, const unsigned short* __restrict__ all_weights,
    const float* __restrict__ bias, int side_in, int channels, int outputs, float slope, int lifted,
    unsigned short* out) {
    await_previous();
    const int TAPS = KERNEL * KERNEL, TILE_HEIGHT = POSITIONS / TILE_WIDTH, ROWS_OF_16 = POSITIONS / 64;
    const int INPUT_WIDTH = (TILE_WIDTH - 1) * STRIDE + KERNEL, INPUT_HEIGHT = (TILE_HEIGHT - 1) * STRIDE + KERNEL;
    const int INPUTS = INPUT_HEIGHT * INPUT_WIDTH;
    const int STAGE = (INPUTS + TAPS * N) * CHUNK, PITCH = N + 8;
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

    // Start the copies of one chunk: positions, then weights.
    auto load = [&](int chunk) {
        unsigned short* inputs = memory + chunk % STAGES * STAGE;
        for (int i = thread; i < INPUTS * 2; i += THREADS) {
            int position = i / 2, half = i & 1, channel = chunk * CHUNK + half * 8;
            int y = top * STRIDE - KERNEL / 2 + position / INPUT_WIDTH;
            int x = left * STRIDE - KERNEL / 2 + position % INPUT_WIDTH;
            bool valid = (unsigned)y < (unsigned)side_in && (unsigned)x < (unsigned)side_in && channel < channels;
            const unsigned short* source = map + (valid ? ((size_t)y * side_in + x) * channels + channel : 0);
            copy_async(inputs + swapped(position, half) * 8, source, valid);
        }
        unsigned short* weights = inputs + INPUTS * CHUNK;
        const unsigned short* source = weight + (size_t)chunk * TAPS * N * CHUNK;
        for (int i = thread; i < TAPS * N * 2; i += THREADS)
            copy_async(weights + i * 8, source + i * 8, true);
    };

    // Prologue: STAGES - 1 chunks in flight.
    float sums[ROWS_OF_16][N / 8][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < STAGES - 1; ++chunk) {
        if (chunk < chunks) load(chunk);
        close_copies();
    }

    // Addresses of this lane: one of 16 positions (two rows of eight) and one half of the channels.
    const int own_row = (lane >> 3) & 1, own_column = lane & 7, own_half = lane >> 4;
    // And one of 16 outputs.
    const int own_output = (lane & 7) + (lane >> 4) * 8, own_weight_half = (lane >> 3) & 1;

    // Main loop: products of one chunk while later ones are loaded.
    for (int chunk = 0; chunk < chunks; ++chunk) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();
        if (chunk + STAGES - 1 < chunks) load(chunk + STAGES - 1);
        close_copies();
        const unsigned short* inputs = memory + chunk % STAGES * STAGE;
        const unsigned short* weights = inputs + INPUTS * CHUNK;
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) {
            unsigned a[ROWS_OF_16][4];
#pragma unroll
            for (int m = 0; m < ROWS_OF_16; ++m) {
                int y = ((warp * ROWS_OF_16 + m) * 2 + own_row) * STRIDE + tap / KERNEL;
                int position = y * INPUT_WIDTH + own_column * STRIDE + tap % KERNEL;
                load_matrices(a[m], inputs + swapped(position, own_half) * 8);
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

    // Bias and ReLU, then through shared memory, so that threads write whole packs.
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

    // Store, or add to the four positions of the skip.
    for (int i = thread; i < POSITIONS * (N / 8); i += THREADS) {
        int position = i / (N / 8), output = i % (N / 8) * 8;
        int y = top + position / TILE_WIDTH, x = left + position % TILE_WIDTH;
        if (y >= side || x >= side || first_output + output >= outputs) continue;
        uint4 values = *reinterpret_cast<const uint4*>(memory + position * PITCH + output);
        if (!lifted) {
            size_t index = ((size_t)y * side + x) * outputs + first_output + output;
            *reinterpret_cast<uint4*>(out + index) = values;
            continue;
        }
        Pack added = unpack(values);
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            size_t position_up = (size_t)(2 * y + corner / 2) * 2 * side + 2 * x + corner % 2;
            unsigned short* target = out + position_up * outputs + first_output + output;
            Pack sum = unpack(load_raw(target));
#pragma unroll
            for (int k = 0; k < 8; ++k) sum.v[k] += added.v[k];
            store_raw(target, packed(sum));
        }
    }
}
