#pragma once
#include "toolkit/cuda_runtime.h"
// CUDA 13 took two members out of cudaDeviceProp. Jittor's helper_cuda.h reads them in functions that nothing calls.
#if CUDART_VERSION >= 13000
#define computeMode major
#define clockRate multiProcessorCount
#endif
