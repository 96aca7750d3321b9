// 1 × 1 convolution: one matrix product per image, weight (O × I) · x (I × pixels).
namespace {
namespace pointwise {

// Maximum pixels per piece. Pieces are small enough to stay in the cache between filling in the bias and the product,
// and to keep all threads busy with a single image.
constexpr int64_t PIECE = 1024;

struct Sizes {
    int64_t batch, inputs, outputs, pixels;
    int64_t piece() const {
        const int64_t threads = omp_get_max_threads(), share = (batch * pixels + threads - 1) / threads;
        return std::min(std::min(PIECE, pixels), round_up(share, LANES));
    }
};

// y (B, O, pixels) = weight (O, I) · x (B, I, pixels) + bias (O), which may be null, then `epilogue`. With `transpose`
// 'T' the weight is (I, O).
inline void convolve(const Sizes &sizes, char transpose, const float *x, const float *weight, const float *bias,
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
                apply_epilogue(epilogue, o, (image * outputs + o) * pixels + first, y, count);
        }
}

// dweight (O, I) += dy (O × pixels) · xᵀ (pixels × I), dbias (O) += Σ dy, for outputs `o` … `o + count - 1` and pixels
// `first` … `last - 1`, numbered over all images.
inline void add_gradient(const Sizes &sizes, const float *x, const float *dy, int64_t o, int64_t count, int64_t first,
                         int64_t last, float *dweight, float *dbias) {
    const int64_t pixels = sizes.pixels, inputs = sizes.inputs;
    for (int64_t image = first / pixels; image * pixels < last; image++) {
        const int64_t from = std::max(first - image * pixels, int64_t(0)), to = std::min(last - image * pixels, pixels);
        const float *gradient = dy + (image * sizes.outputs + o) * pixels + from;
        dnnl_sgemm('N', 'T', count, inputs, to - from, 1, gradient, pixels, x + image * inputs * pixels + from, pixels,
                   1, dweight + o * inputs, inputs);
        for (int64_t row = 0; row < count; row++) dbias[o + row] += sum(gradient + row * pixels, to - from);
    }
}

// Each thread takes a share of the pixels, and the threads' sums are added. If the weight is so large that adding takes
// longer than it saves, each thread takes a share of the outputs instead.
inline void weight_gradient(const Sizes &sizes, const float *x, const float *dy, float *dweight, float *dbias) {
    const int64_t size = sizes.outputs * sizes.inputs, all = sizes.batch * sizes.pixels;
    const bool by_pixels = size <= 64 * all;
    std::vector<float *> sums(omp_get_max_threads());
#pragma omp parallel
    {
        const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        const int64_t total = by_pixels ? all : sizes.outputs, first = total * thread / threads;
        const int64_t last = total * (thread + 1) / threads;
        if (by_pixels) {
            float *own = sums[thread] = scratch<struct ThreadSums>(size + sizes.outputs);
            std::fill(own, own + size + sizes.outputs, 0.f);
            add_gradient(sizes, x, dy, 0, sizes.outputs, first, last, own, own + size);
#pragma omp barrier
            sum_over_threads(sums, 0, size, dweight);
            sum_over_threads(sums, size, sizes.outputs, dbias);
        } else {
            std::fill(dweight + first * sizes.inputs, dweight + last * sizes.inputs, 0.f);
            std::fill(dbias + first, dbias + last, 0.f);
            add_gradient(sizes, x, dy, first, last - first, 0, all, dweight, dbias);
        }
    }
}

}  // namespace pointwise
}  // namespace
