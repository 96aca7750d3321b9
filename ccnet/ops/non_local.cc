// Non-local attention over all pairs of pixels, for a block of queries and a block of positions at a time: no weights
// of all pairs are stored. The forward pass keeps each query's running maximum and sum; the backward pass recomputes
// the weights. q and k are planes (C' × pixels), v and the result (C × pixels).
namespace {
namespace non_local {

constexpr int64_t QUERIES = 256, POSITIONS = 512;  // of a block, whose weights stay in the cache

// Tags of scratch memory: weights of a block (queries × positions), their gradient, and a thread's gradient of q.
struct Weights;
struct WeightGradient;
struct QueryGradient;

struct Sizes {
    int64_t batch, reduced, channels, pixels;

    // The largest block that leaves work for every thread; at most `limit`.
    int64_t block(int64_t limit) const {
        const int64_t threads = omp_get_max_threads();
        return std::min(limit, round_up((batch * pixels + threads - 1) / threads, LANES));
    }
};

struct Range {
    int64_t first, count;
};

// Calls f(image, range) for ranges of at most `size` pixels of each image. Call it from all threads of a parallel
// region.
template <class Function>
void for_each_range(const Sizes &sizes, int64_t size, Function f) {
#pragma omp for collapse(2)
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < sizes.pixels; first += size)
            f(image, Range{first, std::min(size, sizes.pixels - first)});
}

// weights (queries × positions) = aᵀ b for planes a and b of `depth` channels
inline void affinity(const Sizes &sizes, int64_t depth, const float *a, Range queries, const float *b, Range positions,
                     float *weights) {
    dnnl_sgemm('T', 'N', queries.count, positions.count, depth, 1, a + queries.first, sizes.pixels, b + positions.first,
               sizes.pixels, 0, weights, positions.count);
}

// In place exp(weights - new maximum). Updates maximum and sum of the query; returns the factor of its earlier sum.
inline float soften(float *__restrict__ weights, int64_t count, float &maximum, float &total) {
    float largest = maximum, added = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++) largest = std::max(largest, weights[i]);
#pragma omp simd reduction(+ : added)
    for (int64_t i = 0; i < count; i++) {
        weights[i] = expf(weights[i] - largest);
        added += weights[i];
    }
    const float factor = expf(maximum - largest);
    maximum = largest;
    total = total * factor + added;
    return factor;
}

// Multiplies pixel i of the range by factors[i] in all channels of y.
inline void scale(const Sizes &sizes, Range range, const float *factors, float *y) {
    for (int64_t c = 0; c < sizes.channels; c++) {
        float *plane = y + c * sizes.pixels + range.first;
#pragma omp simd
        for (int64_t i = 0; i < range.count; i++) plane[i] *= factors[i];
    }
}

// y (C, pixels) and the logarithm of the sum of exponentials (pixels) for the queries of one image.
inline void forward_block(const Sizes &sizes, const float *q, const float *k, const float *v, Range queries, float *y,
                          float *logarithms) {
    float maxima[QUERIES], sums[QUERIES] = {}, factors[QUERIES];
    std::fill(maxima, maxima + QUERIES, -1e30f);  // finite: fast-math does not support infinities
    const int64_t pixels = sizes.pixels;
    for (int64_t first = 0; first < pixels; first += POSITIONS) {
        const Range positions = {first, std::min(POSITIONS, pixels - first)};
        float *weights = scratch<Weights>(QUERIES * POSITIONS);
        affinity(sizes, sizes.reduced, q, queries, k, positions, weights);
        for (int64_t i = 0; i < queries.count; i++)
            factors[i] = soften(weights + i * positions.count, positions.count, maxima[i], sums[i]);
        if (first) scale(sizes, queries, factors, y);
        dnnl_sgemm('N', 'T', sizes.channels, queries.count, positions.count, 1, v + first, pixels, weights,
                   positions.count, first ? 1 : 0, y + queries.first, pixels);
    }
    for (int64_t i = 0; i < queries.count; i++) {
        factors[i] = 1 / sums[i];
        logarithms[queries.first + i] = maxima[i] + logf(sums[i]);
    }
    scale(sizes, queries, factors, y);
}

// y (B, C, pixels) = v · softmax(qᵀ k)ᵀ, and the logarithms (B, pixels) that the backward pass needs.
inline void forward(const Sizes &sizes, const float *q, const float *k, const float *v, float *y, float *logarithms) {
    const int64_t few = sizes.reduced * sizes.pixels, many = sizes.channels * sizes.pixels;
#pragma omp parallel
    for_each_range(sizes, sizes.block(QUERIES), [&](int64_t image, Range queries) {
        forward_block(sizes, q + image * few, k + image * few, v + image * many, queries, y + image * many,
                      logarithms + image * sizes.pixels);
    });
}

// Turns scores into weights, and the gradient of weights into that of scores: w (dw - Σ w dw), where the sum over all
// positions is a query's `products`, Σ dy y over its channels.
inline void soften_backward(Range queries, int64_t count, const float *logarithms, const float *products,
                            float *weights, float *gradient) {
    for (int64_t i = 0; i < queries.count; i++) {
        float *__restrict__ w = weights + i * count, *__restrict__ g = gradient + i * count;
        const float logarithm = logarithms[queries.first + i], product = products[queries.first + i];
#pragma omp simd
        for (int64_t j = 0; j < count; j++) {
            w[j] = expf(w[j] - logarithm);
            g[j] = w[j] * (g[j] - product);
        }
    }
}

// One image's tensors in the backward pass; the gradient of q is the calling thread's part of it.
struct Image {
    const float *q, *k, *v, *logarithms, *products, *dy;
    float *dq, *dk, *dv;
};

// Writes dk and dv of these positions, and adds to dq what goes through them.
inline void backward_block(const Sizes &sizes, const Image &image, Range positions) {
    const int64_t pixels = sizes.pixels, reduced = sizes.reduced, channels = sizes.channels, count = positions.count;
    float *weights = scratch<Weights>(QUERIES * POSITIONS), *gradient = scratch<WeightGradient>(QUERIES * POSITIONS);
    for (int64_t first = 0; first < pixels; first += QUERIES) {
        const Range queries = {first, std::min(QUERIES, pixels - first)};
        const float beta = first ? 1 : 0;
        affinity(sizes, reduced, image.q, queries, image.k, positions, weights);
        affinity(sizes, channels, image.dy, queries, image.v, positions, gradient);
        soften_backward(queries, count, image.logarithms, image.products, weights, gradient);
        dnnl_sgemm('N', 'N', channels, count, queries.count, 1, image.dy + first, pixels, weights, count, beta,
                   image.dv + positions.first, pixels);
        dnnl_sgemm('N', 'N', reduced, count, queries.count, 1, image.q + first, pixels, gradient, count, beta,
                   image.dk + positions.first, pixels);
        dnnl_sgemm('N', 'T', reduced, queries.count, count, 1, image.k + positions.first, pixels, gradient, count, 1,
                   image.dq + first, pixels);
    }
}

// dq, dk and dv in the shapes of q, k and v. `products` (B, pixels): Σ dy y over the channels.
inline void backward(const Sizes &sizes, const float *q, const float *k, const float *v, const float *logarithms,
                     const float *products, const float *dy, float *dq, float *dk, float *dv) {
    const int64_t few = sizes.reduced * sizes.pixels, many = sizes.channels * sizes.pixels;
    std::vector<float *> sums(omp_get_max_threads());
#pragma omp parallel
    {
        float *own = sums[omp_get_thread_num()] = scratch<QueryGradient>(sizes.batch * few);
        std::fill(own, own + sizes.batch * few, 0.f);
        for_each_range(sizes, sizes.block(POSITIONS), [&](int64_t b, Range positions) {
            const int64_t place = b * few, planes = b * many, pixel = b * sizes.pixels;
            backward_block(sizes,
                           {q + place, k + place, v + planes, logarithms + pixel, products + pixel, dy + planes,
                            own + place, dk + place, dv + planes},
                           positions);
        });
        sum_over_threads(sums, 0, sizes.batch * few, dq);
    }
}

}  // namespace non_local
}  // namespace
