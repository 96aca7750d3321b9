// Steps of the optimisers, in place: Jittor's own write new weights beside the old ones at every step, on one thread.
namespace {
namespace optimizers {

constexpr int64_t SHARE = 32768;  // values for which another thread is worth waking

// v = momentum · v + g + decay · p; p = p - rate · v
inline void sgd(int64_t count, float *p, const float *g, float *v, float rate, float momentum, float decay) {
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        v[i] = momentum * v[i] + g[i] + decay * p[i];
        p[i] -= rate * v[i];
    }
}

// Loshchilov and Hutter, arXiv:1711.05101, algorithm 2: m and v are the moments, with decay rates `first` and `second`;
// `step` is rate / (1 - first^n), `spread` is √(1 - second^n), of step n.
inline void adamw(int64_t count, float *p, const float *g, float *m, float *v, float first, float second, float epsilon,
                  float step, float spread, float decay) {
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        m[i] = first * m[i] + (1 - first) * g[i];
        v[i] = second * v[i] + (1 - second) * g[i] * g[i];
        p[i] = p[i] * (1 - decay) - step * m[i] / (std::sqrt(v[i]) / spread + epsilon);
    }
}

}  // namespace optimizers
}  // namespace
