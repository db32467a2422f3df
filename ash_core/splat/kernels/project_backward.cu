// From sums over pixels (blend_backward.cu) to gradients of the Gaussians, over all cameras.
//   in   as project.cu, sums [C, N, 12]
//   out  gradients of means [N, 3], quats [N, 4], scales [N, 3], opacities [N], sh [N, K, 3]
// One thread a Gaussian; cameras one after the other, so that nothing is added to by two threads. Colours and their
// gradients stand in shared memory, a row a thread.


template <int K>
__device__ __forceinline__ float3 sh_backward(
    const float* sh, float3 direction, float3 gradient, float* out) {
    float basis[K];
    sh_basis<K>(direction.x, direction.y, direction.z, basis);
    // A colour that was clamped at zero has no gradient.
    float3 colour = make_float3(0.5f, 0.5f, 0.5f);
#pragma unroll
    for (int k = 0; k < K; k++) {
        colour.x = fmaf(basis[k], sh[3 * k], colour.x);
        colour.y = fmaf(basis[k], sh[3 * k + 1], colour.y);
        colour.z = fmaf(basis[k], sh[3 * k + 2], colour.z);
    }
    if (colour.x < 0) gradient.x = 0;
    if (colour.y < 0) gradient.y = 0;
    if (colour.z < 0) gradient.z = 0;
    float of_basis[K];
#pragma unroll
    for (int k = 0; k < K; k++) {
        of_basis[k] = gradient.x * sh[3 * k] + gradient.y * sh[3 * k + 1] + gradient.z * sh[3 * k + 2];
        out[3 * k] = fmaf(basis[k], gradient.x, out[3 * k]);
        out[3 * k + 1] = fmaf(basis[k], gradient.y, out[3 * k + 1]);
        out[3 * k + 2] = fmaf(basis[k], gradient.z, out[3 * k + 2]);
    }
    float x = direction.x, y = direction.y, z = direction.z;
    float3 d = make_float3(0, 0, 0);
    if (K > 1) {
        d.x -= SH_C1 * of_basis[3 % K];
        d.y -= SH_C1 * of_basis[1 % K];
        d.z += SH_C1 * of_basis[2 % K];
    }
    if (K > 4) {
        float xy = SH_C2_0 * of_basis[4 % K], yz = SH_C2_1 * of_basis[5 % K], zz = SH_C2_2 * of_basis[6 % K];
        float xz = SH_C2_3 * of_basis[7 % K], xx_yy = SH_C2_4 * of_basis[8 % K];
        d.x += xy * y - 2 * zz * x + xz * z + 2 * xx_yy * x;
        d.y += xy * x + yz * z - 2 * zz * y - 2 * xx_yy * y;
        d.z += yz * y + 4 * zz * z + xz * x;
    }
    if (K > 9) {
        float xx = x * x, yy = y * y, zz = z * z;
        float a = SH_C3_0 * of_basis[9 % K], b = SH_C3_1 * of_basis[10 % K], c = SH_C3_2 * of_basis[11 % K];
        float e = SH_C3_3 * of_basis[12 % K], f = SH_C3_4 * of_basis[13 % K], g = SH_C3_5 * of_basis[14 % K];
        float h = SH_C3_6 * of_basis[15 % K];
        d.x += a * 6 * x * y + b * y * z - 2 * c * x * y - 6 * e * x * z + f * (4 * zz - 3 * xx - yy)
             + 2 * g * x * z + h * 3 * (xx - yy);
        d.y += a * 3 * (xx - yy) + b * x * z + c * (4 * zz - xx - 3 * yy) - 6 * e * y * z - 2 * f * x * y
             - 2 * g * y * z - 6 * h * x * y;
        d.z += b * x * y + 8 * c * y * z + e * (6 * zz - 3 * xx - 3 * yy) + 8 * f * x * z + g * (xx - yy);
    }
    return d;
}

__device__ __forceinline__ bool all_zero(float4 v) { return v.x == 0.0f && v.y == 0.0f && v.z == 0.0f && v.w == 0.0f; }

template <int K>
__device__ __forceinline__ void backward_of_projection(
    int count, int views, const float* __restrict__ means, const float4* __restrict__ quats,
    const float* __restrict__ scales, const float* __restrict__ opacities, const float* __restrict__ sh,
    const Camera* __restrict__ cameras, const float4* __restrict__ records, const Sum* __restrict__ all_sums,
    float* __restrict__ means_gradient, float4* __restrict__ quats_gradient, float* __restrict__ scales_gradient,
    float* __restrict__ opacities_gradient, float* __restrict__ sh_gradient) {
    __shared__ float colours[BACKWARD_THREADS * SH_PITCH(K)], colour_gradients[BACKWARD_THREADS * SH_PITCH(K)];
    int first = blockIdx.x * BACKWARD_THREADS, index = first + threadIdx.x;
    int rows = min(BACKWARD_THREADS, count - first), row = threadIdx.x * SH_PITCH(K);
    stage_rows<K>(sh + (size_t)first * 3 * K, rows, colours);
    for (int i = threadIdx.x; i < BACKWARD_THREADS * SH_PITCH(K); i += BACKWARD_THREADS) colour_gradients[i] = 0.0f;
    stage_end();
    __syncthreads();
    if (index < count) {
        float3 mean = make_float3(means[3 * index], means[3 * index + 1], means[3 * index + 2]);
        float3 scale = make_float3(scales[3 * index], scales[3 * index + 1], scales[3 * index + 2]);
        float4 quat = quats[index];
        float3 of_mean = make_float3(0, 0, 0), of_scale = make_float3(0, 0, 0);
        float of_opacity = 0, of_w = 0, of_x = 0, of_y = 0, of_z = 0;
        for (int view = 0; view < views; view++) {
            size_t at = (size_t)view * count + index;
            if (!(records[at * RECORD + 1].y > NEVER)) continue;  // culled
            float4 sums[3];
            for (int i = 0; i < 3; i++) sums[i] = load_sums(all_sums + at * SUMS + 4 * i);
            if (all_zero(sums[0]) && all_zero(sums[1]) && all_zero(sums[2])) continue;  // no pixel saw it
            float s0 = sums[0].x, sx = sums[0].y, sy = sums[0].z, sxx = sums[0].w;
            float sxy = sums[1].x, syy = sums[1].y, of_depth = sums[1].z;
            float3 of_colour = make_float3(sums[1].w, sums[2].x, sums[2].y);

            // 1. Colour, and the direction that it is seen from.
            const Camera& camera = cameras[view];
            float inverse_length;
            float3 direction = view_direction(camera, mean, inverse_length);
            float3 d = sh_backward<K>(colours + row, direction, of_colour, colour_gradients + row);
            float along = d.x * direction.x + d.y * direction.y + d.z * direction.z;
            of_mean.x += (d.x - along * direction.x) * inverse_length;
            of_mean.y += (d.y - along * direction.y) * inverse_length;
            of_mean.z += (d.z - along * direction.z) * inverse_length;
            of_opacity += s0 / opacities[index];

            // 2. The projection once more.
            const float* v = camera.view;
            float vx = fmaf(v[0], mean.x, fmaf(v[1], mean.y, fmaf(v[2], mean.z, v[3])));
            float vy = fmaf(v[4], mean.x, fmaf(v[5], mean.y, fmaf(v[6], mean.z, v[7])));
            float vz = fmaf(v[8], mean.x, fmaf(v[9], mean.y, fmaf(v[10], mean.z, v[11])));
            float iz = 1.0f / vz, u = vx * iz, w = vy * iz;
            float cu = clamped(u, -camera.limit_u, camera.limit_u), cw = clamped(w, -camera.limit_v, camera.limit_v);
            float fx = camera.fx * iz, fy = camera.fy * iz;
            float3 p = make_float3(fmaf(fx, v[0], -fx * cu * v[8]), fmaf(fx, v[1], -fx * cu * v[9]), fmaf(fx, v[2], -fx * cu * v[10]));
            float3 q = make_float3(fmaf(fy, v[4], -fy * cw * v[8]), fmaf(fy, v[5], -fy * cw * v[9]), fmaf(fy, v[6], -fy * cw * v[10]));
            float qw = quat.x, qx = quat.y, qy = quat.z, qz = quat.w;
            float m00 = 1 - 2 * (qy * qy + qz * qz), m01 = 2 * (qx * qy - qw * qz), m02 = 2 * (qx * qz + qw * qy);
            float m10 = 2 * (qx * qy + qw * qz), m11 = 1 - 2 * (qx * qx + qz * qz), m12 = 2 * (qy * qz - qw * qx);
            float m20 = 2 * (qx * qz - qw * qy), m21 = 2 * (qy * qz + qw * qx), m22 = 1 - 2 * (qx * qx + qy * qy);
            float tp0 = p.x * m00 + p.y * m10 + p.z * m20, tq0 = q.x * m00 + q.y * m10 + q.z * m20;
            float tp1 = p.x * m01 + p.y * m11 + p.z * m21, tq1 = q.x * m01 + q.y * m11 + q.z * m21;
            float tp2 = p.x * m02 + p.y * m12 + p.z * m22, tq2 = q.x * m02 + q.y * m12 + q.z * m22;

            // 3. Conic (natural, from the record's) to covariance: dS = -C dC C.
            float4 r0 = records[at * RECORD];
            float ca = -2.0f * LN_2 * r0.z, cb = -LN_2 * r0.w, cc = -2.0f * LN_2 * records[at * RECORD + 1].x;
            float ga = -0.5f * sxx, gb = -0.5f * sxy, gc = -0.5f * syy;  // gb: one of two equal entries
            float e00 = ga * ca + gb * cb, e01 = ga * cb + gb * cc, e10 = gb * ca + gc * cb, e11 = gb * cb + gc * cc;
            float g_xx = -(ca * e00 + cb * e10), g_yy = -(cb * e01 + cc * e11);
            float g_xy = -(ca * e01 + cb * e11) - (cb * e00 + cc * e10);

            // 4. Covariance to scaled axes, scales, rotation and the rows of J R_view.
            float gp0 = 2 * g_xx * scale.x * tp0 + g_xy * scale.x * tq0, gq0 = 2 * g_yy * scale.x * tq0 + g_xy * scale.x * tp0;
            float gp1 = 2 * g_xx * scale.y * tp1 + g_xy * scale.y * tq1, gq1 = 2 * g_yy * scale.y * tq1 + g_xy * scale.y * tp1;
            float gp2 = 2 * g_xx * scale.z * tp2 + g_xy * scale.z * tq2, gq2 = 2 * g_yy * scale.z * tq2 + g_xy * scale.z * tp2;
            of_scale.x += tp0 * gp0 + tq0 * gq0;
            of_scale.y += tp1 * gp1 + tq1 * gq1;
            of_scale.z += tp2 * gp2 + tq2 * gq2;
            gp0 *= scale.x, gq0 *= scale.x, gp1 *= scale.y, gq1 *= scale.y, gp2 *= scale.z, gq2 *= scale.z;
            float g00 = p.x * gp0 + q.x * gq0, g01 = p.x * gp1 + q.x * gq1, g02 = p.x * gp2 + q.x * gq2;
            float g10 = p.y * gp0 + q.y * gq0, g11 = p.y * gp1 + q.y * gq1, g12 = p.y * gp2 + q.y * gq2;
            float g20 = p.z * gp0 + q.z * gq0, g21 = p.z * gp1 + q.z * gq1, g22 = p.z * gp2 + q.z * gq2;
            of_w += 2 * (-qz * g01 + qy * g02 + qz * g10 - qx * g12 - qy * g20 + qx * g21);
            of_x += 2 * (qy * g01 + qz * g02 + qy * g10 - 2 * qx * g11 - qw * g12 + qz * g20 + qw * g21 - 2 * qx * g22);
            of_y += 2 * (-2 * qy * g00 + qx * g01 + qw * g02 + qx * g10 + qz * g12 - qw * g20 + qz * g21 - 2 * qy * g22);
            of_z += 2 * (-2 * qz * g00 - qw * g01 + qx * g02 + qw * g10 - 2 * qz * g11 + qy * g12 + qx * g20 + qy * g21);
            float3 of_p = make_float3(
                m00 * gp0 + m01 * gp1 + m02 * gp2, m10 * gp0 + m11 * gp1 + m12 * gp2, m20 * gp0 + m21 * gp1 + m22 * gp2);
            float3 of_q = make_float3(
                m00 * gq0 + m01 * gq1 + m02 * gq2, m10 * gq0 + m11 * gq1 + m12 * gq2, m20 * gq0 + m21 * gq1 + m22 * gq2);

            // 5. The Jacobian (fx/z, -fx u/z; fy/z, -fy w/z), the centre and the depth to view space.
            float j00 = of_p.x * v[0] + of_p.y * v[1] + of_p.z * v[2], j02 = of_p.x * v[8] + of_p.y * v[9] + of_p.z * v[10];
            float j11 = of_q.x * v[4] + of_q.y * v[5] + of_q.z * v[6], j12 = of_q.x * v[8] + of_q.y * v[9] + of_q.z * v[10];
            float of_u = camera.fx * (ca * sx + cb * sy), of_v = camera.fy * (cb * sx + cc * sy);
            if (u == cu) of_u -= fx * j02;
            if (w == cw) of_v -= fy * j12;
            float gx = of_u * iz, gy = of_v * iz;
            float gz = of_depth - gx * u - gy * w - iz * (fx * (j00 - cu * j02) + fy * (j11 - cw * j12));
            of_mean.x += v[0] * gx + v[4] * gy + v[8] * gz;
            of_mean.y += v[1] * gx + v[5] * gy + v[9] * gz;
            of_mean.z += v[2] * gx + v[6] * gy + v[10] * gz;
        }
        means_gradient[3 * index] = of_mean.x;
        means_gradient[3 * index + 1] = of_mean.y;
        means_gradient[3 * index + 2] = of_mean.z;
        scales_gradient[3 * index] = of_scale.x;
        scales_gradient[3 * index + 1] = of_scale.y;
        scales_gradient[3 * index + 2] = of_scale.z;
        quats_gradient[index] = make_float4(of_w, of_x, of_y, of_z);
        opacities_gradient[index] = of_opacity;
    }
    __syncthreads();
    unstage_rows<K>(colour_gradients, rows, sh_gradient + (size_t)first * 3 * K);
}

#define PROJECT_BACKWARD(K)                                                                                           \
    extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS) project_backward_##K(                              \
        int count, int views, const float* __restrict__ means, const float4* __restrict__ quats,                      \
        const float* __restrict__ scales, const float* __restrict__ opacities, const float* __restrict__ sh,          \
        const Camera* __restrict__ cameras, const float4* __restrict__ records, const Sum* __restrict__ sums,         \
        float* __restrict__ of_means, float4* __restrict__ of_quats, float* __restrict__ of_scales,                   \
        float* __restrict__ of_opacities, float* __restrict__ of_sh) {                                                \
        begin_kernel();                                                                                               \
        backward_of_projection<K>(count, views, means, quats, scales, opacities, sh, cameras, records, sums,          \
                                  of_means, of_quats, of_scales, of_opacities, of_sh);                                \
    }
PROJECT_BACKWARD(1)
PROJECT_BACKWARD(4)
PROJECT_BACKWARD(9)
PROJECT_BACKWARD(16)
