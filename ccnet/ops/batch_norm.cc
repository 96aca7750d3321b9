// Batch normalisation in training. The variance is taken of the differences from the mean, never as E[x²] -
// E[x]², which loses everything when the mean is large.
namespace {
namespace batch_norm {

constexpr int64_t BLOCK = 4096;  // floats summed in single precision before the sum goes on in double

// Σ over one channel of f(plane, first, last), with planes (B, C) of `pixels`
template <class Function>
double over_channel(int64_t batch, int64_t channels, int64_t channel, int64_t pixels, Function f) {
    double total = 0;
    for (int64_t image = 0; image < batch; image++)
        for (int64_t first = 0; first < pixels; first += BLOCK)
            total += f((image * channels + channel) * pixels + first, std::min(BLOCK, pixels - first));
    return total;
}

// y, and of each channel its mean, its variance, and 1 / √(variance + epsilon)
inline void forward(const float *x, const float *weight, const float *bias, float *y, float *mean,
                    float *variance, float *inverse, int64_t batch, int64_t channels, int64_t pixels,
                    double epsilon) {
    const double count = batch * pixels;
#pragma omp parallel for
    for (int64_t c = 0; c < channels; c++) {
        const float centre = over_channel(batch, channels, c, pixels,
                                          [&](int64_t first, int64_t length) {
                                              float sum = 0;
#pragma omp simd reduction(+ : sum)
                                              for (int64_t i = 0; i < length; i++) sum += x[first + i];
                                              return sum;
                                          }) /
                             count;
        variance[c] = over_channel(batch, channels, c, pixels,
                                   [&](int64_t first, int64_t length) {
                                       float sum = 0;
#pragma omp simd reduction(+ : sum)
                                       for (int64_t i = 0; i < length; i++)
                                           sum += (x[first + i] - centre) * (x[first + i] - centre);
                                       return sum;
                                   }) /
                      count;
        mean[c] = centre;
        inverse[c] = 1 / std::sqrt(variance[c] + epsilon);
        const float scale = weight[c] * inverse[c], shift = bias[c];
        for (int64_t image = 0; image < batch; image++) {
            const float *__restrict__ from = x + (image * channels + c) * pixels;
            float *__restrict__ to = y + (image * channels + c) * pixels;
#pragma omp simd
            for (int64_t i = 0; i < pixels; i++) to[i] = scale * (from[i] - centre) + shift;
        }
    }
}

inline void backward(const float *x, const float *weight, const float *mean, const float *inverse,
                     const float *dy, float *dx, float *dweight, float *dbias, int64_t batch,
                     int64_t channels, int64_t pixels) {
    const double count = batch * pixels;
#pragma omp parallel for
    for (int64_t c = 0; c < channels; c++) {
        const float centre = mean[c];
        double projected = 0;  // Σ dy (x - mean)
        const double total = over_channel(batch, channels, c, pixels, [&](int64_t first, int64_t length) {
            float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
            for (int64_t i = 0; i < length; i++) {
                sum += dy[first + i];
                product += dy[first + i] * (x[first + i] - centre);
            }
            projected += product;
            return sum;
        });
        dbias[c] = total;
        dweight[c] = projected * inverse[c];
        const float scale = weight[c] * inverse[c], constant = total / count;
        const float slope = projected * inverse[c] * inverse[c] / count;
        for (int64_t image = 0; image < batch; image++) {
            const int64_t first = (image * channels + c) * pixels;
#pragma omp simd
            for (int64_t i = first; i < first + pixels; i++)
                dx[i] = scale * (dy[i] - constant - (x[i] - centre) * slope);
        }
    }
}

}  // namespace batch_norm
}  // namespace
