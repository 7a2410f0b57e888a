// tanh, the logistic function and exp with the polynomials and the order of operations of ONNX
// Runtime's kernels for processors with FMA (MLAS; those of Eigen and of a forum of NVIDIA's), so
// that every bit is the same: https://github.com/microsoft/onnxruntime, core/mlas/lib.
#pragma once
#include "vector.h"

template <int N>
static inline Floats polynomial(Floats x, const float (&coefficients)[N]) {
  Floats p = all(coefficients[0]);
#pragma GCC unroll 16
  for (int i = 1; i < N; i++) p = fma(p, x, all(coefficients[i]));
  return p;
}

static inline Floats tanh(Floats x) {
  x = min(all(9.0f), max(all(-9.0f), x));
  Floats square = mul(x, x);
  Floats p = polynomial(square, {-2.76076847742355e-16f, 2.00018790482477e-13f,
                                 -8.60467152213735e-11f, 5.12229709037114e-08f,
                                 1.48572235717979e-05f, 6.37261928875436e-04f,
                                 4.89352455891786e-03f});
  Floats q = polynomial(square, {1.19825839466702e-06f, 1.18534705686654e-04f,
                                 2.26843463243900e-03f, 4.89352518554385e-03f});
  return div(mul(p, x), q);
}

static inline Floats logistic(Floats x) {
  x = min(all(18.0f), max(all(-18.0f), x));
  Floats square = mul(x, x);
  Floats p = polynomial(square, {4.37031012579801e-11f, 1.15627324459942e-07f,
                                 6.08574864600143e-05f, 8.51377133304701e-03f,
                                 2.48287947061529e-01f});
  Floats q = polynomial(square, {6.10247389755681e-13f, 5.76102136993427e-09f,
                                 6.29106785017040e-06f, 1.70198817374094e-03f,
                                 1.16817656904453e-01f, 9.93151921023180e-01f});
  return max(all(0.0f), add(div(mul(p, x), q), all(0.5f)));
}

static inline Floats relu(Floats x) { return max(x, all(0.0f)); }

static inline Floats exp(Floats x) {  // of 0 and less
  const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
  x = max(all(LEAST_EXPONENT), x);
  Floats m = sub(fma(all(1.44269504088896341f), x, magic), magic);
  x = fma(m, all(-6.93145752e-1f), x);
  x = fma(m, all(-1.42860677e-6f), x);
  Floats p = polynomial(x, {0x1.694000p-10f, 0x1.125edcp-7f, 0x1.555b5ap-5f, 0x1.555450p-3f,
                            0x1.fffff6p-2f, 1.0f, 1.0f});
  return times_power(p, m);
}
