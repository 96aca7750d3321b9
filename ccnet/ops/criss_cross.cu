// Fused criss-cross attention on a GPU, with the memory layout of `criss_cross.cc`: q, k and v of a pixel are
// contiguous, `projected` numbers per pixel, so any row or column of an image is a strided matrix. All rows of all
// images are one batched product, all columns of an image another. The attention of a pixel is one array of H + W
// weights, those of its column, then those of its row. No tensor is permuted, concatenated or split.
namespace {
namespace criss_cross {

constexpr int64_t PARTS = 64, WARPS = THREADS / WARP, MOST_BLOCKS = 1024;

// Rows or columns of pixels, over which attention is computed. All fields but `count` and `offset` are in pixels.
struct Lines {
    int64_t count, first, spacing;  // start of line 0, distance between lines
    int64_t step, length, offset;   // `offset` is the index of a line's first weight among the H + W
};

struct Image {
    int64_t channels, reduced, height, width;

    __host__ __device__ int64_t pixels() const { return height * width; }
    __host__ __device__ int64_t positions() const { return height + width; }
    int64_t projected() const { return channels + 2 * reduced; }
    Lines rows(int64_t batch) const { return {batch * height, 0, width, 1, width, height}; }
    Lines columns(int64_t image) const { return {width, image * pixels(), 1, width, height, 0}; }
};

// Concatenated weights (C + 2 C', C) and biases (C + 2 C') of q, k and v; gamma (1).
template <class T>
struct Parameters {
    const T *weight;
    const float *bias, *gamma;
};

// Saved for the backward pass: projection (B, H·W, C + 2 C') and attention weights (B, H·W, H + W).
template <class T>
struct Saved {
    T *projection, *attention;
};

// Gradients in the shapes of Parameters.
struct Gradients {
    float *weight, *bias, *gamma;
};

// Scratch memory of the backward pass: gradients of the aggregated values (B, H·W, C), of the attention weights
// (B, H·W, H + W) and of the projection (B, H·W, C + 2 C').
template <class T>
struct Workspace {
    T *aggregated, *attention, *projection;
};

// The pixels of each line as a matrix, in an array with `pitch` numbers per pixel.
template <class T>
Matrices<T> line_matrices(Lines lines, T *data, int64_t pitch, char transpose = 'N') {
    return matrices(data + lines.first * pitch, lines.step * pitch, lines.spacing * pitch, transpose);
}

// weights (pixels of a line × positions of the line) = a bᵀ; a and b use `depth` of `pitch` numbers per pixel.
template <class T>
void affinity(const Image &image, Lines lines, int64_t depth, const T *a, int64_t a_pitch, const T *b, int64_t b_pitch,
              T *weights) {
    matrix_product(lines.count, lines.length, lines.length, depth, line_matrices(lines, a, a_pitch),
                   line_matrices(lines, b, b_pitch, 'T'), 0,
                   line_matrices(lines, weights + lines.offset, image.positions()));
}

// to = beta · to + weights · from; with `transpose` 'T' weightsᵀ · from.
template <class T>
void aggregate(const Image &image, Lines lines, int64_t depth, char transpose, const T *weights, const T *from,
               int64_t from_pitch, float beta, T *to, int64_t to_pitch) {
    matrix_product(lines.count, lines.length, depth, lines.length,
                   line_matrices(lines, weights + lines.offset, image.positions(), transpose),
                   line_matrices(lines, from, from_pitch), beta, line_matrices(lines, to, to_pitch));
}

// Copies `values` (columns) to each row of `to` (rows × columns); one warp per row.
template <class T>
__global__ void fill_rows(const float *values, int64_t rows, int64_t columns, T *to) {
    const int64_t row = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (row >= rows) return;
    for (int64_t i = threadIdx.x % WARP; i < columns; i += WARP) to[row * columns + i] = T(values[i]);
}

// In-place softmax over the H + W - 1 positions of each of `count` pixels; one warp per pixel. The pixel itself counts
// in its row; its position in the column gets weight 0.
template <class T>
__global__ void softmax(Image image, int64_t count, T *weights) {
    const int64_t pixel = blockIdx.x * WARPS + threadIdx.x / WARP, positions = image.positions();
    if (pixel >= count) return;
    const int64_t lane = threadIdx.x % WARP, itself = pixel % image.pixels() / image.width;
    T *w = weights + pixel * positions;
    float largest = -1e30f, sum = 0;  // finite: fast-math does not support infinities
    for (int64_t i = lane; i < positions; i += WARP)
        if (i != itself) largest = fmaxf(largest, (float)w[i]);
    largest = warp_max(largest);
    for (int64_t i = lane; i < positions; i += WARP)
        if (i != itself) sum += expf((float)w[i] - largest);
    const float scale = 1 / warp_sum(sum);
    for (int64_t i = lane; i < positions; i += WARP) w[i] = T(i == itself ? 0.f : expf((float)w[i] - largest) * scale);
}

// Softmax backward, in place: dw becomes w · (dw - Σ w dw). Each warp processes several pixels in turn. `totals` (all
// warps of the grid) is Σ w dw over the pixels of each warp, its contribution to gamma's gradient.
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

// Both kernels below transpose a tile of 32 pixels × 32 channels with blocks of 32 × 8 threads. The tile's rows have a
// pitch of 33 floats to avoid bank conflicts when columns are read.
inline dim3 tile_grid(int64_t pixels, int64_t channels, int64_t batch) {
    return dim3(divide_up(pixels, WARP), divide_up(channels, WARP), batch);
}

// y = gamma · aggregated + x for `depth` channels; x, y: planes; aggregated (batch · pixels × depth): channels-last
template <class T>
__global__ void add_residual(const T *aggregated, const T *x, const float *gamma, T *y, int64_t depth, int64_t channels,
                             int64_t pixels) {
    __shared__ float tile[WARP][WARP + 1];
    const int64_t pixel = (int64_t)blockIdx.x * WARP, channel = (int64_t)blockIdx.y * WARP, image = blockIdx.z;
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + i < pixels && channel + threadIdx.x < depth)
            tile[i][threadIdx.x] = (float)aggregated[(image * pixels + pixel + i) * depth + channel + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < WARP; i += 8)
        if (pixel + threadIdx.x < pixels && channel + i < depth) {
            const int64_t place = (image * channels + channel + i) * pixels + pixel + threadIdx.x;
            y[place] = T(gamma[0] * tile[threadIdx.x][i] + (float)x[place]);
        }
}

// planes (batch × channels × pixels) -> channels-last (batch × pixels × channels), and an unchanged copy of the planes
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

// x (B, C, H, W) -> y (B, C, H, W) and `saved`. `aggregated` (B · H·W, slice) is scratch memory; `slice` channels are
// aggregated at a time.
template <class T>
void forward(int64_t batch, const Image &image, const T *x, const Parameters<T> &parameters, T *y,
             const Saved<T> &saved, T *aggregated, int64_t slice) {
    const int64_t projected = image.projected(), channels = image.channels, pixels = image.pixels();
    const dim3 warp_per_pixel(divide_up(batch * pixels, WARPS));
    T *projection = saved.projection, *weights = saved.attention;
    const T *q = projection, *k = q + image.reduced, *v = k + image.reduced;

    launch(fill_rows<T>, warp_per_pixel, dim3(THREADS), parameters.bias, batch * pixels, projected, projection);
    matrix_product(batch, pixels, projected, channels, matrices(x, pixels, channels * pixels, 'T'),
                   matrices(parameters.weight, channels, 0, 'T'), 1,
                   matrices(projection, projected, pixels * projected));
    for (int64_t b = 0; b < batch; b++)
        affinity(image, image.columns(b), image.reduced, q, projected, k, projected, weights);
    affinity(image, image.rows(batch), image.reduced, q, projected, k, projected, weights);
    launch(softmax<T>, warp_per_pixel, dim3(THREADS), image, batch * pixels, weights);
    for (int64_t c = 0; c < channels; c += slice) {
        const int64_t depth = std::min(slice, channels - c);
        for (int64_t b = 0; b < batch; b++)
            aggregate<T>(image, image.columns(b), depth, 'N', weights, v + c, projected, 0, aggregated, depth);
        aggregate<T>(image, image.rows(batch), depth, 'N', weights, v + c, projected, 1, aggregated, depth);
        launch(add_residual<T>, tile_grid(pixels, depth, batch), dim3(WARP, 8), aggregated, x + c * pixels,
               parameters.gamma, y + c * pixels, depth, channels, pixels);
    }
}

// As in `criss_cross.cc` the caller passes `weight` multiplied by gamma and multiplies the gradients of weight and
// bias.
template <class T>
void backward(int64_t batch, const Image &image, const T *x, const T *weight, const Saved<const T> &saved, const T *dy,
              T *dx, const Gradients &gradients, const Workspace<T> &workspace) {
    const int64_t projected = image.projected(), channels = image.channels, reduced = image.reduced;
    const int64_t pixels = image.pixels(), blocks = std::min(divide_up(batch * pixels, WARPS), MOST_BLOCKS);
    const T *q = saved.projection, *k = q + reduced, *v = k + reduced, *weights = saved.attention;
    T *daggregated = workspace.aggregated, *dweights = workspace.attention, *dprojection = workspace.projection;
    T *dq = dprojection, *dk = dq + reduced, *dv = dk + reduced;
    float *totals = scratch(blocks * WARPS + PARTS * projected), *partial = totals + blocks * WARPS;

    launch(interleave<T>, tile_grid(pixels, channels, batch), dim3(WARP, 8), dy, channels, pixels, daggregated, dx);
    for (int64_t b = 0; b < batch; b++)
        affinity<T>(image, image.columns(b), channels, daggregated, channels, v, projected, dweights);
    affinity<T>(image, image.rows(batch), channels, daggregated, channels, v, projected, dweights);
    launch(softmax_gradient<T>, dim3(blocks), dim3(THREADS), image.positions(), batch * pixels, weights, dweights,
           totals);
    sum_rows(totals, blocks * WARPS, 1, partial, PARTS, gradients.gamma);

    // Contribution of lines to dq, dk, dv. Rows come first and overwrite (beta 0); columns add.
    auto add_lines = [&](Lines lines, float beta) {
        aggregate<T>(image, lines, channels, 'T', weights, daggregated, channels, beta, dv, projected);
        aggregate<T>(image, lines, reduced, 'N', dweights, k, projected, beta, dq, projected);
        aggregate<T>(image, lines, reduced, 'T', dweights, q, projected, beta, dk, projected);
    };
    add_lines(image.rows(batch), 0);
    for (int64_t b = 0; b < batch; b++) add_lines(image.columns(b), 1);

    matrix_product(batch, channels, pixels, projected, matrices(weight, channels, 0, 'T'),
                   matrices((const T *)dprojection, projected, pixels * projected, 'T'), 1,
                   matrices(dx, pixels, channels * pixels));
    for (int64_t b = 0; b < batch; b++)
        matrix_product(1, projected, channels, pixels,
                       matrices((const T *)dprojection + b * pixels * projected, projected, 0, 'T'),
                       matrices(x + b * channels * pixels, pixels, 0, 'T'), b > 0,
                       matrices(gradients.weight, channels, 0));
    sum_rows(dprojection, batch * pixels, projected, partial, PARTS, gradients.bias);
}

}  // namespace criss_cross
}  // namespace
