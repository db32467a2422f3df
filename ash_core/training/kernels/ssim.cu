// Structural similarity of pictures, and its gradient by the first of them.
//   in   ours, truth [v, h, w, c] in [0, 1]
//   out  similarity [v, h, w, c]; by_mean, by_square, by_both: its derivatives by the blurred values of ours, of its
//        square and of the product with truth
//   and back: upstream, the gradient by similarity -> gradient by ours
// The window is separable: a block blurs the rows of its tile and their neighbours, then the columns.
// grid (ceil(w / SIDE), ceil(h / SIDE), v * c); block SIDE * SIDE. HALF: taps on each side.
// Source: Wang et al. 2004, "Image Quality Assessment"; zeros outside, as torch's padding.

#define SEEN (SIDE + 2 * HALF)

struct Plane {
    int width, height, channels, first;  // of the picture; the plane's first element
};

__device__ __forceinline__ Plane plane_of_block(int height, int width, int channels) {
    int picture = blockIdx.z / channels, channel = blockIdx.z - picture * channels;
    return {width, height, channels, picture * height * width * channels + channel};
}

__device__ __forceinline__ int element(const Plane& plane, int x, int y) {
    return plane.first + (y * plane.width + x) * plane.channels;
}

__device__ __forceinline__ float tap(int distance) {
    const float taps[HALF + 1] = {TAP_0, TAP_1, TAP_2, TAP_3, TAP_4, TAP_5};
    return taps[distance < 0 ? -distance : distance];
}

// `read(x, y, values)` gives N values of a pixel; all threads come together, and each gets the blurred values of its own.
template <int N, class Read>
__device__ __forceinline__ void blur(
    const Plane& plane, float (*seen)[SEEN][SEEN], float (*rows)[SEEN][SIDE], Read read, float (&out)[N]) {
    int thread = threadIdx.x, left = blockIdx.x * SIDE - HALF, top = blockIdx.y * SIDE - HALF;
    for (int i = thread; i < SEEN * SEEN; i += SIDE * SIDE) {
        int row = i / SEEN, column = i - row * SEEN, x = left + column, y = top + row;
        float values[N];
        for (int n = 0; n < N; n++) values[n] = 0.0f;
        if (x >= 0 && x < plane.width && y >= 0 && y < plane.height) read(x, y, values);
        for (int n = 0; n < N; n++) seen[n][row][column] = values[n];
    }
    __syncthreads();
    for (int i = thread; i < SEEN * SIDE; i += SIDE * SIDE) {
        int row = i / SIDE, column = i - row * SIDE;
        for (int n = 0; n < N; n++) {
            float sum = 0.0f;
#pragma unroll
            for (int d = -HALF; d <= HALF; d++) sum = fmaf(tap(d), seen[n][row][column + HALF + d], sum);
            rows[n][row][column] = sum;
        }
    }
    __syncthreads();
    int row = thread / SIDE, column = thread - row * SIDE;
    for (int n = 0; n < N; n++) {
        out[n] = 0.0f;
#pragma unroll
        for (int d = -HALF; d <= HALF; d++) out[n] = fmaf(tap(d), rows[n][row + HALF + d][column], out[n]);
    }
}

extern "C" __global__ void __launch_bounds__(SIDE * SIDE) similarity(
    int height, int width, int channels, const float* __restrict__ ours, const float* __restrict__ truth,
    float* __restrict__ value, float* __restrict__ by_mean, float* __restrict__ by_square,
    float* __restrict__ by_both) {
    begin_kernel();
    __shared__ float seen[5][SEEN][SEEN], rows[5][SEEN][SIDE];
    Plane plane = plane_of_block(height, width, channels);
    float blurred[5];
    blur<5>(plane, seen, rows, [&](int x, int y, float (&values)[5]) {
        float a = ours[element(plane, x, y)], b = truth[element(plane, x, y)];
        values[0] = a, values[1] = b, values[2] = a * a, values[3] = b * b, values[4] = a * b;
    }, blurred);
    int x = blockIdx.x * SIDE + threadIdx.x % SIDE, y = blockIdx.y * SIDE + threadIdx.x / SIDE;
    if (x >= width || y >= height) return;
    float a = blurred[0], b = blurred[1];
    float a1 = 2.0f * a * b + C1, b1 = a * a + b * b + C1;
    float a2 = 2.0f * (blurred[4] - a * b) + C2, b2 = (blurred[2] - a * a) + (blurred[3] - b * b) + C2;
    float inverse = 1.0f / (b1 * b2), result = a1 * a2 * inverse;
    int at = element(plane, x, y);
    value[at] = result;
    by_both[at] = 2.0f * a1 * inverse;
    by_square[at] = -result / b2;
    by_mean[at] = 2.0f * b * (a2 - a1) * inverse - 2.0f * a * result * (1.0f / b1 - 1.0f / b2);
}

extern "C" __global__ void __launch_bounds__(SIDE * SIDE) similarity_backward(
    int height, int width, int channels, const float* __restrict__ ours, const float* __restrict__ truth,
    const float* __restrict__ by_mean, const float* __restrict__ by_square, const float* __restrict__ by_both,
    const float* __restrict__ upstream, float* __restrict__ gradient) {
    begin_kernel();
    __shared__ float seen[3][SEEN][SEEN], rows[3][SEEN][SIDE];
    Plane plane = plane_of_block(height, width, channels);
    float blurred[3];
    blur<3>(plane, seen, rows, [&](int x, int y, float (&values)[3]) {
        int at = element(plane, x, y);
        float pull = upstream[at];
        values[0] = by_mean[at] * pull, values[1] = by_square[at] * pull, values[2] = by_both[at] * pull;
    }, blurred);
    int x = blockIdx.x * SIDE + threadIdx.x % SIDE, y = blockIdx.y * SIDE + threadIdx.x / SIDE;
    if (x >= width || y >= height) return;
    int at = element(plane, x, y);
    gradient[at] = blurred[0] + 2.0f * ours[at] * blurred[1] + truth[at] * blurred[2];
}
