// cuBLAS, found when it is needed: ONNX Runtime's extra brings it, and no header of it.
#pragma once
#include <stdexcept>
#include <string>

#include "platform.h"

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

class Memory {  // of the device, zero at first
 public:
  explicit Memory(size_t bytes) {
    check(cudaMalloc(&place_, bytes ? bytes : 1), "cannot allocate on the device");
    check(cudaMemset(place_, 0, bytes), "cannot fill the device's memory");
    settle();
  }
  Memory(size_t bytes, const void* from) : Memory(bytes) {
    if (!bytes) return;
    check(cudaMemcpy(place_, from, bytes, cudaMemcpyHostToDevice), "cannot copy to the device");
    settle();
  }
  Memory(const Memory&) = delete;
  ~Memory() { cudaFree(place_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(place_);
  }

 private:
  // The runners' streams do not wait for the stream of these calls.
  static void settle() { check(cudaStreamSynchronize(cudaStreamLegacy), "the device has failed"); }

  void* place_ = nullptr;
};

class Pinned {  // memory of the host that copies read and write while it goes on
 public:
  explicit Pinned(size_t bytes) {
    check(cudaHostAlloc(&place_, bytes, cudaHostAllocDefault), "cannot allocate pinned memory");
  }
  Pinned(const Pinned&) = delete;
  ~Pinned() { cudaFreeHost(place_); }
  void* place() const { return place_; }

 private:
  void* place_ = nullptr;
};

class Stream {
 public:
  Stream() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cannot make a stream");
  }
  Stream(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// batch products C (columns, rows) = A (rows, inner) B (columns, inner) transposed, or added to C.
struct Product {
  int rows, columns, inner, batch;
  const void *a, *b;
  long long a_stride, b_stride;  // numbers from one of the batch to the next
  float* c;
  bool adds;
};

#ifdef __CUDACC__
// cuBLAS's numbers.
constexpr int TRANSPOSED = 1, AS_IT_IS = 0, FLOAT_32 = 0, FLOAT_16 = 2;
constexpr int COMPUTE_32F = 68;  // true float32: no TF32 unless it is asked for
constexpr int ANY_ALGORITHM = -1;
constexpr size_t WORKSPACE = 16 << 20;

struct Blas {
  int (*create)(void**);
  int (*destroy)(void*);
  int (*set_stream)(void*, cudaStream_t);
  int (*set_workspace)(void*, void*, size_t);
  int (*product)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int,
                 int, const void*, void*, int, int, int, int);
  int (*products)(void*, int, int, int, int, int, const void*, const void*, int, int, long long,
                  const void*, int, int, long long, const void*, void*, int, int, long long, int, int,
                  int);

  explicit Blas(const char* name) {
    void* library = dlopen(name, RTLD_NOW);  // never closed, as ONNX Runtime has it open, too
    if (!library) throw std::runtime_error(dlerror());
    find(library, "cublasCreate_v2", create);
    find(library, "cublasDestroy_v2", destroy);
    find(library, "cublasSetStream_v2", set_stream);
    find(library, "cublasSetWorkspace_v2", set_workspace);
    find(library, "cublasGemmEx", product);
    find(library, "cublasGemmStridedBatchedEx", products);
  }

 private:
  template <class Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (!function) throw std::runtime_error(std::string("cuBLAS has no ") + name);
  }
};

// Makes products on one stream, in a workspace of its own: so their bits do not depend on others.
class Products {
 public:
  Products(const Blas& blas, cudaStream_t stream) : blas_(blas), workspace_(WORKSPACE) {
    check_blas(blas_.create(&handle_), "cannot start");
    check_blas(blas_.set_stream(handle_, stream), "refuses a stream");
    check_blas(blas_.set_workspace(handle_, workspace_.as<void>(), WORKSPACE), "refuses memory");
  }
  Products(const Products&) = delete;
  ~Products() {
    if (handle_) blas_.destroy(handle_);
  }

  void make(const Product& it, bool is_half) {
    const float one = 1.0f, beta = it.adds ? 1.0f : 0.0f;
    const int type = is_half ? FLOAT_16 : FLOAT_32;
    const int m = it.rows, n = it.columns, k = it.inner;
    const long long c_stride = static_cast<long long>(m) * n;
    check_blas(it.batch == 1
                   ? blas_.product(handle_, TRANSPOSED, AS_IT_IS, m, n, k, &one, it.a, type, k, it.b,
                                   type, k, &beta, it.c, FLOAT_32, m, COMPUTE_32F, ANY_ALGORITHM)
                   : blas_.products(handle_, TRANSPOSED, AS_IT_IS, m, n, k, &one, it.a, type, k,
                                    it.a_stride, it.b, type, k, it.b_stride, &beta, it.c, FLOAT_32, m,
                                    c_stride, it.batch, COMPUTE_32F, ANY_ALGORITHM),
               "cannot multiply");
  }

 private:
  static void check_blas(int status, const char* what) {
    if (status)
      throw std::runtime_error(std::string("cuBLAS ") + what + ": status " + std::to_string(status));
  }

  const Blas& blas_;
  Memory workspace_;
  void* handle_ = nullptr;
};
#endif
