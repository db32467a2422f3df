// What the rasterizer's kernels share: cameras, projected records, the exact test of a rectangle, tile lists.
// Meaning of every number: reference.py. Constants in capitals that are not defined here come from cuda.py through -D:
// TILE pixels along a tile's side; TILE_THREADS, one a pixel: warp 0 has the upper 8x4, warp 1 the lower; RECORD float4s
// of a projected Gaussian; CONTROL_WORDS before the tiles' own words.

#define ALL_LANES 0xffffffffu
#define LOG2_E 1.44269504f
#define LN_2 0.69314718f
#define SLACK 0.01f           // in log2(alpha): rectangles are kept a little too often, never too seldom
#define NEVER __int_as_float(0xff800000)  // log2 of no opacity at all

struct Camera {               // 24 words, packed by cuda.py
    float view[12];           // camera from world, 3x4, m
    float fx, fy, cx, cy;     // px
    float limit_u, limit_v;   // x/z and y/z beyond which the Jacobian does not follow
    int width, height;        // px
    int tiles_x, tiles_y;
    int first_tile, first_pixel;  // where this camera begins in the arrays of all cameras
};

// State of the tiles of all cameras: header of CONTROL_WORDS, then one entry a tile of each array below. Counters are
// reset after each frame; the frame's number is not.
#define OCCUPIED 0            // how many tiles have entries
#define NEXT 1                // the next piece of work that a block of blend takes
#define DONE 2                // blocks that have ended
#define FRAME 3               // frames before this one
#define CROWDED 4             // how many tiles have more entries than their list holds
#define NEXT_BACKWARD 5
#define DONE_BACKWARD 6
#define ASKED 7               // entries of the arena that the crowded ones asked for, in units of ARENA_UNIT
struct Tiles {
    int* control;
    unsigned* counts;
    int* marks;               // occupied where it is the frame's
    int2* queue;              // the occupied ones: camera, tile of that camera
    int2* crowded;            // likewise
    int2* sorted;             // of a crowded one: where in the arena it is sorted, how many entries; or nothing, 0
};
__device__ __forceinline__ Tiles tiles_in(int* state, int count) {
    Tiles tiles;
    tiles.control = state;
    tiles.counts = (unsigned*)state + CONTROL_WORDS;
    tiles.marks = state + CONTROL_WORDS + count;
    tiles.queue = (int2*)(state + CONTROL_WORDS + 2 * count);
    tiles.crowded = tiles.queue + count;
    tiles.sorted = tiles.crowded + count;
    return tiles;
}
__device__ __forceinline__ int mark_of_frame(const Tiles& tiles) { return tiles.control[FRAME] + 1; }

// A Gaussian in one image: three float4. Culled ones have log2_opacity = -infinity.
//   [0] x, y (px), a, b    [1] c, log2_opacity, depth (m), red    [2] green, blue, -, -
// log2(alpha) at a pixel (dx, dy) off its centre = log2_opacity + a dx^2 + b dx dy + c dy^2.

__device__ __forceinline__ float log2_falloff(float a, float b, float c, float dx, float dy) {
    return fmaf(dx, fmaf(a, dx, b * dy), c * dy * dy);
}

#define MOST 3e38f             // what is not below this is not finite

// At least zero; what is not finite stays so.
__device__ __forceinline__ float positive(float x) { return x < 0.0f && x >= -MOST ? 0.0f : x; }

__device__ __forceinline__ float clamped(float value, float low, float high) {
    return fminf(fmaxf(value, low), high);
}

// The largest log2_falloff in a rectangle of offsets from the centre. Zero where it holds the centre;
// else the largest value lies on one of the (at most two) sides that face the centre.
__device__ __forceinline__ float best_falloff(
    float a, float b, float c, float left, float right, float top, float bottom) {
    float dx = clamped(0.0f, left, right), dy = clamped(0.0f, top, bottom);
    float best = dx == 0.0f && dy == 0.0f ? 0.0f : -1e30f;
    if (dx != 0.0f) {
        float y = clamped(__fdividef(-0.5f * b * dx, c), top, bottom);
        best = log2_falloff(a, b, c, dx, y);
    }
    if (dy != 0.0f) {
        float x = clamped(__fdividef(-0.5f * b * dy, a), left, right);
        best = fmaxf(best, log2_falloff(a, b, c, x, dy));
    }
    return best;
}

// Whether a Gaussian can reach ALPHA_MIN at a pixel centre of the w x h pixels from (x0, y0).
__device__ __forceinline__ bool reaches(
    float4 r0, float c, float log2_opacity, int x0, int y0, int w, int h) {
    float left = x0 + 0.5f - r0.x, top = y0 + 0.5f - r0.y;
    float best = best_falloff(r0.z, r0.w, c, left, left + (w - 1), top, top + (h - 1));
    return log2_opacity + best >= LOG2_ALPHA_MIN - SLACK;
}

// Spherical harmonics of degree 0-3 at a unit direction, order and signs of 3D Gaussian Splatting.
template <int K>
__device__ __forceinline__ void sh_basis(float x, float y, float z, float* basis) {
    basis[0] = SH_C0;
    if (K > 1) {
        basis[1] = -SH_C1 * y;
        basis[2] = SH_C1 * z;
        basis[3] = -SH_C1 * x;
    }
    if (K > 4) {
        float xx = x * x, yy = y * y, zz = z * z;
        basis[4] = SH_C2_0 * x * y;
        basis[5] = SH_C2_1 * y * z;
        basis[6] = SH_C2_2 * (2 * zz - xx - yy);
        basis[7] = SH_C2_3 * x * z;
        basis[8] = SH_C2_4 * (xx - yy);
        if (K > 9) {
            basis[9] = SH_C3_0 * y * (3 * xx - yy);
            basis[10] = SH_C3_1 * x * y * z;
            basis[11] = SH_C3_2 * y * (4 * zz - xx - yy);
            basis[12] = SH_C3_3 * z * (2 * zz - 3 * xx - 3 * yy);
            basis[13] = SH_C3_4 * x * (4 * zz - xx - yy);
            basis[14] = SH_C3_5 * z * (xx - yy);
            basis[15] = SH_C3_6 * x * (xx - 3 * yy);
        }
    }
}

// One Gaussian's means, quaternion (wxyz), scales seen by one camera. False: behind the near plane.
struct Projection {
    float x, y, depth;            // px, px, m
    float xx, xy, yy;             // covariance, px^2, blur included
    float determinant;
};

__device__ __forceinline__ bool project(
    const Camera& camera, float3 mean, float4 quat, float3 scale, Projection& out) {
    const float* v = camera.view;
    float vx = fmaf(v[0], mean.x, fmaf(v[1], mean.y, fmaf(v[2], mean.z, v[3])));
    float vy = fmaf(v[4], mean.x, fmaf(v[5], mean.y, fmaf(v[6], mean.z, v[7])));
    float vz = fmaf(v[8], mean.x, fmaf(v[9], mean.y, fmaf(v[10], mean.z, v[11])));
    if (!(vz > NEAR_M)) return false;
    float inverse_z = 1.0f / vz;
    float u = vx * inverse_z, w = vy * inverse_z;
    out.x = fmaf(camera.fx, u, camera.cx);
    out.y = fmaf(camera.fy, w, camera.cy);
    out.depth = vz;

    // Rows of J R_view: the image's axes in world space.
    float fx = camera.fx * inverse_z, fy = camera.fy * inverse_z;
    float gx = -fx * clamped(u, -camera.limit_u, camera.limit_u);
    float gy = -fy * clamped(w, -camera.limit_v, camera.limit_v);
    float3 p = make_float3(fmaf(fx, v[0], gx * v[8]), fmaf(fx, v[1], gx * v[9]), fmaf(fx, v[2], gx * v[10]));
    float3 q = make_float3(fmaf(fy, v[4], gy * v[8]), fmaf(fy, v[5], gy * v[9]), fmaf(fy, v[6], gy * v[10]));

    // Their products with the Gaussian's own axes, scaled.
    float qw = quat.x, qx = quat.y, qy = quat.z, qz = quat.w;
    float m00 = 1 - 2 * (qy * qy + qz * qz), m01 = 2 * (qx * qy - qw * qz), m02 = 2 * (qx * qz + qw * qy);
    float m10 = 2 * (qx * qy + qw * qz), m11 = 1 - 2 * (qx * qx + qz * qz), m12 = 2 * (qy * qz - qw * qx);
    float m20 = 2 * (qx * qz - qw * qy), m21 = 2 * (qy * qz + qw * qx), m22 = 1 - 2 * (qx * qx + qy * qy);
    float p0 = scale.x * (p.x * m00 + p.y * m10 + p.z * m20), q0 = scale.x * (q.x * m00 + q.y * m10 + q.z * m20);
    float p1 = scale.y * (p.x * m01 + p.y * m11 + p.z * m21), q1 = scale.y * (q.x * m01 + q.y * m11 + q.z * m21);
    float p2 = scale.z * (p.x * m02 + p.y * m12 + p.z * m22), q2 = scale.z * (q.x * m02 + q.y * m12 + q.z * m22);
    out.xx = p0 * p0 + p1 * p1 + p2 * p2 + BLUR_PX2;
    out.yy = q0 * q0 + q1 * q1 + q2 * q2 + BLUR_PX2;
    out.xy = p0 * q0 + p1 * q1 + p2 * q2;
    // |p x q|^2 + blur (|p|^2 + |q|^2) + blur^2: nothing cancels.
    float c0 = p1 * q2 - p2 * q1, c1 = p2 * q0 - p0 * q2, c2 = p0 * q1 - p1 * q0;
    out.determinant = c0 * c0 + c1 * c1 + c2 * c2 + BLUR_PX2 * (out.xx + out.yy - BLUR_PX2);
    return true;
}

__device__ __forceinline__ float3 camera_centre(const Camera& camera) {
    const float* v = camera.view;
    return make_float3(
        -(v[0] * v[3] + v[4] * v[7] + v[8] * v[11]),
        -(v[1] * v[3] + v[5] * v[7] + v[9] * v[11]),
        -(v[2] * v[3] + v[6] * v[7] + v[10] * v[11]));
}

// Unit direction from the camera's centre to a point, and the distance.
__device__ __forceinline__ float3 view_direction(const Camera& camera, float3 point, float& inverse_length) {
    float3 centre = camera_centre(camera);
    float x = point.x - centre.x, y = point.y - centre.y, z = point.z - centre.z;
    inverse_length = 1.0f / fmaxf(sqrtf(x * x + y * y + z * z), 1e-12f);
    return make_float3(x * inverse_length, y * inverse_length, z * inverse_length);
}

// Rows of 3 K floats to shared memory and back, all threads of the block together. An odd pitch: a thread a row meets
// no other thread's bank. What is staged is there after stage_end and a barrier.
#define SH_PITCH(K) (3 * (K) | 1)

#ifdef CUDA_ON_CPU
__device__ __forceinline__ void copy_word(float* to, const float* from) { *to = *from; }
__device__ __forceinline__ void stage_end() {}
#else
__device__ __forceinline__ void copy_word(float* to, const float* from) {  // arrives later: all words are on their way at once
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from));
}
__device__ __forceinline__ void stage_end() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

template <int K>
__device__ __forceinline__ void stage_rows(const float* __restrict__ from, int rows, float* to) {
    for (int i = threadIdx.x; i < rows * 3 * K; i += blockDim.x) {
        int row = i / (3 * K);
        copy_word(to + row * SH_PITCH(K) + i - row * 3 * K, from + i);
    }
}
template <int K>
__device__ __forceinline__ void unstage_rows(const float* from, int rows, float* __restrict__ to) {
    for (int i = threadIdx.x; i < rows * 3 * K; i += blockDim.x) {
        int row = i / (3 * K);
        to[i] = from[row * SH_PITCH(K) + i - row * 3 * K];
    }
}
