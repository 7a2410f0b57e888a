// A stand-in for cuBLAS: notes its products.

#include "notes.h"

namespace {
struct Handle {
  void* stream;
  int mode;
};
}  // namespace

// Of all that ONNX Runtime calls, only the handle is looked at.
#define PRODUCT(name)                        \
  int name(Handle* handle, ...) {            \
    standin_note(handle->stream, #name);     \
    return 0;                                \
  }

extern "C" {

int cublasCreate_v2(Handle** handle) {
  *handle = new Handle{nullptr, 0};
  return 0;
}
int cublasDestroy_v2(Handle* handle) {
  delete handle;
  return 0;
}
int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
int cublasSetWorkspace_v2(Handle*, void*, size_t) { return 0; }
int cublasGetMathMode(Handle* handle, int* mode) {
  *mode = handle->mode;
  return 0;
}
int cublasSetMathMode(Handle* handle, int mode) {
  handle->mode = mode;
  return 0;
}
const char* cublasGetStatusName(int) { return "stand-in"; }
const char* cublasGetStatusString(int) { return "stand-in"; }

PRODUCT(cublasDgeam)
PRODUCT(cublasDgemmBatched)
PRODUCT(cublasDgemmStridedBatched)
PRODUCT(cublasDgemm_v2)
PRODUCT(cublasDgetrfBatched)
PRODUCT(cublasDgetriBatched)
PRODUCT(cublasGemmBatchedEx)
PRODUCT(cublasGemmEx)
PRODUCT(cublasGemmStridedBatchedEx)
PRODUCT(cublasScopy_v2)
PRODUCT(cublasSgeam)
PRODUCT(cublasSgemmBatched)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgetrfBatched)
PRODUCT(cublasSgetriBatched)
PRODUCT(cublasSscal_v2)

}  // extern "C"
