#pragma once
#include "toolkit/cub/cub.cuh"
// CCCL 3, in CUDA 13, dropped these names of CUB that Jittor uses.
#if defined(CCCL_MAJOR_VERSION) && CCCL_MAJOR_VERSION >= 3
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
namespace cub {
__device__ __forceinline__ unsigned int LaneId() {
    unsigned int lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
struct Max {
    template <class T>
    __host__ __device__ T operator()(const T &a, const T &b) const {
        return a < b ? b : a;
    }
};
struct Min {
    template <class T>
    __host__ __device__ T operator()(const T &a, const T &b) const {
        return b < a ? b : a;
    }
};
struct Sum {
    template <class T>
    __host__ __device__ T operator()(const T &a, const T &b) const {
        return a + b;
    }
};
template <class T>
using CountingInputIterator = thrust::counting_iterator<T>;
template <class V, class F, class I>
using TransformInputIterator = thrust::transform_iterator<F, I, V>;
}  // namespace cub
#endif
