// Batch normalisation in training. The variance is computed from differences to the mean, not as E[x²] - E[x]², which
// cancels catastrophically for a large mean.
namespace {
namespace batch_norm {

// `processes` share the normalised batch; each has `batch` images of it.
struct Sizes {
    int64_t batch, channels, pixels, processes;
    double count() const { return processes * batch * pixels; }
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

// Sums over a channel of the gradient of z, alone and times x - mean.
struct Sums {
    double total, projected;
};

// Calls f(first, length) for pieces of one channel's planes, short enough to be summed in single precision.
template <class Function>
inline void for_each_piece(const Sizes &sizes, int64_t channel, Function f) {
    constexpr int64_t LENGTH = 4096;
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < sizes.pixels; first += LENGTH)
            f((image * sizes.channels + channel) * sizes.pixels + first, std::min(LENGTH, sizes.pixels - first));
}

inline double total(const Sizes &sizes, const float *x, int64_t c) {
    double total = 0;
    for_each_piece(sizes, c, [&](int64_t first, int64_t length) { total += sum(x + first, length); });
    return total;
}

// Sum of (x - mean)².
inline double squares(const Sizes &sizes, const float *x, float mean, int64_t c) {
    double squares = 0;
    for_each_piece(sizes, c, [&](int64_t first, int64_t length) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < first + length; i++) sum += (x[i] - mean) * (x[i] - mean);
        squares += sum;
    });
    return squares;
}

// Given the channel's sum of (x - mean)².
inline void normalise(const Sizes &sizes, const Input &input, const Output &output, float mean, double squares,
                      int64_t c) {
    const float *x = input.x, *residual = input.residual, slope = input.slope;
    float *y = output.y;
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

inline void forward(const Sizes &sizes, const Input &input, const Output &output) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const float mean = total(sizes, input.x, c) / sizes.count();
        normalise(sizes, input, output, mean, squares(sizes, input.x, mean, c), c);
    }
}

// The steps of `forward`; between them the totals and then the squares of all processes are added.
inline void totals(const Sizes &sizes, const float *x, double *totals) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) totals[c] = total(sizes, x, c);
}

inline void squares(const Sizes &sizes, const float *x, const double *totals, double *result) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) result[c] = squares(sizes, x, totals[c] / sizes.count(), c);
}

inline void normalise(const Sizes &sizes, const Input &input, const double *totals, const double *squares,
                      const Output &output) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++)
        normalise(sizes, input, output, totals[c] / sizes.count(), squares[c], c);
}

// Gradient of a leaky ReLU's argument, given its result y and gradient dy.
inline float leaky_relu_gradient(float dy, float y, float slope) { return y > 0 ? dy : dy * slope; }

inline Sums sums(const Sizes &sizes, const Saved &saved, const float *dy, int64_t c) {
    const float *x = saved.x, *y = saved.y, negative_slope = saved.slope, mean = saved.mean[c];
    Sums sums = {0, 0};
    for_each_piece(sizes, c, [&](int64_t first, int64_t length) {
        float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (int64_t i = first; i < first + length; i++) {
            const float gradient = leaky_relu_gradient(dy[i], y[i], negative_slope);
            sum += gradient;
            product += gradient * (x[i] - mean);
        }
        sums.total += sum;
        sums.projected += product;
    });
    return sums;
}

// Given the sums over the images of this process and over those of all.
inline void backward(const Sizes &sizes, const Saved &saved, const float *dy, const Gradients &gradients,
                     const Sums &own, const Sums &all, int64_t c) {
    const float *x = saved.x, *y = saved.y, negative_slope = saved.slope;
    float *dx = gradients.x, *dresidual = gradients.residual;
    const float mean = saved.mean[c], inverse = saved.inverse[c];
    gradients.bias[c] = own.total;
    gradients.weight[c] = own.projected * inverse;
    const float scale = saved.weight[c] * inverse, constant = all.total / sizes.count();
    const float slope = all.projected * inverse * inverse / sizes.count();
    for_each_piece(sizes, c, [=](int64_t first, int64_t length) {
#pragma omp simd
        for (int64_t i = first; i < first + length; i++) {
            const float gradient = leaky_relu_gradient(dy[i], y[i], negative_slope);
            dx[i] = scale * (gradient - constant - (x[i] - mean) * slope);
            if (dresidual) dresidual[i] = gradient;
        }
    });
}

inline void backward(const Sizes &sizes, const Saved &saved, const float *dy, const Gradients &gradients) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const Sums own = sums(sizes, saved, dy, c);
        backward(sizes, saved, dy, gradients, own, own, c);
    }
}

// The steps of `backward`; between them the sums (C, 2) of all processes are added.
inline void sums(const Sizes &sizes, const Saved &saved, const float *dy, double *result) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++) {
        const Sums own = sums(sizes, saved, dy, c);
        result[2 * c] = own.total;
        result[2 * c + 1] = own.projected;
    }
}

inline void backward(const Sizes &sizes, const Saved &saved, const float *dy, const double *own, const double *all,
                     const Gradients &gradients) {
#pragma omp parallel for
    for (int64_t c = 0; c < sizes.channels; c++)
        backward(sizes, saved, dy, gradients, {own[2 * c], own[2 * c + 1]}, {all[2 * c], all[2 * c + 1]}, c);
}

}  // namespace batch_norm
}  // namespace
