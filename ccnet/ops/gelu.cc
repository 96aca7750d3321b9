// GELU and its gradient, each in one pass.
namespace {
namespace gelu {

constexpr int64_t PIECE = 4096;  // values per loop iteration of a thread

inline void forward(const float *x, float *y, int64_t count) {
#pragma omp parallel for
    for (int64_t i = 0; i < count; i += PIECE) apply_gelu(x + i, std::min(PIECE, count - i), 0, y + i);
}

inline void backward(const float *x, const float *dy, float *dx, int64_t count) {
#pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * gelu_derivative(x[i], normal_cdf(x[i]));
}

}  // namespace gelu
}  // namespace
