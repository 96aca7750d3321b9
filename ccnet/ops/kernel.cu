// Common code of all CUDA kernels, the counterpart of `kernel.cc`: plain C++14 and the CUDA runtime; it uses two
// variables of Jittor. T is float or bfloat16, whose type name depends on the compiler; sums are always float.
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

// cuBLAS is loaded by Jittor; with these declarations no header or link flag is needed.
struct cublasContext;
extern "C" int cublasGemmStridedBatchedEx(cublasContext *handle, int transpose_a, int transpose_b, int m, int n, int k,
                                          const void *alpha, const void *A, int type_a, int lda, long long stride_a,
                                          const void *B, int type_b, int ldb, long long stride_b, const void *beta,
                                          void *C, int type_c, int ldc, long long stride_c, int count, int compute,
                                          int algorithm);

namespace jittor {
extern cublasContext *cublas_handle;
extern int use_tensorcore;  // jt.flags.use_tensorcore: 1 allows TF32 in float products
}  // namespace jittor

namespace {

constexpr int WARP = 32, THREADS = 256;

inline int64_t divide_up(int64_t value, int64_t step) { return (value + step - 1) / step; }

inline void check(int status, const char *what) {
    if (status) throw std::runtime_error(std::string(what) + " failed with status " + std::to_string(status));
}

// kernel<<<grid, block>>>(arguments...) in standard C++
template <class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::common_type_t<Parameters>... arguments) {
    void *pointers[] = {(void *)&arguments...};
    check(cudaLaunchKernel<void(Parameters...)>(kernel, grid, block, pointers, 0, 0), "a CUDA kernel");
}

// Device scratch memory, kept between launches and shared: kernels of one stream run one after the other.
inline float *scratch(int64_t floats) {
    static float *memory = nullptr;
    static int64_t size = 0;
    if (size < floats) {
        check(cudaFree(memory), "cudaFree");
        size = 0;
        check(cudaMalloc((void **)&memory, floats * sizeof(float)), "cudaMalloc");
        size = floats;
    }
    return memory;
}

// `count` matrices at `data`, `stride` elements apart, with row pitch `pitch` in elements; 'T' reads them transposed.
template <class T>
struct Matrices {
    T *data;
    int64_t pitch, stride;
    char transpose;
};

template <class T>
Matrices<T> matrices(T *data, int64_t pitch, int64_t stride, char transpose = 'N') {
    return {data, pitch, stride, transpose};
}

template <class T>
constexpr int cublas_type() {
    return std::is_same<std::remove_const_t<T>, float>::value ? 0 : 14;  // CUDA_R_32F, CUDA_R_16BF
}

// c (M × N) = a (M × K) b (K × N) + beta · c for each of `count`. Row-major, so cuBLAS gets the transposed product.
template <class A, class B, class C>
void matrix_product(int64_t count, int64_t M, int64_t N, int64_t K, Matrices<A> a, Matrices<B> b, float beta,
                    Matrices<C> c) {
    const int exact = 68, tf32 = 77;  // CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
    const float one = 1;
    const bool fast = jittor::use_tensorcore && cublas_type<A>() == 0;
    check(
        cublasGemmStridedBatchedEx(jittor::cublas_handle, b.transpose == 'T', a.transpose == 'T', N, M, K, &one, b.data,
                                   cublas_type<B>(), b.pitch, b.stride, a.data, cublas_type<A>(), a.pitch, a.stride,
                                   &beta, c.data, cublas_type<C>(), c.pitch, c.stride, count, fast ? tf32 : exact, -1),
        "cublasGemmStridedBatchedEx");
}

__device__ inline float warp_sum(float value) {
    for (int lane = WARP / 2; lane; lane /= 2) value += __shfl_xor_sync(0xffffffffu, value, lane);
    return value;
}

__device__ inline float warp_max(float value) {
    for (int lane = WARP / 2; lane; lane /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lane));
    return value;
}

// Blocks of 32 × 8 threads: block (i, j) sums 32 columns over rows j, j + gridDim.y, …, always in the same order.
template <class T>
__global__ void sum_rows_in_parts(const T *from, int64_t rows, int64_t columns, float *to) {
    __shared__ float sums[8][WARP];
    const int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float sum = 0;
    if (column < columns)
        for (int64_t row = blockIdx.y + (int64_t)threadIdx.y * gridDim.y; row < rows; row += 8 * gridDim.y)
            sum += (float)from[row * columns + column];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || column >= columns) return;
    for (int i = 1; i < 8; i++) sum += sums[i][threadIdx.x];
    to[blockIdx.y * columns + column] = sum;
}

// to (columns) = the sum of the rows of `from` (rows × columns), bitwise deterministic. `partial` has room for `parts`
// rows.
template <class T>
void sum_rows(const T *from, int64_t rows, int64_t columns, float *partial, int64_t parts, float *to) {
    const int64_t blocks = divide_up(columns, WARP);
    launch(sum_rows_in_parts<T>, dim3(blocks, parts), dim3(WARP, 8), from, rows, columns, partial);
    launch(sum_rows_in_parts<float>, dim3(blocks), dim3(WARP, 8), partial, parts, columns, to);
}

}  // namespace
