// Batch normalisation in training. The variance is taken of the differences from the mean, never as E[x²] - E[x]²,
// which loses everything when the mean is large.
namespace {
namespace batch_norm {

struct Sizes {
    int64_t batch, channels, pixels;
    double count() const { return batch * pixels; }
};

// Calls f(first, length) for pieces of one channel's planes, short enough to be summed in single precision.
template <class Function>
inline void pieces(const Sizes &sizes, int64_t channel, Function f) {
    constexpr int64_t LENGTH = 4096;
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < sizes.pixels; first += LENGTH)
            f((image * sizes.channels + channel) * sizes.pixels + first, std::min(LENGTH, sizes.pixels - first));
}

inline float sum(const float *x, int64_t length) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < length; i++) total += x[i];
    return total;
}

// Σ (a - shift_a) · (b - shift_b)
inline float product(const float *a, float shift_a, const float *b, float shift_b, int64_t length) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < length; i++) total += (a[i] - shift_a) * (b[i] - shift_b);
    return total;
}

// y, and of each channel its mean, its variance, and 1 / √(variance + epsilon)
inline void forward(const Sizes &sizes, const float *x, const float *weight, const float *bias, double epsilon,
                    float *y, float *means, float *variances, float *inverses) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        double total = 0, squares = 0;
        pieces(sizes, c, [&](int64_t first, int64_t length) { total += sum(x + first, length); });
        const float mean = total / sizes.count();
        pieces(sizes, c,
               [&](int64_t first, int64_t length) { squares += product(x + first, mean, x + first, mean, length); });
        means[c] = mean;
        variances[c] = squares / sizes.count();
        inverses[c] = 1 / std::sqrt(variances[c] + epsilon);
        const float scale = weight[c] * inverses[c], shift = bias[c];
        pieces(sizes, c, [=](int64_t first, int64_t length) {
            const float *__restrict__ from = x + first;
            float *__restrict__ to = y + first;
#pragma omp simd
            for (int64_t i = 0; i < length; i++) to[i] = scale * (from[i] - mean) + shift;
        });
    }
}

inline void backward(const Sizes &sizes, const float *x, const float *weight, const float *means, const float *inverses,
                     const float *dy, float *dx, float *dweight, float *dbias) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const float mean = means[c], inverse = inverses[c];
        double total = 0, projected = 0;
        pieces(sizes, c, [&](int64_t first, int64_t length) {
            total += sum(dy + first, length);
            projected += product(dy + first, 0, x + first, mean, length);
        });
        dbias[c] = total;
        dweight[c] = projected * inverse;
        const float scale = weight[c] * inverse, constant = total / sizes.count();
        const float slope = projected * inverse * inverse / sizes.count();
        pieces(sizes, c, [=](int64_t first, int64_t length) {
            const float *__restrict__ from = x + first, *__restrict__ gradient = dy + first;
            float *__restrict__ to = dx + first;
#pragma omp simd
            for (int64_t i = 0; i < length; i++) to[i] = scale * (gradient[i] - constant - (from[i] - mean) * slope);
        });
    }
}

}  // namespace batch_norm
}  // namespace
