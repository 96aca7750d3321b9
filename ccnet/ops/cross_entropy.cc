// Cross entropy of logits (B, C, pixels) with labels (B, pixels), in blocks of neighbouring pixels that stay
// in the cache over the three passes through the classes.
namespace {
namespace cross_entropy {

constexpr int64_t BLOCK = 256;

// Calls f(first logit, first pixel, number of pixels) for every block, in parallel.
template <class Function>
inline void for_each_block(int64_t batch, int64_t classes, int64_t pixels, Function f) {
    const int64_t count = (pixels + BLOCK - 1) / BLOCK;
#pragma omp parallel for
    for (int64_t i = 0; i < batch * count; i++) {
        const int64_t image = i / count, first = i % count * BLOCK;
        f(image * classes * pixels + first, image * pixels + first, std::min(BLOCK, pixels - first));
    }
}

// loss (B, pixels): -log of the label's softmax probability, 0 where ignored; normaliser (B, pixels): log Σ exp
template <class Label>
void forward(const float *logits, const Label *labels, float *loss, float *normaliser, int64_t batch, int64_t classes,
             int64_t pixels, int64_t ignore) {
    for_each_block(batch, classes, pixels, [=](int64_t logit, int64_t pixel, int64_t count) {
        const float *x = logits + logit;
        float largest[BLOCK], sum[BLOCK] = {};
        std::copy(x, x + count, largest);
        for (int64_t c = 1; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < count; i++) largest[i] = std::max(largest[i], x[c * pixels + i]);
        for (int64_t c = 0; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < count; i++) sum[i] += expf(x[c * pixels + i] - largest[i]);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) normaliser[pixel + i] = logf(sum[i]) + largest[i];
        for (int64_t i = 0; i < count; i++) {
            const int64_t label = labels[pixel + i];
            loss[pixel + i] = label == ignore ? 0 : normaliser[pixel + i] - x[label * pixels + i];
        }
    });
}

// dlogits = dloss · (softmax - one-hot label), 0 where ignored
template <class Label>
void backward(const float *logits, const Label *labels, const float *normaliser, const float *dloss, float *dlogits,
              int64_t batch, int64_t classes, int64_t pixels, int64_t ignore) {
    for_each_block(batch, classes, pixels, [=](int64_t logit, int64_t pixel, int64_t count) {
        float scale[BLOCK];
        for (int64_t i = 0; i < count; i++) scale[i] = labels[pixel + i] == ignore ? 0 : dloss[pixel + i];
        for (int64_t c = 0; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < count; i++) {
                const int64_t place = logit + c * pixels + i;
                dlogits[place] = scale[i] * expf(logits[place] - normaliser[pixel + i]);
            }
        for (int64_t i = 0; i < count; i++)
            if (labels[pixel + i] != ignore) dlogits[logit + labels[pixel + i] * pixels + i] -= scale[i];
    });
}

}  // namespace cross_entropy
}  // namespace
