"""The stand-in for CUDA: what kernels' tests rely on."""

import numpy as np
import pytest
import torch
from cuda_on_cpu import Emulated, EmulatorError, emulate, needs_compiler

pytestmark = needs_compiler

PROGRAM = """
#define ALL 0xffffffffu
#define KERNEL(name) extern "C" __global__ void name

KERNEL(scale)(int n, float factor, const float* __restrict__ in, float* __restrict__ out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = factor * in[i];
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) indices(int* out) {
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int* at = out + 6 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
    at[0] = blockIdx.x, at[1] = blockIdx.y, at[2] = blockIdx.z;
    at[3] = threadIdx.x, at[4] = threadIdx.y, at[5] = threadIdx.z;
}

KERNEL(shuffles)(int argument, int width, const int* in, int* out) {
    int i = threadIdx.x;
    out[4 * i] = __shfl_sync(ALL, in[i], argument, width);
    out[4 * i + 1] = __shfl_xor_sync(ALL, in[i], argument, width);
    out[4 * i + 2] = __shfl_up_sync(ALL, in[i], argument, width);
    out[4 * i + 3] = __shfl_down_sync(ALL, in[i], argument, width);
}

KERNEL(wide_shuffles)(float* floats, unsigned long long* longs) {
    int i = threadIdx.x;
    floats[i] = __shfl_xor_sync(ALL, -1.5f * i, 1);
    longs[i] = __shfl_xor_sync(ALL, 0x100000000ull * i, 31);
}

KERNEL(votes)(const int* in, int* out) {
    int i = threadIdx.x, value = in[i];
    unsigned half = i & 16 ? 0xffff0000u : 0xffffu;
    int* at = out + 12 * i;
    at[0] = __ballot_sync(half, value > 0);
    at[1] = __any_sync(half, value > 4), at[2] = __all_sync(half, value > -5);
    at[3] = __match_any_sync(half, value);
    at[4] = __reduce_min_sync(half, value), at[5] = __reduce_max_sync(half, value);
    at[6] = __reduce_min_sync(half, (unsigned)value);
    at[7] = __reduce_max_sync(half, (unsigned)value);
    at[8] = __reduce_add_sync(half, value), at[9] = __reduce_and_sync(half, (unsigned)value);
    at[10] = __reduce_or_sync(half, (unsigned)value), at[11] = __popc(__activemask());
}

struct Stage {
    float4 rows[THREADS];
    int counts[3];
};

__device__ __forceinline__ void fill(Stage& stage, const float4* in) {
    stage.rows[threadIdx.x] = in[threadIdx.x];
}

template <int STEP>
__device__ __noinline__ float4 neighbour(const Stage& stage) {
    __shared__ float4 moved[THREADS];
    __syncthreads();
    moved[(threadIdx.x + STEP) % THREADS] = stage.rows[threadIdx.x];
    __syncthreads();
    return moved[threadIdx.x];
}

KERNEL(staged)(const float4* __restrict__ in, float4* __restrict__ out, int* counts) {
    __shared__ Stage stage;
    Stage& same = stage;
    int i = threadIdx.x;
    fill(same, in);
    out[i] = neighbour<1>(stage);
    float4 second = neighbour<2>(same);
    out[i].w += second.w;
    int count = __syncthreads_count(i % 3 == 0), any = __syncthreads_or(i == 5);
    int all = __syncthreads_and(i != 5);
    if (i == 0) counts[0] = count, counts[1] = any, counts[2] = all;
}

// Threads leave one by one; the rest still meet.
KERNEL(leaving)(int* out) {
    for (int round = 0; round < 8; round++) {
        if ((int)threadIdx.x < 4 * round) return;
        int here = __syncthreads_count(1);
        if (threadIdx.x == blockDim.x - 1) out[round] = here;
    }
}

KERNEL(race)(int* out) {
    __shared__ int last;
    last = threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) *out = last;
}

KERNEL(arrivals)(int* tickets, int* out) {
    for (int round = 0; round < 2; round++) {
        int ticket = atomicAdd(tickets, 1);
        out[ticket] = threadIdx.x;
        __syncwarp();
    }
}

KERNEL(unwritten)(float* out) {
    __shared__ float box[2];
    if (threadIdx.x == 1) box[1] = 2.0f;
    __syncthreads();
    out[threadIdx.x] = box[threadIdx.x];
}

KERNEL(atomics)(int* ints, unsigned long long* longs, float* floats) {
    int i = threadIdx.x;
    atomicAdd(ints, i);
    atomicMax(ints + 1, i);
    atomicMin(ints + 2, -i);
    atomicOr((unsigned*)ints + 3, 1u << i);
    if (atomicCAS(ints + 4, 0, i + 1) == 0) atomicExch(ints + 5, i);
    atomicAdd(longs, 1ull << 33);
    atomicMax(longs + 1, (unsigned long long)i << 32);
    atomicAdd(floats, 0.5f);
}

KERNEL(integers)(int* out) {
    int at = 0;
    out[at++] = __clz(0), out[at++] = __clz(1), out[at++] = __clzll(1);
    out[at++] = __ffs(0), out[at++] = __ffs(8), out[at++] = __popc(0xf0f0u);
    out[at++] = min(3, -2), out[at++] = min(3u, -2), out[at++] = max(2, 3), out[at++] = max(2u, 3);
    out[at++] = (int)min(2.5f, 3.5f), out[at++] = sizeof(float3), out[at++] = sizeof(ushort4);
    out[at++] = __float2int_rn(2.5f), out[at++] = __float2int_rn(3.5f);
    out[at++] = __float2int_rd(-1.5f);
    out[at++] = __float2int_ru(1.25f), out[at++] = __float2int_rz(-1.75f);
    out[at++] = __float2int_rn(3e9f);
    out[at++] = __float2int_rn(__int_as_float(0x7fc00000));
    out[at++] = __float_as_int(1.0f), out[at++] = warpSize;
}

KERNEL(floats)(const float* in, float* out) {
    float x = in[0];
    out[0] = __saturatef(x), out[1] = __saturatef(-x), out[2] = rsqrtf(x), out[3] = __expf(x);
    out[4] = __fdividef(1.0f, x), out[5] = __fmaf_rn(x, x, 1.0f);
    out[6] = exp2f(x), out[7] = __ldg(in + 1) * 0.5f;
}

KERNEL(defined)(float* out) { out[0] = A, out[1] = B - C, out[2] = D; }

// ---- wrong ones

KERNEL(two_barriers)() {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
}
KERNEL(mixed_barriers)() {
    if (threadIdx.x < 32) __syncthreads(); else __syncthreads_or(1);
}
KERNEL(half_of_a_warp)() {
    if (threadIdx.x < 16) __syncwarp();
    else __syncthreads();
}
KERNEL(not_in_mask)() { __syncwarp(1u); }
KERNEL(gone_before)() {
    if (threadIdx.x < 4) return;
    __ballot_sync(ALL, 1);
}
KERNEL(gone_after)() {
    if (threadIdx.x > 4) return;
    __ballot_sync(ALL, 1);
}
KERNEL(outside_mask)() {
    if (threadIdx.x < 16) __shfl_sync(0xffffu, 1, 20);
}
KERNEL(other_masks)() {
    if (threadIdx.x < 32) __any_sync(threadIdx.x < 16 ? ALL : 0xffff0000u, 1);
    __syncthreads();
}
KERNEL(other_intrinsics)() {
    if (threadIdx.x < 16) __any_sync(ALL, 1);
    else __all_sync(ALL, 1);
}
KERNEL(endless)(int* out) {
    volatile int* seen = out;
    while (*seen == 0) {}
}
KERNEL(by_value)(float4 value) {}
"""

WRONG = {
    "two_barriers": "threads of a block meet at different barriers: thread (0, 0, 0) at",
    "mixed_barriers": "thread (32, 0, 0) at __syncthreads_or (program.cu:",
    "half_of_a_warp": "every thread waits: 16 threads at __syncwarp with mask 0xffffffff (",
    "not_in_mask": "thread (1, 0, 0) is not in the mask at __syncwarp with mask 0x00000001",
    "gone_before": "names lane 0 at __ballot_sync with mask 0xffffffff",
    "gone_after": "names lane 5 at __ballot_sync",
    "outside_mask": "thread (0, 0, 0) reads lane 20, outside the mask, at __shfl_sync",
    "other_masks": "every thread waits: 16 threads at __any_sync with mask 0xffffffff",
    "other_intrinsics": "16 threads at __all_sync with mask 0xffffffff",
}

ORDERS = ("forward", "reverse", 0, 1)


@pytest.fixture(scope="module", params=["own switch", "ucontext"])
def program(request: pytest.FixtureRequest) -> Emulated:
    more = {"CUDA_ON_CPU_UCONTEXT": 1} if request.param == "ucontext" else {}
    return emulate(PROGRAM, {"THREADS": 64, "A": -1e-6, "B": 2, "C": -3, "D": True, **more})


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int32)


def test_threads_without_barriers(program: Emulated) -> None:
    given, out = torch.randn(1000), torch.zeros(1000)
    program.launch("scale", 8, 128, 1000, 2.5, given, out)
    assert torch.equal(out, 2.5 * given)


def test_indices(program: Emulated) -> None:
    grid, block = (3, 2, 2), (4, 3, 2)
    out = ints(12 * 24, 6)
    program.launch("indices", grid, block, out)
    blocks = [(x, y, z) for z in range(2) for y in range(2) for x in range(3)]
    threads = [(x, y, z) for z in range(2) for y in range(3) for x in range(4)]
    assert out.tolist() == [[*b, *t] for b in blocks for t in threads]


def shuffled(values: list[int], argument: int, width: int) -> list[list[int]]:
    """By CUDA's words: within groups of `width` lanes; beyond the group, a lane's own value."""
    rows = []
    for lane, own in enumerate(values):
        first = lane // width * width
        last = first + width - 1
        flipped, up, down = lane ^ argument, lane - argument, lane + argument
        rows.append(
            [
                values[first + argument % width],
                values[flipped] if flipped <= last else own,
                values[up] if up >= first else own,
                values[down] if down <= last else own,
            ]
        )
    return rows


@pytest.mark.parametrize("order", ORDERS)
def test_shuffles(program: Emulated, order: str | int) -> None:
    given = torch.randperm(32, dtype=torch.int32)
    for width in (32, 8):
        for argument in (0, 1, 5, 9, 31):
            out = ints(32, 4)
            program.launch("shuffles", 1, 32, argument, width, given, out, order=order)
            assert out.tolist() == shuffled(given.tolist(), argument, width)


def test_shuffles_of_floats_and_longs(program: Emulated) -> None:
    floats, longs = torch.zeros(32), torch.zeros(32, dtype=torch.int64)
    program.launch("wide_shuffles", 1, 32, floats, longs)
    lanes = torch.arange(32)
    assert torch.equal(floats, -1.5 * (lanes ^ 1))
    assert torch.equal(longs, (31 - lanes) << 32)


@pytest.mark.parametrize("order", ORDERS)
def test_votes_of_two_halves(program: Emulated, order: str | int) -> None:
    given = torch.randint(-5, 6, (32,), dtype=torch.int32)
    out = ints(32, 12)
    program.launch("votes", 1, 32, given, out, order=order)
    values, unsigned = given.numpy(), given.numpy().view(np.uint32)
    got = out.numpy().view(np.uint32)
    for lane in range(32):
        half = slice(lane // 16 * 16, lane // 16 * 16 + 16)

        def mask(which: np.ndarray, first: int = half.start) -> int:
            return sum(1 << (first + i) for i in np.flatnonzero(which).tolist())

        expected = [
            mask(values[half] > 0),
            int((values[half] > 4).any()),
            int((values[half] > -5).all()),
            mask(values[half] == values[lane]),
            values[half].min(),
            values[half].max(),
            unsigned[half].min(),
            unsigned[half].max(),
            values[half].sum(),
            np.bitwise_and.reduce(unsigned[half]),
            np.bitwise_or.reduce(unsigned[half]),
            1,
        ]
        assert got[lane].tolist() == [int(value) % 2**32 for value in expected]


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_and_barriers(program: Emulated, order: str | int) -> None:
    given, out, counts = torch.randn(64, 4), torch.zeros(64, 4), ints(3)
    program.launch("staged", 2, 64, given, out, counts, order=order)
    expected = given.roll(1, 0)
    expected[:, 3] += given.roll(2, 0)[:, 3]
    assert torch.equal(out, expected)
    assert counts.tolist() == [22, 1, 0]


@pytest.mark.parametrize("order", ORDERS)
def test_returned_threads_are_not_waited_for(program: Emulated, order: str | int) -> None:
    out = ints(8)
    program.launch("leaving", 1, 48, out, order=order)
    assert out.tolist() == [48 - 4 * i for i in range(8)]


def test_order_shows_a_race(program: Emulated) -> None:
    seen = set()
    for order in ("forward", "reverse", 0, 1, 2):
        out = ints(1)
        program.launch("race", 1, 64, out, order=order)
        seen.add(out.item())
    assert {0, 63} < seen


def test_a_seed_repeats_its_order(program: Emulated) -> None:
    def arrivals(order: str | int) -> list[int]:
        out = ints(128)
        program.launch("arrivals", 1, 64, ints(1), out, order=order)
        assert sorted(out.tolist()) == sorted([*range(64)] * 2)
        return out.tolist()

    first, second = [*range(32)], [*range(32, 64)]
    assert arrivals("forward") == first * 2 + second * 2
    assert arrivals("reverse") == second[::-1] * 2 + first[::-1] * 2
    assert arrivals(3) == arrivals(3)
    assert len({tuple(arrivals(order)) for order in ORDERS}) == 4


def test_unwritten_shared_memory_shows(program: Emulated) -> None:
    out = torch.zeros(2)
    for _ in range(2):
        program.launch("unwritten", 2, 2, out)
        assert out[0].isnan()
        assert out[1] == 2


def test_atomics(program: Emulated) -> None:
    integers, longs, floats = ints(6), torch.zeros(2, dtype=torch.int64), torch.zeros(1)
    program.launch("atomics", 1, 32, integers, longs, floats, order="reverse")
    assert integers.tolist() == [496, 31, -31, -1, 32, 31]
    assert longs.tolist() == [32 << 33, 31 << 32]
    assert floats.item() == 16


def test_integers(program: Emulated) -> None:
    out = ints(22)
    program.launch("integers", 1, 1, out)
    expected = [32, 31, 63, 0, 4, 8, -2, 3, 3, 3, 2, 12, 8]
    rounded = [2, 4, -2, 2, -1, 2**31 - 1, 0, 0x3F800000, 32]
    assert out.tolist() == expected + rounded


def test_floats(program: Emulated) -> None:
    tiny = 2e-38  # its half is denormal, and flushed
    out = torch.zeros(8)
    program.launch("floats", 1, 1, torch.tensor([4.0, tiny]), out)
    expected = torch.tensor([1, 0, 0.5, np.exp(4.0), 0.25, 17, 16, 0], dtype=torch.float32)
    assert torch.allclose(out, expected, rtol=1e-6, atol=0)
    assert torch.tensor(tiny) * 0.5 > 0  # only kernels flush


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", WRONG)
def test_undefined_use_is_an_error(program: Emulated, kernel: str, order: str | int) -> None:
    with pytest.raises(EmulatorError) as caught:
        program.launch(kernel, 1, 64, order=order)
    said = str(caught.value)
    assert said.startswith(f"kernel {kernel}, block (0, 0, 0): ")
    if order == "forward":
        assert WRONG[kernel] in said
    test_shared_memory_and_barriers(program, order)  # the next launch is none the worse


def test_lanes_that_the_block_lacks(program: Emulated) -> None:
    with pytest.raises(EmulatorError, match=r"names lane 8 at .*which the block does not have"):
        program.launch("gone_after", 1, 8)


def test_an_endless_kernel_ends(program: Emulated) -> None:
    with pytest.raises(EmulatorError, match=r"endless, block .*has not ended after 100 ms"):
        program.launch("endless", 1, 64, ints(1), limit_s=0.1)
    program.launch("endless", 1, 64, ints(1) + 1)


def test_arguments_are_checked(program: Emulated) -> None:
    given, out = torch.zeros(8), torch.zeros(8)
    for bad in ((8, 2, given, out), (8.0, 2.0, given, out), (8, 2.0, 5, out), (8, 2.0, given)):
        with pytest.raises(TypeError, match="scale"):
            program.launch("scale", 1, 32, *bad)
    with pytest.raises(TypeError, match="no launch can fill"):
        program.launch("by_value", 1, 1, given)
    with pytest.raises(ValueError, match="argument 2 of scale must be a contiguous CPU tensor"):
        program.launch("scale", 1, 32, 4, 2.0, given[::2], out)
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        program.launch("staged", 1, 64, torch.zeros(300)[1:], out, None)
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        program.launch("scale", 1, 32, 2**31, 2.0, given, out)
    with pytest.raises(ValueError, match="no kernel nothing"):
        program.launch("nothing", 1, 32)


def test_sizes_are_checked(program: Emulated) -> None:
    out = ints(6)
    for grid, block in ((1, 65), (1, 0), (-1, 1), ((1, 70000), 1), ((1, 1, 1, 1), 1)):
        with pytest.raises(ValueError, match="block"):
            program.launch("indices", grid, block, out)
    with pytest.raises(ValueError, match="order"):
        program.launch("indices", 1, 1, out, order="sideways")
    out += 1
    program.launch("indices", (3, 0), 1, out)
    assert out.tolist() == [1] * 6


def test_defines(program: Emulated) -> None:
    out = torch.zeros(3)
    program.launch("defined", 1, 1, out)
    assert torch.equal(out, torch.tensor([-1e-6, 5, 1]))
    with pytest.raises(ValueError, match="finite"):
        emulate(PROGRAM, {"A": float("nan")})


def test_compiler_errors() -> None:
    with pytest.raises(EmulatorError, match=r"my\.cu:1:.*WIDTH"):
        emulate('#line 1 "my.cu"\nextern "C" __global__ void put(int* out) { *out = WIDTH; }')
    with pytest.raises(EmulatorError, match="no kernel"):
        emulate("__device__ int nothing() { return 1; }")
