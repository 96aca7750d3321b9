// A block of a Visual Attention Network in inference, as one kernel. Both norms and both layer scales are folded into
// the adjacent 1 × 1 convolutions, whose products accumulate onto the shortcuts.
#include "mlp.cc"
namespace {
namespace van_block {

struct Convolution {
    const float *weight, *bias;
};

// Parameters in order of application in the paper's Fig. 2 and 3.
struct Block {
    Norm norm_1;
    Convolution proj_1, conv0, conv_spatial, conv1, proj_2;
    const float *layer_scale_1;
    Norm norm_2;
    Convolution fc1, dwconv, fc2;
    const float *layer_scale_2;
};

using mlp::Sizes;

constexpr int64_t PIECE = 1024;  // maximum pixels per 1 × 1 convolution

// A 1 × 1 convolution with an adjacent norm or scale folded in.
struct Folded {
    float *weight, *bias;
};

// Scratch memory for a Folded with `inputs` and `outputs` channels.
template <class Owner>
Folded folded(int64_t inputs, int64_t outputs) {
    float *memory = scratch<Owner>((inputs + 1) * outputs);
    return {memory, memory + inputs * outputs};
}

// convolution(norm(x))
inline void fold_norm(const Norm &norm, const Convolution &convolution, int64_t inputs, int64_t outputs,
                      const Folded &to) {
#pragma omp for
    for (int64_t o = 0; o < outputs; o++) {
        float bias = convolution.bias[o];
        for (int64_t c = 0; c < inputs; c++) {
            const float weight = convolution.weight[o * inputs + c];
            to.weight[o * inputs + c] = weight * norm.scale(c);
            bias += weight * norm.shift(c);
        }
        to.bias[o] = bias;
    }
}

// scale · (convolution(x) + shift)
template <class Shift>
inline void fold_scale(const Convolution &convolution, int64_t inputs, int64_t outputs, const float *scale, Shift shift,
                       const Folded &to) {
#pragma omp for
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t c = 0; c < inputs; c++) to.weight[o * inputs + c] = scale[o] * convolution.weight[o * inputs + c];
        to.bias[o] = scale[o] * (convolution.bias[o] + shift(o));
    }
}

// y = a · scale + bias, or a · (y + bias)
inline void add_scaled(const float *a, int64_t count, float scale, float bias, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = a[i] * scale + bias;
}
inline void multiply_by(const float *a, int64_t count, float bias, float *y) {
    for (int64_t i = 0; i < count; i++) y[i] = a[i] * (y[i] + bias);
}

// Calls f(image, first, count) for pieces of pixels, small enough to keep all threads busy.
template <class Function>
void for_each_piece(const Sizes &sizes, Function f) {
    const int64_t pixels = sizes.pixels(), threads = omp_get_num_threads();
    const int64_t share = (sizes.batch * pixels + threads - 1) / threads;
    const int64_t piece = std::min(PIECE, round_up(share, LANES));
#pragma omp for collapse(2)
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t first = 0; first < pixels; first += piece) f(image, first, std::min(piece, pixels - first));
}

// to = GELU(proj_1(x))
inline void proj_1_and_gelu(const Sizes &sizes, const Folded &proj_1, const float *x, float *to) {
    const int64_t channels = sizes.channels, pixels = sizes.pixels();
    for_each_piece(sizes, [&](int64_t image, int64_t first, int64_t count) {
        const int64_t place = image * channels * pixels + first;
        dnnl_sgemm('N', 'N', channels, count, channels, 1, proj_1.weight, channels, x + place, pixels, 0, to + place,
                   pixels);
        for (int64_t c = 0; c < channels; c++)
            apply_gelu(to + place + c * pixels, count, proj_1.bias[c], to + place + c * pixels);
    });
}

// to = conv_spatial(conv0(x)), plane by plane
inline void spatial_convolutions(const Sizes &sizes, const Block &block, const float *x, float *to) {
    const int64_t height = sizes.height, width = sizes.width;
    const depthwise::Padded near(height, width, 5, 1, sizes.dilation), far(height, width, 7, 1, 3 * sizes.dilation);
#pragma omp for
    for (int64_t plane = 0; plane < sizes.batch * sizes.channels; plane++) {
        const int64_t c = plane % sizes.channels;
        float *padded = scratch<struct PaddedPlane>(std::max(near.floats(), far.floats()));
        float *y = to + plane * sizes.pixels();
        depthwise::pad(x + plane * sizes.pixels(), height, width, 1, near, padded);
        depthwise::convolve_plane<5>(padded, block.conv0.weight + 25 * c, block.conv0.bias[c], near, y);
        depthwise::pad(y, height, width, 1, far, padded);
        depthwise::convolve_plane<7>(padded, block.conv_spatial.weight + 49 * c, block.conv_spatial.bias[c], far, y);
    }
}

// In place, on the result y of `spatial_convolutions`: y = norm_1(x) + proj_2(a · conv1(y)), with the layer scale.
inline void gate_and_proj_2(const Sizes &sizes, const Block &block, const Folded &proj_2, const float *x,
                            const float *a, float *y) {
    const int64_t channels = sizes.channels, pixels = sizes.pixels();
    for_each_piece(sizes, [&](int64_t image, int64_t first, int64_t count) {
        const int64_t place = image * channels * pixels + first;
        float *gated = scratch<struct Gated>(channels * count);
        dnnl_sgemm('N', 'N', channels, count, channels, 1, block.conv1.weight, channels, y + place, pixels, 0, gated,
                   count);
        for (int64_t c = 0; c < channels; c++) {
            multiply_by(a + place + c * pixels, count, block.conv1.bias[c], gated + c * count);
            const float mix = 1 + block.layer_scale_1[c] * block.norm_1.scale(c);
            add_scaled(x + place + c * pixels, count, mix, proj_2.bias[c], y + place + c * pixels);
        }
        dnnl_sgemm('N', 'N', channels, count, channels, 1, proj_2.weight, channels, gated, count, 1, y + place, pixels);
    });
}

// x (B, C, H, W) -> y of the same shape; `attention`, of the same size, is scratch memory.
inline void forward(const Sizes &sizes, const Block &block, const float *x, float *y, float *attention) {
    const int64_t channels = sizes.channels, hidden = sizes.hidden;
    const Folded proj_1 = folded<struct Proj1>(channels, channels), proj_2 = folded<struct Proj2>(channels, channels);
    const Folded fc1 = folded<struct Fc1>(channels, hidden), fc2 = folded<struct Fc2>(hidden, channels);
    const mlp::Layers<const float> layers = {fc1.weight,        fc1.bias,   block.dwconv.weight,
                                             block.dwconv.bias, fc2.weight, fc2.bias};
    auto shift = [&](int64_t c) { return block.norm_1.shift(c); };
#pragma omp parallel
    {
        fold_norm(block.norm_1, block.proj_1, channels, channels, proj_1);
        fold_scale(block.proj_2, channels, channels, block.layer_scale_1, shift, proj_2);
        fold_norm(block.norm_2, block.fc1, channels, hidden, fc1);
        fold_scale(block.fc2, hidden, channels, block.layer_scale_2, [](int64_t) { return 0.f; }, fc2);
        proj_1_and_gelu(sizes, proj_1, x, y);
        spatial_convolutions(sizes, block, y, attention);
        gate_and_proj_2(sizes, block, proj_2, x, y, attention);
        mlp::forward(sizes, layers, attention, attention, y);
    }
}

}  // namespace van_block
}  // namespace
