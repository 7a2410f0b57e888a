// Softmax in parts, in ONNX Runtime's order of additions.
#pragma once
#include "activations.h"

namespace {

inline float largest(const float* x, int count) {
  Floats most = all(-__FLT_MAX__), other = most;
  int i = 0;
  for (; i + 2 * LANES <= count; i += 2 * LANES) {
    most = max(most, load(x + i));
    other = max(other, load(x + i + LANES));
  }
  most = max(most, other);
  for (; i + LANES <= count; i += LANES) most = max(most, load(x + i));
  float lanes[LANES], found;
  store(lanes, most);
  found = lanes[0];
  for (int lane = 1; lane < LANES; lane++) found = lanes[lane] > found ? lanes[lane] : found;
  for (; i < count; i++) found = x[i] > found ? x[i] : found;
  return found;
}

// exp(x - most) and its sum; reads and writes up to the next multiple of LANES.
inline float exponentials(const float* x, float* p, int count, float most) {
  constexpr int PARTS = 16 / LANES;  // of a vector of AVX-512
  Floats totals[PARTS];
  for (Floats& total : totals) total = all(0.0f);
  for (int i = 0; i < count; i += LANES) {
    Floats e = exp(add(load(x + i), all(-most)));
    if (i + LANES > count) e = first(e, count - i);
    store(p + i, e);
    Floats& total = totals[HAS_AVX512 ? i / LANES % PARTS : 0];
    total = add(total, e);
  }
  return sum(PARTS == 1 ? totals[0] : add(totals[0], totals[PARTS - 1]));
}

}  // namespace
