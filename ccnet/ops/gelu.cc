// GELU and its gradient, each in one pass.
namespace {
namespace gelu {

inline void forward(const float *x, float *y, int64_t count) {
#pragma omp parallel for
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t width = std::min(LANES, count - i);
        const Lanes z = load(x + i, width);
        store(y + i, z * normal(z), width);
    }
}

// dx = dy · (Φ(x) + x · φ(x)), with the normal distribution Φ and its density φ
inline void backward(const float *x, const float *dy, float *dx, int64_t count) {
#pragma omp parallel for simd
    for (int64_t i = 0; i < count; i++) dx[i] = dy[i] * (normal(x[i]) + x[i] * 0.39894228f * expf(-0.5f * x[i] * x[i]));
}

}  // namespace gelu
}  // namespace
