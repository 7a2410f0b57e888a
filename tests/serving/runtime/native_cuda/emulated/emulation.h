// What stands for CUDA and cuBLAS where the CUDA loop is compiled for the host: every kernel runs
// phase by phase, thread after thread, and a graph is a list of what was asked for. Arithmetic is
// real; what threads do to each other within a phase is not seen.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline thread_local dim3 blockIdx, blockDim;
inline thread_local std::vector<float> emulated_shared;
#define EACH_THREAD(thread) for (int thread = 0; thread < static_cast<int>(blockDim.x); thread++)
#define SHARED(name) float* name = emulated_shared.data()

using Half = _Float16;
inline Half to_half(float x) { return static_cast<Half>(x); }
inline float product(float a, float b) {
  volatile float rounded = a * b;
  return rounded;
}

// Graphs: what is asked for during a capture is kept, else done.
using Works = std::vector<std::function<void()>>;
using cudaGraph_t = Works*;
using cudaGraphExec_t = Works*;
inline thread_local Works* captured = nullptr;
inline void act(std::function<void()> work) {
  if (captured)
    captured->push_back(std::move(work));
  else
    work();
}

using cudaError_t = int;
using cudaStream_t = int*;
using cudaEvent_t = int*;
enum { cudaSuccess, cudaErrorMemoryAllocation = 2 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };
enum { cudaStreamCaptureModeThreadLocal = 1, cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
const cudaStream_t cudaStreamLegacy = nullptr;
const int SHARED_OPTIN = 232448;  // an H100's

inline const char* cudaGetErrorString(cudaError_t) { return "an error of the emulation"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) {
  *value = SHARED_OPTIN;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void** place, size_t bytes) {
  *place = std::malloc(bytes);
  return *place ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaHostAlloc(void** place, size_t bytes, unsigned) {
  return cudaMalloc(place, bytes);
}
inline cudaError_t cudaFree(void* place) {
  std::free(place);
  return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* place) { return cudaFree(place); }
inline cudaError_t cudaMemset(void* place, int value, size_t bytes) {
  std::memset(place, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) { return cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, int) {
  captured = new Works;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = captured;
  captured = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, int) {
  *ready = new Works(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete ready;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t) {
  for (auto& work : *ready) work();
  return cudaSuccess;
}

// Shared memory holds NaN at first: what is read before it was written shows.
template <class Kernel, class... Arguments>
void launch(cudaStream_t, dim3 blocks, int threads, size_t shared_bytes, Kernel kernel,
            const Arguments&... arguments) {
  act([=] {
    blockDim = dim3(threads);
    for (unsigned z = 0; z < blocks.z; z++)
      for (unsigned y = 0; y < blocks.y; y++)
        for (unsigned x = 0; x < blocks.x; x++) {
          blockIdx = dim3(x, y, z);
          emulated_shared.assign(shared_bytes / sizeof(float),
                                 std::numeric_limits<float>::quiet_NaN());
          kernel(arguments...);
        }
  });
}

struct Product;
struct Blas {
  explicit Blas(const char*) {}
};

template <class T>
void multiply(const T* a, const T* b, float* c, int rows, int columns, int inner, bool adds) {
  for (int n = 0; n < columns; n++)
    for (int m = 0; m < rows; m++) {
      float sum = adds ? c[n * rows + m] : 0.0f;
      for (int k = 0; k < inner; k++)
        sum += static_cast<float>(a[m * inner + k]) * static_cast<float>(b[n * inner + k]);
      c[n * rows + m] = sum;
    }
}

class Products {
 public:
  Products(const Blas&, cudaStream_t) {}
  template <class P = Product>
  void make(const P& it, bool is_half) {
    act([=] {
      for (int i = 0; i < it.batch; i++) {
        float* c = it.c + static_cast<size_t>(i) * it.rows * it.columns;
        if (is_half)
          multiply(static_cast<const Half*>(it.a) + i * it.a_stride,
                   static_cast<const Half*>(it.b) + i * it.b_stride, c, it.rows, it.columns, it.inner,
                   it.adds);
        else
          multiply(static_cast<const float*>(it.a) + i * it.a_stride,
                   static_cast<const float*>(it.b) + i * it.b_stride, c, it.rows, it.columns,
                   it.inner, it.adds);
      }
    });
  }
};
