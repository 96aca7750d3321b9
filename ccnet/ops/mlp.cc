// The MLP of a Visual Attention Network: 1 × 1, depthwise 3 × 3, GELU, 1 × 1. Its hidden channels, four or eight times
// the input channels, are computed CHUNK at a time for a strip of rows, so they stay in the cache. The backward pass
// recomputes them, which saves their memory and the time to load them.
#include "depthwise.cc"
namespace {
namespace mlp {

struct Sizes {
    int64_t batch, channels, hidden, height, width, dilation;
    int64_t pixels() const { return height * width; }
};

// fc1 (hidden, C), dwconv (hidden, 3, 3) and fc2 (C, hidden), each with its bias; or their gradients.
template <class Float>
struct Layers {
    Float *fc1, *bias1, *dwconv, *bias_dw, *fc2, *bias2;
};

// Tags of scratch memory. One hidden channel of a strip: padded, its padded gradient, its gradient rounded up to whole
// Lanes. A chunk of hidden channels: fc1's output, fc2's input, gradients of both. A thread's gradients of the layers.
struct PaddedPlane;
struct PaddedGradient;
struct RoundedGradient;
struct Hidden;
struct Active;
struct ActiveGradient;
struct HiddenGradient;
struct ThreadSums;

constexpr int64_t CHUNK = 128, STRIP = 2048;  // hidden channels per chunk, pixels per strip

// A range of image rows; `with` adds up to `margin` rows above and below, within the image.
struct Rows {
    int64_t first, last;
    Rows with(int64_t margin, int64_t height) const {
        return {std::max<int64_t>(0, first - margin), std::min(height, last + margin)};
    }
    int64_t count() const { return last - first; }
};

// Calls f(image, rows) for strips of rows, small enough to keep all threads busy.
template <class Function>
void for_each_strip(const Sizes &sizes, Function f) {
    const int64_t threads = omp_get_num_threads(), share = (sizes.batch * sizes.height + threads - 1) / threads;
    const int64_t strip = std::min(share, std::max<int64_t>(4, STRIP / sizes.width));
#pragma omp for collapse(2)
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < sizes.height; first += strip)
            f(image, Rows{first, std::min(sizes.height, first + strip)});
}

// Copies `rows`, plus `bias`, into a padded plane. `plane` starts at row `rows.first` of the image, the padded plane
// `margin` rows above row `top`. Pixels outside the image stay 0.
inline void pad_rows(const float *plane, Rows rows, float bias, int64_t top, int64_t margin,
                     const depthwise::Padded &shape, float *padded) {
    for (int64_t row = rows.first; row < rows.last; row++) {
        const float *from = plane + (row - rows.first) * shape.width;
        float *to = padded + (row - top + margin) * shape.pitch + margin;
        for (int64_t x = 0; x < shape.width; x++) to[x] = from[x] + bias;
    }
}

// hidden (count, rows · W) = fc1(x) without bias, for `count` hidden channels from `chunk`.
inline void apply_fc1(const Sizes &sizes, const Layers<const float> &layers, const float *x, int64_t chunk,
                      int64_t count, Rows rows, float *hidden) {
    dnnl_sgemm('N', 'N', count, rows.count() * sizes.width, sizes.channels, 1, layers.fc1 + chunk * sizes.channels,
               sizes.channels, x + rows.first * sizes.width, sizes.pixels(), 0, hidden, rows.count() * sizes.width);
}

// y = MLP(x) + shortcut, which may be null. Call it from all threads of a parallel region.
inline void forward(const Sizes &sizes, const Layers<const float> &layers, const float *x, const float *shortcut,
                    float *y) {
    const int64_t channels = sizes.channels, pixels = sizes.pixels(), width = sizes.width, margin = sizes.dilation;
    for_each_strip(sizes, [&](int64_t image, Rows rows) {
        const Rows around = rows.with(margin, sizes.height);
        const depthwise::Padded shape(rows.count(), width, 3, 1, margin);
        const int64_t count = rows.count() * width, length = around.count() * width;
        const int64_t place = image * channels * pixels + rows.first * width;
        float *padded = scratch<PaddedPlane>(shape.floats()), *hidden = scratch<Hidden>(CHUNK * length);
        float *active = scratch<Active>(CHUNK * count);
        memset(padded, 0, shape.floats() * sizeof(float));
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = place + c * pixels; i < place + c * pixels + count; i++)
                y[i] = layers.bias2[c] + (shortcut ? shortcut[i] : 0);
        for (int64_t chunk = 0; chunk < sizes.hidden; chunk += CHUNK) {
            const int64_t made = std::min(CHUNK, sizes.hidden - chunk);
            apply_fc1(sizes, layers, x + image * channels * pixels, chunk, made, around, hidden);
            for (int64_t k = 0; k < made; k++) {
                float *plane = active + k * count;
                pad_rows(hidden + k * length, around, layers.bias1[chunk + k], rows.first, margin, shape, padded);
                depthwise::convolve_plane<3>(padded, layers.dwconv + 9 * (chunk + k), layers.bias_dw[chunk + k], shape,
                                             plane);
                apply_gelu(plane, count, 0, plane);
            }
            dnnl_sgemm('N', 'N', channels, count, made, 1, layers.fc2 + chunk, sizes.hidden, active, count, 1,
                       y + place, pixels);
        }
    });
}

// Scratch memory of one thread for the backward pass of a chunk of hidden channels over a strip.
struct Strip {
    Rows rows, near, far;  // of the strip; with the margins that one and two depthwise convolutions read
    depthwise::Padded shape, wide;
    float *padded, *padded_gradient, *rounded_gradient, *hidden, *active, *active_gradient, *hidden_gradient;

    Strip(const Sizes &sizes, Rows rows)
        : rows(rows),
          near(rows.with(sizes.dilation, sizes.height)),
          far(rows.with(2 * sizes.dilation, sizes.height)),
          shape(rows.count(), sizes.width, 3, 1, sizes.dilation),
          wide(near.count(), sizes.width, 3, 1, sizes.dilation) {
        const int64_t width = sizes.width;
        padded = scratch<PaddedPlane>(wide.floats());
        padded_gradient = scratch<PaddedGradient>(shape.floats());
        rounded_gradient = scratch<RoundedGradient>(rows.count() * round_up(width, LANES));
        hidden = scratch<Hidden>(CHUNK * far.count() * width);
        active = scratch<Active>(CHUNK * near.count() * width);
        active_gradient = scratch<ActiveGradient>(CHUNK * near.count() * width);
        hidden_gradient = scratch<HiddenGradient>(CHUNK * rows.count() * width);
        memset(padded, 0, wide.floats() * sizeof(float));
        memset(padded_gradient, 0, shape.floats() * sizeof(float));
        std::fill(rounded_gradient, rounded_gradient + rows.count() * round_up(width, LANES), 0.f);
    }
};

// In place: z becomes GELU(z), and the gradient of GELU(z) becomes that of z.
inline void gelu_backward(float *z, float *active_gradient, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const float cdf = normal_cdf(z[i]);
        active_gradient[i] *= gelu_derivative(z[i], cdf);
        z[i] *= cdf;
    }
}

// Backward pass of hidden channel `channel`, index k in its chunk. From fc1(x) and the gradient of GELU's result it
// computes the gradient of fc1(x) in `hidden_gradient` and GELU's result in `active`; it accumulates the gradients of
// dwconv and of bias1 and bias_dw.
inline void hidden_backward(const Sizes &sizes, const Layers<const float> &layers, const Layers<float> &sums,
                            const Strip &s, int64_t channel, int64_t k) {
    const int64_t width = sizes.width, margin = sizes.dilation, count = s.rows.count() * width;
    const int64_t rounded = round_up(width, LANES), skipped = s.rows.first - s.near.first;
    const float *weight = layers.dwconv + 9 * channel;
    float flipped[9], *z = s.active + k * s.near.count() * width, *dz = s.active_gradient + k * s.near.count() * width;
    std::reverse_copy(weight, weight + 9, flipped);
    pad_rows(s.hidden + k * s.far.count() * width, s.far, layers.bias1[channel], s.near.first, margin, s.wide,
             s.padded);
    depthwise::convolve_plane<3>(s.padded, weight, layers.bias_dw[channel], s.wide, z);
    gelu_backward(z, dz, s.near.count() * width);
    for (int64_t row = 0; row < s.rows.count(); row++)
        std::copy(dz + (skipped + row) * width, dz + (skipped + row + 1) * width, s.rounded_gradient + row * rounded);
    for (int64_t i = 0; i < 3; i++)
        depthwise::add_row_gradient<3>(s.padded + skipped * s.wide.pitch, s.rounded_gradient, s.shape, i,
                                       sums.dwconv + 9 * channel + 3 * i);
    sums.bias_dw[channel] += sum(dz + skipped * width, count);
    pad_rows(dz, s.near, 0, s.rows.first, margin, s.shape, s.padded_gradient);
    depthwise::convolve_plane<3>(s.padded_gradient, flipped, 0, s.shape, s.hidden_gradient + k * count);
    sums.bias1[channel] += sum(s.hidden_gradient + k * count, count);
}

// Computes dx of a strip and accumulates the gradients of the layers in `sums`.
inline void strip_backward(const Sizes &sizes, const Layers<const float> &layers, const Layers<float> &sums,
                           const Strip &s, const float *x, const float *dy, float *dx) {
    const int64_t channels = sizes.channels, hidden = sizes.hidden, pixels = sizes.pixels(), width = sizes.width;
    const int64_t count = s.rows.count() * width, length = s.near.count() * width, place = s.rows.first * width;
    const int64_t skipped = (s.rows.first - s.near.first) * width;
    for (int64_t c = 0; c < channels; c++) sums.bias2[c] += sum(dy + c * pixels + place, count);
    for (int64_t chunk = 0; chunk < hidden; chunk += CHUNK) {
        const int64_t made = std::min(CHUNK, hidden - chunk);
        const float *fc1 = layers.fc1 + chunk * channels;
        apply_fc1(sizes, layers, x, chunk, made, s.far, s.hidden);
        dnnl_sgemm('T', 'N', made, length, channels, 1, layers.fc2 + chunk, hidden, dy + s.near.first * width, pixels,
                   0, s.active_gradient, length);
        for (int64_t k = 0; k < made; k++) hidden_backward(sizes, layers, sums, s, chunk + k, k);
        dnnl_sgemm('N', 'T', channels, made, count, 1, dy + place, pixels, s.active + skipped, length, 1,
                   sums.fc2 + chunk, hidden);
        dnnl_sgemm('N', 'T', made, channels, count, 1, s.hidden_gradient, count, x + place, pixels, 1,
                   sums.fc1 + chunk * channels, channels);
        dnnl_sgemm('T', 'N', channels, count, made, 1, fc1, channels, s.hidden_gradient, count, chunk ? 1 : 0,
                   dx + place, pixels);
    }
}

// Computes dx and the gradients of the layers, which are accumulated per thread and then summed.
inline void backward(const Sizes &sizes, const Layers<const float> &layers, const float *x, const float *dy, float *dx,
                     const Layers<float> &gradients) {
    const int64_t channels = sizes.channels, hidden = sizes.hidden, image_size = channels * sizes.pixels();
    const int64_t lengths[6] = {hidden * channels, hidden, 9 * hidden, hidden, channels * hidden, channels};
    float *const results[6] = {gradients.fc1,     gradients.bias1, gradients.dwconv,
                               gradients.bias_dw, gradients.fc2,   gradients.bias2};
    int64_t size = 0;
    for (int64_t length : lengths) size += length;
    std::vector<float *> all(omp_get_max_threads());
#pragma omp parallel
    {
        float *own = all[omp_get_thread_num()] = scratch<ThreadSums>(size), *parts[6];
        std::fill(own, own + size, 0.f);
        for (int i = 0; i < 6; own += lengths[i++]) parts[i] = own;
        const Layers<float> sums = {parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]};
        for_each_strip(sizes, [&](int64_t image, Rows rows) {
            const int64_t place = image * image_size;
            strip_backward(sizes, layers, sums, Strip(sizes, rows), x + place, dy + place, dx + place);
        });
        for (int64_t i = 0, first = 0; i < 6; first += lengths[i++])
            sum_over_threads(all, first, lengths[i], results[i]);
    }
}

}  // namespace mlp
}  // namespace
