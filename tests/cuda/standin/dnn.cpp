// A stand-in for cuDNN: notes its recurrent layers, reductions and Softmax.

#include "notes.h"

#include <cstdlib>

namespace {
struct Handle {
  void* stream;
};
}  // namespace

#define WORK(name)                        \
  int name(Handle* handle, ...) {         \
    standin_note(handle->stream, #name);  \
    return 0;                             \
  }
#define MAKE(name)                \
  int name(void** made, ...) {    \
    *made = std::calloc(1, 256);  \
    return 0;                     \
  }
#define NOTHING(name) \
  int name(...) { return 0; }

extern "C" {

int cudnnCreate(Handle** handle) {
  *handle = new Handle{nullptr};
  return 0;
}
int cudnnDestroy(Handle* handle) {
  delete handle;
  return 0;
}
int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
int cudnnGetStream(Handle* handle, void** stream) {
  *stream = handle->stream;
  return 0;
}
size_t cudnnGetVersion() { return 91900; }
const char* cudnnGetErrorString(int) { return "stand-in"; }

WORK(cudnnRNNForward)
WORK(cudnnReduceTensor)
WORK(cudnnSoftmaxForward)

int cudnnGetRNNTempSpaceSizes(void*, void*, int, void*, size_t* workspace, size_t* reserve) {
  if (workspace) *workspace = 1 << 20;
  if (reserve) *reserve = 0;
  return 0;
}
int cudnnGetRNNWeightSpaceSize(void*, void*, size_t* size) {
  *size = 16 << 20;
  return 0;
}
int cudnnGetRNNWeightParams(void*, void*, int, size_t, const void* weights, int, void*,
                            void** matrix, void*, void** bias) {
  *matrix = *bias = const_cast<void*>(weights);
  return 0;
}
int cudnnDropoutGetStatesSize(void*, size_t* size) {
  *size = 1 << 16;
  return 0;
}
int cudnnGetTensorNdDescriptor(void*, int, int* type, int* dimensions, int* sizes, int* strides) {
  *type = 0;
  *dimensions = 3;
  for (int i = 0; i < 3; i++) sizes[i] = strides[i] = 1;
  return 0;
}
int cudnnGetReductionWorkspaceSize(void*, void*, void*, void*, size_t* size) {
  *size = 1024;
  return 0;
}
int cudnnGetReductionIndicesSize(void*, void*, void*, void*, size_t* size) {
  *size = 1024;
  return 0;
}

MAKE(cudnnCreateActivationDescriptor)
MAKE(cudnnCreateConvolutionDescriptor)
MAKE(cudnnCreateDropoutDescriptor)
MAKE(cudnnCreateFilterDescriptor)
MAKE(cudnnCreateLRNDescriptor)
MAKE(cudnnCreatePoolingDescriptor)
MAKE(cudnnCreateRNNDataDescriptor)
MAKE(cudnnCreateRNNDescriptor)
MAKE(cudnnCreateReduceTensorDescriptor)
MAKE(cudnnCreateTensorDescriptor)

NOTHING(cudnnActivationForward)
NOTHING(cudnnAddTensor)
NOTHING(cudnnBackendCreateDescriptor)
NOTHING(cudnnBackendDestroyDescriptor)
NOTHING(cudnnBackendExecute)
NOTHING(cudnnBackendFinalize)
NOTHING(cudnnBackendGetAttribute)
NOTHING(cudnnBackendSetAttribute)
NOTHING(cudnnBatchNormalizationForwardInference)
NOTHING(cudnnBatchNormalizationForwardTraining)
NOTHING(cudnnConvolutionBiasActivationForward)
NOTHING(cudnnConvolutionForward)
NOTHING(cudnnDeriveBNTensorDescriptor)
NOTHING(cudnnDestroyActivationDescriptor)
NOTHING(cudnnDestroyConvolutionDescriptor)
NOTHING(cudnnDestroyDropoutDescriptor)
NOTHING(cudnnDestroyFilterDescriptor)
NOTHING(cudnnDestroyLRNDescriptor)
NOTHING(cudnnDestroyPoolingDescriptor)
NOTHING(cudnnDestroyRNNDataDescriptor)
NOTHING(cudnnDestroyRNNDescriptor)
NOTHING(cudnnDestroyReduceTensorDescriptor)
NOTHING(cudnnDestroyTensorDescriptor)
NOTHING(cudnnFindConvolutionForwardAlgorithmEx)
NOTHING(cudnnGetConvolutionForwardAlgorithm_v7)
NOTHING(cudnnGetConvolutionForwardWorkspaceSize)
NOTHING(cudnnGetLastErrorString)
NOTHING(cudnnLRNCrossChannelForward)
NOTHING(cudnnPoolingForward)
NOTHING(cudnnSetActivationDescriptor)
NOTHING(cudnnSetConvolutionGroupCount)
NOTHING(cudnnSetConvolutionMathType)
NOTHING(cudnnSetConvolutionNdDescriptor)
NOTHING(cudnnSetDropoutDescriptor)
NOTHING(cudnnSetFilterNdDescriptor)
NOTHING(cudnnSetLRNDescriptor)
NOTHING(cudnnSetPoolingNdDescriptor)
NOTHING(cudnnSetRNNDataDescriptor)
NOTHING(cudnnSetRNNDescriptor_v8)
NOTHING(cudnnSetReduceTensorDescriptor)
NOTHING(cudnnSetTensorNdDescriptor)

}  // extern "C"
