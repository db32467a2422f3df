// Half precision, tensor-core products and vector sums for every kernel, without headers. Halves are unsigned short.

// Wait for the previous kernel. In a graph a kernel starts while the one before still runs (programmatic dependent
// launch): its writes are visible only afterwards.
__device__ __forceinline__ void await_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Also let the blocks of the next kernel start. Not for a kernel whose own blocks need all multiprocessors.
__device__ __forceinline__ void begin_kernel() {
    await_previous();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#ifdef CUDA_ON_CPU

__device__ inline float half_to_float(unsigned short h) {
    unsigned sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
    if (rest < 0x400u) return (sign ? -1.0f : 1.0f) * (float)rest * 5.9604644775390625e-08f;  // 2^-24
    return __uint_as_float(sign | ((rest << 13) + (112u << 23)));
}

__device__ inline unsigned short float_to_half(float f) {  // to nearest, ties to even
    unsigned bits = __float_as_uint(f), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (unsigned short)(sign | 0x7fffu);
    if (rest >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);
    if (rest < 0x38800000u) {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24
        float shifted = __uint_as_float(rest) + 0.5f;
        return (unsigned short)(sign | (__float_as_uint(shifted) - 0x3f000000u));
    }
    unsigned odd = (rest >> 13) & 1u;
    return (unsigned short)(sign | ((rest - (112u << 23) + 0xfffu + odd) >> 13));
}

#else

__device__ __forceinline__ float half_to_float(unsigned short h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

__device__ __forceinline__ unsigned short float_to_half(float f) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

#endif

__device__ __forceinline__ float2 half2_to_float2(unsigned pair) {
    return make_float2(half_to_float((unsigned short)pair), half_to_float((unsigned short)(pair >> 16)));
}

__device__ __forceinline__ unsigned float2_to_half2(float low, float high) {
    return float_to_half(low) | ((unsigned)float_to_half(high) << 16);
}

// c [16, 8] += a [16, 16] b [16, 8] of halves, in the fragments of mma.m16n8k16.
#ifdef CUDA_ON_CPU
static unsigned mma_operands[32][32][6];
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    for (int i = 0; i < 4; ++i) mma_operands[warp][lane][i] = a[i];
    mma_operands[warp][lane][4] = b0, mma_operands[warp][lane][5] = b1;
    __syncwarp();
    for (int i = 0; i < 4; ++i) {
        int column = 2 * (lane & 3) + (i & 1);
        for (int k = 0; k < 16; k += 2) {
            float2 x = half2_to_float2(mma_operands[warp][lane / 4 * 4 + (k & 7) / 2][i / 2 + k / 8 * 2]);
            float2 y = half2_to_float2(mma_operands[warp][column * 4 + (k & 7) / 2][4 + k / 8]);
            c[i] += x.x * y.x + x.y * y.y;
        }
    }
    __syncwarp();
}
#else
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// sums[0..3] += (x, y, z, w), each atomically; sums is aligned to 16 bytes.
__device__ __forceinline__ void add4(float* sums, float x, float y, float z, float w) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    atomicAdd((float4*)sums, make_float4(x, y, z, w));
#else
    atomicAdd(sums, x);
    atomicAdd(sums + 1, y);
    atomicAdd(sums + 2, z);
    atomicAdd(sums + 3, w);
#endif
}
