// Compile CUDA kernels as C++ and run them on the CPU (cuda_on_cpu.py), so that they are tested without a GPU.
//
// Blocks run one after another. Each thread of a block is a fiber with a stack of its own; it runs until it waits
// (__syncthreads, a warp intrinsic) or returns, then another one goes on. A kernel that never waits needs one fiber.
// What CUDA leaves undefined ends the launch with a sentence, and so does a block in which every thread waits.
// Denormals are flushed, as NVRTC does with --ftz=true. Shared memory holds 0xff bytes when a block begins, so that
// reading what nobody wrote shows.
//
// Stricter than CUDA: a mask must not name lanes that have returned or that the block does not have, and all threads
// of a block must meet at the same __syncthreads of the text.
// Not caught: races that the chosen order of threads hides, accesses outside a tensor, casts of floats that do not
// fit an integer (CUDA saturates, C++ leaves them undefined).

#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// CUDA_ON_CPU_UCONTEXT: change stacks by the C library, for other processors and to test that.
#if !defined(__x86_64__) && !defined(__aarch64__)
#define CUDA_ON_CPU_UCONTEXT
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
#include <ucontext.h>
#endif

// NVRTC knows none of these.
#undef INFINITY
#undef NAN
#undef HUGE_VALF

// ---- types

#define CUDA_ON_CPU_VECTORS(type, scalar, align2, align4)                                                      \
    struct alignas(align2) type##2 { scalar x, y; };                                                           \
    struct type##3 { scalar x, y, z; };                                                                        \
    struct alignas(align4) type##4 { scalar x, y, z, w; };                                                     \
    static inline type##2 make_##type##2(scalar x, scalar y) { return {x, y}; }                                \
    static inline type##3 make_##type##3(scalar x, scalar y, scalar z) { return {x, y, z}; }                   \
    static inline type##4 make_##type##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

CUDA_ON_CPU_VECTORS(char, signed char, 2, 4)
CUDA_ON_CPU_VECTORS(uchar, unsigned char, 2, 4)
CUDA_ON_CPU_VECTORS(short, short, 4, 8)
CUDA_ON_CPU_VECTORS(ushort, unsigned short, 4, 8)
CUDA_ON_CPU_VECTORS(int, int, 8, 16)
CUDA_ON_CPU_VECTORS(uint, unsigned, 8, 16)
CUDA_ON_CPU_VECTORS(float, float, 8, 16)
CUDA_ON_CPU_VECTORS(double, double, 16, 16)

struct dim3 {
    unsigned x, y, z;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

// ---- fibers and what they wait for

namespace cuda_on_cpu {

const int MAX_THREADS = 1024;
const size_t STACK_BYTES = 256 * 1024, GUARD_BYTES = 64 * 1024;

[[noreturn]] static void fail(const std::string& what);
static void fiber_main();

#ifndef CUDA_ON_CPU_UCONTEXT

// Saves what a call must keep on the old stack, changes stacks, restores it from the new one.
void switch_stack(void** save, void* load) asm("cuda_on_cpu_switch_stack");

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
cuda_on_cpu_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
const int SAVED_WORDS = 8, ENTRY_WORD = 6;  // six registers, where to return, and one word to align
#else
asm(R"(
.text
.p2align 4
cuda_on_cpu_switch_stack:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
const int SAVED_WORDS = 20, ENTRY_WORD = 11;
#endif

struct Context {
    void* top = nullptr;

    void begin(char* stack, size_t bytes) {
        void** words = (void**)(stack + bytes) - SAVED_WORDS;
        memset(words, 0, SAVED_WORDS * sizeof(void*));
        words[ENTRY_WORD] = (void*)fiber_main;
        top = words;
    }
    void leave_for(Context& other) { switch_stack(&top, other.top); }
};

#else

struct Context {
    ucontext_t state;

    void begin(char* stack, size_t bytes) {
        getcontext(&state);
        state.uc_stack.ss_sp = stack;
        state.uc_stack.ss_size = bytes;
        state.uc_link = nullptr;
        makecontext(&state, fiber_main, 0);
    }
    void leave_for(Context& other) { swapcontext(&state, &other.state); }
};

#endif

struct Fiber {
    Context context;
    char* stack;
};

enum Operation {
    BLOCK_SYNC, BLOCK_OR, BLOCK_AND, BLOCK_COUNT,
    WARP_SYNC, SHUFFLE, SHUFFLE_XOR, SHUFFLE_UP, SHUFFLE_DOWN, BALLOT, ANY, ALL, MATCH_ANY,
    REDUCE_MIN_INT, REDUCE_MIN, REDUCE_MAX_INT, REDUCE_MAX, REDUCE_ADD, REDUCE_AND, REDUCE_OR, REDUCE_XOR
};
static const char* const NAMES[] = {
    "__syncthreads", "__syncthreads_or", "__syncthreads_and", "__syncthreads_count",
    "__syncwarp", "__shfl_sync", "__shfl_xor_sync", "__shfl_up_sync", "__shfl_down_sync",
    "__ballot_sync", "__any_sync", "__all_sync", "__match_any_sync",
    "__reduce_min_sync(int)", "__reduce_min_sync(unsigned)", "__reduce_max_sync(int)", "__reduce_max_sync(unsigned)",
    "__reduce_add_sync", "__reduce_and_sync", "__reduce_or_sync", "__reduce_xor_sync"};

// Of a call in the program's text.
struct Place {
    const char* file;
    int line;

    bool operator==(const Place& other) const { return line == other.line && !strcmp(file, other.file); }
};

enum State { NEW, READY, WAITS, EXITED };

struct Thread {
    Fiber* fiber;
    State state;
    Operation operation;  // what it waits for, or waited for last
    unsigned mask;        // of lanes; zero at barriers of the block
    Place place;
    int source;           // the lane whose value it wants
    uint64_t value;       // brought to the operation, then taken from it
    int rank;             // in its block
    uint3 index;
};

typedef void (*Body)(void** arguments);

// One launch.
static struct {
    Body body;
    void** arguments;
    const char* kernel;
    int64_t order;                        // 0: rising, 1: falling, else a seed
    std::string error;

    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> idle;
    Context outside;

    Thread threads[MAX_THREADS];
    Thread* current;
    Thread* first_at_barrier;
    int count, exited, at_barrier, next_new;
    unsigned waiting[MAX_THREADS / 32];   // lanes of each warp at a warp intrinsic
    int start_order[MAX_THREADS];
    Thread* ready[MAX_THREADS];           // a ring
    int ready_first, ready_count;
    uint64_t random;

    volatile sig_atomic_t on_fiber, late;
} run;

static std::string triple(unsigned x, unsigned y, unsigned z) {
    return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

static std::string hex(unsigned mask) {
    char text[16];
    snprintf(text, sizeof text, "0x%08x", mask);
    return text;
}

static std::string several(int count, const char* one, const char* many) {
    return std::to_string(count) + " " + (count == 1 ? one : many);
}

static std::string where(const Thread& thread) {
    std::string text = NAMES[thread.operation];
    if (thread.mask) text += " with mask " + hex(thread.mask);
    return text + " (" + thread.place.file + ":" + std::to_string(thread.place.line) + ")";
}

static std::string name(const Thread& thread) {
    return "thread " + triple(thread.index.x, thread.index.y, thread.index.z);
}

[[noreturn]] static void abandon_block() {
    run.on_fiber = 0;
    Context abandoned;
    abandoned.leave_for(run.outside);
    __builtin_unreachable();
}

static void note_error(const std::string& what) {
    run.error = std::string("kernel ") + run.kernel + ", block " + triple(blockIdx.x, blockIdx.y, blockIdx.z) + ": " +
                what;
}

[[noreturn]] static void fail(const std::string& what) {
    note_error(what);
    abandon_block();
}

static unsigned random_below(unsigned end) {
    run.random = run.random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(((run.random >> 32) * end) >> 32);
}

static bool seeded() { return run.order > 1; }

static Fiber* idle_fiber() {
    if (run.idle.empty()) {
        void* memory = mmap(
            nullptr, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("no memory for the stack of another thread");
        mprotect(memory, GUARD_BYTES, PROT_NONE);
        run.fibers.emplace_back(new Fiber);
        Fiber* fiber = run.fibers.back().get();
        fiber->stack = (char*)memory + GUARD_BYTES;
        fiber->context.begin(fiber->stack, STACK_BYTES);
        return fiber;
    }
    Fiber* fiber = run.idle.back();
    run.idle.pop_back();
    return fiber;
}

static void make_ready(Thread& thread) {
    thread.state = READY;
    run.ready[(run.ready_first + run.ready_count++) % MAX_THREADS] = &thread;
}

// The next to go on, or null. Those that have begun go first, so that a warp keeps its lead over the next one.
static Thread* next_thread() {
    int fresh = run.next_new < run.count ? 1 : 0;
    if (run.ready_count + fresh == 0) return nullptr;
    int pick = seeded() ? (int)random_below(run.ready_count + fresh) : 0;
    if (pick >= run.ready_count) return &run.threads[run.start_order[run.next_new++]];
    Thread*& first = run.ready[run.ready_first];
    std::swap(first, run.ready[(run.ready_first + pick) % MAX_THREADS]);
    run.ready_first = (run.ready_first + 1) % MAX_THREADS;
    run.ready_count--;
    return first;
}

[[noreturn]] static void fail_deadlock() {
    std::string text = "every thread waits:";
    std::vector<const Thread*> told;
    for (int i = 0; i < run.count; i++) {
        const Thread& thread = run.threads[i];
        if (thread.state != WAITS) continue;
        auto same = [&](const Thread& other) {
            return other.state == WAITS && other.operation == thread.operation && other.mask == thread.mask &&
                   other.place == thread.place;
        };
        bool known = false;
        for (const Thread* other : told) known |= same(*other);
        if (known) continue;
        told.push_back(&thread);
        int together = 0;
        for (int j = 0; j < run.count; j++) together += same(run.threads[j]);
        if (told.size() > 1) text += ";";
        if (told.size() > 6) {
            text += " and more";
            break;
        }
        text += " " + several(together, "thread", "threads") + " at " + where(thread) + ", first " + name(thread);
    }
    if (run.exited > 0) text += "; " + several(run.exited, "thread has", "threads have") + " returned";
    fail(text);
}

static void go_on_as(Thread& thread) {
    run.current = &thread;
    threadIdx = thread.index;
}

// Let others run until the current thread is ready again.
static void wait_turn() {
    Thread& self = *run.current;
    Thread* next = next_thread();
    if (!next) fail_deadlock();
    go_on_as(*next);
    if (next == &self) return;
    if (!next->fiber) next->fiber = idle_fiber();
    self.fiber->context.leave_for(next->fiber->context);
}

static void release_barrier() {
    uint64_t count = 0;
    for (int i = 0; i < run.count; i++)
        if (run.threads[i].state == WAITS) count += run.threads[i].value != 0;
    for (int i = 0; i < run.count; i++) {
        Thread& thread = run.threads[run.order == 1 ? run.count - 1 - i : i];
        if (thread.state != WAITS) continue;
        switch (thread.operation) {
            case BLOCK_OR: thread.value = count > 0; break;
            case BLOCK_AND: thread.value = count == (uint64_t)run.at_barrier; break;
            default: thread.value = count;
        }
        make_ready(thread);
    }
    run.at_barrier = 0;
}

static int at_barrier(Operation operation, int value, Place place) {
    Thread& self = *run.current;
    self.operation = operation;
    self.mask = 0;
    self.place = place;
    self.value = value != 0;
    if (run.at_barrier++ == 0) run.first_at_barrier = &self;
    const Thread& other = *run.first_at_barrier;
    if (other.operation != operation || !(other.place == place))
        fail("threads of a block meet at different barriers: " + name(other) + " at " + where(other) + ", " +
             name(self) + " at " + where(self));
    self.state = WAITS;
    if (run.at_barrier + run.exited == run.count) release_barrier();
    wait_turn();
    return (int)self.value;
}

static uint64_t reduced(Operation operation, uint64_t sum, uint64_t value) {
    unsigned a = (unsigned)sum, b = (unsigned)value;
    switch (operation) {
        case REDUCE_MIN_INT: return (int)a < (int)b ? a : b;
        case REDUCE_MAX_INT: return (int)a > (int)b ? a : b;
        case REDUCE_MIN: return a < b ? a : b;
        case REDUCE_MAX: return a > b ? a : b;
        case REDUCE_ADD: return a + b;
        case REDUCE_AND: return a & b;
        case REDUCE_OR: return a | b;
        default: return a ^ b;
    }
}

// All lanes of the mask have come: give each what it wants and let them go on.
static void exchange(Thread* lanes, Operation operation, unsigned mask) {
    uint64_t brought[32];
    unsigned ballot = 0;
    int first = __builtin_ctz(mask);
    uint64_t sum = lanes[first].value;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        brought[lane] = lanes[lane].value;
        if (brought[lane]) ballot |= 1u << lane;
        if (operation >= REDUCE_MIN_INT && lane != first) sum = reduced(operation, sum, brought[lane]);
    }
    for (int i = 0; i < 32; i++) {
        int lane = run.order == 1 ? 31 - i : i;
        if (!(mask >> lane & 1)) continue;
        Thread& thread = lanes[lane];
        switch (operation) {
            case WARP_SYNC: break;
            case SHUFFLE:
            case SHUFFLE_XOR:
            case SHUFFLE_UP:
            case SHUFFLE_DOWN: thread.value = brought[thread.source]; break;
            case BALLOT: thread.value = ballot; break;
            case ANY: thread.value = ballot != 0; break;
            case ALL: thread.value = ballot == mask; break;
            case MATCH_ANY: {
                unsigned equal = 0;
                for (unsigned rest = mask; rest; rest &= rest - 1) {
                    int other = __builtin_ctz(rest);
                    if (brought[other] == brought[lane]) equal |= 1u << other;
                }
                thread.value = equal;
                break;
            }
            default: thread.value = sum;
        }
        make_ready(thread);
    }
}

static uint64_t at_warp(Operation operation, unsigned mask, uint64_t value, int source, Place place) {
    Thread& self = *run.current;
    int warp = self.rank / 32, lane = self.rank % 32, lanes_here = run.count - warp * 32;
    Thread* lanes = &run.threads[warp * 32];
    self.operation = operation;
    self.mask = mask;
    self.place = place;
    self.source = source;
    self.value = value;
    if (!(mask >> lane & 1)) fail(name(self) + " is not in the mask at " + where(self));
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int other = __builtin_ctz(rest);
        if (other >= lanes_here || lanes[other].state == EXITED)
            fail(name(self) + " names lane " + std::to_string(other) + " at " + where(self) + ", which " +
                 (other >= lanes_here ? "the block does not have" : "has returned"));
    }
    if (!(mask >> source & 1))
        fail(name(self) + " reads lane " + std::to_string(source) + ", outside the mask, at " + where(self));
    self.state = WAITS;
    run.waiting[warp] |= 1u << lane;
    bool all = (run.waiting[warp] & mask) == mask;
    for (unsigned rest = all ? mask : 0; rest; rest &= rest - 1) {
        const Thread& other = lanes[__builtin_ctz(rest)];
        all &= other.operation == operation && other.mask == mask;
    }
    if (all) {
        run.waiting[warp] &= ~mask;
        exchange(lanes, operation, mask);
    }
    wait_turn();
    return self.value;
}

// The current thread has returned.
static void leave_block() {
    Thread& self = *run.current;
    self.state = EXITED;
    run.exited++;
    int warp = self.rank / 32, lane = self.rank % 32;
    for (unsigned rest = run.waiting[warp]; rest; rest &= rest - 1) {
        const Thread& other = run.threads[warp * 32 + __builtin_ctz(rest)];
        if (other.mask >> lane & 1)
            fail(name(other) + " names lane " + std::to_string(lane) + " at " + where(other) + ", which has returned");
    }
    if (run.at_barrier > 0 && run.at_barrier + run.exited == run.count) release_barrier();
}

static void fiber_main() {
    while (true) {
        run.on_fiber = 1;
        run.body(run.arguments);
        leave_block();
        Fiber* fiber = run.current->fiber;
        Thread* next = next_thread();
        if (next) {
            go_on_as(*next);
            if (!next->fiber) {
                next->fiber = fiber;
                continue;
            }
        } else if (run.exited < run.count) {
            fail_deadlock();
        }
        run.idle.push_back(fiber);
        run.on_fiber = next != nullptr;
        fiber->context.leave_for(next ? next->fiber->context : run.outside);
    }
}

#if defined(__ELF__)
extern "C" char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

static void spoil_shared_memory() {
    if (__start_cuda_shared) memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
}
#else
static void spoil_shared_memory() {}
#endif

static void order_threads() {
    for (int i = 0; i < run.count; i++) run.start_order[i] = run.order == 1 ? run.count - 1 - i : i;
    for (int i = run.count - 1; seeded() && i > 0; i--)
        std::swap(run.start_order[i], run.start_order[random_below(i + 1)]);
}

static void run_block() {
    run.exited = run.at_barrier = run.next_new = run.ready_first = run.ready_count = 0;
    memset(run.waiting, 0, sizeof run.waiting);
    for (int i = 0; i < run.count; i++) {
        Thread& thread = run.threads[i];
        thread.fiber = nullptr;
        thread.state = NEW;
    }
    if (seeded()) order_threads();
    spoil_shared_memory();
    Thread* first = next_thread();
    go_on_as(*first);
    first->fiber = idle_fiber();
    run.outside.leave_for(first->fiber->context);
}

// Flushes denormals of the calling thread while it lives.
struct FlushDenormals {
#if defined(__x86_64__)
    unsigned before = __builtin_ia32_stmxcsr();
    FlushDenormals() { __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#endif
};

static void at_limit(int) {
    run.late = 1;
    if (run.on_fiber) abandon_block();
}

// Ends a block, whatever it does, once the process has computed for so long.
struct Limit {
    struct sigaction before;

    explicit Limit(double seconds) {
        struct sigaction action = {};
        action.sa_handler = at_limit;
        action.sa_flags = SA_NODEFER;  // it never returns from a fiber
        sigaction(SIGVTALRM, &action, &before);
        set(seconds);
    }
    ~Limit() {
        set(0);
        sigaction(SIGVTALRM, &before, nullptr);
    }
    // Again every 0.1 s after that: the first may come between two blocks.
    static void set(double seconds) {
        long whole = (long)seconds, rest = (long)((seconds - whole) * 1e6);
        itimerval timer = {{0, seconds > 0 ? 100000 : 0}, {whole, rest}};
        setitimer(ITIMER_VIRTUAL, &timer, nullptr);
    }
};

struct Kernel {
    const char* name;
    Body body;
    std::string parameters;  // one word each: i, u, f, p and the alignment it points to, ? for others
    int bound;               // threads a block may have
};

template <typename T>
std::string parameter() {
    if constexpr (std::is_pointer_v<T>) {
        typedef std::remove_pointer_t<T> Target;
        if constexpr (std::is_void_v<Target>) return "p1";
        else return "p" + std::to_string(alignof(Target));
    }
    if (std::is_same_v<T, int>) return "i";
    if (std::is_same_v<T, unsigned>) return "u";
    if (std::is_same_v<T, float>) return "f";
    return "?";
}

template <typename... T>
std::string parameters(void (*)(T...)) {
    std::string text;
    ((text += parameter<std::remove_cv_t<T>>() + " "), ...);
    return text;
}

template <typename... T, size_t... I>
void call(void (*kernel)(T...), void** arguments, std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<T>*)arguments[I]...);
}

template <typename... T>
void call(void (*kernel)(T...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<T...>());
}

constexpr int bound(int threads = MAX_THREADS, int = 0, int = 0) { return threads; }

static void begin_launch(const Kernel& kernel, const unsigned* sizes, void** arguments, int64_t order) {
    gridDim = {sizes[0], sizes[1], sizes[2]};
    blockDim = {sizes[3], sizes[4], sizes[5]};
    run.body = kernel.body;
    run.arguments = arguments;
    run.kernel = kernel.name;
    run.order = order;
    run.random = (uint64_t)order;
    run.error.clear();
    run.late = 0;
    run.count = blockDim.x * blockDim.y * blockDim.z;
    for (int i = 0; i < run.count; i++) {
        unsigned row = i / blockDim.x;
        run.threads[i].rank = i;
        run.threads[i].index = {i % blockDim.x, row % blockDim.y, row / blockDim.y};
    }
    order_threads();
}

// After a block that did not end: every stack begins anew.
static void forget_fibers() {
    run.idle.clear();
    for (auto& fiber : run.fibers) {
        fiber->context.begin(fiber->stack, STACK_BYTES);
        run.idle.push_back(fiber.get());
    }
}

// Sizes: grid x, y, z, block x, y, z. Null, or what went wrong.
static const char* launch(
    const Kernel& kernel, const unsigned* sizes, void** arguments, int64_t order, double limit_s) {
    FlushDenormals flush;
    begin_launch(kernel, sizes, arguments, order);
    Limit limit(limit_s);
    uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t row = i / gridDim.x;
        blockIdx = {(unsigned)(i % gridDim.x), (unsigned)(row % gridDim.y), (unsigned)(row / gridDim.y)};
        run_block();
        if (run.late) note_error("has not ended after " + std::to_string((int)(1e3 * limit_s)) + " ms");
        if (run.error.empty()) continue;
        forget_fibers();
        return run.error.c_str();
    }
    return nullptr;
}

static int lane() { return run.current->rank % 32; }

template <typename T>
uint64_t packed(T value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <typename T, typename U>
T same_bits(U value) {
    static_assert(sizeof(T) <= sizeof(U), "");
    T result;
    memcpy(&result, &value, sizeof result);
    return result;
}

// Nearest, down, up, towards zero by `round`; saturates, zero for what is not a number.
template <typename I>
I to_integer(float value, float (*round)(float)) {
    const double low = std::is_signed_v<I> ? -2147483648.0 : 0.0;
    const double high = std::is_signed_v<I> ? 2147483647.0 : 4294967295.0;
    if (isnan(value)) return 0;
    double whole = round(value);
    return (I)(whole < low ? low : whole > high ? high : whole);
}

}  // namespace cuda_on_cpu

// ---- words of the language

#define __device__
#define __host__
#define __global__
#define __constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#if defined(__ELF__)
#define __shared__ static __attribute__((section("cuda_shared")))
#else
#define __shared__ static
#endif

// ---- barriers and warps

#define CUDA_ON_CPU_PLACE cuda_on_cpu::Place place = {__builtin_FILE(), __builtin_LINE()}

static inline void __syncthreads(CUDA_ON_CPU_PLACE) { cuda_on_cpu::at_barrier(cuda_on_cpu::BLOCK_SYNC, 0, place); }
static inline int __syncthreads_or(int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_barrier(cuda_on_cpu::BLOCK_OR, value, place);
}
static inline int __syncthreads_and(int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_barrier(cuda_on_cpu::BLOCK_AND, value, place);
}
static inline int __syncthreads_count(int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_barrier(cuda_on_cpu::BLOCK_COUNT, value, place);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_ON_CPU_PLACE) {
    cuda_on_cpu::at_warp(cuda_on_cpu::WARP_SYNC, mask, 0, cuda_on_cpu::lane(), place);
}
static inline unsigned __ballot_sync(unsigned mask, int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_warp(cuda_on_cpu::BALLOT, mask, value != 0, cuda_on_cpu::lane(), place);
}
static inline int __any_sync(unsigned mask, int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_warp(cuda_on_cpu::ANY, mask, value != 0, cuda_on_cpu::lane(), place);
}
static inline int __all_sync(unsigned mask, int value, CUDA_ON_CPU_PLACE) {
    return cuda_on_cpu::at_warp(cuda_on_cpu::ALL, mask, value != 0, cuda_on_cpu::lane(), place);
}
// CUDA promises no more than the calling lane.
static inline unsigned __activemask() { return 1u << cuda_on_cpu::lane(); }

#define CUDA_ON_CPU_REDUCE(name, type, operation)                                                                 \
    static inline type name(unsigned mask, type value, CUDA_ON_CPU_PLACE) {                                        \
        return (type)cuda_on_cpu::at_warp(                                                                        \
            cuda_on_cpu::operation, mask, (unsigned)value, cuda_on_cpu::lane(), place);                            \
    }
CUDA_ON_CPU_REDUCE(__reduce_min_sync, int, REDUCE_MIN_INT)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, unsigned, REDUCE_MIN)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, int, REDUCE_MAX_INT)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, unsigned, REDUCE_MAX)
CUDA_ON_CPU_REDUCE(__reduce_add_sync, int, REDUCE_ADD)
CUDA_ON_CPU_REDUCE(__reduce_add_sync, unsigned, REDUCE_ADD)
CUDA_ON_CPU_REDUCE(__reduce_and_sync, unsigned, REDUCE_AND)
CUDA_ON_CPU_REDUCE(__reduce_or_sync, unsigned, REDUCE_OR)
CUDA_ON_CPU_REDUCE(__reduce_xor_sync, unsigned, REDUCE_XOR)

// A lane that would read beyond its group of `width` lanes keeps its own value.
#define CUDA_ON_CPU_EXCHANGE(type)                                                                                \
    static inline unsigned __match_any_sync(unsigned mask, type value, CUDA_ON_CPU_PLACE) {                        \
        return cuda_on_cpu::at_warp(                                                                              \
            cuda_on_cpu::MATCH_ANY, mask, cuda_on_cpu::packed(value), cuda_on_cpu::lane(), place);                 \
    }                                                                                                             \
    static inline type __shfl_sync(unsigned mask, type value, int source, int width = 32, CUDA_ON_CPU_PLACE) {     \
        int from = (cuda_on_cpu::lane() & -width) | (source & (width - 1));                                       \
        return cuda_on_cpu::same_bits<type>(                                                                      \
            cuda_on_cpu::at_warp(cuda_on_cpu::SHUFFLE, mask, cuda_on_cpu::packed(value), from, place));            \
    }                                                                                                             \
    static inline type __shfl_xor_sync(unsigned mask, type value, int flip, int width = 32, CUDA_ON_CPU_PLACE) {   \
        int lane = cuda_on_cpu::lane(), from = lane ^ flip;                                                       \
        if (from > (lane | (width - 1))) from = lane;                                                             \
        return cuda_on_cpu::same_bits<type>(                                                                      \
            cuda_on_cpu::at_warp(cuda_on_cpu::SHUFFLE_XOR, mask, cuda_on_cpu::packed(value), from, place));        \
    }                                                                                                             \
    static inline type __shfl_up_sync(unsigned mask, type value, unsigned step, int width = 32, CUDA_ON_CPU_PLACE) { \
        int lane = cuda_on_cpu::lane(), from = lane - (int)step;                                                  \
        if (from < (lane & -width)) from = lane;                                                                  \
        return cuda_on_cpu::same_bits<type>(                                                                      \
            cuda_on_cpu::at_warp(cuda_on_cpu::SHUFFLE_UP, mask, cuda_on_cpu::packed(value), from, place));         \
    }                                                                                                             \
    static inline type __shfl_down_sync(                                                                          \
        unsigned mask, type value, unsigned step, int width = 32, CUDA_ON_CPU_PLACE) {                             \
        int lane = cuda_on_cpu::lane(), from = lane + (int)step;                                                  \
        if (from > (lane | (width - 1))) from = lane;                                                             \
        return cuda_on_cpu::same_bits<type>(                                                                      \
            cuda_on_cpu::at_warp(cuda_on_cpu::SHUFFLE_DOWN, mask, cuda_on_cpu::packed(value), from, place));       \
    }
CUDA_ON_CPU_EXCHANGE(int)
CUDA_ON_CPU_EXCHANGE(unsigned)
CUDA_ON_CPU_EXCHANGE(long)
CUDA_ON_CPU_EXCHANGE(unsigned long)
CUDA_ON_CPU_EXCHANGE(long long)
CUDA_ON_CPU_EXCHANGE(unsigned long long)
CUDA_ON_CPU_EXCHANGE(float)
CUDA_ON_CPU_EXCHANGE(double)

static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

// ---- memory

// One thread runs at a time, so a plain update is whole.
#define CUDA_ON_CPU_ATOMIC(name, type, update)            \
    static inline type name(type* address, type value) {  \
        type old = *address;                              \
        *address = update;                                \
        return old;                                       \
    }
CUDA_ON_CPU_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)value))
CUDA_ON_CPU_ATOMIC(atomicAdd, unsigned, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, unsigned long long, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, float, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, double, old + value)
CUDA_ON_CPU_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)value))
CUDA_ON_CPU_ATOMIC(atomicSub, unsigned, old - value)
CUDA_ON_CPU_ATOMIC(atomicExch, float, value)
#define CUDA_ON_CPU_ATOMICS(type)                                   \
    CUDA_ON_CPU_ATOMIC(atomicMin, type, old < value ? old : value)  \
    CUDA_ON_CPU_ATOMIC(atomicMax, type, old > value ? old : value)  \
    CUDA_ON_CPU_ATOMIC(atomicAnd, type, old & value)                \
    CUDA_ON_CPU_ATOMIC(atomicOr, type, old | value)                 \
    CUDA_ON_CPU_ATOMIC(atomicXor, type, old ^ value)                \
    CUDA_ON_CPU_ATOMIC(atomicExch, type, value)                     \
    static inline type atomicCAS(type* address, type expected, type value) { \
        type old = *address;                                        \
        if (old == expected) *address = value;                      \
        return old;                                                 \
    }
CUDA_ON_CPU_ATOMICS(int)
CUDA_ON_CPU_ATOMICS(unsigned)
CUDA_ON_CPU_ATOMICS(unsigned long long)

template <typename T>
inline T __ldg(const T* address) { return *address; }
template <typename T>
inline T __ldcs(const T* address) { return *address; }
template <typename T>
inline T __ldcg(const T* address) { return *address; }
template <typename T>
inline T __ldca(const T* address) { return *address; }
template <typename T>
inline void __stcs(T* address, T value) { *address = value; }
template <typename T>
inline void __stcg(T* address, T value) { *address = value; }

// ---- integers

static inline int __popc(unsigned value) { return __builtin_popcount(value); }
static inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
static inline int __ffs(int value) { return __builtin_ffs(value); }
static inline int __ffsll(long long value) { return __builtin_ffsll(value); }
static inline int __clz(int value) { return value ? __builtin_clz((unsigned)value) : 32; }
static inline int __clzll(long long value) { return value ? __builtin_clzll((unsigned long long)value) : 64; }
static inline unsigned __brev(unsigned value) {
    unsigned result = 0;
    for (int i = 0; i < 32; i++) result |= (value >> i & 1) << (31 - i);
    return result;
}
static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }

// ---- floats

static inline int __float_as_int(float value) { return cuda_on_cpu::same_bits<int>(value); }
static inline unsigned __float_as_uint(float value) { return cuda_on_cpu::same_bits<unsigned>(value); }
static inline float __int_as_float(int value) { return cuda_on_cpu::same_bits<float>(value); }
static inline float __uint_as_float(unsigned value) { return cuda_on_cpu::same_bits<float>(value); }

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

static inline int __float2int_rn(float x) { return cuda_on_cpu::to_integer<int>(x, nearbyintf); }
static inline int __float2int_rd(float x) { return cuda_on_cpu::to_integer<int>(x, floorf); }
static inline int __float2int_ru(float x) { return cuda_on_cpu::to_integer<int>(x, ceilf); }
static inline int __float2int_rz(float x) { return cuda_on_cpu::to_integer<int>(x, truncf); }
static inline unsigned __float2uint_rn(float x) { return cuda_on_cpu::to_integer<unsigned>(x, nearbyintf); }
static inline unsigned __float2uint_rd(float x) { return cuda_on_cpu::to_integer<unsigned>(x, floorf); }
static inline unsigned __float2uint_ru(float x) { return cuda_on_cpu::to_integer<unsigned>(x, ceilf); }
static inline unsigned __float2uint_rz(float x) { return cuda_on_cpu::to_integer<unsigned>(x, truncf); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }

// The C library keeps these names for itself.
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __powf powf
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf

#define CUDA_ON_CPU_MIN_MAX(result, a_type, b_type)                                                            \
    static inline result min(a_type a, b_type b) { return (result)a < (result)b ? (result)a : (result)b; }     \
    static inline result max(a_type a, b_type b) { return (result)a > (result)b ? (result)a : (result)b; }
CUDA_ON_CPU_MIN_MAX(int, int, int)
CUDA_ON_CPU_MIN_MAX(unsigned, unsigned, unsigned)
CUDA_ON_CPU_MIN_MAX(unsigned, int, unsigned)
CUDA_ON_CPU_MIN_MAX(unsigned, unsigned, int)
CUDA_ON_CPU_MIN_MAX(long, long, long)
CUDA_ON_CPU_MIN_MAX(unsigned long, unsigned long, unsigned long)
CUDA_ON_CPU_MIN_MAX(unsigned long, long, unsigned long)
CUDA_ON_CPU_MIN_MAX(unsigned long, unsigned long, long)
CUDA_ON_CPU_MIN_MAX(long long, long long, long long)
CUDA_ON_CPU_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
CUDA_ON_CPU_MIN_MAX(unsigned long long, long long, unsigned long long)
CUDA_ON_CPU_MIN_MAX(unsigned long long, unsigned long long, long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(float a, double b) { return fmin(a, b); }
static inline double max(float a, double b) { return fmax(a, b); }
static inline double min(double a, float b) { return fmin(a, b); }
static inline double max(double a, float b) { return fmax(a, b); }
