// Bilinear resizing plane by plane, first horizontally, then vertically: each input row is interpolated once, however
// many output rows use it.
namespace {
namespace resize {

// Source positions of each of `output` positions among `input`: `from`, `to` and the weight `share` of `to`.
struct Axis {
    std::vector<int32_t> from, to;
    std::vector<float> share;

    Axis(int64_t input, int64_t output, bool align_corners) : from(output), to(output), share(output) {
        for (int64_t i = 0; i < output; i++) {
            const float place = align_corners ? (output > 1 ? i * (float(input - 1) / (output - 1)) : 0.f)
                                              : std::max(0.f, (i + 0.5f) * (float(input) / output) - 0.5f);
            from[i] = std::min<int64_t>(place, input - 1);
            to[i] = std::min<int64_t>(from[i] + 1, input - 1);
            share[i] = std::min(1.f, place - from[i]);
        }
    }
};

// x (planes, in_height, in_width) -> y (planes, height, width)
inline void forward(const float *x, float *y, int64_t planes, int64_t in_height, int64_t in_width, int64_t height,
                    int64_t width, bool align_corners) {
    const Axis down(in_height, height, align_corners), across(in_width, width, align_corners);
#pragma omp parallel for
    for (int64_t plane = 0; plane < planes; plane++) {
        float *rows = scratch<struct TwoRows>(2 * width), *row[2] = {rows, rows + width};
        int64_t held[2] = {-1, -1};  // index of the input row in each `row`
        auto resize_row = [&](int64_t slot, int64_t source) {
            if (held[slot] == source) return;
            held[slot] = source;
            const float *from = x + (plane * in_height + source) * in_width;
            float *__restrict__ to = row[slot];
#pragma omp simd
            for (int64_t i = 0; i < width; i++) {
                const float left = from[across.from[i]];
                to[i] = left + across.share[i] * (from[across.to[i]] - left);
            }
        };
        for (int64_t j = 0; j < height; j++) {
            if (held[1] == down.from[j]) {  // the previous lower row is now the upper one
                std::swap(row[0], row[1]);
                std::swap(held[0], held[1]);
            }
            resize_row(0, down.from[j]);
            resize_row(1, down.to[j]);
            const float share = down.share[j], *upper = row[0], *lower = row[1];
            float *__restrict__ to = y + (plane * height + j) * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) to[i] = upper[i] + share * (lower[i] - upper[i]);
        }
    }
}

// The transposed operation: dy (planes, height, width) -> dx (planes, in_height, in_width)
inline void backward(const float *dy, float *dx, int64_t planes, int64_t in_height, int64_t in_width, int64_t height,
                     int64_t width, bool align_corners) {
    const Axis down(in_height, height, align_corners), across(in_width, width, align_corners);
#pragma omp parallel for
    for (int64_t plane = 0; plane < planes; plane++) {
        float *rows = scratch<struct AllRows>(in_height * width);
        std::fill(rows, rows + in_height * width, 0.f);
        for (int64_t j = 0; j < height; j++) {
            const float share = down.share[j], *from = dy + (plane * height + j) * width;
            float *upper = rows + down.from[j] * width, *lower = rows + down.to[j] * width;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) upper[i] += (1 - share) * from[i];
#pragma omp simd
            for (int64_t i = 0; i < width; i++) lower[i] += share * from[i];
        }
        float *to = dx + plane * in_height * in_width;
        std::fill(to, to + in_height * in_width, 0.f);
        for (int64_t j = 0; j < in_height; j++, to += in_width)
            for (int64_t i = 0; i < width; i++) {
                const float value = rows[j * width + i], right = across.share[i] * value;
                to[across.from[i]] += value - right;
                to[across.to[i]] += right;
            }
    }
}

}  // namespace resize
}  // namespace
