// Criss-cross attention, fused: `criss_cross.cc` on a GPU, in the same memory. q, k and v of a pixel lie side by side,
// `projected` numbers per pixel, so that any row or column of an image is a matrix with a stride: all rows of all
// images are one batched product, all columns of an image another. The attention of a pixel is one array of H + W
// weights: those of its column, then those of its row. Nothing is permuted, concatenated or split.
namespace {
namespace criss_cross {

constexpr int64_t PARTS = 64, WARPS = THREADS / WARP, MOST_BLOCKS = 1024;

// Rows or columns of pixels: lines along which attention looks. All but `count` and `offset` in pixels.
struct Lines {
    int64_t count, first, spacing;  // where line 0 begins, and how far from it the next one
    int64_t step, length, offset;   // `offset` is where a line's weights begin among the H + W
};

struct Image {
    int64_t channels, reduced, height, width;

    __host__ __device__ int64_t pixels() const { return height * width; }
    __host__ __device__ int64_t positions() const { return height + width; }
    int64_t projected() const { return channels + 2 * reduced; }
    Lines rows(int64_t batch) const { return {batch * height, 0, width, 1, width, height}; }
    Lines columns(int64_t image) const { return {width, image * pixels(), 1, width, height, 0}; }
};

// the pixels of each line as a matrix, for numbers of which a pixel has `pitch`
template <class T>
Matrices<T> along(Lines lines, T *data, int64_t pitch, char transpose = 'N') {
    return matrices(data + lines.first * pitch, lines.step * pitch, lines.spacing * pitch, transpose);
}

// weights (pixels of a line × positions of the line) = a bᵀ, where a and b have `depth` of `pitch` numbers a pixel
template <class T>
void compare(const Image &image, Lines lines, int64_t depth, const T *a, int64_t a_pitch, const T *b, int64_t b_pitch,
             T *weights) {
    product(lines.count, lines.length, lines.length, depth, along(lines, a, a_pitch), along(lines, b, b_pitch, 'T'), 0,
            along(lines, weights + lines.offset, image.positions()));
}

// to = beta · to + weights · from, or weightsᵀ with transpose 'T'
template <class T>
void gather(const Image &image, Lines lines, int64_t depth, char transpose, const T *weights, const T *from,
            int64_t from_pitch, float beta, T *to, int64_t to_pitch) {
    product(lines.count, lines.length, depth, lines.length,
            along(lines, weights + lines.offset, image.positions(), transpose), along(lines, from, from_pitch), beta,
            along(lines, to, to_pitch));
}

// to (rows × columns): `values` (columns) in each row; one warp a row
template <class T>
__global__ void repeat(const float *values, int64_t rows, int64_t columns, T *to) {
    const int64_t row = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (row >= rows) return;
    for (int64_t i = threadIdx.x % WARP; i < columns; i += WARP) to[row * columns + i] = T(values[i]);
}

// Softmax over the H + W - 1 positions of each of `count` pixels, in place; one warp a pixel. The pixel itself is in
// its column and in its row: it counts in the row, and its place in the column gets weight 0.
template <class T>
__global__ void softmax(Image image, int64_t count, T *weights) {
    const int64_t pixel = blockIdx.x * WARPS + threadIdx.x / WARP, positions = image.positions();
    if (pixel >= count) return;
    const int64_t lane = threadIdx.x % WARP, itself = pixel % image.pixels() / image.width;
    T *w = weights + pixel * positions;
    float largest = -1e30f, sum = 0;  // finite, because fast-math knows no infinity
    for (int64_t i = lane; i < positions; i += WARP)
        if (i != itself) largest = fmaxf(largest, (float)w[i]);
    largest = warp_max(largest);
    for (int64_t i = lane; i < positions; i += WARP)
        if (i != itself) sum += expf((float)w[i] - largest);
    const float scale = 1 / warp_sum(sum);
    for (int64_t i = lane; i < positions; i += WARP) w[i] = T(i == itself ? 0.f : expf((float)w[i] - largest) * scale);
}

// Gradient of the scores from that of the weights, in place: w · (dw - Σ w dw); one warp a pixel, and then the next.
// totals (all warps of the grid) are Σ w dw over the pixels of each warp: parts of gamma's gradient.
template <class T>
__global__ void softmax_gradient(int64_t positions, int64_t count, const T *weights, T *gradient, float *totals) {
    const int64_t warp = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float total = 0;
    for (int64_t pixel = warp; pixel < count; pixel += gridDim.x * WARPS) {
        const T *w = weights + pixel * positions;
        T *g = gradient + pixel * positions;
        float dot = 0;
        for (int64_t i = lane; i < positions; i += WARP) dot += (float)w[i] * (float)g[i];
        dot = warp_sum(dot);
        for (int64_t i = lane; i < positions; i += WARP) g[i] = T((float)w[i] * ((float)g[i] - dot));
        total += dot;
    }
    if (lane == 0) totals[warp] = total;
}

// Both kernels below turn a tile of 32 pixels × 32 channels with blocks of 32 × 8 threads. The tile's rows are 33
// floats apart, so that its columns too are read from different banks of shared memory.
inline dim3 tiles(int64_t pixels, int64_t channels, int64_t batch) {
    return dim3(divide_up(pixels, WARP), divide_up(channels, WARP), batch);
}

// y = gamma · gathered + x for `depth` channels; x and y are planes, gathered (batch · pixels × depth) side by side
template <class T>
__global__ void residual(const T *gathered, const T *x, const float *gamma, T *y, int64_t depth, int64_t channels,
                         int64_t pixels) {
    __shared__ float tile[WARP][WARP + 1];
    const int64_t pixel = (int64_t)blockIdx.x * WARP, channel = (int64_t)blockIdx.y * WARP, image = blockIdx.z;
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + i < pixels && channel + threadIdx.x < depth)
            tile[i][threadIdx.x] = (float)gathered[(image * pixels + pixel + i) * depth + channel + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + threadIdx.x < pixels && channel + i < depth) {
            const int64_t place = (image * channels + channel + i) * pixels + pixel + threadIdx.x;
            y[place] = T(gamma[0] * tile[threadIdx.x][i] + (float)x[place]);
        }
}

// planes (batch × channels × pixels) -> channels side by side (batch × pixels × channels), and a plain copy
template <class T>
__global__ void interleave(const T *planes, int64_t channels, int64_t pixels, T *to, T *copy) {
    __shared__ float tile[WARP][WARP + 1];
    const int64_t pixel = (int64_t)blockIdx.x * WARP, channel = (int64_t)blockIdx.y * WARP, image = blockIdx.z;
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + threadIdx.x < pixels && channel + i < channels) {
            const int64_t place = (image * channels + channel + i) * pixels + pixel + threadIdx.x;
            copy[place] = planes[place];
            tile[i][threadIdx.x] = (float)planes[place];
        }
    __syncthreads();
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + i < pixels && channel + threadIdx.x < channels)
            to[(image * pixels + pixel + i) * channels + channel + threadIdx.x] = T(tile[threadIdx.x][i]);
}

// x (B, C, H, W) -> y (B, C, H, W), with projection (B, H·W, C + 2 C') and weights (B, H·W, H + W) for the backward
// pass; gathered (B · H·W, slice) is scratch, for `slice` channels at a time
template <class T>
void forward(int64_t batch, const Image &image, const T *x, const T *weight, const float *bias, const float *gamma,
             T *y, T *projection, T *weights, T *gathered, int64_t slice) {
    const int64_t projected = image.projected(), channels = image.channels, pixels = image.pixels();
    const dim3 a_warp_each(divide_up(batch * pixels, WARPS));
    const T *q = projection, *k = q + image.reduced, *v = k + image.reduced;

    launch(repeat<T>, a_warp_each, dim3(THREADS), bias, batch * pixels, projected, projection);
    product(batch, pixels, projected, channels, matrices(x, pixels, channels * pixels, 'T'),
            matrices(weight, channels, 0, 'T'), 1, matrices(projection, projected, pixels * projected));
    for (int64_t b = 0; b < batch; b++)
        compare(image, image.columns(b), image.reduced, q, projected, k, projected, weights);
    compare(image, image.rows(batch), image.reduced, q, projected, k, projected, weights);
    launch(softmax<T>, a_warp_each, dim3(THREADS), image, batch * pixels, weights);
    for (int64_t c = 0; c < channels; c += slice) {
        const int64_t depth = std::min(slice, channels - c);
        for (int64_t b = 0; b < batch; b++)
            gather<T>(image, image.columns(b), depth, 'N', weights, v + c, projected, 0, gathered, depth);
        gather<T>(image, image.rows(batch), depth, 'N', weights, v + c, projected, 1, gathered, depth);
        launch(residual<T>, tiles(pixels, depth, batch), dim3(WARP, 8), gathered, x + c * pixels, gamma, y + c * pixels,
               depth, channels, pixels);
    }
}

// As in `criss_cross.cc`: `weight` comes multiplied by gamma; dweight and dbias are still to be. dgathered (B, H·W, C),
// dweights (B, H·W, H + W) and dprojection (B, H·W, C + 2 C') are scratch.
template <class T>
void backward(int64_t batch, const Image &image, const T *x, const T *weight, const T *projection, const T *weights,
              const T *dy, T *dx, float *dweight, float *dbias, float *dgamma, T *dgathered, T *dweights,
              T *dprojection) {
    const int64_t projected = image.projected(), channels = image.channels, reduced = image.reduced;
    const int64_t pixels = image.pixels(), blocks = std::min(divide_up(batch * pixels, WARPS), MOST_BLOCKS);
    const T *q = projection, *k = q + reduced, *v = k + reduced;
    T *dq = dprojection, *dk = dq + reduced, *dv = dk + reduced;
    float *totals = scratch(blocks * WARPS + PARTS * projected), *partial = totals + blocks * WARPS;

    launch(interleave<T>, tiles(pixels, channels, batch), dim3(WARP, 8), dy, channels, pixels, dgathered, dx);
    for (int64_t b = 0; b < batch; b++)
        compare<T>(image, image.columns(b), channels, dgathered, channels, v, projected, dweights);
    compare<T>(image, image.rows(batch), channels, dgathered, channels, v, projected, dweights);
    launch(softmax_gradient<T>, dim3(blocks), dim3(THREADS), image.positions(), batch * pixels, weights, dweights,
           totals);
    sum_rows(totals, blocks * WARPS, 1, partial, PARTS, dgamma);

    // what lines add to dq, dk, dv; the rows come first and overwrite
    auto spread = [&](Lines lines, float beta) {
        gather<T>(image, lines, channels, 'T', weights, dgathered, channels, beta, dv, projected);
        gather<T>(image, lines, reduced, 'N', dweights, k, projected, beta, dq, projected);
        gather<T>(image, lines, reduced, 'T', dweights, q, projected, beta, dk, projected);
    };
    spread(image.rows(batch), 0);
    for (int64_t b = 0; b < batch; b++) spread(image.columns(b), 1);

    product(batch, channels, pixels, projected, matrices(weight, channels, 0, 'T'),
            matrices((const T *)dprojection, projected, pixels * projected, 'T'), 1,
            matrices(dx, pixels, channels * pixels));
    for (int64_t b = 0; b < batch; b++)
        product(1, projected, channels, pixels,
                matrices((const T *)dprojection + b * pixels * projected, projected, 0, 'T'),
                matrices(x + b * channels * pixels, pixels, 0, 'T'), b > 0, matrices(dweight, channels, 0));
    sum_rows(dprojection, batch * pixels, projected, partial, PARTS, dbias);
}

}  // namespace criss_cross
}  // namespace
