// Depthwise convolution of one plane at a time, with zero padding of dilation · (K / 2) on every side.
//
// A plane is first copied into a padded plane whose columns are split into `stride` groups: column x becomes element
// x / stride of group x % stride. For any stride, the inputs of sixteen neighbouring outputs at tap k are then sixteen
// contiguous floats, without border checks.
namespace {
namespace depthwise {

// Tags of scratch memory: a padded plane; output rows, and a plane of output gradients, rounded up to whole Lanes.
struct PaddedPlane;
struct RoundedRows;
struct RoundedGradient;

struct Padded {
    int64_t height, width, stride, dilation, size, padding;
    int64_t out_height, out_width;
    int64_t group, pitch;  // floats per column group, floats per padded row

    Padded(int64_t height, int64_t width, int64_t size, int64_t stride, int64_t dilation)
        : height(height),
          width(width),
          stride(stride),
          dilation(dilation),
          size(size),
          padding(dilation * (size / 2)),
          out_height((height - 1) / stride + 1),
          out_width((width - 1) / stride + 1) {
        group = round_up(out_width, LANES) + round_up(2 * padding / stride + 1, LANES);
        pitch = group * stride;
    }
    int64_t rows() const { return height + 2 * padding; }
    int64_t floats() const { return rows() * pitch + LANES; }
    int64_t column(int64_t tap) const {
        const int64_t offset = tap * dilation;
        return offset % stride * group + offset / stride;
    }
};

// Copies `plane` into the padded plane with distance `spread` between pixels: 1, or the stride for a gradient.
inline void pad(const float *plane, int64_t height, int64_t width, int64_t spread, const Padded &to, float *padded) {
    const bool whole = to.stride == 1 && spread == 1;  // contiguous rows: only the padding is zeroed
    const int64_t margin = to.padding * to.pitch, length = height * to.pitch;
    memset(padded, 0, (whole ? margin : to.floats()) * sizeof(float));
    if (whole) memset(padded + margin + length, 0, (to.floats() - margin - length) * sizeof(float));
    for (int64_t y = 0; y < height; y++) {
        float *row = padded + (y * spread + to.padding) * to.pitch;
        const float *from = plane + y * width;
        if (whole) {
            std::fill(row, row + to.padding, 0.f);
            memcpy(row + to.padding, from, width * sizeof(float));
            std::fill(row + to.padding + width, row + to.pitch, 0.f);
            continue;
        }
        for (int64_t first = 0; first < std::min(to.stride, width); first++) {
            const int64_t column = first * spread + to.padding;
            float *place = row + column % to.stride * to.group + column / to.stride;
            for (int64_t x = first; x < width; x += to.stride, place += spread) *place = from[x];
        }
    }
}

// Computes rows × blocks · 16 outputs in registers over all taps. The rows are `dilation` apart, so they share inputs.
// K = 0 means a size known only at run time.
template <int K, int rows, int blocks>
inline __attribute__((always_inline)) void convolve_lanes(const float *input, const float *weight, float bias,
                                                          const Padded &shape, const int64_t *columns, float *output,
                                                          int64_t pitch) {
    const int size = K ? K : shape.size;
    Lanes sums[rows][blocks];
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++) sums[row][block] = Lanes{} + bias;
#pragma GCC unroll 10
    for (int i = 0; i < size + rows - 1; i++)
#pragma GCC unroll 7
        for (int k = 0; k < size; k++) {
            const float *tap = input + i * shape.dilation * shape.pitch + columns[k];
            Lanes values[blocks];
            for (int block = 0; block < blocks; block++) values[block] = *(const Lanes *)(tap + block * LANES);
#pragma GCC unroll 4
            for (int row = 0; row < rows; row++)
                if (i >= row && i < row + size)
                    for (int block = 0; block < blocks; block++)
                        sums[row][block] += weight[(i - row) * size + k] * values[block];
        }
    for (int row = 0; row < rows; row++)
        for (int block = 0; block < blocks; block++)
            *(Lanes *)(output + row * pitch + block * LANES) = sums[row][block];
}

// Computes `rows` output rows from row y, `dilation` apart, into `to`, whose rows are `pitch` floats apart.
template <int K, int rows>
void convolve_rows(const float *padded, const float *weight, float bias, const Padded &shape, const int64_t *columns,
                   int64_t y, float *to, int64_t pitch) {
    const float *row = padded + y * shape.stride * shape.pitch;
    const int64_t rounded = round_up(shape.out_width, LANES);
    int64_t x = 0;
    for (; x + 2 * LANES <= rounded; x += 2 * LANES)
        convolve_lanes<K, rows, 2>(row + x, weight, bias, shape, columns, to + x, pitch);
    if (x < rounded) convolve_lanes<K, rows, 1>(row + x, weight, bias, shape, columns, to + x, pitch);
}

// Convolves a plane, four rows `dilation` apart at a time; one at a time if stride > 1, as rows then share no inputs.
template <int K>
void convolve_plane(const float *padded, const float *weight, float bias, const Padded &shape, float *output) {
    const int64_t width = shape.out_width, rounded = round_up(width, LANES), step = shape.dilation;
    std::vector<int64_t> columns(shape.size);
    for (int64_t k = 0; k < shape.size; k++) columns[k] = shape.column(k);
    float *rounded_rows = scratch<RoundedRows>(4 * rounded);
    for (int64_t phase = 0; phase < std::min(step, shape.out_height); phase++)
        for (int64_t y = phase; y < shape.out_height;) {
            const int64_t rows = shape.stride == 1 && y + 3 * step < shape.out_height ? 4 : 1;
            const bool direct = width == rounded;
            float *to = direct ? output + y * width : rounded_rows;
            const int64_t pitch = direct ? step * width : rounded;
            (rows == 4 ? convolve_rows<K, 4> : convolve_rows<K, 1>)(padded, weight, bias, shape, columns.data(), y, to,
                                                                    pitch);
            for (int64_t row = 0; !direct && row < rows; row++)
                memcpy(output + (y + row * step) * width, rounded_rows + row * rounded, width * sizeof(float));
            y += rows * step;
        }
}

// x (B, C, H, W), weight (C, 1, K, K), bias (C) or null -> y (B, C, (H - 1) / stride + 1, (W - 1) / stride + 1)
template <int K>
void forward(const float *x, const float *weight, const float *bias, float *y, int64_t planes, int64_t channels,
             const Padded &shape) {
    const int64_t taps = shape.size * shape.size, out_pixels = shape.out_height * shape.out_width;
#pragma omp parallel for
    for (int64_t plane = 0; plane < planes; plane++) {
        const int64_t channel = plane % channels;
        float *padded = scratch<PaddedPlane>(shape.floats());
        pad(x + plane * shape.height * shape.width, shape.height, shape.width, 1, shape, padded);
        convolve_plane<K>(padded, weight + channel * taps, bias ? bias[channel] : 0, shape, y + plane * out_pixels);
    }
}

// dx is dy, with `stride` - 1 zeros inserted between pixels, convolved with the flipped kernel. `shape` is that of the
// forward pass.
template <int K>
void input_gradient(const float *weight, const float *dy, float *dx, int64_t planes, int64_t channels,
                    const Padded &shape) {
    const int64_t taps = shape.size * shape.size;
    const Padded spread(shape.height, shape.width, shape.size, 1, shape.dilation);
#pragma omp parallel for
    for (int64_t plane = 0; plane < planes; plane++) {
        const float *kernel = weight + plane % channels * taps;
        std::vector<float> flipped(taps);
        std::reverse_copy(kernel, kernel + taps, flipped.begin());
        float *padded = scratch<PaddedPlane>(spread.floats());
        pad(dy + plane * shape.out_height * shape.out_width, shape.out_height, shape.out_width, shape.stride, spread,
            padded);
        convolve_plane<K>(padded, flipped.data(), 0, spread, dx + plane * shape.height * shape.width);
    }
}

// Accumulates the gradient of kernel row `i`: K sums over the whole plane. dy's rows are padded to whole Lanes.
template <int K>
inline void add_row_gradient(const float *padded, const float *dy, const Padded &shape, int64_t i, float *gradient) {
    constexpr int batch = K ? K : 1;
    const int64_t rounded = round_up(shape.out_width, LANES);
    for (int64_t first = 0; first < shape.size; first += batch) {
        Lanes sums[batch] = {};
        int64_t columns[batch];
        for (int k = 0; k < batch; k++) columns[k] = shape.column(first + k);
        for (int64_t y = 0; y < shape.out_height; y++) {
            const float *row = padded + (y * shape.stride + i * shape.dilation) * shape.pitch;
            for (int64_t x = 0; x < rounded; x += LANES) {
                const Lanes grad = *(const Lanes *)(dy + y * rounded + x);
#pragma GCC unroll 7
                for (int k = 0; k < batch; k++) sums[k] += grad * *(const Lanes *)(row + columns[k] + x);
            }
        }
        for (int k = 0; k < batch; k++) gradient[first + k] += sum(sums[k]);
    }
}

template <int K>
void weight_gradient(const float *x, const float *dy, float *dweight, float *dbias, int64_t batch, int64_t channels,
                     const Padded &shape) {
    const int64_t taps = shape.size * shape.size, out_pixels = shape.out_height * shape.out_width;
    const int64_t rounded = round_up(shape.out_width, LANES);
#pragma omp parallel for
    for (int64_t channel = 0; channel < channels; channel++) {
        float *padded = scratch<PaddedPlane>(shape.floats());
        float *grad = scratch<RoundedGradient>(shape.out_height * rounded);
        float *gradient = dweight + channel * taps;
        std::fill(gradient, gradient + taps, 0.f);
        double total = 0;
        for (int64_t image = 0; image < batch; image++) {
            const int64_t plane = image * channels + channel;
            pad(x + plane * shape.height * shape.width, shape.height, shape.width, 1, shape, padded);
            for (int64_t y = 0; y < shape.out_height; y++) {
                const float *from = dy + plane * out_pixels + y * shape.out_width;
                std::copy(from, from + shape.out_width, grad + y * rounded);
                std::fill(grad + y * rounded + shape.out_width, grad + (y + 1) * rounded, 0.f);
            }
            for (int64_t i = 0; i < shape.size; i++)
                add_row_gradient<K>(padded, grad, shape, i, gradient + i * shape.size);
            for (int64_t y = 0; y < shape.out_height; y++) total += sum(grad + y * rounded, rounded);
        }
        dbias[channel] = total;
    }
}

}  // namespace depthwise
}  // namespace
