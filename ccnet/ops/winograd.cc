// 3 × 3 convolution at stride 1 by Winograd's F(2 × 2, 3 × 3) (Lavin and Gray, arXiv:1509.09308): a tile of 2 × 2
// outputs takes 4 × 4 inputs and 16 products per channel, where the definition takes 36. At each of the 16 points of
// the transformed tiles the convolution is a matrix product over the channels. With dilation d the image is d × d
// interleaved images, each convolved without dilation. Tiles are worked on in blocks that stay in the cache.
namespace {
namespace winograd {

constexpr int64_t POINTS = 16;
constexpr int64_t BLOCK = 256;    // tiles of a block, at least; rounded up to whole runs
constexpr int64_t CHANNELS = 512;  // inputs transformed at a time

// Tiles side by side: `count` of them, from the output at (y, x), `first` in their block.
struct Run {
    int64_t image, y, x, count, first;
};

struct Block {
    std::vector<Run> runs;
    int64_t tiles = 0;
};

struct Sizes {
    int64_t batch, inputs, outputs, height, width, dilation;
    int64_t pixels() const { return height * width; }
    // Tiles over the pixels first, first + dilation, … below `side`.
    int64_t tiles(int64_t first, int64_t side) const {
        return first < side ? ((side - first - 1) / dilation + 2) / 2 : 0;
    }
};

// The longest block of `sizes`, with room for vectors that are written beyond its end.
inline int64_t pitch(int64_t width) { return round_up(BLOCK + width / 2 + 1, LANES) + LANES; }

// Floats from one point to the next in an array of `count` for each. The spare line keeps the points of one place out
// of each other's cache sets, where a power of two would put all sixteen.
inline int64_t spaced(int64_t count) { return count + LANES; }

inline std::vector<Block> blocks(const Sizes &sizes) {
    std::vector<Block> all(1);
    const int64_t step = sizes.dilation;
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t row = 0; row < step; row++)
            for (int64_t tile = 0; tile < sizes.tiles(row, sizes.height); tile++)
                for (int64_t x = 0; x < std::min(step, sizes.width); x++) {
                    if (all.back().tiles >= BLOCK) all.emplace_back();
                    const int64_t count = sizes.tiles(x, sizes.width);
                    all.back().runs.push_back({image, row + 2 * step * tile, x, count, all.back().tiles});
                    all.back().tiles += count;
                }
    return all;
}

// Every second pixel of a row, `gap` apart, from column `x`; 0 outside. `to` is filled to `length` and a vector beyond.
inline void pick(const float *row, int64_t width, int64_t x, int64_t gap, int64_t length, float *to) {
    const int64_t before = x < 0 ? 1 : 0;  // never more: a run begins at most one pixel's step outside
    const int64_t within = std::max(before, std::min(length, (width - 1 - x + gap) / gap));
    to[0] = 0;
    for (int64_t t = before; t < within; t++) to[t] = row[x + t * gap];
    std::fill(to + within, to + length + LANES, 0.f);
}

inline Lanes at(const float *p) { return *(const Lanes *)p; }
inline void put(float *p, Lanes value) { *(Lanes *)p = value; }

// Bᵀ d B of the tiles of a run of one plane: point p of tile t goes to to[p · stride + t].
inline void transform_input(const Sizes &sizes, const Run &run, const float *plane, float *rows, int64_t stride,
                            float *to) {
    const int64_t step = sizes.dilation, room = round_up(run.count + 1, LANES) + 2 * LANES;
    float *picked[4][2];
    for (int i = 0; i < 4; i++)
        for (int odd = 0; odd < 2; odd++) {
            const int64_t y = run.y + (i - 1) * step;
            float *place = picked[i][odd] = rows + (2 * i + odd) * room;
            if (y < 0 || y >= sizes.height)
                std::fill(place, place + run.count + 1 + LANES, 0.f);
            else
                pick(plane + y * sizes.width, sizes.width, run.x + (odd - 1) * step, 2 * step, run.count + 1, place);
        }
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes d[4][4], v[4];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) d[i][j] = at(picked[i][j % 2] + t + j / 2);
        for (int j = 0; j < 4; j++) {
            v[0] = d[0][j] - d[2][j], v[1] = d[1][j] + d[2][j], v[2] = d[2][j] - d[1][j], v[3] = d[1][j] - d[3][j];
            for (int i = 0; i < 4; i++) d[i][j] = v[i];
        }
        for (int i = 0; i < 4; i++) {
            put(to + (4 * i) * stride + t, d[i][0] - d[i][2]);
            put(to + (4 * i + 1) * stride + t, d[i][1] + d[i][2]);
            put(to + (4 * i + 2) * stride + t, d[i][2] - d[i][1]);
            put(to + (4 * i + 3) * stride + t, d[i][1] - d[i][3]);
        }
    }
}

// G g Gᵀ of each 3 × 3 kernel: weight (O, I, 9) -> transformed (16, O, I).
inline void transform_weight(int64_t outputs, int64_t inputs, const float *weight, float *transformed) {
#pragma omp for
    for (int64_t o = 0; o < outputs; o++) {
        const float *__restrict__ from = weight + o * inputs * 9;
        float *__restrict__ to = transformed + o * inputs;
        const int64_t stride = spaced(outputs * inputs);
#pragma omp simd
        for (int64_t c = 0; c < inputs; c++) {
            float half[4][3];
            for (int j = 0; j < 3; j++) {
                const float a = from[9 * c + j], b = from[9 * c + 3 + j], d = from[9 * c + 6 + j];
                half[0][j] = a, half[1][j] = (a + b + d) / 2, half[2][j] = (a - b + d) / 2, half[3][j] = d;
            }
            for (int i = 0; i < 4; i++) {
                const float a = half[i][0], b = half[i][1], d = half[i][2];
                to[(4 * i) * stride + c] = a, to[(4 * i + 1) * stride + c] = (a + b + d) / 2;
                to[(4 * i + 2) * stride + c] = (a - b + d) / 2, to[(4 * i + 3) * stride + c] = d;
            }
        }
    }
}

// Writes the outputs of a run, `even` and `odd` columns apart, to row `y` of a plane, unless it lies outside.
inline void place(const Sizes &sizes, const Run &run, int64_t y, const float *even, const float *odd, float *plane) {
    if (y >= sizes.height) return;
    const int64_t step = sizes.dilation, last = run.x + (2 * run.count - 1) * step;
    float *row = plane + y * sizes.width + run.x;
    for (int64_t t = 0; t + 1 < run.count; t++) row[2 * t * step] = even[t], row[(2 * t + 1) * step] = odd[t];
    row[2 * (run.count - 1) * step] = even[run.count - 1];
    if (last < sizes.width) row[(2 * run.count - 1) * step] = odd[run.count - 1];
}

// Aᵀ m A of the tiles of a run into one plane of the output.
inline void transform_output(const Sizes &sizes, const Run &run, const float *m, int64_t stride, float *rows,
                             float *plane) {
    const int64_t room = round_up(run.count, LANES);
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes sums[2][4];
        for (int j = 0; j < 4; j++) {
            Lanes a[4];
            for (int i = 0; i < 4; i++) a[i] = at(m + (4 * i + j) * stride + t);
            sums[0][j] = a[0] + a[1] + a[2], sums[1][j] = a[1] - a[2] - a[3];
        }
        for (int i = 0; i < 2; i++) {
            put(rows + (2 * i) * room + t, sums[i][0] + sums[i][1] + sums[i][2]);
            put(rows + (2 * i + 1) * room + t, sums[i][1] - sums[i][2] - sums[i][3]);
        }
    }
    for (int i = 0; i < 2; i++)
        place(sizes, run, run.y + i * sizes.dilation, rows + 2 * i * room, rows + (2 * i + 1) * room, plane);
}

// Rotating a kernel by 180° exchanges the first and the last of its transform's points along each axis.
inline int64_t rotated(int64_t point) {
    const int64_t swap[4] = {3, 1, 2, 0};
    return 4 * swap[point / 4] + swap[point % 4];
}

// y (B, O, H, W) from x (B, I, H, W) and the transformed weight: (16, O, I), or with `gradient` (16, I, O) and rotated,
// so that x is the gradient of a convolution's output and y that of its input. `tiles` (16, I or CHANNELS, pitch) and
// `products` (16, O, pitch) are scratch.
inline void convolve(const Sizes &sizes, bool gradient, const float *x, const float *weight, float *y, float *tiles,
                     float *products) {
    const int64_t inputs = sizes.inputs, outputs = sizes.outputs, pixels = sizes.pixels(), row = pitch(sizes.width);
    const int64_t threads = omp_get_num_threads(), cuts = (threads + POINTS - 1) / POINTS;
    const int64_t share = (outputs + cuts - 1) / cuts, most = std::min(inputs, CHANNELS);
    const int64_t between = spaced(most * row), apart = spaced(outputs * row), across = spaced(outputs * inputs);
    float *rows = scratch<3>(8 * (row + 2 * LANES));
    for (const Block &block : blocks(sizes)) {
        for (int64_t first = 0; first < inputs; first += most) {
            const int64_t depth = std::min(most, inputs - first);
#pragma omp for
            for (int64_t c = 0; c < depth; c++)
                for (const Run &run : block.runs)
                    transform_input(sizes, run, x + (run.image * inputs + first + c) * pixels, rows, between,
                                    tiles + c * row + run.first);
#pragma omp for collapse(2)
            for (int64_t point = 0; point < POINTS; point++)
                for (int64_t cut = 0; cut < cuts; cut++) {
                    const int64_t o = cut * share, count = std::min(share, outputs - o);
                    const float *u = weight + (gradient ? rotated(point) : point) * across;
                    if (count > 0)
                        dnnl_sgemm(gradient ? 'T' : 'N', 'N', count, block.tiles, depth, 1,
                                   gradient ? u + first * outputs + o : u + o * inputs + first,
                                   gradient ? outputs : inputs, tiles + point * between, row, first ? 1 : 0,
                                   products + point * apart + o * row, row);
                }
        }
#pragma omp for
        for (int64_t o = 0; o < outputs; o++)
            for (const Run &run : block.runs)
                transform_output(sizes, run, products + o * row + run.first, apart, rows,
                                 y + (run.image * outputs + o) * pixels);
    }
}

// A dY Aᵀ of the tiles of a run of one plane of an output's gradient, laid out as transform_input does.
inline void transform_gradient(const Sizes &sizes, const Run &run, const float *plane, float *rows, int64_t stride,
                               float *to) {
    const int64_t step = sizes.dilation, room = round_up(run.count, LANES) + 2 * LANES;
    for (int i = 0; i < 4; i++) {
        const int64_t y = run.y + i / 2 * step;
        if (y >= sizes.height)
            std::fill(rows + i * room, rows + i * room + run.count + LANES, 0.f);
        else
            pick(plane + y * sizes.width, sizes.width, run.x + i % 2 * step, 2 * step, run.count, rows + i * room);
    }
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes half[4][2];
        for (int j = 0; j < 2; j++) {
            const Lanes a = at(rows + j * room + t), b = at(rows + (2 + j) * room + t);
            half[0][j] = a, half[1][j] = a + b, half[2][j] = a - b, half[3][j] = -b;
        }
        for (int i = 0; i < 4; i++) {
            put(to + (4 * i) * stride + t, half[i][0]);
            put(to + (4 * i + 1) * stride + t, half[i][0] + half[i][1]);
            put(to + (4 * i + 2) * stride + t, half[i][0] - half[i][1]);
            put(to + (4 * i + 3) * stride + t, -half[i][1]);
        }
    }
}

// Gᵀ dU G of each kernel: sums (16, O, I) -> dweight (O, I, 9).
inline void gather_weight(int64_t outputs, int64_t inputs, const float *sums, float *dweight) {
#pragma omp for
    for (int64_t o = 0; o < outputs; o++) {
        const float *__restrict__ from = sums + o * inputs;
        float *__restrict__ to = dweight + o * inputs * 9;
        const int64_t stride = spaced(outputs * inputs);
#pragma omp simd
        for (int64_t c = 0; c < inputs; c++) {
            float half[3][4];
            for (int j = 0; j < 4; j++) {
                const float a = from[j * stride + c], b = from[(4 + j) * stride + c] / 2;
                const float d = from[(8 + j) * stride + c] / 2, e = from[(12 + j) * stride + c];
                half[0][j] = a + b + d, half[1][j] = b - d, half[2][j] = b + d + e;
            }
            for (int i = 0; i < 3; i++) {
                const float b = half[i][1] / 2, d = half[i][2] / 2;
                to[9 * c + 3 * i] = half[i][0] + b + d, to[9 * c + 3 * i + 1] = b - d;
                to[9 * c + 3 * i + 2] = b + d + half[i][3];
            }
        }
    }
}

// dweight (O, I, 9) from x (B, I, H, W) and dy (B, O, H, W); scratch as in `convolve`, and sums (16, O, I).
inline void weight_gradient(const Sizes &sizes, const float *x, const float *dy, float *dweight, float *sums,
                            float *tiles, float *products) {
    const int64_t inputs = sizes.inputs, outputs = sizes.outputs, pixels = sizes.pixels(), row = pitch(sizes.width);
    const int64_t threads = omp_get_num_threads(), cuts = (threads + POINTS - 1) / POINTS;
    const int64_t share = (outputs + cuts - 1) / cuts, most = std::min(inputs, CHANNELS);
    const int64_t between = spaced(most * row), apart = spaced(outputs * row), across = spaced(outputs * inputs);
    float *rows = scratch<3>(8 * (row + 2 * LANES));
    bool started = false;
    for (const Block &block : blocks(sizes)) {
#pragma omp for
        for (int64_t o = 0; o < outputs; o++)
            for (const Run &run : block.runs)
                transform_gradient(sizes, run, dy + (run.image * outputs + o) * pixels, rows, apart,
                                   products + o * row + run.first);
        for (int64_t first = 0; first < inputs; first += most) {
            const int64_t depth = std::min(most, inputs - first);
#pragma omp for
            for (int64_t c = 0; c < depth; c++)
                for (const Run &run : block.runs)
                    transform_input(sizes, run, x + (run.image * inputs + first + c) * pixels, rows, between,
                                    tiles + c * row + run.first);
#pragma omp for collapse(2)
            for (int64_t point = 0; point < POINTS; point++)
                for (int64_t cut = 0; cut < cuts; cut++) {
                    const int64_t o = cut * share, count = std::min(share, outputs - o);
                    if (count > 0)
                        dnnl_sgemm('N', 'T', count, depth, block.tiles, 1, products + point * apart + o * row, row,
                                   tiles + point * between, row, started ? 1 : 0,
                                   sums + point * across + o * inputs + first, inputs);
                }
        }
        started = true;
    }
    gather_weight(outputs, inputs, sums, dweight);
}

}  // namespace winograd
}  // namespace
