// What every kernel starts from. Each kernel is compiled on its own, after this text; the anonymous
// namespaces keep one kernel's functions apart from those of another, because Jittor loads them all into one
// process.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <omp.h>

// C (M × N) = alpha · op(A) · op(B) + beta · C, row-major, from the oneDNN that Jittor has loaded: no link
// flag is needed. Inside a parallel region it runs on the calling thread alone.
extern "C" int dnnl_sgemm(char transpose_a, char transpose_b, int64_t M, int64_t N, int64_t K, float alpha,
                          const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

namespace {

// Sixteen floats at any address; the compiler splits them where registers are narrower.
constexpr int64_t LANES = 16;
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Memory of one thread that is kept between launches, so that a kernel pays for no page faults.
template <int slot>
float *scratch(int64_t floats) {
    static thread_local std::vector<float> memory;
    if ((int64_t)memory.size() < floats) memory.resize(floats);
    return memory.data();
}

}  // namespace
