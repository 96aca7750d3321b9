// The class with the largest score at each pixel, and its probability, in blocks of neighbouring pixels that stay in
// the cache over both passes through the classes.
namespace {
namespace argmax {

constexpr int64_t BLOCK = 256;

// 255 × the softmax probability of the largest score, or of a sum over several views: x (classes, pixels)
inline void probabilities(const float *x, const float *largest, uint8_t *probability, int64_t classes, int64_t pixels,
                          int64_t count, int64_t views) {
    float share[BLOCK] = {};
    if (views > 1)
        for (int64_t i = 0; i < count; i++) share[i] = largest[i] / views;
    else {
        for (int64_t c = 0; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < count; i++) share[i] += expf(x[c * pixels + i] - largest[i]);
#pragma omp simd
        for (int64_t i = 0; i < count; i++) share[i] = 1 / share[i];
    }
    for (int64_t i = 0; i < count; i++) probability[i] = 255 * share[i] + 0.5f;
}

// x (classes, pixels) -> labels (pixels) and, unless null, probability (pixels)
inline void forward(const float *x, uint8_t *labels, uint8_t *probability, int64_t classes, int64_t pixels,
                    int64_t views) {
#pragma omp parallel for
    for (int64_t first = 0; first < pixels; first += BLOCK) {
        const int64_t count = std::min(BLOCK, pixels - first);
        const float *block = x + first;
        float largest[BLOCK];
        int32_t label[BLOCK] = {};
        std::copy(block, block + count, largest);
        for (int32_t c = 1; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < count; i++) {
                const float score = block[c * pixels + i];
                label[i] = score > largest[i] ? c : label[i];
                largest[i] = std::max(largest[i], score);
            }
        std::copy(label, label + count, labels + first);
        if (probability) probabilities(block, largest, probability + first, classes, pixels, count, views);
    }
}

}  // namespace argmax
}  // namespace
