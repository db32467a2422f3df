// Simulate cloth: one block a simulation, any number of frames in one launch. Meaning, order of work: cloth/dynamics.py.

enum Mode { STEP, SETTLE };

// What all simulations of a launch share.
struct Cloth {
    int n_points, n_colours, n_capsules, n_spheres, passes;
    const int2* links;
    const float2* lengths;  // at rest, m; 1 for a link across an edge
    const int* anchors;
    const float* room;
    const float* radii;
    const int2* capsules;
};

// One simulation: factors of a tick, and its points.
struct Simulation {
    const float2* pulls;  // share of the way to the goal, share of velocity kept
    float air, gravity, hang, margin, girth, friction, floor, wind[3];
    float shares[2][3];  // share of an excess by the moving ends, less one: stretched, compressed, across an edge
    float* velocities;
    float* before;
    float* carried;  // share of its weight that a point carries
    uint2* near;     // capsules within reach, as bits
};

// Way of a block of ticks between two poses.
struct Way {
    const float *goals0, *goals1, *downs0, *downs1, *spheres0, *spheres1;
    float3 shift;  // of the first pose
    int ticks;
    float first_share, tick_share, seconds, damping;
};

// Capsules at a tick, and colours.
struct Posed {
    float spheres[MAX_SPHERES * 3], earlier[MAX_SPHERES * 3];
    float4 bounds[MAX_CAPSULES];
    float4 starts[MAX_CAPSULES];  // first centre, its radius
    float4 axes[MAX_CAPSULES];    // to the second centre; how much more its radius is
    float inverses[MAX_CAPSULES];  // of the axes' squared lengths
    int colours[MAX_COLOURS + 1];
};

__device__ __forceinline__ float between(float first, float second, float t) { return first + t * (second - first); }

__device__ __forceinline__ float along(float3 vector, int d) { return d == 0 ? vector.x : d == 1 ? vector.y : vector.z; }

// Spheres about each capsule that hold what a point may touch within a block of ticks.
__device__ __forceinline__ void bound_capsules(const Cloth& cloth, const Way& way, Posed& posed, float span) {
    for (int c = threadIdx.x; c < cloth.n_capsules; c += blockDim.x) {
        const int2 ends = cloth.capsules[c];
        float middle[3], square = 0, far = 0;
        for (int d = 0; d < 3; ++d) {
            const int a = ends.x * 3 + d, b = ends.y * 3 + d;
            const float move_a = way.spheres1[a] - (way.spheres0[a] + along(way.shift, d));
            const float move_b = way.spheres1[b] - (way.spheres0[b] + along(way.shift, d));
            const float axis = posed.spheres[b] - posed.spheres[a];
            middle[d] = 0.5f * (posed.spheres[a] + posed.spheres[b]);
            square += axis * axis;
            far += fmaxf(move_a * move_a, move_b * move_b);
        }
        const float radius = fmaxf(cloth.radii[ends.x], cloth.radii[ends.y]);
        const float reach = 0.5f * sqrtf(square) + radius + NEAR_M + sqrtf(far) * span / way.seconds;
        posed.bounds[c] = make_float4(middle[0], middle[1], middle[2], reach);
    }
}

// For a block of ticks: capsules near a point, and the share of its weight that it carries.
__device__ __forceinline__ void look_around(
    const Cloth& cloth, const Simulation& own, const float4* points, const Way& way, const Posed& posed, float span) {
    for (int i = threadIdx.x; i < cloth.n_points; i += blockDim.x) {
        const float4 p = points[i];
        uint2 bits = make_uint2(0, 0);
        if (p.w > 0) {
            const float* v = own.velocities + i * 3;
            const float way_of_point = sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) * span;
            for (int c = 0, count = 0; c < cloth.n_capsules && count < CANDIDATES; ++c) {
                const float4 bound = posed.bounds[c];
                const float dx = p.x - bound.x, dy = p.y - bound.y, dz = p.z - bound.z, reach = bound.w + way_of_point;
                if (dx * dx + dy * dy + dz * dz >= reach * reach) continue;
                if (c < 32) bits.x |= 1u << c;
                else bits.y |= 1u << (c - 32);
                ++count;
            }
        }
        own.near[i] = bits;
        const int a = cloth.anchors[i];
        float carried = own.hang;
        if (a != i) {
            const float4 q = points[a];
            const float now[3] = {p.x - q.x, p.y - q.y, p.z - q.z};
            float dot = 0, squares[2] = {1e-12f, 1e-12f};
            for (int d = 0; d < 3; ++d) {
                const float rest = way.goals1[i * 3 + d] - way.goals1[a * 3 + d];
                dot += now[d] * rest, squares[0] += now[d] * now[d], squares[1] += rest * rest;
            }
            const float cosine = dot / sqrtf(squares[0] * squares[1]);
            carried *= fminf(1.0f, fmaxf(0.0f, (cosine - TURNED) / (UPRIGHT - TURNED)));
        }
        own.carried[i] = carried;
    }
}

// Move the capsules to a tick.
__device__ __forceinline__ void pose_capsules(const Cloth& cloth, const Way& way, Posed& posed, float t) {
    for (int k = threadIdx.x; k < cloth.n_spheres * 3; k += blockDim.x) {
        posed.earlier[k] = posed.spheres[k];
        posed.spheres[k] = between(way.spheres0[k] + along(way.shift, k % 3), way.spheres1[k], t);
    }
    // From the poses again, so that no thread waits for another.
    for (int c = threadIdx.x; c < cloth.n_capsules; c += blockDim.x) {
        const int2 ends = cloth.capsules[c];
        float a[3], e[3];
        for (int d = 0; d < 3; ++d) {
            const int first = ends.x * 3 + d, second = ends.y * 3 + d;
            const float shift = along(way.shift, d);
            a[d] = between(way.spheres0[first] + shift, way.spheres1[first], t);
            e[d] = between(way.spheres0[second] + shift, way.spheres1[second], t) - a[d];
        }
        posed.starts[c] = make_float4(a[0], a[1], a[2], cloth.radii[ends.x]);
        posed.axes[c] = make_float4(e[0], e[1], e[2], cloth.radii[ends.y] - cloth.radii[ends.x]);
        posed.inverses[c] = 1.0f / (e[0] * e[0] + e[1] * e[1] + e[2] * e[2] + 1e-9f);
    }
}

// Damped velocity, weight, pull to the skinned place.
__device__ __forceinline__ void predict(
    const Cloth& cloth, const Simulation& own, float4* points, const Way& way, float rate, float t) {
    for (int i = threadIdx.x; i < cloth.n_points; i += blockDim.x) {
        const float4 p = points[i];
        const float x[3] = {p.x, p.y, p.z};
        const float2 pull = own.pulls[i];
        const float carried = own.gravity * own.carried[i];
        float next[3];
        for (int d = 0; d < 3; ++d) {
            const int at = i * 3 + d;
            const float start = way.goals0[at] + along(way.shift, d), move = way.goals1[at] - start;
            const float goal = start + t * move, self = move * rate;
            const float weight = -carried * between(way.downs0[at], way.downs1[at], t) - (d == 1 ? own.gravity : 0.0f);
            float speed = self + pull.y * (own.velocities[at] - self);
            speed = own.wind[d] + own.air * (speed - own.wind[d]) + TICK_S * weight;
            const float y = x[d] + TICK_S * speed;
            own.before[at] = x[d];
            next[d] = p.w == 0 ? goal : y + pull.x * (goal - y);
        }
        points[i] = make_float4(next[0], next[1], next[2], p.w);
    }
}

__device__ __forceinline__ void restore_length(float4* points, const float (&shares)[2][3], int2 link, float2 length) {
    float4 a = points[link.x], b = points[link.y];
    const float dx = b.x - a.x, dy = b.y - a.y, dz = b.z - a.z;
    const float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + 1e-18f), ratio = length.x * inverse;
    const bool are_both = a.w > 0 && b.w > 0;
    const float stretched = are_both ? shares[1][0] : shares[0][0], compressed = are_both ? shares[1][1] : shares[0][1];
    const float bent = are_both ? shares[1][2] : shares[0][2];
    const float push = (1.0f - ratio) * (length.y > 0 ? bent : ratio < 1.0f ? stretched : compressed);
    const float first = a.w * push, second = b.w * push;
    a.x += first * dx, a.y += first * dy, a.z += first * dz;
    b.x -= second * dx, b.y -= second * dy, b.z -= second * dz;
    points[link.x] = a, points[link.y] = b;
}

// Colour by colour; ends in a barrier.
__device__ __forceinline__ void restore_lengths(
    const Cloth& cloth, const float (&shares)[2][3], float4* points, const Posed& posed) {
    const int2* __restrict__ links = cloth.links;
    const float2* __restrict__ lengths = cloth.lengths;
    const int thread = threadIdx.x, n_colours = cloth.n_colours, n_links = posed.colours[n_colours];
    if (!n_links) return;
    for (int pass = 0; pass < cloth.passes; ++pass) {
        int begin = 0, end = posed.colours[1];
        // The links of the next colour are read before the barrier.
        int k = min(thread, n_links - 1);
        int2 link = __ldg(links + k);
        float2 length = __ldg(lengths + k);
        for (int c = 0; c < n_colours; ++c) {
            const int next_end = posed.colours[min(c + 2, n_colours)];
            k = min(end + thread, n_links - 1);
            const int2 next_link = __ldg(links + k);
            const float2 next_length = __ldg(lengths + k);
            if (begin + thread < end) restore_length(points, shares, link, length);
            for (k = begin + thread + blockDim.x; k < end; k += blockDim.x)
                restore_length(points, shares, __ldg(links + k), __ldg(lengths + k));
            __syncthreads();
            begin = end, end = next_end, link = next_link, length = next_length;
        }
    }
}

// Out of one capsule, with friction.
__device__ __forceinline__ void push_out(
    const Cloth& cloth, const Simulation& own, const Posed& posed, int i, int c, float* x, const float* before) {
    const float4 start = posed.starts[c], axis = posed.axes[c];
    const float px = x[0] - start.x, py = x[1] - start.y, pz = x[2] - start.z;
    const float t = __saturatef((px * axis.x + py * axis.y + pz * axis.z) * posed.inverses[c]);
    const float dx = px - t * axis.x, dy = py - t * axis.y, dz = pz - t * axis.z;
    const float radius = start.w + t * axis.w, square = dx * dx + dy * dy + dz * dz;
    const float most = own.girth * radius + own.margin;
    if (most <= 0 || square >= most * most) return;
    // Never nearer than the margin, but where the template is nearer: as near as that.
    const float clearance = fminf(radius + cloth.room[i * cloth.n_capsules + c] - SLACK_M, most);
    if (clearance <= 0 || square >= clearance * clearance) return;
    const float away = sqrtf(square) + 1e-9f, depth = clearance - away, inverse = 1.0f / away;
    const float n[3] = {dx * inverse, dy * inverse, dz * inverse};
    // Move relative to the collider's surface, along it.
    const int2 ends = cloth.capsules[c];
    float u[3], normal = 0, slide = 0;
    for (int d = 0; d < 3; ++d) {
        const int a = ends.x * 3 + d, b = ends.y * 3 + d;
        const float first = posed.spheres[a] - posed.earlier[a], second = posed.spheres[b] - posed.earlier[b];
        u[d] = x[d] - before[d] - between(first, second, t);
        normal += u[d] * n[d];
    }
    for (int d = 0; d < 3; ++d) {
        u[d] -= normal * n[d];
        slide += u[d] * u[d];
    }
    const float stop = fminf(1.0f, own.friction * depth / (sqrtf(slide) + 1e-9f));
    for (int d = 0; d < 3; ++d) x[d] += depth * n[d] - stop * u[d];
}

// Colliders and floor; then velocities from the moves, bounded relative to the goals'.
__device__ __forceinline__ void collide(
    const Cloth& cloth, const Simulation& own, float4* points, const Way& way, float rate, const Posed& posed) {
    for (int i = threadIdx.x; i < cloth.n_points; i += blockDim.x) {
        const float4 p = points[i];
        const float before[3] = {own.before[i * 3], own.before[i * 3 + 1], own.before[i * 3 + 2]};
        float x[3] = {p.x, p.y, p.z}, v[3], self[3], square = 0;
        if (p.w > 0) {
            const uint2 near = own.near[i];
            for (unsigned bits = near.x; bits; bits &= bits - 1)
                push_out(cloth, own, posed, i, __ffs(bits) - 1, x, before);
            for (unsigned bits = near.y; bits; bits &= bits - 1)
                push_out(cloth, own, posed, i, __ffs(bits) + 31, x, before);
            x[1] = fmaxf(x[1], own.floor);
            points[i] = make_float4(x[0], x[1], x[2], p.w);
        }
        for (int d = 0; d < 3; ++d) {
            const int at = i * 3 + d;
            self[d] = (way.goals1[at] - (way.goals0[at] + along(way.shift, d))) * rate;
            v[d] = (x[d] - before[d]) * (1.0f / TICK_S) * way.damping;
            square += (v[d] - self[d]) * (v[d] - self[d]);
        }
        const float share = square > MAX_SPEED * MAX_SPEED ? MAX_SPEED / sqrtf(square) : 1.0f;
        for (int d = 0; d < 3; ++d) own.velocities[i * 3 + d] = share < 1 ? self[d] + share * (v[d] - self[d]) : v[d];
    }
}

__device__ __forceinline__ void run_ticks(
    const Cloth& cloth, const Simulation& own, float4* points, const Way& way, Posed& posed) {
    const float rate = 1.0f / way.seconds;
    float shares[2][3];
    for (int k = 0; k < 6; ++k) shares[k / 3][k % 3] = own.shares[k / 3][k % 3];
    __syncthreads();
    pose_capsules(cloth, way, posed, way.first_share - way.tick_share);
    __syncthreads();
    for (int tick = 0; tick < way.ticks; ++tick) {
        const float t = way.first_share + tick * way.tick_share;
        if (tick % BLOCK == 0) {
            const float span = min(BLOCK, way.ticks - tick) * TICK_S;
            bound_capsules(cloth, way, posed, span);
            __syncthreads();
            look_around(cloth, own, points, way, posed, span);
            __syncthreads();
        }
        pose_capsules(cloth, way, posed, t);
        predict(cloth, own, points, way, rate, t);
        __syncthreads();
        restore_lengths(cloth, shares, points, posed);
        collide(cloth, own, points, way, rate, posed);
        __syncthreads();
    }
}

__device__ __forceinline__ void keep_places(int n_points, const float4* points, float* kept) {
    for (int i = threadIdx.x; i < n_points; i += blockDim.x) {
        const float4 p = points[i];
        kept[i * 3] = p.x, kept[i * 3 + 1] = p.y, kept[i * 3 + 2] = p.z;
    }
}

// To the next pose; or to rest in it, in blocks of ticks: `settled` keeps the places at the start of one, then the last.
__device__ __forceinline__ void move_to(
    const Cloth& cloth, const Simulation& own, float4* points, Way way, Posed& posed, bool settles, bool goes_on,
    float* settled) {
    if (settles) {
        way.goals0 = way.goals1, way.downs0 = way.downs1, way.spheres0 = way.spheres1;
        way.shift = make_float3(0, 0, 0);
        way.ticks = SETTLE_BLOCK, way.seconds = SETTLE_BLOCK * TICK_S, way.damping = SETTLE_DAMPING;
        way.first_share = way.tick_share = 1.0f / SETTLE_BLOCK;
    }
    for (int i = threadIdx.x; i < cloth.n_points && !goes_on; i += blockDim.x) {
        const float4 p = points[i];
        const float* goal = way.goals1 + i * 3;
        points[i] = settles ? make_float4(goal[0], goal[1], goal[2], p.w)
                                : make_float4(p.x + way.shift.x, p.y + way.shift.y, p.z + way.shift.z, p.w);
        for (int d = 0; d < 3 && settles; ++d) own.velocities[i * 3 + d] = 0;
    }
    for (int round = settles && !goes_on ? SETTLE_TICKS / SETTLE_BLOCK : 1; round > 0; --round) {
        if (settles) keep_places(cloth.n_points, points, settled);
        run_ticks(cloth, own, points, way, posed);
        if (!settles) return;
        bool has_moved = false;
        for (int i = threadIdx.x; i < cloth.n_points; i += blockDim.x) {
            const float4 p = points[i];
            const float* q = settled + i * 3;
            has_moved |= fmaxf(fabsf(p.x - q[0]), fmaxf(fabsf(p.y - q[1]), fabsf(p.z - q[2]))) >= SETTLED_M;
        }
        if (!__syncthreads_or(has_moved)) break;
    }
    keep_places(cloth.n_points, points, settled);
    for (int i = threadIdx.x; i < cloth.n_points * 3; i += blockDim.x) own.velocities[i] = 0;
    __syncthreads();
}

// Places as they are shown: extrapolated to the frame; held points where the skinning has them. Then the linings.
__device__ __forceinline__ void show(
    const Cloth& cloth, const Simulation& own, const float4* points, const float* goals, float since, int n_followers,
    const int* corners, const float4* weights, float* out) {
    for (int i = threadIdx.x; i < cloth.n_points; i += blockDim.x) {
        const float4 p = points[i];
        const float x[3] = {p.x, p.y, p.z};
        for (int d = 0; d < 3; ++d) {
            const int at = i * 3 + d;
            const bool is_ahead = since > 0;
            out[at] = is_ahead && p.w == 0 ? goals[at] : is_ahead ? x[d] + since * own.velocities[at] : x[d];
        }
    }
    if (!n_followers) return;
    __syncthreads();
    for (int q = threadIdx.x; q < n_followers; q += blockDim.x) {
        const float *a = out + corners[q * 3] * 3, *b = out + corners[q * 3 + 1] * 3, *c = out + corners[q * 3 + 2] * 3;
        const float4 w = weights[q];
        float u[3], v[3];
        for (int d = 0; d < 3; ++d) u[d] = b[d] - a[d], v[d] = c[d] - a[d];
        const float n[3] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
        const float length = fmaxf(sqrtf(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]), LEAST_NORMAL);
        for (int d = 0; d < 3; ++d)
            out[(cloth.n_points + q) * 3 + d] = w.x * a[d] + w.y * b[d] + w.z * c[d] + w.w * (n[d] / length);
    }
}

// runs: first step, number of steps, first row of `out`, 1 if the first step goes on from given places.
// rows: earlier pose, pose, ticks, row of `out` after the run's first or -1. times: share of the way at the first tick,
// share of a tick, seconds, time from the last tick to the frame. shifts: of the earlier pose and the cloth; mode.
extern "C" __global__ void __launch_bounds__(THREADS, 1) simulate_cloth(
    int n_points, int n_colours, int n_capsules, int n_spheres, int n_followers, int passes, const int2* links,
    const float2* lengths, const int* colours, const int* anchors, const float* masses, const float* room,
    const float* radii, const int2* capsules, const int* corners, const float4* weights, const int4* runs,
    const float* factors, const float2* pulls, const int4* rows, const float4* times, const float4* shifts,
    const float* goals, const float* downs, const float* spheres, float* places, float* velocities, float* settled,
    float* before, float* carried, uint2* near, float4* large, float* out) {
    begin_kernel();
    __shared__ Posed posed;
    __shared__ Simulation own;
    const Cloth cloth = {n_points, n_colours, n_capsules, n_spheres, passes, links,
                         lengths,  anchors,   room,       radii,     capsules};
    const int4 run = runs[blockIdx.x];
    const int first = blockIdx.x * n_points;
    // Place, inverse mass.
#if IS_LARGE
    float4* points = large + first;
#else
    __shared__ float4 points[MAX_POINTS];
#endif
    for (int c = threadIdx.x; c <= n_colours; c += blockDim.x) posed.colours[c] = colours[c];
    if (threadIdx.x == 0) {
        const float* factor = factors + blockIdx.x * FACTORS;
        own.pulls = pulls + first;
        own.air = factor[0], own.gravity = factor[1], own.hang = factor[2], own.margin = factor[3];
        own.girth = factor[4], own.friction = factor[5], own.floor = factor[6];
        for (int d = 0; d < 3; ++d) {
            own.wind[d] = factor[7 + d];
            for (int ends = 0; ends < 2; ++ends) own.shares[ends][d] = 1.0f / (1 + ends + factor[10 + d]);
        }
        own.velocities = velocities + first * 3, own.before = before + first * 3;
        own.carried = carried + first, own.near = near + first;
    }
    __syncthreads();
    float *state = places + first * 3, *rest = settled + first * 3;
    for (int i = threadIdx.x; i < n_points; i += blockDim.x)
        points[i] = make_float4(state[i * 3], state[i * 3 + 1], state[i * 3 + 2], masses[i]);

    for (int k = 0; k < run.y; ++k) {
        const int4 row = rows[run.x + k];
        const float4 time = times[run.x + k], shift = shifts[run.x + k];
        const Way way = {goals + row.x * n_points * 3,   goals + row.y * n_points * 3,
                         downs + row.x * n_points * 3,   downs + row.y * n_points * 3,
                         spheres + row.x * n_spheres * 3, spheres + row.y * n_spheres * 3,
                         make_float3(shift.x, shift.y, shift.z), row.z, time.x, time.y, time.z, 1.0f};
        const bool settles = (int)shift.w == SETTLE;
        move_to(cloth, own, points, way, posed, settles, settles && k == 0 && run.w == 1, rest);
        if (row.w >= 0)
            show(cloth, own, points, way.goals1, time.w, n_followers, corners, weights,
                 out + (size_t)(run.z + row.w) * (n_points + n_followers) * 3);
    }
    keep_places(n_points, points, state);
}
