// 1 × 1 convolution: of each image one matrix product, weight (O × C) · x (C × pixels).
namespace {
namespace pointwise {

// The pixels are cut into pieces that stay in the cache between filling in the bias and the product, and that keep all
// threads busy when there is one image.
constexpr int64_t PIECE = 1024;

struct Sizes {
    int64_t batch, inputs, outputs, pixels;
    int64_t piece() const {
        const int64_t threads = omp_get_max_threads(), share = (batch * pixels + threads - 1) / threads;
        return std::min(std::min(PIECE, pixels), round_up(share, LANES));
    }
};

// y (B, O, pixels) = weight (O, I) · x (B, I, pixels) + bias (O) or nothing, then `epilogue`; with `transpose` 'T' the
// weight is (I, O)
inline void product(const Sizes &sizes, char transpose, const float *x, const float *weight, const float *bias,
                    float *y, const Epilogue &epilogue = {}) {
    const int64_t inputs = sizes.inputs, outputs = sizes.outputs, pixels = sizes.pixels, piece = sizes.piece();
    const int64_t pieces = (pixels + piece - 1) / piece;
#pragma omp parallel for collapse(2)
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t part = 0; part < pieces; part++) {
            const int64_t first = part * piece, count = std::min(piece, pixels - first);
            float *to = y + image * outputs * pixels + first;
            for (int64_t o = 0; bias && o < outputs; o++) std::fill(to + o * pixels, to + o * pixels + count, bias[o]);
            dnnl_sgemm(transpose, 'N', outputs, count, inputs, 1, weight, transpose == 'N' ? inputs : outputs,
                       x + image * inputs * pixels + first, pixels, bias ? 1 : 0, to, pixels);
            for (int64_t o = 0; o < outputs; o++)
                finish(epilogue, o, (image * outputs + o) * pixels + first, y, count);
        }
}

// dweight (O, I) = Σ dy (O × pixels) · xᵀ (pixels × I), dbias (O) = Σ dy
inline void weight_gradient(const Sizes &sizes, const float *x, const float *dy, float *dweight, float *dbias) {
    const int64_t inputs = sizes.inputs, outputs = sizes.outputs, pixels = sizes.pixels;
    for (int64_t image = 0; image < sizes.batch; image++)
        parallel_sgemm('N', 'T', outputs, inputs, pixels, dy + image * outputs * pixels, pixels,
                       x + image * inputs * pixels, pixels, image ? 1 : 0, dweight, inputs);
#pragma omp parallel for
    for (int64_t o = 0; o < outputs; o++) {
        double total = 0;
        for (int64_t image = 0; image < sizes.batch; image++) {
            const float *grad = dy + (image * outputs + o) * pixels;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < pixels; i++) sum += grad[i];
            total += sum;
        }
        dbias[o] = total;
    }
}

}  // namespace pointwise
}  // namespace
