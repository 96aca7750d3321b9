// Fused criss-cross attention. q, k and v of a pixel are contiguous, `projected` floats per pixel, so one matrix
// product computes all three and any row or column of the image is a strided matrix. The attention of a pixel is one
// array of H + W weights, those of its column, then those of its row. No tensor is permuted, concatenated or split;
// only the result is transposed, back to planes.
namespace {
namespace criss_cross {

// A row or column of pixels, over which attention is computed.
struct Line {
    int64_t first, step, length, offset;  // in pixels; `offset` is the index of its first weight among the H + W
};

struct Image {
    int64_t channels, reduced, height, width;

    int64_t pixels() const { return height * width; }
    int64_t positions() const { return height + width; }
    int64_t projected() const { return channels + 2 * reduced; }
    Line row(int64_t y) const { return {y * width, 1, width, height}; }
    Line column(int64_t x) const { return {x, width, height, 0}; }
};

// Concatenated weights (C + 2 C', C) and biases (C + 2 C') of q, k and v; gamma (1).
struct Parameters {
    const float *weight, *bias, *gamma;
};

// Saved for the backward pass: projection (B, H·W, C + 2 C') and attention weights (B, H·W, H + W).
struct Saved {
    float *projection, *attention;
};

// Gradients in the shapes of Parameters.
struct Gradients {
    float *weight, *bias, *gamma;
};

// Scratch memory of the backward pass: gradients of the aggregated values (H·W, C), of the attention weights
// (H·W, H + W) and of the projection (H·W, C + 2 C').
struct Workspace {
    float *aggregated, *attention, *projection;
};

// weights (pixels of the line × positions of the line) = a bᵀ; a and b use `depth` of `pitch` floats per pixel.
inline void affinity(const Image &image, Line line, int64_t depth, const float *a, int64_t a_pitch, const float *b,
                     int64_t b_pitch, float *weights) {
    const int64_t positions = image.positions();
    dnnl_sgemm('N', 'T', line.length, line.length, depth, 1, a + line.first * a_pitch, line.step * a_pitch,
               b + line.first * b_pitch, line.step * b_pitch, 0, weights + line.first * positions + line.offset,
               line.step * positions);
}

// to = beta · to + weights · from; with `transpose` 'T' weightsᵀ · from.
inline void aggregate(const Image &image, Line line, int64_t depth, char transpose, const float *weights,
                      const float *from, int64_t from_pitch, float beta, float *to, int64_t to_pitch) {
    const int64_t positions = image.positions();
    dnnl_sgemm(transpose, 'N', line.length, depth, line.length, 1, weights + line.first * positions + line.offset,
               line.step * positions, from + line.first * from_pitch, line.step * from_pitch, beta,
               to + line.first * to_pitch, line.step * to_pitch);
}

// In-place softmax over the H + W - 1 positions of each pixel of row y. The pixel itself counts in its row; its
// position in the column gets weight 0.
inline void softmax_row(const Image &image, int64_t y, float *weights) {
    const int64_t positions = image.positions();
    for (int64_t x = 0; x < image.width; x++) {
        float *__restrict__ w = weights + (y * image.width + x) * positions;
        w[y] = -1e30f;  // finite: fast-math does not support infinities
        float largest = w[0], sum = 0;
#pragma omp simd reduction(max : largest)
        for (int64_t i = 0; i < positions; i++) largest = std::max(largest, w[i]);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < positions; i++) {
            w[i] = expf(w[i] - largest);
            sum += w[i];
        }
        const float scale = 1 / sum;
#pragma omp simd
        for (int64_t i = 0; i < positions; i++) w[i] *= scale;
        w[y] = 0;
    }
}

// Softmax backward for row y, in place: dw becomes w · (dw - Σ w dw). Returns Σ w dw over the row, its contribution to
// gamma's gradient.
inline double softmax_row_gradient(const Image &image, int64_t y, const float *weights, float *gradient) {
    const int64_t positions = image.positions();
    double total = 0;
    for (int64_t x = 0; x < image.width; x++) {
        const float *__restrict__ w = weights + (y * image.width + x) * positions;
        float *__restrict__ g = gradient + (y * image.width + x) * positions;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < positions; i++) dot += w[i] * g[i];
#pragma omp simd
        for (int64_t i = 0; i < positions; i++) g[i] = w[i] * (g[i] - dot);
        total += dot;
    }
    return total;
}

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Places __attribute__((vector_size(32)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// Transposes an 8 × 8 block: eight pixels, `pitch` floats apart, of eight channels each.
inline void transpose8(const float *from, int64_t pitch, Eight *to) {
    Eight a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = *(const Eight *)(from + i * pitch);
    for (int i = 0; i < 8; i += 2) {
        b[i] = SHUFFLE(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[i + 1] = SHUFFLE(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = i; j < i + 2; j++) {
            a[j] = SHUFFLE(b[j], b[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[j + 2] = SHUFFLE(b[j], b[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        to[i] = SHUFFLE(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        to[i + 4] = SHUFFLE(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// y = gamma · aggregated + x for `count` pixels; x and y are planes of `pixels`, aggregated is channels-last.
inline void add_residual(const float *aggregated, const float *x, float gamma, float *y, int64_t count, int64_t pixels,
                         int64_t channels) {
    const int64_t whole = channels / 8 * 8, blocks = count / 8 * 8;
    Eight transposed[8];
    for (int64_t c = 0; c < whole; c += 8)
        for (int64_t n = 0; n < blocks; n += 8) {
            transpose8(aggregated + n * channels + c, channels, transposed);
            for (int i = 0; i < 8; i++) {
                const int64_t place = (c + i) * pixels + n;
                *(Eight *)(y + place) = gamma * transposed[i] + *(const Eight *)(x + place);
            }
        }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t n = c < whole ? blocks : 0; n < count; n++)
            y[c * pixels + n] = gamma * aggregated[n * channels + c] + x[c * pixels + n];
}

// planes (channels × pixels) -> channels-last (pixels × channels)
inline void interleave(const float *planes, int64_t pixels, int64_t channels, float *to) {
    const int64_t whole = channels / 8 * 8, blocks = pixels / 8 * 8;
#pragma omp for
    for (int64_t n = 0; n < blocks; n += 8) {
        Eight transposed[8];
        for (int64_t c = 0; c < whole; c += 8) {
            transpose8(planes + c * pixels + n, pixels, transposed);
            for (int i = 0; i < 8; i++) *(Eight *)(to + (n + i) * channels + c) = transposed[i];
        }
    }
#pragma omp for
    for (int64_t n = 0; n < pixels; n++)
        for (int64_t c = n < blocks ? whole : 0; c < channels; c++) to[n * channels + c] = planes[c * pixels + n];
}

// projection (pixels × projected) = xᵀ weightᵀ + bias
inline void project(const Image &image, const float *x, const float *weight, const float *bias, float *projection) {
    const int64_t projected = image.projected(), pixels = image.pixels();
#pragma omp parallel for
    for (int64_t n = 0; n < pixels; n++) std::copy(bias, bias + projected, projection + n * projected);
    parallel_sgemm('T', 'T', pixels, projected, image.channels, x, pixels, weight, image.channels, 1, projection,
                   projected);
}

// x (C, H, W) -> y (C, H, W) and `saved` for one image. `aggregated` (H·W, slice) is scratch memory; `slice` channels
// are aggregated at a time.
inline void forward_image(const Image &image, const float *x, const Parameters &parameters, float *y,
                          const Saved &saved, float *aggregated, int64_t slice) {
    const int64_t projected = image.projected();
    float *projection = saved.projection, *weights = saved.attention;
    project(image, x, parameters.weight, parameters.bias, projection);
    const float *q = projection, *k = q + image.reduced, *v = k + image.reduced;
#pragma omp parallel
    {
#pragma omp for
        for (int64_t i = 0; i < image.width; i++)
            affinity(image, image.column(i), image.reduced, q, projected, k, projected, weights);
#pragma omp for
        for (int64_t i = 0; i < image.height; i++) {
            affinity(image, image.row(i), image.reduced, q, projected, k, projected, weights);
            softmax_row(image, i, weights);
        }
        for (int64_t c = 0; c < image.channels; c += slice) {
            const int64_t depth = std::min(slice, image.channels - c);
#pragma omp for
            for (int64_t i = 0; i < image.width; i++)
                aggregate(image, image.column(i), depth, 'N', weights, v + c, projected, 0, aggregated, depth);
#pragma omp for
            for (int64_t i = 0; i < image.height; i++) {
                const int64_t first = i * image.width, plane = c * image.pixels() + first;
                aggregate(image, image.row(i), depth, 'N', weights, v + c, projected, 1, aggregated, depth);
                add_residual(aggregated + first * depth, x + plane, parameters.gamma[0], y + plane, image.width,
                             image.pixels(), depth);
            }
        }
    }
}

// Backward pass of one image: writes dx, accumulates the gradients of weight and bias, returns that of gamma. The
// caller handles the factor gamma: it passes `weight` multiplied by gamma and multiplies the gradients of weight and
// bias.
inline double backward_image(const Image &image, const float *x, const float *weight, const Saved &saved,
                             const float *dy, float *dx, const Gradients &gradients, const Workspace &workspace) {
    const int64_t projected = image.projected(), channels = image.channels, reduced = image.reduced;
    const int64_t pixels = image.pixels();
    const float *q = saved.projection, *k = q + reduced, *v = k + reduced, *weights = saved.attention;
    float *daggregated = workspace.aggregated, *dweights = workspace.attention, *dprojection = workspace.projection;
    float *dq = dprojection, *dk = dq + reduced, *dv = dk + reduced;
    // Contribution of a line to dq, dk, dv. Rows come first and overwrite (beta 0); columns add.
    auto add_line = [&](Line line, float beta) {
        aggregate(image, line, channels, 'T', weights, daggregated, channels, beta, dv, projected);
        aggregate(image, line, reduced, 'N', dweights, k, projected, beta, dq, projected);
        aggregate(image, line, reduced, 'T', dweights, q, projected, beta, dk, projected);
    };
    double dgamma = 0;
#pragma omp parallel
    {
        interleave(dy, pixels, channels, daggregated);
#pragma omp for
        for (int64_t i = 0; i < image.width; i++)
            affinity(image, image.column(i), channels, daggregated, channels, v, projected, dweights);
#pragma omp for reduction(+ : dgamma)
        for (int64_t i = 0; i < image.height; i++) {
            affinity(image, image.row(i), channels, daggregated, channels, v, projected, dweights);
            dgamma += softmax_row_gradient(image, i, weights, dweights);
            add_line(image.row(i), 0);
        }
#pragma omp for
        for (int64_t i = 0; i < image.width; i++) add_line(image.column(i), 1);
    }
    std::copy(dy, dy + channels * pixels, dx);
    parallel_sgemm('T', 'T', channels, pixels, projected, weight, channels, dprojection, projected, 1, dx, pixels);
    parallel_sgemm('T', 'T', projected, channels, pixels, dprojection, projected, x, pixels, 1, gradients.weight,
                   channels);
    for (int64_t n = 0; n < pixels; n++)
        for (int64_t d = 0; d < projected; d++) gradients.bias[d] += dprojection[n * projected + d];
    return dgamma;
}

// The part of `saved` of image `b`.
inline Saved of_image(const Image &image, const Saved &saved, int64_t b) {
    return {saved.projection + b * image.pixels() * image.projected(),
            saved.attention + b * image.pixels() * image.positions()};
}

// x (B, C, H, W) -> y (B, C, H, W), image by image with shared scratch memory.
inline void forward(int64_t batch, const Image &image, const float *x, const Parameters &parameters, float *y,
                    const Saved &saved, float *aggregated, int64_t slice) {
    for (int64_t b = 0; b < batch; b++) {
        const int64_t planes = b * image.channels * image.pixels();
        forward_image(image, x + planes, parameters, y + planes, of_image(image, saved, b), aggregated, slice);
    }
}

// Computes dx (B, C, H, W) and the gradients; `weight` is as in `backward_image`.
inline void backward(int64_t batch, const Image &image, const float *x, const float *weight, const Saved &saved,
                     const float *dy, float *dx, const Gradients &gradients, const Workspace &workspace) {
    std::fill(gradients.weight, gradients.weight + image.projected() * image.channels, 0.f);
    std::fill(gradients.bias, gradients.bias + image.projected(), 0.f);
    double dgamma = 0;
    for (int64_t b = 0; b < batch; b++) {
        const int64_t planes = b * image.channels * image.pixels();
        dgamma += backward_image(image, x + planes, weight, of_image(image, saved, b), dy + planes, dx + planes,
                                 gradients, workspace);
    }
    gradients.gamma[0] = dgamma;
}

}  // namespace criss_cross
}  // namespace
