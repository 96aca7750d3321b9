// Depthwise convolution on a GPU, with zero padding of dilation · (K / 2) on every side.
//
// With stride 1 a block computes a tile of outputs from a tile of inputs in shared memory. A thread computes OUTPUTS
// outputs of one column, `dilation` rows apart, so their taps share inputs: each input is read once for up to K
// products. For VAN's 7 × 7 this takes 14 reads per column of taps instead of 56. Other cases (another stride, another
// K, a dilation whose tile is too large) are computed tap by tap from global memory.
namespace {
namespace depthwise {

constexpr int OUTPUTS = 8, ROOM = 4096;  // outputs per thread; maximum floats of an input tile

// Sizes of the forward pass. Zero padding is implicit and not stored.
struct Padded {
    int height, width, size, stride, dilation, padding, out_height, out_width;

    Padded(int64_t height, int64_t width, int64_t size, int64_t stride, int64_t dilation)
        : height(height),
          width(width),
          size(size),
          stride(stride),
          dilation(dilation),
          padding(dilation * (size / 2)),
          out_height((height - 1) / stride + 1),
          out_width((width - 1) / stride + 1) {}
    int64_t taps() const { return (int64_t)size * size; }
};

// The tiles of a plane; each has 32 columns and `threads` · OUTPUTS rows of outputs.
struct Tiling {
    int threads, across, down;  // threads per tile column; tiles per row, per column

    explicit Tiling(const Padded &shape)
        : threads(std::max(4 / shape.dilation * shape.dilation, shape.dilation)),
          across(divide_up(shape.width, WARP)),
          down(divide_up(shape.height, threads * OUTPUTS)) {}
    __host__ __device__ int rows() const { return threads * OUTPUTS; }
    bool fits(const Padded &shape) const {
        return shape.stride == 1 && threads <= 16 &&
               (int64_t)(rows() + 2 * shape.padding) * (WARP + 2 * shape.padding) <= ROOM;
    }
};

// Loads into `inputs` the input tile whose outputs begin at row y, column x of `plane`.
template <class T>
__device__ void load(const T *plane, const Padded &shape, const Tiling &tiling, int y, int x, float *inputs) {
    const int pitch = WARP + 2 * shape.padding, rows = tiling.rows() + 2 * shape.padding;
    for (int row = threadIdx.y; row < rows; row += tiling.threads)
        for (int column = threadIdx.x; column < pitch; column += WARP) {
            const int from_y = y + row - shape.padding, from_x = x + column - shape.padding;
            const bool inside = from_y >= 0 && from_y < shape.height && from_x >= 0 && from_x < shape.width;
            inputs[row * pitch + column] = inside ? (float)plane[(int64_t)from_y * shape.width + from_x] : 0;
        }
}

// A thread's first row in its tile: each group of `dilation` threads covers OUTPUTS · dilation adjacent rows.
__device__ inline int first_row(int dilation) {
    return threadIdx.y / dilation * dilation * OUTPUTS + threadIdx.y % dilation;
}

// Reads the inputs of the K taps of kernel column k for all outputs of a thread.
template <int K>
__device__ void read_column(const float *inputs, int pitch, int dilation, int k, float *values) {
    const float *from = inputs + first_row(dilation) * pitch + threadIdx.x + k * dilation;
#pragma unroll
    for (int j = 0; j < K + OUTPUTS - 1; j++) values[j] = from[j * dilation * pitch];
}

// One block of 32 × threads per tile. `flipped` rotates the kernel by 180°, for the gradient of the input.
template <class T, int K>
__global__ void convolve_tile(const T *input, const float *weight, const float *bias, T *output, int64_t channels,
                              Padded shape, Tiling tiling, bool flipped) {
    __shared__ float inputs[ROOM];
    const int tiles = tiling.across * tiling.down, tile = blockIdx.x % tiles;
    const int64_t plane = blockIdx.x / tiles, channel = plane % channels;
    const int top = tile / tiling.across * tiling.rows(), left = tile % tiling.across * WARP;
    const int pitch = WARP + 2 * shape.padding, x = left + threadIdx.x;
    float sums[OUTPUTS], taps[K], values[K + OUTPUTS - 1];
    load(input + plane * shape.height * shape.width, shape, tiling, top, left, inputs);
    __syncthreads();
    for (int r = 0; r < OUTPUTS; r++) sums[r] = bias ? bias[channel] : 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
#pragma unroll
        for (int i = 0; i < K; i++) {
            const int tap = i * K + k;
            taps[i] = weight[channel * K * K + (flipped ? K * K - 1 - tap : tap)];
        }
        read_column<K>(inputs, pitch, shape.dilation, k, values);
#pragma unroll
        for (int r = 0; r < OUTPUTS; r++)
#pragma unroll
            for (int i = 0; i < K; i++) sums[r] += taps[i] * values[r + i];
    }
    for (int r = 0; r < OUTPUTS; r++) {
        const int y = top + first_row(shape.dilation) + r * shape.dilation;
        if (y < shape.height && x < shape.width) output[(plane * shape.height + y) * shape.width + x] = T(sums[r]);
    }
}

// value / by if that is an integer in 0 … end - 1, else -1
__device__ inline int divide_exactly(int value, int by, int end) {
    return value >= 0 && value % by == 0 && value / by < end ? value / by : -1;
}

// One thread per output, any kernel size. For tap i the forward pass reads input row y · stride + i · dilation -
// padding; the gradient of the input, with the flipped kernel, reads row (y + i · dilation - padding) / stride if it
// exists.
template <class T>
__global__ void convolve_directly(const T *input, const float *weight, const float *bias, T *output, int64_t planes,
                                  int64_t channels, Padded shape, bool flipped) {
    const int in_height = flipped ? shape.out_height : shape.height, height = flipped ? shape.height : shape.out_height;
    const int in_width = flipped ? shape.out_width : shape.width, width = flipped ? shape.width : shape.out_width;
    const int step = flipped ? 1 : shape.stride, by = flipped ? shape.stride : 1, taps = shape.size * shape.size;
    const int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x, plane = index / width / height;
    if (plane >= planes) return;
    const int x = index % width, y = index / width % height;
    const T *from = input + plane * in_height * in_width;
    const float *w = weight + plane % channels * taps;
    float sum = bias ? bias[plane % channels] : 0;
    for (int i = 0; i < shape.size; i++) {
        const int from_y = divide_exactly(y * step + i * shape.dilation - shape.padding, by, in_height);
        for (int k = 0; from_y >= 0 && k < shape.size; k++) {
            const int from_x = divide_exactly(x * step + k * shape.dilation - shape.padding, by, in_width);
            const int tap = i * shape.size + k;
            if (from_x >= 0)
                sum += w[flipped ? taps - 1 - tap : tap] * (float)from[(int64_t)from_y * in_width + from_x];
        }
    }
    output[index] = T(sum);
}

// Sums the K × K values and Σ dy of all threads of a block: gradients (K · K + 1) of this plane.
template <int count>
__device__ void sum_over_block(const float *sums, int warps, float *shared, float *gradients) {
    const int thread = threadIdx.y * WARP + threadIdx.x;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < count; i++) {
        const float sum = warp_sum(sums[i]);
        if (threadIdx.x == 0) shared[threadIdx.y * count + i] = sum;
    }
    __syncthreads();
    for (int i = thread; i < count; i += warps * WARP) {
        float sum = 0;
        for (int warp = 0; warp < warps; warp++) sum += shared[warp * count + i];
        gradients[i] = sum;
    }
}

// One block per plane, tile by tile, for stride 1: gradients (planes × K · K + 1).
template <class T, int K>
__global__ void weight_gradient_tile(const T *x, const T *dy, float *gradients, Padded shape, Tiling tiling) {
    __shared__ float inputs[ROOM];
    const int64_t plane = blockIdx.x, pixels = (int64_t)shape.height * shape.width;
    const int pitch = WARP + 2 * shape.padding, first = first_row(shape.dilation);
    float sums[K * K + 1] = {}, grads[OUTPUTS], values[K + OUTPUTS - 1];
    for (int tile = 0; tile < tiling.across * tiling.down; tile++) {
        const int top = tile / tiling.across * tiling.rows(), left = tile % tiling.across * WARP;
        __syncthreads();
        load(x + plane * pixels, shape, tiling, top, left, inputs);
        __syncthreads();
        for (int r = 0; r < OUTPUTS; r++) {
            const int row = top + first + r * shape.dilation, column = left + threadIdx.x;
            const bool inside = row < shape.height && column < shape.width;
            grads[r] = inside ? (float)dy[plane * pixels + (int64_t)row * shape.width + column] : 0;
            sums[K * K] += grads[r];
        }
#pragma unroll
        for (int k = 0; k < K; k++) {
            read_column<K>(inputs, pitch, shape.dilation, k, values);
#pragma unroll
            for (int i = 0; i < K; i++)
#pragma unroll
                for (int r = 0; r < OUTPUTS; r++) sums[i * K + k] += grads[r] * values[r + i];
        }
    }
    sum_over_block<K * K + 1>(sums, tiling.threads, inputs, gradients + plane * (K * K + 1));
}

// One warp per plane and tap; the last tap is Σ dy: gradients (planes × K · K + 1).
template <class T>
__global__ void weight_gradient_directly(const T *x, const T *dy, float *gradients, Padded shape) {
    const int taps = shape.size * shape.size, tap = blockIdx.x % (taps + 1);
    const int64_t plane = blockIdx.x / (taps + 1), pixels = (int64_t)shape.out_height * shape.out_width;
    const T *from = x + plane * shape.height * shape.width, *grad = dy + plane * pixels;
    const int down = tap / shape.size * shape.dilation - shape.padding;
    const int right = tap % shape.size * shape.dilation - shape.padding;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < pixels; i += WARP) {
        const int from_y = divide_exactly(i / shape.out_width * shape.stride + down, 1, shape.height);
        const int from_x = divide_exactly(i % shape.out_width * shape.stride + right, 1, shape.width);
        if (tap == taps)
            sum += (float)grad[i];
        else if (from_y >= 0 && from_x >= 0)
            sum += (float)grad[i] * (float)from[(int64_t)from_y * shape.width + from_x];
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) gradients[blockIdx.x] = sum;
}

// K = 0 is a size known only at run time; tiles need a compile-time K.
template <int K, class T>
void convolve(const T *input, const float *weight, const float *bias, T *output, int64_t planes, int64_t channels,
              const Padded &shape, bool flipped) {
    constexpr int unrolled = K ? K : 1;
    const Tiling tiling(shape);
    const int64_t outputs = flipped ? (int64_t)shape.height * shape.width : (int64_t)shape.out_height * shape.out_width;
    if (K && tiling.fits(shape))
        launch(convolve_tile<T, unrolled>, dim3(planes * tiling.across * tiling.down), dim3(WARP, tiling.threads),
               input, weight, bias, output, channels, shape, tiling, flipped);
    else
        launch(convolve_directly<T>, dim3(divide_up(planes * outputs, THREADS)), dim3(THREADS), input, weight, bias,
               output, planes, channels, shape, flipped);
}

// x (B, C, H, W), weight (C, 1, K, K), bias (C) or null -> y (B, C, (H - 1) / stride + 1, (W - 1) / stride + 1)
template <int K, class T>
void forward(const T *x, const float *weight, const float *bias, T *y, int64_t planes, int64_t channels,
             const Padded &shape) {
    convolve<K>(x, weight, bias, y, planes, channels, shape, false);
}

template <int K, class T>
void input_gradient(const float *weight, const T *dy, T *dx, int64_t planes, int64_t channels, const Padded &shape) {
    convolve<K>(dy, weight, nullptr, dx, planes, channels, shape, true);
}

// dweight (channels × taps) and dbias (channels): sums over images of gradients (batch × channels × taps + 1).
__global__ void sum_over_images(const float *gradients, int64_t batch, int64_t channels, int64_t taps, float *dweight,
                                float *dbias) {
    const int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x, count = channels * (taps + 1);
    if (index >= count) return;
    const int64_t channel = index / (taps + 1), tap = index % (taps + 1);
    float sum = 0;
    for (int64_t b = 0; b < batch; b++) sum += gradients[b * count + index];
    (tap == taps ? dbias[channel] : dweight[channel * taps + tap]) = sum;
}

template <int K, class T>
void weight_gradient(const T *x, const T *dy, float *dweight, float *dbias, int64_t batch, int64_t channels,
                     const Padded &shape) {
    constexpr int unrolled = K ? K : 1;
    const Tiling tiling(shape);
    const int64_t planes = batch * channels, gradients = shape.taps() + 1;
    float *each = scratch(planes * gradients);
    if (K && tiling.fits(shape))
        launch(weight_gradient_tile<T, unrolled>, dim3(planes), dim3(WARP, tiling.threads), x, dy, each, shape, tiling);
    else
        launch(weight_gradient_directly<T>, dim3(planes * gradients), dim3(WARP), x, dy, each, shape);
    launch(sum_over_images, dim3(divide_up(channels * gradients, THREADS)), dim3(THREADS), each, batch, channels,
           gradients - 1, dweight, dbias);
}

}  // namespace depthwise
}  // namespace
