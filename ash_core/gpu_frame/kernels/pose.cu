// Pose a character: dofs to bones and graph nodes, to posed vertices, to normals. Meaning: character.py and geometry/.
// Skeletons are float64 as there; values of nodes and vertices are float32, m.
// Defined by the compiler: MAX_JOINTS, MAX_BONES, MAX_ROUNDS of the schedule, THREADS of a block, ROOT_FLOATS, and
// TEAM, lanes of one vertex.

#define SHORTEST 1e-12f
#define WHOLE_WARP 0xffffffffu

// ---- quaternions wxyz and dual quaternions ----

struct DualQuat {
    float4 real, dual;
};

__device__ __forceinline__ float3 add3(float3 a, float3 b) { return make_float3(a.x + b.x, a.y + b.y, a.z + b.z); }
__device__ __forceinline__ float3 subtract3(float3 a, float3 b) { return make_float3(a.x - b.x, a.y - b.y, a.z - b.z); }
__device__ __forceinline__ float3 scale3(float3 a, float s) { return make_float3(a.x * s, a.y * s, a.z * s); }
__device__ __forceinline__ float3 cross3(float3 a, float3 b) {
    return make_float3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
__device__ __forceinline__ float3 unit3(float3 a) {
    return scale3(a, 1.0f / fmaxf(sqrtf(a.x * a.x + a.y * a.y + a.z * a.z), SHORTEST));
}
__device__ __forceinline__ float3 load3(const float* source) { return make_float3(source[0], source[1], source[2]); }
__device__ __forceinline__ void store3(float* target, float3 a) { target[0] = a.x, target[1] = a.y, target[2] = a.z; }

__device__ __forceinline__ float dot3(float3 a, float3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
__device__ __forceinline__ float dot4(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
__device__ __forceinline__ void add_scaled(float4& sum, float4 a, float s) {
    sum.x += a.x * s, sum.y += a.y * s, sum.z += a.z * s, sum.w += a.w * s;
}

// Scale to a unit real part; the dual part may keep a component that is not rigid.
__device__ __forceinline__ DualQuat normalised(DualQuat q) {
    float s = 1.0f / fmaxf(sqrtf(dot4(q.real, q.real)), SHORTEST);
    DualQuat unit = {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0)};
    add_scaled(unit.real, q.real, s), add_scaled(unit.dual, q.dual, s);
    return unit;
}

// 2 dual conj(real): components are w x y z, float4's are named x y z w.
__device__ __forceinline__ float3 translation_of(DualQuat q) {
    float4 r = q.real, d = q.dual;
    return make_float3(2 * (-d.x * r.y + d.y * r.x - d.z * r.w + d.w * r.z),
                       2 * (-d.x * r.z + d.y * r.w + d.z * r.x - d.w * r.y),
                       2 * (-d.x * r.w - d.y * r.z + d.z * r.y + d.w * r.x));
}

// 0.5 place real
__device__ __forceinline__ float4 dual_of(float3 t, float4 r) {
    return make_float4(0.5f * (-t.x * r.y - t.y * r.z - t.z * r.w), 0.5f * (t.x * r.x + t.y * r.w - t.z * r.z),
                       0.5f * (-t.x * r.w + t.y * r.x + t.z * r.y), 0.5f * (t.x * r.z - t.y * r.y + t.z * r.x));
}

__device__ __forceinline__ float3 rotate(float4 q, float3 v) {
    float3 u = make_float3(q.y, q.z, q.w), t = scale3(cross3(u, v), 2.0f);
    return add3(add3(v, scale3(t, q.x)), cross3(u, t));
}

// Rows of the rotation matrix, with a gap for the translation: [3, 4].
template <class Real>
__device__ __forceinline__ void turn_rows(Real w, Real x, Real y, Real z, Real* m) {
    m[0] = 1 - 2 * (y * y + z * z), m[1] = 2 * (x * y - w * z), m[2] = 2 * (x * z + w * y);
    m[4] = 2 * (x * y + w * z), m[5] = 1 - 2 * (x * x + z * z), m[6] = 2 * (y * z - w * x);
    m[8] = 2 * (x * z - w * y), m[9] = 2 * (y * z + w * x), m[10] = 1 - 2 * (x * x + y * y);
}

// Dual quaternion of the rigid transform [3, 4], through its largest component.
__device__ __forceinline__ void dual_quat_of(const double* m, float* out) {
    double squares[4] = {1 + m[0] + m[5] + m[10], 1 + m[0] - m[5] - m[10], 1 - m[0] + m[5] - m[10],
                         1 - m[0] - m[5] + m[10]};
    double a = m[9] - m[6], b = m[2] - m[8], c = m[4] - m[1];
    double d = m[1] + m[4], e = m[2] + m[8], f = m[6] + m[9];
    double w = squares[0], x = a, y = b, z = c, largest = squares[0];
    if (squares[1] > largest) w = a, x = squares[1], y = d, z = e, largest = squares[1];
    if (squares[2] > largest) w = b, x = d, y = squares[2], z = f, largest = squares[2];
    if (squares[3] > largest) w = c, x = e, y = f, z = squares[3];
    double s = 1 / sqrt(w * w + x * x + y * y + z * z);
    w *= s, x *= s, y *= s, z *= s;
    out[0] = (float)w, out[1] = (float)x, out[2] = (float)y, out[3] = (float)z;
    double tx = m[3], ty = m[7], tz = m[11];
    out[4] = (float)(0.5 * (-tx * x - ty * y - tz * z)), out[5] = (float)(0.5 * (tx * w + ty * z - tz * y));
    out[6] = (float)(0.5 * (-tx * z + ty * w + tz * x)), out[7] = (float)(0.5 * (tx * y - ty * x + tz * w));
}

// Blend the dual quaternions of the bones by one row of the skinning; the first bone gives the sign.
__device__ __forceinline__ DualQuat blend_bones(
    const float* bones, const int* __restrict__ ids, const float* __restrict__ weights, int count) {
    DualQuat sum = {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0)};
    const float4* quats = reinterpret_cast<const float4*>(bones);
    float4 reference = quats[ids[0] * 2];
    for (int i = 0; i < count; ++i) {
        float4 real = quats[ids[i] * 2], dual = quats[ids[i] * 2 + 1];
        float weight = dot4(real, reference) > 0.0f ? weights[i] : -weights[i];
        add_scaled(sum.real, real, weight), add_scaled(sum.dual, dual, weight);
    }
    return normalised(sum);
}

// Dofs to graph nodes. Row 0 is the pose; rows 1-3 are the normalised poses, input of the graph networks.
//   in   inputs double [4, n_dofs]
//        dof_starts int [n_joints + 2], dof_columns int, dof_weights double: the dof matrix by rows; last row: angle
//        of the heading
//        joints float [n_joints, 8]: axis, 1 for prismatic, origin in the parent's frame (m), -
//        ancestors int [n_rounds, n_joints]: 1, 2, 4, ... steps up, -1 for none
//        bone_joints int [n_bones]   rest_inverse double [n_bones, 3, 4]
//        node_bones int, node_weights float [n_nodes, per_node]   heading_joint   slot int [1]
//   out  nodes float [n_nodes, 8]: real, dual, of row 0
//        matrices float [n_nodes, 3, 3, 4] and node_inputs float [n_nodes, 18]: of rows 1-3
//        root float [slots, 16]
// grid (rows, slices of the nodes), block at least 3 n_joints threads: every block computes the whole skeleton.
static_assert(MAX_JOINTS <= 1 << MAX_ROUNDS, "the schedule reaches the root");
extern "C" __global__ void __launch_bounds__(3 * MAX_JOINTS) pose_nodes(
    const double* __restrict__ inputs, int n_dofs, const int* __restrict__ dof_starts,
    const int* __restrict__ dof_columns, const double* __restrict__ dof_weights, const float* __restrict__ joints,
    int n_joints, const int* __restrict__ ancestors, int n_rounds, const int* __restrict__ bone_joints,
    const double* __restrict__ rest_inverse, int n_bones, const int* __restrict__ node_bones,
    const float* __restrict__ node_weights, int n_nodes, int per_node, int heading_joint,
    const int* __restrict__ slot, float* __restrict__ nodes, float* __restrict__ matrices,
    float* __restrict__ node_inputs, float* __restrict__ root) {
    begin_kernel();
    __shared__ double transforms[MAX_JOINTS * 12];
    __shared__ float4 bones[2 * MAX_BONES * 2];  // relative to rest, then in the body frame
    const int thread = threadIdx.x, row = blockIdx.x;
    const double* dofs = inputs + row * n_dofs;
    float* own_root = row == 0 && blockIdx.y == 0 ? root + slot[0] * ROOT_FLOATS : nullptr;

    // A thread has one row of one joint; it loads all ancestors at once.
    const int joint = thread / 3, line = thread - joint * 3;
    int ups[MAX_ROUNDS];
#pragma unroll
    for (int i = 0; i < MAX_ROUNDS; ++i)
        ups[i] = i < n_rounds && thread < 3 * n_joints ? ancestors[i * n_joints + joint] : -1;

    // Local transforms; the thread after the last joint has the heading.
    if (thread <= n_joints) {
        double value = 0;
        for (int i = dof_starts[thread]; i < dof_starts[thread + 1]; ++i)
            value += dof_weights[i] * dofs[dof_columns[i]];
        if (thread < n_joints) {
            const float* own = joints + thread * 8;
            double x = own[0], y = own[1], z = own[2];
            bool prismatic = own[3] != 0.0f;
            double turn = prismatic ? 0.0 : value, slide = prismatic ? value : 0.0;
            double c = cos(0.5 * turn), s = sin(0.5 * turn);
            double* local = transforms + thread * 12;
            turn_rows(c, s * x, s * y, s * z, local);
            local[3] = own[4] + slide * x, local[7] = own[5] + slide * y, local[11] = own[6] + slide * z;
        } else if (own_root) {
            double turn[12];
            turn_rows(cos(0.5 * value), 0.0, sin(0.5 * value), 0.0, turn);
            for (int i = 0; i < 3; ++i) own_root[i] = (float)dofs[i];
            for (int i = 0; i < 9; ++i) own_root[6 + i] = (float)turn[i / 3 * 4 + i % 3];
        }
    }
    __syncthreads();

    // Global transforms: every joint times its ancestor 1, 2, 4, ... steps up.
#pragma unroll
    for (int round = 0; round < MAX_ROUNDS; ++round) {
        if (round >= n_rounds) break;
        const int up = ups[round];
        double product[4];
        if (up >= 0) {
            const double* left = transforms + up * 12 + line * 4;
            const double* right = transforms + joint * 12;
            for (int i = 0; i < 4; ++i)
                product[i] = left[0] * right[i] + left[1] * right[4 + i] + left[2] * right[8 + i] + (i == 3 ? left[3] : 0);
        }
        __syncthreads();
        if (up >= 0)
            for (int i = 0; i < 4; ++i) transforms[joint * 12 + line * 4 + i] = product[i];
        __syncthreads();
    }

    // Dual quaternions of the bones.
    for (int i = thread; i < n_bones * (row == 0 ? 1 : 2); i += blockDim.x) {
        int bone = i < n_bones ? i : i - n_bones;
        const double* left = transforms + bone_joints[bone] * 12;
        double m[12];
        if (i < n_bones) {
            const double* right = rest_inverse + bone * 12;
            for (int r = 0; r < 3; ++r)
                for (int k = 0; k < 4; ++k)
                    m[r * 4 + k] = left[r * 4] * right[k] + left[r * 4 + 1] * right[4 + k] +
                                   left[r * 4 + 2] * right[8 + k] + (k == 3 ? left[r * 4 + 3] : 0);
        } else {
            for (int k = 0; k < 12; ++k) m[k] = left[k];
        }
        dual_quat_of(m, reinterpret_cast<float*>(bones + (i < n_bones ? bone : MAX_BONES + bone) * 2));
    }
    if (own_root && thread < 3) own_root[3 + thread] = (float)transforms[heading_joint * 12 + thread * 4 + 3];
    __syncthreads();

    // Blend at the nodes.
    int node = blockIdx.y * blockDim.x + thread;
    if (node >= n_nodes) return;
    const int* ids = node_bones + node * per_node;
    const float* weights = node_weights + node * per_node;
    const float* relative = reinterpret_cast<const float*>(bones);
    DualQuat q = blend_bones(relative, ids, weights, per_node);
    float3 place = translation_of(q);  // drops the part of the blend that is not rigid, as the release does
    if (row == 0) {
        float4* out = reinterpret_cast<float4*>(nodes) + node * 2;
        out[0] = q.real, out[1] = dual_of(place, q.real);
        return;
    }
    float m[12];
    turn_rows(q.real.x, q.real.y, q.real.z, q.real.w, m);
    m[3] = place.x, m[7] = place.y, m[11] = place.z;
    float4* matrix = reinterpret_cast<float4*>(matrices) + (node * 3 + row - 1) * 3;
    for (int i = 0; i < 3; ++i) matrix[i] = make_float4(m[i * 4], m[i * 4 + 1], m[i * 4 + 2], m[i * 4 + 3]);

    q = blend_bones(relative + MAX_BONES * 8, ids, weights, per_node);
    turn_rows(q.real.x, q.real.y, q.real.z, q.real.w, m);
    float* input = node_inputs + node * 18 + (row - 1) * 6;
    store3(input, translation_of(q));
    input[3] = atan2f(m[9], m[10]);
    input[4] = atan2f(-m[8], hypotf(m[0], m[4]));
    input[5] = atan2f(m[4], m[0]);
}

// ---- vertices ----

__device__ __forceinline__ float team_sum(float value) {
    for (int step = TEAM / 2; step > 0; step /= 2) value += __shfl_xor_sync(WHOLE_WARP, value, step);
    return value;
}
__device__ __forceinline__ float4 team_sum4(float4 v) {
    return make_float4(team_sum(v.x), team_sum(v.y), team_sum(v.z), team_sum(v.w));
}

// Nodes to the deformed template (canonical) and the posed mesh, TEAM lanes a vertex. grid ceil(n_vertices TEAM / THREADS).
//   in   nodes float [n_nodes, 8]   link_starts int [n_vertices + 1], links (node, weight) by vertex
//        references int [n_vertices]: node whose sign each vertex takes   vertex_template float [n_vertices, 3]
//        moves float [n_nodes, 3, 4], or null without graph networks; then the following are null too:
//        starts int [n_vertices + 1], neighbours (row of mapped, weight), mapped float [rows, 16], bias float
//        [n_vertices, 4]: the delta network's last mean, m
//   out  vertices, canonical float [slots, n_vertices, 3]   quats float [slots, n_vertices, 8]
extern "C" __global__ void __launch_bounds__(THREADS) pose_vertices(
    int n_vertices, const float* __restrict__ nodes, const int* __restrict__ link_starts,
    const uint2* __restrict__ links, const int* __restrict__ references, const float* __restrict__ vertex_template,
    const float* __restrict__ moves, const int* __restrict__ starts, const uint2* __restrict__ neighbours,
    const float* __restrict__ mapped, const float* __restrict__ bias, const int* __restrict__ slot,
    float* __restrict__ vertices, float* __restrict__ canonical, float* __restrict__ quats) {
    begin_kernel();
    const int item = (blockIdx.x * blockDim.x + threadIdx.x) / TEAM, lane = threadIdx.x & (TEAM - 1);
    const int vertex = min(item, n_vertices - 1);
    const float4* node_quats = reinterpret_cast<const float4*>(nodes);
    const float4* node_moves = reinterpret_cast<const float4*>(moves);
    const float4* features = reinterpret_cast<const float4*>(mapped);
    const float4 reference = node_quats[references[vertex] * 2];
    const float4 zero = make_float4(0, 0, 0, 0);
    float3 place = load3(vertex_template + vertex * 3);

    // Blend the nodes of the vertex.
    DualQuat q = {zero, zero};
    float4 rows[3] = {zero, zero, zero}, displacement = zero;
    for (int i = link_starts[vertex] + lane; i < link_starts[vertex + 1]; i += TEAM) {
        int node = links[i].x;
        float weight = __uint_as_float(links[i].y);
        float4 real = node_quats[node * 2], dual = node_quats[node * 2 + 1];
        float signed_weight = dot4(real, reference) > 0.0f ? weight : -weight;
        add_scaled(q.real, real, signed_weight), add_scaled(q.dual, dual, signed_weight);
        if (moves)
            for (int r = 0; r < 3; ++r) add_scaled(rows[r], node_moves[node * 3 + r], weight);
    }
    q.real = team_sum4(q.real), q.dual = team_sum4(q.dual);
    q = normalised(q);

    // Deform the template: affine transforms of the nodes and displacement.
    if (moves) {
        for (int i = starts[vertex] + lane; i < starts[vertex + 1]; i += TEAM)
            add_scaled(displacement, features[neighbours[i].x * 4], __uint_as_float(neighbours[i].y));
        displacement = team_sum4(displacement);
        for (int r = 0; r < 3; ++r) rows[r] = team_sum4(rows[r]);
        float4 point = make_float4(place.x, place.y, place.z, 1.0f), own = reinterpret_cast<const float4*>(bias)[vertex];
        place = make_float3(dot4(rows[0], point) + displacement.x + own.x, dot4(rows[1], point) + displacement.y + own.y,
                            dot4(rows[2], point) + displacement.z + own.z);
    }
    if (lane != 0 || item >= n_vertices) return;

    // Pose it.
    const int index = slot[0] * n_vertices + vertex;
    store3(canonical + index * 3, place);
    store3(vertices + index * 3, add3(rotate(q.real, place), translation_of(q)));
    float4* out = reinterpret_cast<float4*>(quats) + index * 2;
    out[0] = q.real, out[1] = q.dual;
}

// Unit vertex normals: mean of the unit normals of a vertex's faces, TEAM lanes a vertex.
//   in   vertices float [slots, n_vertices, 3]   face_starts int [n_vertices + 1], corners (v0, v1, v2, -) by vertex
//   out  normals float [slots, n_vertices, 3]
extern "C" __global__ void __launch_bounds__(THREADS) vertex_normals(
    int n_vertices, const int* __restrict__ face_starts, const int4* __restrict__ corners,
    const int* __restrict__ slot, const float* __restrict__ vertices, float* __restrict__ normals) {
    begin_kernel();
    const int item = (blockIdx.x * blockDim.x + threadIdx.x) / TEAM, lane = threadIdx.x & (TEAM - 1);
    const int vertex = min(item, n_vertices - 1);
    const float* places = vertices + slot[0] * n_vertices * 3;
    const int begin = face_starts[vertex], end = face_starts[vertex + 1];
    float3 sum = make_float3(0, 0, 0);
    for (int i = begin + lane; i < end; i += TEAM) {
        int4 face = corners[i];
        float3 v0 = load3(places + face.x * 3), v1 = load3(places + face.y * 3), v2 = load3(places + face.z * 3);
        sum = add3(sum, unit3(cross3(subtract3(v2, v1), subtract3(v0, v1))));
    }
    sum = make_float3(team_sum(sum.x), team_sum(sum.y), team_sum(sum.z));
    if (lane != 0 || item >= n_vertices) return;
    store3(normals + (slot[0] * n_vertices + vertex) * 3, unit3(scale3(sum, 1.0f / max(end - begin, 1))));
}
