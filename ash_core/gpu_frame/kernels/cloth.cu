// Move the cloth of a posed character to its simulated places: dual quaternions, then positions. Meaning: cloth/surface.py.
// After pose.cu, whose vectors and dual quaternions these use.

// Place of a vertex: simulated if it is worn, else skinned.
__device__ __forceinline__ float3 place_of(
    int vertex, const float* vertices, const int* worn_rows, const float* places) {
    const int row = worn_rows[vertex];
    return row < 0 ? load3(vertices + vertex * 3) : load3(places + row * 3);
}

struct Frame {
    float3 normal, tangent, across;
    bool is_known;
};

// Orthonormal frame of the surface at a vertex, with its cloth where `worn_rows` says so.
__device__ __forceinline__ Frame surface_frame(
    int begin, int end, const int4* corners, const float4* weights, const float* vertices, const int* worn_rows,
    const float* places, bool is_worn) {
    float3 normal = make_float3(0, 0, 0), tangent = make_float3(0, 0, 0);
    for (int i = begin; i < end; ++i) {
        const int4 face = corners[i];
        const float4 w = weights[i];
        float3 v0, v1, v2;
        if (is_worn) {
            v0 = place_of(face.x, vertices, worn_rows, places), v1 = place_of(face.y, vertices, worn_rows, places);
            v2 = place_of(face.z, vertices, worn_rows, places);
        } else {
            v0 = load3(vertices + face.x * 3), v1 = load3(vertices + face.y * 3), v2 = load3(vertices + face.z * 3);
        }
        normal = add3(normal, unit3(cross3(subtract3(v2, v1), subtract3(v0, v1))));
        // Weights sum to zero: differences keep the digits.
        tangent = add3(tangent, add3(scale3(subtract3(v1, v0), w.y), scale3(subtract3(v2, v0), w.z)));
    }
    Frame frame;
    normal = scale3(normal, 1.0f / max(end - begin, 1));
    frame.is_known = dot3(normal, normal) > 0.0f;
    frame.normal = unit3(normal);
    const float3 along = subtract3(tangent, scale3(frame.normal, dot3(tangent, frame.normal)));
    frame.is_known = frame.is_known && dot3(along, along) > LEAST_TANGENT_M * LEAST_TANGENT_M;
    frame.tangent = unit3(along);
    frame.across = cross3(frame.normal, frame.tangent);
    return frame;
}

// Quaternion of the turn from one frame to another, with w >= 0.
__device__ __forceinline__ float4 turn_between(const Frame& first, const Frame& second) {
    const float3 a[3] = {first.normal, first.tangent, first.across}, b[3] = {second.normal, second.tangent, second.across};
    float m[3][3] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
    for (int k = 0; k < 3; ++k) {
        const float u[3] = {b[k].x, b[k].y, b[k].z}, v[3] = {a[k].x, a[k].y, a[k].z};
        for (int r = 0; r < 3; ++r)
            for (int c = 0; c < 3; ++c) m[r][c] += u[r] * v[c];
    }
    const float w2 = 1 + m[0][0] + m[1][1] + m[2][2], x2 = 1 + m[0][0] - m[1][1] - m[2][2];
    const float y2 = 1 - m[0][0] + m[1][1] - m[2][2], z2 = 1 - m[0][0] - m[1][1] + m[2][2];
    const float a0 = m[2][1] - m[1][2], b0 = m[0][2] - m[2][0], c0 = m[1][0] - m[0][1];
    const float d0 = m[0][1] + m[1][0], e0 = m[0][2] + m[2][0], f0 = m[1][2] + m[2][1];
    float4 q = make_float4(w2, a0, b0, c0);
    const float largest = fmaxf(fmaxf(w2, x2), fmaxf(y2, z2));
    if (largest > w2) {
        if (largest == x2) q = make_float4(a0, x2, d0, e0);
        else if (largest == y2) q = make_float4(b0, d0, y2, f0);
        else q = make_float4(c0, e0, f0, z2);
    }
    const float scale = (q.x < 0.0f ? -1.0f : 1.0f) / fmaxf(sqrtf(dot4(q, q)), SHORTEST);
    return make_float4(q.x * scale, q.y * scale, q.z * scale, q.w * scale);
}

// Dual quaternions of the cloth's vertices: turned with the surface, from canonical to simulated.
//   in   has_cloth int [1], 0: nothing is done   worn int [n_worn]   worn_rows int [n_vertices], -1: not worn
//        starts int [n_worn + 1], corners (v0, v1, v2, -) by worn vertex, the vertex itself first
//        weights (-, of v1, of v2, -) of the tangent   places float [n_worn, 3] m
//        vertices, canonical float [slots, n_vertices, 3] m, skinned
//   out  quats float [slots, n_vertices, 8] at the worn vertices
extern "C" __global__ void __launch_bounds__(THREADS) turn_cloth(
    int n_worn, int n_vertices, const int* __restrict__ has_cloth, const int* __restrict__ worn,
    const int* __restrict__ worn_rows, const int* __restrict__ starts, const int4* __restrict__ corners,
    const float4* __restrict__ weights, const float* __restrict__ places, const int* __restrict__ slot,
    const float* __restrict__ vertices, const float* __restrict__ canonical, float* __restrict__ quats) {
    begin_kernel();
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n_worn || has_cloth[0] == 0) return;
    const int vertex = worn[row], first = slot[0] * n_vertices;
    const float* skinned = vertices + first * 3;
    const int begin = starts[row], end = starts[row + 1];
    const Frame before = surface_frame(begin, end, corners, weights, skinned, worn_rows, places, false);
    const Frame after = surface_frame(begin, end, corners, weights, skinned, worn_rows, places, true);
    float4* target = reinterpret_cast<float4*>(quats) + (first + vertex) * 2;
    float4 real = target[0];
    if (before.is_known && after.is_known) {
        const float4 q = turn_between(before, after), r = real;
        real = make_float4(q.x * r.x - q.y * r.y - q.z * r.z - q.w * r.w, q.x * r.y + q.y * r.x + q.z * r.w - q.w * r.z,
                           q.x * r.z - q.y * r.w + q.z * r.x + q.w * r.y, q.x * r.w + q.y * r.z - q.z * r.y + q.w * r.x);
        const float scale = 1.0f / fmaxf(sqrtf(dot4(real, real)), SHORTEST);
        real = make_float4(real.x * scale, real.y * scale, real.z * scale, real.w * scale);
    }
    const float3 shift = subtract3(load3(places + row * 3), rotate(real, load3(canonical + (first + vertex) * 3)));
    target[0] = real, target[1] = dual_of(shift, real);
}

// Positions of the cloth's vertices.
extern "C" __global__ void __launch_bounds__(THREADS) place_cloth(
    int n_worn, int n_vertices, const int* __restrict__ has_cloth, const int* __restrict__ worn,
    const float* __restrict__ places, const int* __restrict__ slot, float* __restrict__ vertices) {
    begin_kernel();
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n_worn || has_cloth[0] == 0) return;
    store3(vertices + (slot[0] * n_vertices + worn[row]) * 3, load3(places + row * 3));
}
