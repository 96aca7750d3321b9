// What `ccnet doctor` builds and runs to see that compiler, headers and libraries fit together; it needs no GPU.
#include <cstdio>
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cudnn.h>
#include <npp.h>

__global__ void twice(float *values) { values[threadIdx.x] *= 2; }

int main() {
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    printf("%d %zu %zu\n", runtime, cudnnGetVersion(), cublasGetCudartVersion());
    return 0;
}
