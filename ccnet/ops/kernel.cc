// Common code of all CPU kernels. Each kernel is compiled separately, with this text in front. Anonymous namespaces
// prevent name clashes between kernels, as Jittor loads them all into one process.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>
#include <omp.h>

// C (M × N) = alpha · op(A) · op(B) + beta · C, row-major, from the oneDNN that Jittor has loaded: no link
// flag is needed. Inside a parallel region it runs only on the calling thread.
extern "C" int dnnl_sgemm(char transpose_a, char transpose_b, int64_t M, int64_t N, int64_t K, float alpha,
                          const float *A, int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);

namespace {

// Sixteen floats at any address; the compiler splits them where registers are narrower.
constexpr int64_t LANES = 16;
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The same on all threads, each computing a share of C's rows; call it outside parallel regions. oneDNN's own threading
// uses barriers, which cost more than a small product.
inline void parallel_sgemm(char transpose_a, char transpose_b, int64_t M, int64_t N, int64_t K, const float *A,
                           int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc) {
    const int64_t threads = omp_get_max_threads(), share = round_up((M + threads - 1) / threads, LANES);
#pragma omp parallel for
    for (int64_t first = 0; first < M; first += share)
        dnnl_sgemm(transpose_a, transpose_b, std::min(share, M - first), N, K, 1,
                   A + first * (transpose_a == 'N' ? lda : 1), lda, B, ldb, beta, C + first * ldc, ldc);
}

inline Lanes load(const float *from, int64_t count) {
    if (count == LANES) return *(const Lanes *)from;
    Lanes lanes = {};
    memcpy(&lanes, from, count * sizeof(float));
    return lanes;
}

inline void store(float *to, Lanes lanes, int64_t count) {
    if (count == LANES)
        *(Lanes *)to = lanes;
    else
        memcpy(to, &lanes, count * sizeof(float));
}

// Thread-local scratch memory, kept between launches to avoid page faults. Each tag type `Owner` has its own buffer,
// which is valid until the next call with the same `Owner`.
template <class Owner>
float *scratch(int64_t floats) {
    static thread_local std::vector<float> memory;
    if ((int64_t)memory.size() < floats) memory.resize(floats);
    return memory.data();
}

inline float sum(const Lanes &lanes) {
    float total = 0;
    for (int64_t i = 0; i < LANES; i++) total += lanes[i];
    return total;
}

inline float sum(const float *x, int64_t count) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++) total += x[i];
    return total;
}

// to (count) = the sum over threads of their `sums`, from index `first`. Call it from all threads of a parallel region,
// after a barrier; it ends without a barrier.
inline void sum_over_threads(const std::vector<float *> &sums, int64_t first, int64_t count, float *to) {
    const int64_t threads = omp_get_num_threads();
#pragma omp for nowait
    for (int64_t i = 0; i < count; i++) {
        float total = sums[0][first + i];
        for (int64_t t = 1; t < threads; t++) total += sums[t][first + i];
        to[i] = total;
    }
}

// Normal CDF Φ(x) = (1 + erf(x / √2)) / 2 of a float or of Lanes; erf is a rational minimax approximation with error
// below 4e-7.
template <class T>
inline T normal_cdf(T x) {
    T z = x * 0.70710678f;
    z = z > 4 ? T{} + 4 : z < -4 ? T{} - 4 : z;
    const T u = z * z;
    const T over =
        ((((1.9866402e-06f * u + 2.84574606e-04f) * u + 3.88387567e-03f) * u + .053103365f) * u + .193557903f) * u +
        1.12837911f;
    const T under =
        ((((3.74191586e-05f * u + 1.18569424e-03f) * u + .0152083142f) * u + .115355238f) * u + .504868805f) * u + 1;
    return (z * over / under + 1) * 0.5f;
}

// y = GELU(z) = z · Φ(z) with z = x + bias; y may alias x.
inline void apply_gelu(const float *x, int64_t count, float bias, float *y) {
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t width = std::min(LANES, count - i);
        const Lanes z = load(x + i, width) + bias;
        store(y + i, z * normal_cdf(z), width);
    }
}

// GELU'(x) = Φ(x) + x · φ(x), where `cdf` is Φ(x)
inline float gelu_derivative(float x, float cdf) { return cdf + x * 0.39894228f * expf(-0.5f * x * x); }

// Batch normalisation in inference: scale(c) · x + shift(c) for channel c.
struct Norm {
    const float *weight = nullptr, *bias = nullptr, *mean = nullptr, *variance = nullptr;
    float epsilon = 0;
    float scale(int64_t c) const { return weight[c] / std::sqrt(variance[c] + epsilon); }
    float shift(int64_t c) const { return bias[c] - mean[c] * scale(c); }
};

// Norm, residual and leaky ReLU after a convolution in inference, applied while the results are in the cache; see
// epilogue.py. `residual` has the result's shape and may be null; a norm of null pointers disables the epilogue.
struct Epilogue {
    Norm norm;
    const float *residual = nullptr;
    float slope = 1;  // of the leaky ReLU; 1: none
};

// Applies `epilogue` to elements place … place + count - 1 of `y`, all of one channel.
inline void apply_epilogue(const Epilogue &epilogue, int64_t channel, int64_t place, float *y, int64_t count) {
    if (!epilogue.norm.weight) return;
    const float scale = epilogue.norm.scale(channel), shift = epilogue.norm.shift(channel), slope = epilogue.slope;
    for (int64_t i = place; i < place + count; i += LANES) {
        const int64_t width = std::min(LANES, place + count - i);
        Lanes z = load(y + i, width) * scale + shift;
        if (epilogue.residual) z += load(epilogue.residual + i, width);
        store(y + i, slope == 1 ? z : z > 0 ? z : z * slope, width);
    }
}

}  // namespace
