// Non-local attention over all pairs of pixels, for a block of queries and a block of keys at a time: the weights of
// all pairs are never stored. The forward pass keeps each query's running maximum and sum; the backward pass recomputes
// the weights. q and k are planes (C' × pixels), v and the result (C × pixels).
namespace {
namespace non_local {

constexpr int64_t QUERIES = 256, KEYS = 512;  // pixels of a block, whose weights stay in the cache

// Tags of scratch memory: weights of a block (queries × keys), their gradient, and a thread's gradient of q.
struct Weights;
struct WeightGradient;
struct QueryGradient;

// Of one image.
struct Sizes {
    int64_t reduced, channels, pixels;

    // The size of blocks, at most `limit`, of which each thread gets equally many.
    int64_t block(int64_t limit) const {
        const int64_t threads = omp_get_max_threads(), rounds = (pixels + threads * limit - 1) / (threads * limit);
        return round_up((pixels + threads * rounds - 1) / (threads * rounds), LANES);
    }
};

// A block of pixels.
struct Range {
    int64_t first, count;
};

// weights (queries × keys) = aᵀ b for planes a and b of `depth` channels
inline void affinity(const Sizes &sizes, int64_t depth, const float *a, Range queries, const float *b, Range keys,
                     float *weights) {
    dnnl_sgemm('T', 'N', queries.count, keys.count, depth, 1, a + queries.first, sizes.pixels, b + keys.first,
               sizes.pixels, 0, weights, keys.count);
}

// In place exp(weights - new maximum). Updates maximum and sum of the query; returns the factor of its earlier sum.
inline float exponentials(float *__restrict__ weights, int64_t count, float &maximum, float &total) {
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

// y (C, pixels) and logsumexp (pixels), the logarithm of the sum of exponentials, of these queries.
inline void forward_block(const Sizes &sizes, const float *q, const float *k, const float *v, Range queries, float *y,
                          float *logsumexp) {
    float maxima[QUERIES], sums[QUERIES] = {}, factors[QUERIES], *weights = scratch<Weights>(QUERIES * KEYS);
    std::fill(maxima, maxima + QUERIES, -1e30f);  // finite: fast-math does not support infinities
    const int64_t pixels = sizes.pixels;
    for (int64_t first = 0; first < pixels; first += KEYS) {
        const Range keys = {first, std::min(KEYS, pixels - first)};
        affinity(sizes, sizes.reduced, q, queries, k, keys, weights);
        for (int64_t i = 0; i < queries.count; i++)
            factors[i] = exponentials(weights + i * keys.count, keys.count, maxima[i], sums[i]);
        if (first) scale(sizes, queries, factors, y);
        dnnl_sgemm('N', 'T', sizes.channels, queries.count, keys.count, 1, v + first, pixels, weights, keys.count,
                   first ? 1 : 0, y + queries.first, pixels);
    }
    for (int64_t i = 0; i < queries.count; i++) {
        factors[i] = 1 / sums[i];
        logsumexp[queries.first + i] = maxima[i] + logf(sums[i]);
    }
    scale(sizes, queries, factors, y);
}

// y (B, C, pixels) = v · softmax(qᵀ k)ᵀ, and logsumexp (B, pixels), which the backward pass needs.
inline void forward(int64_t batch, const Sizes &sizes, const float *q, const float *k, const float *v, float *y,
                    float *logsumexp) {
    const int64_t pixels = sizes.pixels, size = sizes.block(QUERIES);
    for (int64_t b = 0; b < batch; b++) {
#pragma omp parallel for
        for (int64_t first = 0; first < pixels; first += size)
            forward_block(sizes, q, k, v, {first, std::min(size, pixels - first)}, y, logsumexp);
        q += sizes.reduced * pixels, k += sizes.reduced * pixels, v += sizes.channels * pixels;
        y += sizes.channels * pixels, logsumexp += pixels;
    }
}

// Turns scores into weights w, and the gradient of weights into that of scores: w (dw - Σ w dw), where a query's sum
// over all keys is `dot`, Σ dy y over the channels.
inline void softmax_backward(Range queries, int64_t keys, const float *logsumexp, const float *dot, float *weights,
                             float *gradient) {
    for (int64_t i = 0; i < queries.count; i++) {
        float *__restrict__ w = weights + i * keys, *__restrict__ g = gradient + i * keys;
        const float shift = logsumexp[queries.first + i], mean = dot[queries.first + i];
#pragma omp simd
        for (int64_t j = 0; j < keys; j++) {
            w[j] = expf(w[j] - shift);
            g[j] = w[j] * (g[j] - mean);
        }
    }
}

// Tensors of one image in the backward pass.
struct Given {
    const float *q, *k, *v, *logsumexp, *dot, *dy;
};

// Writes dk and dv of these keys, and adds to dq what goes through them.
inline void backward_block(const Sizes &sizes, const Given &given, Range keys, float *dq, float *dk, float *dv) {
    const int64_t pixels = sizes.pixels, reduced = sizes.reduced, channels = sizes.channels, count = keys.count;
    float *weights = scratch<Weights>(QUERIES * KEYS), *gradient = scratch<WeightGradient>(QUERIES * KEYS);
    for (int64_t first = 0; first < pixels; first += QUERIES) {
        const Range queries = {first, std::min(QUERIES, pixels - first)};
        const float beta = first ? 1 : 0;
        affinity(sizes, reduced, given.q, queries, given.k, keys, weights);
        affinity(sizes, channels, given.dy, queries, given.v, keys, gradient);
        softmax_backward(queries, count, given.logsumexp, given.dot, weights, gradient);
        dnnl_sgemm('N', 'N', channels, count, queries.count, 1, given.dy + first, pixels, weights, count, beta,
                   dv + keys.first, pixels);
        dnnl_sgemm('N', 'N', reduced, count, queries.count, 1, given.q + first, pixels, gradient, count, beta,
                   dk + keys.first, pixels);
        dnnl_sgemm('N', 'T', reduced, queries.count, count, 1, given.k + keys.first, pixels, gradient, count, 1,
                   dq + first, pixels);
    }
}

// dq, dk and dv in the shapes of q, k and v. `dot` (B, pixels): Σ dy y over the channels.
inline void backward(int64_t batch, const Sizes &sizes, Given given, float *dq, float *dk, float *dv) {
    const int64_t pixels = sizes.pixels, size = sizes.block(KEYS), few = sizes.reduced * pixels;
    const int64_t many = sizes.channels * pixels;
    std::vector<float *> sums(omp_get_max_threads());
    for (int64_t b = 0; b < batch; b++) {
#pragma omp parallel
        {
            float *own = sums[omp_get_thread_num()] = scratch<QueryGradient>(few);
            std::fill(own, own + few, 0.f);
#pragma omp for
            for (int64_t first = 0; first < pixels; first += size)
                backward_block(sizes, given, {first, std::min(size, pixels - first)}, own, dk, dv);
            sum_over_threads(sums, 0, few, dq);
        }
        given = {given.q + few,      given.k + few,  given.v + many, given.logsumexp + pixels,
                 given.dot + pixels, given.dy + many};
        dq += few, dk += few, dv += many;
    }
}

}  // namespace non_local
}  // namespace
