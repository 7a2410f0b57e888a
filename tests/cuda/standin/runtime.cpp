// A stand-in for CUDA's runtime: the host's memory is the device's, and kernels compute nothing.
//
// Allocations, copies, streams, captures and replays are real as far as their order and their rules
// go. The rule that matters: while a stream is captured in the global mode, any thread's call that
// allocates, frees, copies or waits synchronously fails and ends the capture. In the thread-local mode
// it is the capturing thread's call that does. Streams that wait for an event of a captured one are
// captured with it, and must be waited for before its end.

#include "notes.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Stream {
  bool capturing = false;
  bool broken = false;
  std::vector<std::string> nodes;
  bool is_global = true;
  std::thread::id thread;
  Stream* origin = nullptr;  // whose capture it has joined
  bool is_pending = false;   // that capture has yet to wait for it
};

struct Event {
  Stream* stream = nullptr;
};

struct Block {
  size_t size;
  cudaMemoryType kind;
};

struct Graph {
  std::vector<std::string> nodes;
};

std::recursive_mutex guard;
std::set<Stream*> streams;
std::map<char*, Block> blocks;
std::map<const void*, std::string> kernels;
std::string last_capture;
long violations = 0, captures = 0, launches = 0;
thread_local cudaError_t last_error = cudaSuccess;

using Lock = std::lock_guard<std::recursive_mutex>;

Stream* of(cudaStream_t handle) {
  bool is_default = handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread;
  return is_default ? nullptr : reinterpret_cast<Stream*>(handle);
}

// Whether a stream is captured so that this thread may not do what is unsafe.
bool forbids(Stream* stream) {
  return stream->capturing && (stream->is_global || stream->thread == std::this_thread::get_id());
}

bool capturing() {
  for (Stream* stream : streams)
    if (forbids(stream)) return true;
  return false;
}

// The stream whose capture takes what a stream has to do; none if it does it.
Stream* captured_by(cudaStream_t handle) {
  Stream* stream = of(handle);
  if (!stream) return nullptr;
  return stream->capturing ? stream : stream->origin;
}

cudaError_t fail(cudaError_t error) { return last_error = error; }

// What CUDA calls a potentially unsafe call.
cudaError_t unsafe() {
  if (!capturing()) return cudaSuccess;
  violations++;
  for (Stream* stream : streams)
    if (forbids(stream)) stream->broken = true;
  return fail(cudaErrorStreamCaptureUnsupported);
}

void note(cudaStream_t handle, const std::string& work) {
  if (Stream* origin = captured_by(handle)) {
    origin->nodes.push_back(work);
    of(handle)->is_pending = of(handle) != origin;
  }
}

bool is_captured(cudaStream_t handle) { return captured_by(handle) != nullptr; }

cudaError_t allocate(void** place, size_t size, cudaMemoryType kind) {
  Lock lock(guard);
  if (cudaError_t error = unsafe()) return error;
  size_t whole = (size + 511) / 512 * 512 + 512;
  char* block = static_cast<char*>(std::aligned_alloc(512, whole));
  if (!block) return fail(cudaErrorMemoryAllocation);
  std::memset(block, 0, whole);
  blocks[block] = {size, kind};
  *place = block;
  return cudaSuccess;
}

cudaError_t release(void* place) {
  Lock lock(guard);
  if (!place) return cudaSuccess;
  if (cudaError_t error = unsafe()) return error;
  blocks.erase(static_cast<char*>(place));
  std::free(place);
  return cudaSuccess;
}

cudaError_t launch(const void* kernel, cudaStream_t stream) {
  Lock lock(guard);
  note(stream, kernels[kernel]);
  return cudaSuccess;
}

template <typename Handle>
cudaError_t make(Handle* handle) {
  *handle = static_cast<Handle>(std::malloc(8));
  return cudaSuccess;
}

thread_local struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} configuration;

}  // namespace

extern "C" {

void standin_note(void* stream, const char* work) {
  Lock lock(guard);
  note(static_cast<cudaStream_t>(stream), work);
}

size_t standin_device_bytes() {
  Lock lock(guard);
  size_t sum = 0;
  for (auto& block : blocks)
    if (block.second.kind == cudaMemoryTypeDevice) sum += block.second.size;
  return sum;
}

long standin_violations() { return violations; }
long standin_captures() { return captures; }
long standin_launches() { return launches; }
const char* standin_last_capture() { return last_capture.c_str(); }

// Kernels: registered when a library is loaded, noted when they are launched.

void** __cudaRegisterFatBinary(void*) { return new void*[1]; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*, void*,
                            void*, void*, int*) {
  Lock lock(guard);
  kernels[function] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configuration = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = (cudaKernel_t)function;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch((const void*)kernel, stream);
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(kernel, stream);
}
cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3, dim3, void**, size_t,
                                        cudaStream_t stream) {
  return launch(kernel, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* how, const void* kernel, void**) {
  return launch(kernel, how->stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  {
    Lock lock(guard);
    note(stream, "host function");
    if (is_captured(stream)) return cudaSuccess;
  }
  function(data);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
  std::memset(found, 0, sizeof *found);
  found->ptxVersion = found->binaryVersion = 90;
  found->maxThreadsPerBlock = 1024;
  found->numRegs = 32;
  found->maxDynamicSharedSizeBytes = 232448;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) {
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int size,
                                                                  size_t, unsigned) {
  *blocks = size > 1024 ? 1 : size < 64 ? 32 : 2048 / size;
  return cudaSuccess;
}
cudaError_t cudaLibraryLoadData(cudaLibrary_t*, const void*, cudaJitOption*, void**, unsigned,
                                cudaLibraryOption*, void**, unsigned) {
  return cudaErrorNotSupported;
}
cudaError_t cudaLibraryUnload(cudaLibrary_t) { return cudaSuccess; }
cudaError_t cudaLibraryGetKernel(cudaKernel_t*, cudaLibrary_t, const char*) {
  return cudaErrorNotSupported;
}

// The device: one of the size of an H100.

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  static const std::map<int, int> known = {
      {cudaDevAttrMultiProcessorCount, 132},
      {cudaDevAttrComputeCapabilityMajor, 9},
      {cudaDevAttrComputeCapabilityMinor, 0},
      {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
      {cudaDevAttrMaxThreadsPerBlock, 1024},
      {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrWarpSize, 32},
      {cudaDevAttrL2CacheSize, 50 << 20},
      {cudaDevAttrMaxGridDimX, 2147483647},
      {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxBlockDimX, 1024},
  };
  auto found = known.find(attribute);
  *value = found == known.end() ? 1 : found->second;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  std::memset(found, 0, sizeof *found);
  std::strcpy(found->name, "stand-in");
  found->major = 9;
  found->multiProcessorCount = 132;
  found->totalGlobalMem = 80ull << 30;
  found->sharedMemPerBlock = 49152;
  found->sharedMemPerBlockOptin = 232448;
  found->sharedMemPerMultiprocessor = 233472;
  found->regsPerBlock = found->regsPerMultiprocessor = 65536;
  found->warpSize = 32;
  found->maxThreadsPerBlock = 1024;
  found->maxThreadsPerMultiProcessor = 2048;
  found->maxBlocksPerMultiProcessor = 32;
  found->l2CacheSize = 50 << 20;
  found->maxGridSize[0] = 2147483647;
  found->maxGridSize[1] = found->maxGridSize[2] = 65535;
  found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
  found->maxThreadsDim[2] = 64;
  found->unifiedAddressing = found->concurrentKernels = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  Lock lock(guard);
  return unsafe();
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (result) *result = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorInvalidValue;
}
const char* cudaGetErrorName(cudaError_t) { return "stand-in"; }
const char* cudaGetErrorString(cudaError_t error) {
  static thread_local std::string text;
  text = "the stand-in's CUDA error " + std::to_string(error);
  return text.c_str();
}
cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

// Memory.

cudaError_t cudaMalloc(void** place, size_t size) {
  return allocate(place, size, cudaMemoryTypeDevice);
}
cudaError_t cudaMallocHost(void** place, size_t size) {
  return allocate(place, size, cudaMemoryTypeHost);
}
cudaError_t cudaHostAlloc(void** place, size_t size, unsigned) {
  return allocate(place, size, cudaMemoryTypeHost);
}
cudaError_t cudaMallocFromPoolAsync(void** place, size_t size, cudaMemPool_t, cudaStream_t) {
  return allocate(place, size, cudaMemoryTypeDevice);
}
cudaError_t cudaFree(void* place) { return release(place); }
cudaError_t cudaFreeHost(void* place) { return release(place); }
cudaError_t cudaFreeAsync(void* place, cudaStream_t) { return release(place); }
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) { return make(pool); }
cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = 79ull << 30;
  *total = 80ull << 30;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* place) {
  Lock lock(guard);
  std::memset(found, 0, sizeof *found);
  found->type = cudaMemoryTypeUnregistered;
  found->devicePointer = const_cast<void*>(place);
  char* pointer = static_cast<char*>(found->devicePointer);
  auto after = blocks.upper_bound(pointer);
  if (after == blocks.begin()) return cudaSuccess;
  auto block = std::prev(after);
  if (pointer < block->first + block->second.size) found->type = block->second.kind;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  Lock lock(guard);
  if (cudaError_t error = unsafe()) return error;
  std::memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind,
                            cudaStream_t stream) {
  Lock lock(guard);
  note(stream, "copy");
  if (!is_captured(stream)) std::memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void*, size_t, const void*, size_t, size_t, size_t, cudaMemcpyKind,
                              cudaStream_t stream) {
  Lock lock(guard);
  note(stream, "copy");
  return cudaSuccess;
}
cudaError_t cudaMemcpyFromSymbol(void*, const void*, size_t, size_t, cudaMemcpyKind) {
  Lock lock(guard);
  return unsafe();
}
cudaError_t cudaMemset(void* place, int value, size_t size) {
  Lock lock(guard);
  if (cudaError_t error = unsafe()) return error;
  std::memset(place, value, size);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t stream) {
  Lock lock(guard);
  note(stream, "fill");
  return cudaSuccess;
}

// Streams, events, captures.

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned) {
  Lock lock(guard);
  auto* stream = new Stream;
  streams.insert(stream);
  *handle = reinterpret_cast<cudaStream_t>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* handle) { return cudaStreamCreateWithFlags(handle, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  Lock lock(guard);
  streams.erase(of(handle));
  delete of(handle);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Lock lock(guard);
  return of(handle) && !is_captured(handle) ? cudaSuccess : unsafe();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t handle_of_event, unsigned) {
  Lock lock(guard);
  Stream *stream = of(handle), *first = reinterpret_cast<Event*>(handle_of_event)->stream;
  if (!stream || !first) return cudaSuccess;
  Stream* origin = first->capturing ? first : first->origin;
  if (origin && stream != origin) stream->origin = origin;
  if (origin == stream) first->is_pending = false;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<Event*>(event);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0.01f;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock(guard);
  reinterpret_cast<Event*>(event)->stream = is_captured(stream) ? of(stream) : nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  Lock lock(guard);
  return unsafe();
}
cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Lock lock(guard);
  Stream* origin = captured_by(handle);
  *status = !origin          ? cudaStreamCaptureStatusNone
            : origin->broken ? cudaStreamCaptureStatusInvalidated
                             : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Lock lock(guard);
  *of(handle) = Stream{true, false, {}, mode == cudaStreamCaptureModeGlobal,
                       std::this_thread::get_id()};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Lock lock(guard);
  Stream* stream = of(handle);
  stream->capturing = false;
  *graph = nullptr;
  bool is_joined = true;
  for (Stream* other : streams)
    if (other->origin == stream) {
      is_joined &= !other->is_pending;
      *other = Stream{};
    }
  if (!is_joined) return fail(cudaErrorStreamCaptureUnjoined);
  if (stream->broken) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = reinterpret_cast<cudaGraph_t>(new Graph{stream->nodes});
  last_capture.clear();
  for (auto& node : stream->nodes) last_capture += node + "\n";
  captures++;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  *ready = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
  delete reinterpret_cast<Graph*>(ready);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  Lock lock(guard);
  launches++;
  return cudaSuccess;
}

}  // extern "C"
