// Runs the text of a `.cu` file on the CPU: what the kernels use of CUDA and cuBLAS, by their manuals, in plain loops.
// A block's threads are fibres that run, in an order drawn anew each time, from one barrier to the next: who reads
// before the barrier what another thread writes gets it wrong. Blocks run one after the other. It shows values and
// barriers; not speed, not limits of registers and memory.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>
#include <ucontext.h>
#include "type/fp16_compute.h"  // jittor::bfloat16

#define __global__
#define __device__
#define __host__
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
static dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulation {

enum State { RUNS, AT_WARP, AT_BLOCK, DONE };

struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[1 << 16]};
    dim3 index;
    State state;
    float lane_value;
};

static std::vector<Thread> threads(1024);
static size_t count, current;  // threads of a block, and the one that runs
static ucontext_t scheduler;
static std::function<void()> body;
static std::mt19937 random_order;

static void wait(State state) {
    threads[current].state = state;
    swapcontext(&threads[current].context, &scheduler);
}

static void enter() {
    body();
    threads[current].state = DONE;
}

static void start(size_t i) {
    Thread &thread = threads[i];
    thread.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
    thread.state = RUNS;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = 1 << 16;
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, enter, 0);
}

static bool all(size_t first, size_t last, State state) {
    for (size_t i = first; i < last; i++)
        if (threads[i].state != state) return false;
    return true;
}

static bool release(size_t first, size_t last, State state) {
    if (!all(first, last, state)) return false;
    for (size_t i = first; i < last; i++) threads[i].state = RUNS;
    return true;
}

static void run_block() {
    for (size_t i = 0; i < count; i++) start(i);
    while (!all(0, count, DONE)) {
        std::vector<size_t> ready;
        for (size_t i = 0; i < count; i++)
            if (threads[i].state == RUNS) ready.push_back(i);
        std::shuffle(ready.begin(), ready.end(), random_order);
        for (size_t i : ready) {
            current = i;
            threadIdx = threads[i].index;
            swapcontext(&scheduler, &threads[i].context);
        }
        bool moves = release(0, count, AT_BLOCK);
        for (size_t i = 0; i < count; i += 32) moves |= release(i, std::min(i + 32, count), AT_WARP);
        if (!moves && !all(0, count, DONE)) throw std::runtime_error("not all threads come to the same barrier");
    }
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void **arguments, std::index_sequence<I...>) {
    kernel(*(P *)arguments[I]...);
}

template <class... P>
int run(void (*kernel)(P...), dim3 grid, dim3 block, void **arguments) {
    count = block.x * block.y * block.z;
    if (!count || count > 1024 || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535)
        return 9;  // cudaErrorInvalidConfiguration
    gridDim = grid;
    blockDim = block;
    body = [=] { call(kernel, arguments, std::index_sequence_for<P...>()); };
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) run_block();
    return 0;
}

inline float get(const void *data, int type, int64_t i) {
    return type == 0 ? ((const float *)data)[i] : (float)((const jittor::bfloat16 *)data)[i];
}

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulation::AT_BLOCK); }

inline float __shfl_xor_sync(unsigned, float value, int lanes) {
    const size_t partner = emulation::current ^ lanes;
    emulation::threads[emulation::current].lane_value = value;
    emulation::wait(emulation::AT_WARP);
    const float theirs = emulation::threads[partner].lane_value;
    emulation::wait(emulation::AT_WARP);  // nobody writes again before all have read
    return theirs;
}

template <class F>
int cudaLaunchKernel(F *kernel, dim3 grid, dim3 block, void **arguments, size_t, int) {
    return emulation::run(kernel, grid, block, arguments);
}

inline int cudaMalloc(void **memory, size_t bytes) { return !(*memory = malloc(bytes)); }

inline int cudaFree(void *memory) {
    ::free(memory);
    return 0;
}

struct cublasContext;
namespace jittor {
cublasContext *cublas_handle;
}

// Column-major, summed in float; 7 is CUBLAS_STATUS_INVALID_VALUE.
extern "C" int cublasGemmStridedBatchedEx(cublasContext *, int transpose_a, int transpose_b, int m, int n, int k,
                                          const void *alpha, const void *A, int type_a, int lda, long long stride_a,
                                          const void *B, int type_b, int ldb, long long stride_b, const void *beta,
                                          void *C, int type_c, int ldc, long long stride_c, int count, int, int) {
    if (lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m || type_a != type_b) return 7;
    for (int64_t b = 0; b < count; b++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                float sum = 0;
                for (int64_t l = 0; l < k; l++)
                    sum += emulation::get(A, type_a, b * stride_a + (transpose_a ? l + i * lda : i + l * lda)) *
                           emulation::get(B, type_b, b * stride_b + (transpose_b ? j + l * ldb : l + j * ldb));
                const int64_t place = b * stride_c + i + j * ldc;
                sum *= *(const float *)alpha;
                if (*(const float *)beta) sum += *(const float *)beta * emulation::get(C, type_c, place);
                if (type_c == 0)
                    ((float *)C)[place] = sum;
                else
                    ((jittor::bfloat16 *)C)[place] = jittor::bfloat16(sum);
            }
    return 0;
}
