// In-place optimizer steps. Jittor's own steps allocate new weights every time and use one thread.
namespace {
namespace optimizers {

constexpr int64_t SHARE = 32768;  // minimum number of values for multithreading

// `scale` multiplies the gradient; below 1 it clips its norm.
struct Sgd {
    float rate, momentum, decay, scale;
};

// v = momentum · v + scale · g + decay · p; p = p - rate · v
inline void step(const Sgd &sgd, int64_t count, float *p, const float *g, float *v) {
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        v[i] = sgd.momentum * v[i] + sgd.scale * g[i] + sgd.decay * p[i];
        p[i] -= sgd.rate * v[i];
    }
}

// Loshchilov and Hutter, arXiv:1711.05101, algorithm 2. At step n `rate` is the learning rate / (1 - beta1^n), `decay`
// the learning rate · weight decay, `correction` √(1 - beta2^n).
struct AdamW {
    float beta1, beta2, epsilon, rate, correction, decay, scale;
};

// m and v are the first and second moments.
inline void step(const AdamW &adamw, int64_t count, float *p, const float *g, float *m, float *v) {
    const float beta1 = adamw.beta1, beta2 = adamw.beta2, epsilon = adamw.epsilon;
    const float rate = adamw.rate, correction = adamw.correction, decay = adamw.decay, scale = adamw.scale;
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) {
        const float gradient = scale * g[i];
        m[i] = beta1 * m[i] + (1 - beta1) * gradient;
        v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
        // Without AVX-512, fast-math's vectorised square root of a subnormal number is NaN, on threads that keep them.
        const float root = std::sqrt(std::max(v[i], std::numeric_limits<float>::min()));
        p[i] = p[i] * (1 - decay) - rate * m[i] / (root / correction + epsilon);
    }
}

// sums[k] = Σ g² over the k-th SHARE values: partial sums, so that the total does not depend on the threads.
inline void squares(int64_t count, const float *g, float *sums) {
    const int64_t shares = (count + SHARE - 1) / SHARE;
#pragma omp parallel for if (shares > 1)
    for (int64_t share = 0; share < shares; share++) {
        const int64_t end = std::min(count, (share + 1) * SHARE);
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = share * SHARE; i < end; i++) sum += (double)g[i] * g[i];
        sums[share] = sum;
    }
}

// mean = decay · mean + (1 - decay) · p
inline void average(float decay, int64_t count, float *mean, const float *p) {
#pragma omp parallel for simd if (count > SHARE)
    for (int64_t i = 0; i < count; i++) mean[i] += (1 - decay) * (p[i] - mean[i]);
}

}  // namespace optimizers
}  // namespace
