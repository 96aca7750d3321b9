// Batch normalisation in training. The variance is computed from differences to the mean, not as E[x²] - E[x]², which
// cancels catastrophically for a large mean.
namespace {
namespace batch_norm {

struct Sizes {
    int64_t batch, channels, pixels;
    double count() const { return batch * pixels; }
};

// Forward inputs: `residual` may be null; `slope` is that of the leaky ReLU.
struct Input {
    const float *x, *weight, *bias, *residual;
    double epsilon;
    float slope;
};

// y, and per channel the mean, the (biased) variance and 1 / √(variance + epsilon).
struct Output {
    float *y, *mean, *variance, *inverse;
};

// Saved for the backward pass. With slope 1 the values of y are irrelevant.
struct Saved {
    const float *x, *weight, *mean, *inverse, *y;
    float slope;
};

// `residual` is null if the residual was.
struct Gradients {
    float *x, *weight, *bias, *residual;
};

// Calls f(first, length) for pieces of one channel's planes, short enough to be summed in single precision.
template <class Function>
inline void for_each_piece(const Sizes &sizes, int64_t channel, Function f) {
    constexpr int64_t LENGTH = 4096;
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < sizes.pixels; first += LENGTH)
            f((image * sizes.channels + channel) * sizes.pixels + first, std::min(LENGTH, sizes.pixels - first));
}

inline void forward(const Sizes &sizes, const Input &input, const Output &output) {
    const float *x = input.x, *residual = input.residual, slope = input.slope;
    float *y = output.y;
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        double total = 0, squares = 0;
        for_each_piece(sizes, c, [&](int64_t first, int64_t length) { total += sum(x + first, length); });
        const float mean = total / sizes.count();
        for_each_piece(sizes, c, [&](int64_t first, int64_t length) {
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < first + length; i++) sum += (x[i] - mean) * (x[i] - mean);
            squares += sum;
        });
        output.mean[c] = mean;
        output.variance[c] = squares / sizes.count();
        output.inverse[c] = 1 / std::sqrt(output.variance[c] + input.epsilon);
        const float scale = input.weight[c] * output.inverse[c], shift = input.bias[c];
        for_each_piece(sizes, c, [=](int64_t first, int64_t length) {
#pragma omp simd
            for (int64_t i = first; i < first + length; i++) {
                const float z = scale * (x[i] - mean) + shift + (residual ? residual[i] : 0);
                y[i] = z > 0 ? z : z * slope;
            }
        });
    }
}

// Gradient of a leaky ReLU's argument, given its result y and gradient dy.
inline float leaky_relu_gradient(float dy, float y, float slope) { return y > 0 ? dy : dy * slope; }

inline void backward(const Sizes &sizes, const Saved &saved, const float *dy, const Gradients &gradients) {
    const float *x = saved.x, *y = saved.y, negative_slope = saved.slope;
    float *dx = gradients.x, *dresidual = gradients.residual;
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const float mean = saved.mean[c], inverse = saved.inverse[c];
        double total = 0, projected = 0;
        for_each_piece(sizes, c, [&](int64_t first, int64_t length) {
            float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
            for (int64_t i = first; i < first + length; i++) {
                const float gradient = leaky_relu_gradient(dy[i], y[i], negative_slope);
                sum += gradient;
                product += gradient * (x[i] - mean);
            }
            total += sum;
            projected += product;
        });
        gradients.bias[c] = total;
        gradients.weight[c] = projected * inverse;
        const float scale = saved.weight[c] * inverse, constant = total / sizes.count();
        const float slope = projected * inverse * inverse / sizes.count();
        for_each_piece(sizes, c, [=](int64_t first, int64_t length) {
#pragma omp simd
            for (int64_t i = first; i < first + length; i++) {
                const float gradient = leaky_relu_gradient(dy[i], y[i], negative_slope);
                dx[i] = scale * (gradient - constant - (x[i] - mean) * slope);
                if (dresidual) dresidual[i] = gradient;
            }
        });
    }
}

}  // namespace batch_norm
}  // namespace
