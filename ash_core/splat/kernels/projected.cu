// Shared code of the rasterizer's kernels: cameras, projected Gaussians, the exact rectangle test, state of the tiles.
// Meaning of every number: reference.py. Constants in capitals that are not defined here come from cuda.py through -D.
//   TILE          pixels along the side of a tile
//   TILE_THREADS  threads of a tile, one a pixel: warp 0 has the upper 8x4 pixels, warp 1 the lower
//   VECTORS       float4s of a projected Gaussian
//   HEADER_WORDS  words of the header of the tile state

#define ALL_LANES 0xffffffffu
#define LOG2_E 1.44269504f
#define LN_2 0.69314718f
#define SLACK 0.01f           // in log2(alpha): the rectangle test may pass in vain, but never fails wrongly
#define NEVER __int_as_float(0xff800000)  // log2 of zero opacity

struct Camera {               // 24 words, packed by cuda.py
    float view[12];           // camera from world, 3x4, m
    float fx, fy, cx, cy;     // px
    float limit_u, limit_v;   // largest |x/z| and |y/z| in the Jacobian
    int width, height;        // px
    int tiles_x, tiles_y;
    int first_tile, first_pixel;  // offsets of this camera in the arrays of all cameras
};

// State of the tiles of all cameras: a header of HEADER_WORDS, then one entry a tile of each array of Tiles.
// Words of the header; all but FRAME are reset after each frame.
#define OCCUPIED 0            // number of tiles with entries
#define NEXT 1                // next work item for a block of blend
#define DONE 2                // number of blocks that have ended
#define FRAME 3               // number of frames before this one
#define OVERFLOW_TILES 4      // number of tiles with more entries than their bin's capacity
#define NEXT_BACKWARD 5       // NEXT and DONE of blend_backward
#define DONE_BACKWARD 6
#define REQUESTED_UNITS 7     // requested part of the overflow buffer, in units of OVERFLOW_UNIT entries
struct Tiles {
    int* header;
    unsigned* counts;         // entries of each tile, those beyond the capacity included
    int* marks;               // number of the last frame in which the tile was occupied, from 1
    int2* queue;              // occupied tiles: camera, tile of that camera
    int2* overflow;           // overflow tiles: likewise
    int2* sorted;             // of an overflow tile: first unit in the overflow buffer, entries; 0 if unsorted
};
__device__ __forceinline__ Tiles tiles_in(int* state, int count) {
    Tiles tiles;
    tiles.header = state;
    tiles.counts = (unsigned*)state + HEADER_WORDS;
    tiles.marks = state + HEADER_WORDS + count;
    tiles.queue = (int2*)(state + HEADER_WORDS + 2 * count);
    tiles.overflow = tiles.queue + count;
    tiles.sorted = tiles.overflow + count;
    return tiles;
}
__device__ __forceinline__ int mark_of_frame(const Tiles& tiles) { return tiles.header[FRAME] + 1; }

// A Gaussian in one image: three float4. Culled ones have log2_opacity = -infinity.
//   [0] x, y (px), a, b    [1] c, log2_opacity, depth (m), red    [2] green, blue, -, -
// log2(alpha) at a pixel (dx, dy) off its centre = log2_opacity + a dx^2 + b dx dy + c dy^2.

__device__ __forceinline__ float log2_falloff(float a, float b, float c, float dx, float dy) {
    return fmaf(dx, fmaf(a, dx, b * dy), c * dy * dy);
}

#define MOST 3e38f             // upper bound of finite values

// Clamp at zero; values that are not finite stay so.
__device__ __forceinline__ float positive(float x) { return x < 0.0f && x >= -MOST ? 0.0f : x; }

__device__ __forceinline__ float clamped(float value, float low, float high) {
    return fminf(fmaxf(value, low), high);
}

// Maximum of log2_falloff over a rectangle of offsets from the centre. It is zero if the centre lies inside.
// Otherwise it lies on one of the (at most two) sides that face the centre.
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

// Test a Gaussian against the w x h pixels from (x0, y0): can alpha reach ALPHA_MIN at a pixel centre?
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

// Project a Gaussian (mean, quaternion wxyz, scales) into one camera. Returns false behind the near plane.
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

    // Rows of J R_view: the image axes in world space.
    float fx = camera.fx * inverse_z, fy = camera.fy * inverse_z;
    float gx = -fx * clamped(u, -camera.limit_u, camera.limit_u);
    float gy = -fy * clamped(w, -camera.limit_v, camera.limit_v);
    float3 p = make_float3(fmaf(fx, v[0], gx * v[8]), fmaf(fx, v[1], gx * v[9]), fmaf(fx, v[2], gx * v[10]));
    float3 q = make_float3(fmaf(fy, v[4], gy * v[8]), fmaf(fy, v[5], gy * v[9]), fmaf(fy, v[6], gy * v[10]));

    // Their products with the scaled axes of the Gaussian.
    float qw = quat.x, qx = quat.y, qy = quat.z, qz = quat.w;
    float m00 = 1 - 2 * (qy * qy + qz * qz), m01 = 2 * (qx * qy - qw * qz), m02 = 2 * (qx * qz + qw * qy);
    float m10 = 2 * (qx * qy + qw * qz), m11 = 1 - 2 * (qx * qx + qz * qz), m12 = 2 * (qy * qz - qw * qx);
    float m20 = 2 * (qx * qz - qw * qy), m21 = 2 * (qy * qz + qw * qx), m22 = 1 - 2 * (qx * qx + qy * qy);
    float p0 = scale.x * (p.x * m00 + p.y * m10 + p.z * m20), q0 = scale.x * (q.x * m00 + q.y * m10 + q.z * m20);
    float p1 = scale.y * (p.x * m01 + p.y * m11 + p.z * m21), q1 = scale.y * (q.x * m01 + q.y * m11 + q.z * m21);
    float p2 = scale.z * (p.x * m02 + p.y * m12 + p.z * m22), q2 = scale.z * (q.x * m02 + q.y * m12 + q.z * m22);

    // 2x2 covariance, blurred.
    out.xx = p0 * p0 + p1 * p1 + p2 * p2 + BLUR_PX2;
    out.yy = q0 * q0 + q1 * q1 + q2 * q2 + BLUR_PX2;
    out.xy = p0 * q0 + p1 * q1 + p2 * q2;
    // Its determinant, |p x q|^2 + blur (|p|^2 + |q|^2) + blur^2: nothing cancels.
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

// Unit direction from the camera's centre to a point, and the inverse of the distance.
__device__ __forceinline__ float3 view_direction(const Camera& camera, float3 point, float& inverse_length) {
    float3 centre = camera_centre(camera);
    float x = point.x - centre.x, y = point.y - centre.y, z = point.z - centre.z;
    inverse_length = 1.0f / fmaxf(sqrtf(x * x + y * y + z * z), 1e-12f);
    return make_float3(x * inverse_length, y * inverse_length, z * inverse_length);
}

// Copy rows of 3 K floats to shared memory and back, by all threads of the block. With an odd pitch, threads of one row
// each have no bank conflicts. Staged rows are complete after stage_end and a barrier.
#define SH_PITCH(K) (3 * (K) | 1)

#ifdef CUDA_ON_CPU
__device__ __forceinline__ void copy_word(float* target, const float* source) { *target = *source; }
__device__ __forceinline__ void stage_end() {}
#else
// Start an asynchronous copy: all words of a row are in flight at once.
__device__ __forceinline__ void copy_word(float* target, const float* source) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
                 ::"r"((unsigned)__cvta_generic_to_shared(target)), "l"(source));
}
__device__ __forceinline__ void stage_end() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

template <int K>
__device__ __forceinline__ void stage_rows(const float* __restrict__ source, int rows, float* target) {
    for (int i = threadIdx.x; i < rows * 3 * K; i += blockDim.x) {
        int row = i / (3 * K);
        copy_word(target + row * SH_PITCH(K) + i - row * 3 * K, source + i);
    }
}
template <int K>
__device__ __forceinline__ void unstage_rows(const float* source, int rows, float* __restrict__ target) {
    for (int i = threadIdx.x; i < rows * 3 * K; i += blockDim.x) {
        int row = i / (3 * K);
        target[i] = source[row * SH_PITCH(K) + i - row * 3 * K];
    }
}
