// Vectors of LANES floats or 32-bit integers, by instruction set: the same names for each.
#pragma once
#include <immintrin.h>

#include <cstdint>

#if defined(__AVX512VNNI__)
#define ISA(name) name##_avx512vnni
constexpr int LANES = 16;
using Floats = __m512;
using Ints = __m512i;

static inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
static inline Ints load(const int32_t* p) { return _mm512_loadu_si512(p); }
static inline Floats all(float x) { return _mm512_set1_ps(x); }
static inline Ints all(int32_t x) { return _mm512_set1_epi32(x); }
static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
static inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
static inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
static inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
static inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
static inline Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
static inline Ints rounded(Floats v) { return _mm512_cvtps_epi32(v); }
// Sums of four products each: unsigned bytes of a, signed ones of b. GCC 12 copies each sum out of
// its register and back around the intrinsic, which takes twice the time.
static inline Ints dot(Ints sum, Ints a, Ints b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}
static inline void store_bytes(uint8_t* p, Ints v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}
static inline Floats first(Floats v, int count) {  // zeros in the others
  return _mm512_maskz_mov_ps(static_cast<__mmask16>((1u << count) - 1), v);
}
static inline unsigned at_least(Floats a, Floats b) {  // a bit for each lane of a that is b or more
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
static inline Floats where_at_least(Floats a, Floats b, Floats v) {  // v there, zeros elsewhere
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), v);
}
static inline Floats times_power(Floats p, Floats m) { return _mm512_scalef_ps(p, m); }
constexpr bool HAS_AVX512 = true;
constexpr float LEAST_EXPONENT = -103.9720840454f;
static inline __m256 halves_added(Floats v) {
  return _mm256_add_ps(
      _mm512_castps512_ps256(v),
      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
}
#else
#define ISA(name) name##_avx2
constexpr int LANES = 8;
using Floats = __m256;
using Ints = __m256i;

static inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
static inline Ints load(const int32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
static inline Floats all(float x) { return _mm256_set1_ps(x); }
static inline Ints all(int32_t x) { return _mm256_set1_epi32(x); }
static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
static inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
static inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
static inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
static inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
static inline Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
static inline Ints rounded(Floats v) { return _mm256_cvtps_epi32(v); }
// Weights are within +-63, so that two products fit into 16 bits.
static inline Ints dot(Ints sum, Ints a, Ints b) {
  Ints pairs = _mm256_maddubs_epi16(a, b);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline void store_bytes(uint8_t* p, Ints v) {
  __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
static inline Floats first(Floats v, int count) {
  Ints lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpgt_epi32(all(count), lanes)));
}
static inline unsigned at_least(Floats a, Floats b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}
static inline Floats where_at_least(Floats a, Floats b, Floats v) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), v);
}
// With AVX-512, even without VNNI, ONNX Runtime sums exponentials in vectors of 16 and lets them get
// as small as a float can be.
static const bool HAS_AVX512 = __builtin_cpu_supports("avx512f");
static const float LEAST_EXPONENT = HAS_AVX512 ? -103.9720840454f : -88.3762626647949f;
static inline Ints power(Ints m) {
  return _mm256_slli_epi32(_mm256_add_epi32(m, all(int32_t(127))), 23);
}
static inline Floats times_power(Floats p, Floats m) {
  const Ints whole = rounded(m), half = _mm256_srai_epi32(whole, 1);
  if (!HAS_AVX512) return mul(p, _mm256_castsi256_ps(power(whole)));
  p = mul(p, _mm256_castsi256_ps(power(half)));
  return mul(p, _mm256_castsi256_ps(power(_mm256_sub_epi32(whole, half))));
}
static inline __m256 halves_added(Floats v) { return v; }
#endif

// The sum of all lanes, in the order in which ONNX Runtime adds them.
static inline float sum(Floats v) {
  __m256 s = halves_added(v);
  s = _mm256_hadd_ps(s, s);
  s = _mm256_hadd_ps(s, s);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
