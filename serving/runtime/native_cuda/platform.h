// CUDA, or what stands for it where the same source is compiled for the host and tested there.
//
// A kernel is written as phases over the threads of a block: each ends with a barrier. What stands
// between phases is the same for all threads, and reads what earlier phases left in shared memory.
#pragma once
#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#define EACH_THREAD(thread) \
  for (int thread = threadIdx.x, is_due = 1; is_due; is_due = 0, __syncthreads())
#define SHARED(name) extern __shared__ float name[]

using Half = __half;
__device__ inline Half to_half(float x) { return __float2half_rn(x); }
// A product that is rounded by itself, and not together with a sum that takes it.
__device__ inline float product(float a, float b) { return __fmul_rn(a, b); }

template <class Kernel, class... Arguments>
void launch(cudaStream_t stream, dim3 blocks, int threads, size_t shared_bytes, Kernel kernel,
            const Arguments&... arguments) {
  kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...);
}
#else
#include "emulation.h"
#endif
