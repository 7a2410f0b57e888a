// The likeliest symbols of a row, the likeliest first; of equals, the lowest id.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>

namespace {

// `keys` has room for all symbols.
inline void find_likeliest(const float* logits, int symbols, int count, int64_t* keys, int64_t* ids) {
  for (int64_t id = 0; id < symbols; id++) {
    const int32_t bits = std::bit_cast<int32_t>(logits[id] + 0.0f);  // of -0 those of 0
    const int64_t rank = bits < 0 ? bits ^ INT32_MAX : bits;
    keys[id] = rank * (int64_t(1) << 32) + (UINT32_MAX - id);
  }
  std::partial_sort(keys, keys + count, keys + symbols, std::greater<>());
  for (int i = 0; i < count; i++) ids[i] = UINT32_MAX - static_cast<uint32_t>(keys[i]);
}

}  // namespace
