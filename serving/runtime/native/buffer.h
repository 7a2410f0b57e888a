// Memory for the numbers of a run.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>

namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

template <class T>
class Buffer {  // zeros, from the start of a cache line on
 public:
  explicit Buffer(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (data_) __builtin_memset(data_.get(), 0, bytes);
  }
  T* at(size_t i) const { return data_.get() + i; }
  explicit operator bool() const { return bool(data_); }

 private:
  std::unique_ptr<T, Free> data_;
};

}  // namespace
