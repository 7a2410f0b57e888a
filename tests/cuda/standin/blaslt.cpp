// A stand-in for cuBLASLt: notes its products.

#include "notes.h"

#include <cstdlib>
#include <cstring>

#define MAKE(name)                 \
  int name(void** made, ...) {     \
    *made = std::calloc(1, 256);   \
    return 0;                      \
  }
#define NOTHING(name) \
  int name(...) { return 0; }

extern "C" {

MAKE(cublasLtCreate)
MAKE(cublasLtMatmulDescCreate)
MAKE(cublasLtMatmulPreferenceCreate)
MAKE(cublasLtMatrixLayoutCreate)
MAKE(cublasLtMatrixTransformDescCreate)
NOTHING(cublasLtDestroy)
NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
NOTHING(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulDescDestroy)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceDestroy)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutDestroy)
NOTHING(cublasLtMatrixLayoutSetAttribute)
NOTHING(cublasLtMatrixTransform)
NOTHING(cublasLtMatrixTransformDescDestroy)

int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int,
                                   void* results, int* found) {
  std::memset(results, 0, 96);  // one cublasLtMatmulHeuristicResult_t
  *found = 1;
  return 0;
}
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*,
                   const void*, void*, void*, void*, const void*, void*, size_t, void* stream) {
  standin_note(stream, "cublasLtMatmul");
  return 0;
}

}  // extern "C"
