// In-place optimizer steps. Jittor's own steps allocate new weights every time and use one thread.
namespace {
namespace optimizers {

constexpr int64_t SHARE = 32768;  // minimum number of values for multithreading

struct Sgd {
    float rate, momentum, decay;
};

// v = momentum · v + g + decay · p; p = p - rate · v
inline void step(const Sgd &sgd, int64_t count, float *p, const float *g, float *v) {
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        v[i] = sgd.momentum * v[i] + g[i] + sgd.decay * p[i];
        p[i] -= sgd.rate * v[i];
    }
}

// Loshchilov and Hutter, arXiv:1711.05101, algorithm 2. At step n `rate` is the learning rate / (1 - beta1^n), `decay`
// the learning rate · weight decay, `correction` √(1 - beta2^n).
struct AdamW {
    float beta1, beta2, epsilon, rate, correction, decay;
};

// m and v are the first and second moments.
inline void step(const AdamW &adamw, int64_t count, float *p, const float *g, float *m, float *v) {
    const float beta1 = adamw.beta1, beta2 = adamw.beta2, epsilon = adamw.epsilon;
    const float rate = adamw.rate, correction = adamw.correction, decay = adamw.decay;
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        p[i] = p[i] * (1 - decay) - rate * m[i] / (std::sqrt(v[i]) / correction + epsilon);
    }
}

}  // namespace optimizers
}  // namespace
