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

// y = leaky ReLU of the normalised x + residual (or null), and of each channel its mean, its variance, and
// 1 / √(variance + epsilon)
inline void forward(const Sizes &sizes, const float *x, const float *weight, const float *bias, const float *residual,
                    double epsilon, float leak, float *y, float *means, float *variances, float *inverses) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        double total = 0, squares = 0;
        pieces(sizes, c, [&](int64_t first, int64_t length) {
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < first + length; i++) sum += x[i];
            total += sum;
        });
        const float mean = total / sizes.count();
        pieces(sizes, c, [&](int64_t first, int64_t length) {
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < first + length; i++) sum += (x[i] - mean) * (x[i] - mean);
            squares += sum;
        });
        means[c] = mean;
        variances[c] = squares / sizes.count();
        inverses[c] = 1 / std::sqrt(variances[c] + epsilon);
        const float scale = weight[c] * inverses[c], shift = bias[c];
        pieces(sizes, c, [=](int64_t first, int64_t length) {
#pragma omp simd
            for (int64_t i = first; i < first + length; i++) {
                const float z = scale * (x[i] - mean) + shift + (residual ? residual[i] : 0);
                y[i] = z > 0 ? z : z * leak;
            }
        });
    }
}

// What leaky ReLU lets through of dy, known from its result y.
inline float through(float dy, float y, float leak) { return y > 0 ? dy : dy * leak; }

// dresidual may be null, as the residual was. With a leak of 1 any y will do.
inline void backward(const Sizes &sizes, const float *x, const float *weight, const float *means, const float *inverses,
                     const float *y, float leak, const float *dy, float *dx, float *dweight, float *dbias,
                     float *dresidual) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const float mean = means[c], inverse = inverses[c];
        double total = 0, projected = 0;
        pieces(sizes, c, [&](int64_t first, int64_t length) {
            float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
            for (int64_t i = first; i < first + length; i++) {
                const float gradient = through(dy[i], y[i], leak);
                sum += gradient;
                product += gradient * (x[i] - mean);
            }
            total += sum;
            projected += product;
        });
        dbias[c] = total;
        dweight[c] = projected * inverse;
        const float scale = weight[c] * inverse, constant = total / sizes.count();
        const float slope = projected * inverse * inverse / sizes.count();
        pieces(sizes, c, [=](int64_t first, int64_t length) {
#pragma omp simd
            for (int64_t i = first; i < first + length; i++) {
                const float gradient = through(dy[i], y[i], leak);
                dx[i] = scale * (gradient - constant - (x[i] - mean) * slope);
                if (dresidual) dresidual[i] = gradient;
            }
        });
    }
}

}  // namespace batch_norm
}  // namespace
