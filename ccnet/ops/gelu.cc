// GELU and its gradient, each in one pass.
namespace {
namespace gelus {

inline void forward(const float *x, float *y, int64_t count) {
#pragma omp parallel for
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t width = std::min(LANES, count - i);
        store(y + i, gelu(load(x + i, width)), width);
    }
}

// dx = dy · (Φ(x) + x · φ(x)), with the normal distribution Φ and its density φ
inline void backward(const float *x, const float *dy, float *dx, int64_t count) {
#pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++)
        dx[i] = dy[i] * (normal(x[i]) + x[i] * 0.39894228f * expf(-0.5f * x[i] * x[i]));
}

}  // namespace gelus
}  // namespace
