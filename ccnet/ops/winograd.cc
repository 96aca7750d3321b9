// 3 × 3 convolution at stride 1 by Winograd's F(M × M, 3 × 3) (Lavin and Gray, arXiv:1509.09308): a tile of M × M
// outputs takes (M + 2)² multiplications per channel instead of 9 M²: 36 instead of 144 for M = 4. At each point of the
// transformed tiles the convolution is a matrix product over the channels. With dilation d the image is d × d
// interleaved images, each convolved without dilation. Tiles and channels are processed in blocks that stay in the
// cache.
namespace {
namespace winograd {

// Interpolation points of F(M × M, 3 × 3), besides infinity. For 4 × 4 they are the usual 0, ±1, ±2 times 2/3, which
// makes the rounding error four times smaller.
template <int M>
constexpr double POINTS[M + 1] = {};
template <>
constexpr double POINTS<2>[3] = {0, 1, -1};
template <>
constexpr double POINTS<4>[5] = {0, 2. / 3, -2. / 3, 4. / 3, -4. / 3};

// The matrices of Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A by Cook and Toom. Each row of G and of A belongs to a point: G and A
// evaluate polynomials of three and of M coefficients at it; at infinity the value is the last coefficient. Row j of Bᵀ
// holds the coefficients of the product of (x - point) over all points but the j-th. Row j of G is divided by the value
// of that product at point j.
template <int M>
struct Matrices {
    static constexpr int N = M + 2;
    float A[N][M] = {}, A_T[M][N] = {}, B_T[N][N] = {}, G[N][3] = {}, G_T[3][N] = {};

    constexpr Matrices() {
        for (int j = 0; j < N; j++) {
            const double at_point = make_B_T(j);
            make_A(j);
            make_G(j, at_point);
        }
    }

    // Sets row j of Bᵀ; returns the value of its polynomial at point j, or 1 for infinity.
    constexpr double make_B_T(int j) {
        double coefficients[N] = {1}, at_point = 1;
        for (int l = 0, degree = 0; l < N - 1; l++) {
            if (l == j) continue;
            degree++;
            for (int k = degree; k > 0; k--) coefficients[k] = coefficients[k - 1] - POINTS<M>[l] * coefficients[k];
            coefficients[0] *= -POINTS<M>[l];
            if (j < N - 1) at_point *= POINTS<M>[j] - POINTS<M>[l];
        }
        for (int k = 0; k < N; k++) B_T[j][k] = coefficients[k];
        return at_point;
    }

    constexpr void make_A(int j) {
        double power = 1;
        for (int k = 0; k < M; k++) {
            A[j][k] = A_T[k][j] = j < N - 1 ? power : k == M - 1;
            if (j < N - 1) power *= POINTS<M>[j];
        }
    }

    constexpr void make_G(int j, double scale) {
        double power = 1;
        for (int k = 0; k < 3; k++) {
            G[j][k] = G_T[k][j] = j < N - 1 ? power / scale : k == 2;
            if (j < N - 1) power *= POINTS<M>[j];
        }
    }
};

template <int M>
constexpr Matrices<M> MATRICES;

// to (R × R) = m (R × C) · from (C × C) · mᵀ, for as many tiles or channels as a T holds.
template <int R, int C, class T>
inline __attribute__((always_inline)) void multiply_both_sides(const float (&m)[R][C], const T (&from)[C][C],
                                                               T (&to)[R][R]) {
    T half[R][C];
#pragma GCC unroll 6
    for (int i = 0; i < R; i++)
#pragma GCC unroll 6
        for (int j = 0; j < C; j++) {
            half[i][j] = m[i][0] * from[0][j];
#pragma GCC unroll 6
            for (int k = 1; k < C; k++) half[i][j] += m[i][k] * from[k][j];
        }
#pragma GCC unroll 6
    for (int i = 0; i < R; i++)
#pragma GCC unroll 6
        for (int j = 0; j < R; j++) {
            to[i][j] = m[j][0] * half[i][0];
#pragma GCC unroll 6
            for (int k = 1; k < C; k++) to[i][j] += m[j][k] * half[i][k];
        }
}

// `count` horizontally adjacent tiles from output (y, x); `first` is the index of the first tile in its block.
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
};

// Block sizes, set by winograd.py. A block has at least `tiles` tiles, rounded up to whole runs; `channels` input
// channels are transformed at a time; rows of a transformed block are `pitch` floats apart.
struct Cut {
    int64_t tiles, channels, pitch;
};

// Memory for transformed values, allocated by winograd.py: `apart` floats for each of `points`.
struct Memory {
    float *data;
    int64_t points, apart;
};

// Number of tiles of side M = `side` over the pixels first, first + dilation, … below `length`.
inline int64_t tiles(int64_t first, int64_t length, int64_t dilation, int64_t side) {
    return first < length ? ((length - first - 1) / dilation + side) / side : 0;
}

template <int M>
std::vector<Block> make_blocks(const Sizes &sizes, const Cut &cut) {
    std::vector<Block> all(1);
    const int64_t step = sizes.dilation;
    for (int64_t image = 0; image < sizes.batch; image++)
        for (int64_t row = 0; row < step; row++)
            for (int64_t tile = 0; tile < tiles(row, sizes.height, step, M); tile++)
                for (int64_t x = 0; x < std::min(step, sizes.width); x++) {
                    if (all.back().tiles >= cut.tiles) all.emplace_back();
                    const int64_t count = tiles(x, sizes.width, step, M);
                    all.back().runs.push_back({image, row + M * step * tile, x, count, all.back().tiles});
                    all.back().tiles += count;
                }
    for (const Block &block : all)
        if (block.tiles + LANES > cut.pitch) throw std::length_error("winograd: a block is longer than the pitch");
    return all;
}

// Whether 4 × 4 tiles cost less than 2 × 2 tiles, which waste less on images of a few pixels. Transforming the weights
// costs about as much as multiplying them with 50 tiles.
inline bool large_tiles(const Sizes &sizes) {
    auto cost = [&](int64_t side) {
        int64_t count[2] = {};
        for (int64_t first = 0; first < sizes.dilation; first++) {
            count[0] += tiles(first, sizes.height, sizes.dilation, side);
            count[1] += tiles(first, sizes.width, sizes.dilation, side);
        }
        return (side + 2) * (side + 2) * (sizes.batch * count[0] * count[1] + 50);
    };
    return cost(4) < cost(2);
}

inline Lanes load(const float *from) { return *(const Lanes *)from; }
inline void store(float *to, Lanes value) { *(Lanes *)to = value; }

// Transformed values (points, rows, pitch). The pitch has room for vector stores beyond the last value.
struct Array {
    int64_t pitch, apart;
    float *data;
    Array(int64_t points, int64_t rows, int64_t pitch, const Memory &memory)
        : pitch(pitch), apart(memory.apart), data(memory.data) {
        if (points > memory.points || rows * pitch > apart) throw std::length_error("winograd: memory is too small");
    }
    float *at(int64_t point, int64_t row, int64_t place = 0) const {
        return data + point * apart + row * pitch + place;
    }
};

struct Workspace {
    Memory kernels, tiles, products;
};

// Kernels (points, O, channels) of the inputs transformed at a time; tiles (points, channels, pitch) and products
// (points, O, pitch) of a block.
template <int M>
struct Transformed {
    Array kernels, tiles, products;
    Transformed(const Sizes &sizes, const Cut &cut, const Workspace &workspace)
        : kernels((M + 2) * (M + 2), sizes.outputs, round_up(cut.channels, LANES), workspace.kernels),
          tiles((M + 2) * (M + 2), cut.channels, cut.pitch, workspace.tiles),
          products((M + 2) * (M + 2), sizes.outputs, cut.pitch, workspace.products) {}
};

// Gathers pixels of a row, `gap` apart, from column `x`; 0 outside. Fills `to` up to `length` plus one vector.
inline void gather_strided(const float *row, int64_t width, int64_t x, int64_t gap, int64_t length, float *to) {
    const int64_t before = x < 0 ? 1 : 0;  // at most 1: a tile begins at most one step outside
    const int64_t within = std::max(before, std::min(length, (width - 1 - x + gap) / gap));
    to[0] = 0;
    for (int64_t t = before; t < within; t++) to[t] = row[x + t * gap];
    std::fill(to + within, to + length + LANES, 0.f);
}

// Gathers rows `first`, first + dilation, … of a plane, each split by the M columns of its tiles: column j of row i is
// at rows + (i · M + j) · room.
template <int M>
inline void gather_tile_columns(const Sizes &sizes, const Run &run, const float *plane, int64_t first, int64_t height,
                                int64_t left, int64_t length, int64_t room, float *rows) {
    const int64_t step = sizes.dilation;
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < M; j++) {
            const int64_t y = first + i * step;
            float *to = rows + (i * M + j) * room;
            if (y < 0 || y >= sizes.height)
                std::fill(to, to + length + LANES, 0.f);
            else
                gather_strided(plane + y * sizes.width, sizes.width, left + j * step, M * step, length, to);
        }
}

// Bᵀ d B of the tiles of a run of one plane.
template <int M>
void transform_input(const Sizes &sizes, const Run &run, const float *plane, const Array &to, int64_t c) {
    constexpr int N = M + 2;
    const int64_t step = sizes.dilation, room = round_up(run.count + 1, LANES) + 2 * LANES;
    float *rows = scratch<struct InputRows>(N * M * room);
    gather_tile_columns<M>(sizes, run, plane, run.y - step, N, run.x - step, run.count + 1, room, rows);
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes d[N][N], v[N][N];
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) d[i][j] = load(rows + (i * M + j % M) * room + t + j / M);
        multiply_both_sides(MATRICES<M>.B_T, d, v);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) store(to.at(i * N + j, c, run.first + t), v[i][j]);
    }
}

// A dY Aᵀ of the tiles of a run of one plane of an output's gradient.
template <int M>
void transform_gradient(const Sizes &sizes, const Run &run, const float *plane, const Array &to, int64_t o) {
    constexpr int N = M + 2;
    const int64_t room = round_up(run.count, LANES) + 2 * LANES;
    float *rows = scratch<struct GradientRows>(M * M * room);
    gather_tile_columns<M>(sizes, run, plane, run.y, M, run.x, run.count, room, rows);
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes d[M][M], v[N][N];
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j++) d[i][j] = load(rows + (i * M + j) * room + t);
        multiply_both_sides(MATRICES<M>.A, d, v);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) store(to.at(i * N + j, o, run.first + t), v[i][j]);
    }
}

// Aᵀ m A of the tiles of a run into one plane of the output.
template <int M>
void transform_output(const Sizes &sizes, const Run &run, const Array &from, int64_t o, float *plane) {
    constexpr int N = M + 2;
    const int64_t room = round_up(run.count, LANES), step = sizes.dilation;
    float *rows = scratch<struct OutputRows>(M * M * room);
    for (int64_t t = 0; t < run.count; t += LANES) {
        Lanes m[N][N], y[M][M];
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) m[i][j] = load(from.at(i * N + j, o, run.first + t));
        multiply_both_sides(MATRICES<M>.A_T, m, y);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j++) store(rows + (i * M + j) * room + t, y[i][j]);
    }
    for (int64_t i = 0; i < M && run.y + i * step < sizes.height; i++) {
        float *row = plane + (run.y + i * step) * sizes.width + run.x;
        const int64_t columns = (sizes.width - run.x + step - 1) / step;
        for (int64_t j = 0; j < M; j++)
            for (int64_t t = 0; M * t + j < columns; t++) row[(M * t + j) * step] = rows[(i * M + j) * room + t];
    }
}

// G g Gᵀ of the kernels of `count` inputs from `first`: weight (O, I, 3, 3) -> to (points, O, channels). With
// `gradient` the weight is (I, O, 3, 3) and its kernels are rotated by 180°, for the convolution from dy to dx.
template <int M>
void transform_weight(const Sizes &sizes, bool gradient, const float *weight, int64_t first, int64_t count,
                      const Array &to) {
    constexpr int N = M + 2;
    const int64_t next = 9 * (gradient ? sizes.outputs : 1);
#pragma omp for
    for (int64_t o = 0; o < sizes.outputs; o++) {
        const float *from = weight + 9 * (gradient ? first * sizes.outputs + o : o * sizes.inputs + first);
        for (int64_t c = 0; c < count; c += LANES) {
            float taps[9][LANES] = {};
            for (int64_t i = 0; i < std::min(LANES, count - c); i++)
                for (int k = 0; k < 9; k++) taps[gradient ? 8 - k : k][i] = from[(c + i) * next + k];
            Lanes g[3][3], u[N][N];
            for (int k = 0; k < 9; k++) g[k / 3][k % 3] = load(taps[k]);
            multiply_both_sides(MATRICES<M>.G, g, u);
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) store(to.at(i * N + j, o, c), u[i][j]);
        }
    }
}

// Gᵀ dU G of the kernels of `count` inputs from `first`: sums (points, O, channels) -> dweight (O, I, 3, 3).
template <int M>
void transform_weight_gradient(const Sizes &sizes, const Array &sums, int64_t first, int64_t count, float *dweight) {
    constexpr int N = M + 2;
#pragma omp for
    for (int64_t o = 0; o < sizes.outputs; o++)
        for (int64_t c = 0; c < count; c += LANES) {
            Lanes u[N][N], g[3][3];
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) u[i][j] = load(sums.at(i * N + j, o, c));
            multiply_both_sides(MATRICES<M>.G_T, u, g);
            float taps[9][LANES];
            for (int k = 0; k < 9; k++) store(taps[k], g[k / 3][k % 3]);
            float *place = dweight + 9 * (o * sizes.inputs + first + c);
            for (int64_t i = 0; i < std::min(LANES, count - c); i++)
                for (int k = 0; k < 9; k++) place[9 * i + k] = taps[k][i];
        }
}

// Calls f(point, o, count) for all points, with the outputs split into enough pieces to keep all threads busy.
template <class Function>
void for_each_point(int64_t points, int64_t outputs, Function f) {
    const int64_t pieces = (omp_get_num_threads() + points - 1) / points, share = (outputs + pieces - 1) / pieces;
#pragma omp for collapse(2)
    for (int64_t point = 0; point < points; point++)
        for (int64_t piece = 0; piece < pieces; piece++)
            if (piece * share < outputs) f(point, piece * share, std::min(share, outputs - piece * share));
}

template <int M>
void transform_inputs(const Sizes &sizes, const Block &block, const float *x, int64_t first, int64_t count,
                      const Array &to) {
#pragma omp for
    for (int64_t c = 0; c < count; c++)
        for (const Run &run : block.runs)
            transform_input<M>(sizes, run, x + (run.image * sizes.inputs + first + c) * sizes.pixels(), to, c);
}

// y (B, O, H, W) from x (B, I, H, W) and weight (O, I, 3, 3), then `epilogue`; see transform_weight for `gradient`.
template <int M>
void convolve(const Sizes &sizes, const Cut &cut, const Workspace &workspace, bool gradient, const float *x,
              const float *weight, const Epilogue &epilogue, float *y) {
    const int64_t pixels = sizes.pixels(), channels = cut.channels;
    const Transformed<M> arrays(sizes, cut, workspace);
    const Array &u = arrays.kernels, &v = arrays.tiles, &m = arrays.products;
    const std::vector<Block> all = make_blocks<M>(sizes, cut);
#pragma omp parallel
    for (const Block &block : all) {
        for (int64_t first = 0; first < sizes.inputs; first += channels) {
            const int64_t count = std::min(channels, sizes.inputs - first);
            if (&block == &all[0] || channels < sizes.inputs)
                transform_weight<M>(sizes, gradient, weight, first, count, u);
            transform_inputs<M>(sizes, block, x, first, count, v);
            for_each_point((M + 2) * (M + 2), sizes.outputs, [&](int64_t point, int64_t o, int64_t outputs) {
                dnnl_sgemm('N', 'N', outputs, block.tiles, count, 1, u.at(point, o), u.pitch, v.at(point, 0), v.pitch,
                           first ? 1 : 0, m.at(point, o), m.pitch);
            });
        }
#pragma omp for
        for (int64_t o = 0; o < sizes.outputs; o++) {
            for (const Run &run : block.runs)
                transform_output<M>(sizes, run, m, o, y + (run.image * sizes.outputs + o) * pixels);
            for (int64_t image = 0; &block == &all.back() && image < sizes.batch; image++)
                apply_epilogue(epilogue, o, (image * sizes.outputs + o) * pixels, y, pixels);
        }
    }
}

// dweight (O, I, 3, 3) from x (B, I, H, W) and dy (B, O, H, W).
template <int M>
void weight_gradient(const Sizes &sizes, const Cut &cut, const Workspace &workspace, const float *x, const float *dy,
                     float *dweight) {
    const int64_t pixels = sizes.pixels(), channels = cut.channels;
    const Transformed<M> arrays(sizes, cut, workspace);
    const Array &sums = arrays.kernels, &v = arrays.tiles, &m = arrays.products;
    const std::vector<Block> all = make_blocks<M>(sizes, cut);
#pragma omp parallel
    for (int64_t first = 0; first < sizes.inputs; first += channels) {
        const int64_t count = std::min(channels, sizes.inputs - first);
        for (const Block &block : all) {
            if (first == 0 || all.size() > 1) {
#pragma omp for
                for (int64_t o = 0; o < sizes.outputs; o++)
                    for (const Run &run : block.runs)
                        transform_gradient<M>(sizes, run, dy + (run.image * sizes.outputs + o) * pixels, m, o);
            }
            transform_inputs<M>(sizes, block, x, first, count, v);
            for_each_point((M + 2) * (M + 2), sizes.outputs, [&](int64_t point, int64_t o, int64_t outputs) {
                dnnl_sgemm('N', 'T', outputs, count, block.tiles, 1, m.at(point, o), m.pitch, v.at(point, 0), v.pitch,
                           &block == &all[0] ? 0 : 1, sums.at(point, o), sums.pitch);
            });
        }
        transform_weight_gradient<M>(sizes, sums, first, count, dweight);
    }
}

}  // namespace winograd
}  // namespace
