// The sampler's filters, which keep the symbols that export/drawing keeps: top_k, then top_p of what
// that leaves, then min_p.
//
// A row keeps the symbols above a boundary, and the first ones of those that equal it. The boundary is
// looked for by bisection of the bits of floats, which have the floats' order.
#pragma once
#include <algorithm>
#include <bit>
#include <climits>
#include <cstdint>
#include <functional>

#include "softmax.h"

namespace {

constexpr float LEAST = 0x1.000002p-24f;  // what is less has no mass
constexpr int EVERY = INT_MAX;
constexpr int AT_ONCE = 2 * LANES;  // rows of probabilities have zeros up to the next multiple
constexpr int FEW = 64;             // of so many, the rest of a bisection takes a few nanoseconds

struct Filter {
  int64_t top_k;  // 0 keeps all
  float top_p, min_p;
  bool has_top_k(int symbols) const { return top_k > 0 && top_k < symbols; }
  bool cuts(int symbols) const { return has_top_k(symbols) || top_p < 1 || min_p > 0; }
};

struct Boundary {
  float least;
  int equal;  // how many of those that equal it stay
};

// The symbols from some probability up.
struct Above {
  int count;
  float mass;
};

// Rounded to multiples of 2^-23, as a sum with 1 is. Sums of these below 2 are exact in any order.
inline Floats in_units(Floats p) { return sub(add(p, all(1.0f)), all(1.0f)); }

template <bool HAS_MASS>
Above from(const float* p, int count, float least) {
  const Floats bound = all(least);
  int found = 0;
  Floats mass[2] = {all(0.0f), all(0.0f)};
  for (int i = 0; i < count; i += AT_ONCE)
    for (int part = 0; part < 2; part++) {
      const Floats v = load(p + i + part * LANES);
      found += __builtin_popcount(at_least(v, bound));
      if (HAS_MASS) mass[part] = add(mass[part], where_at_least(v, bound, in_units(v)));
    }
  return Above{found, HAS_MASS ? sum(add(mass[0], mass[1])) : 0.0f};
}

// What is wanted: so many symbols ...
struct Count {
  static constexpr bool HAS_MASS = false;
  int k;
  bool is_reached(Above here) const { return here.count >= k; }
  bool is_exact(Above here) const { return here.count == k; }
  int missing(Above above, float) const { return k - above.count; }
};

// ... or the fewest that have so much mass.
struct Mass {
  static constexpr bool HAS_MASS = true;
  float mass;
  bool is_reached(Above here) const { return here.mass >= mass; }
  bool is_exact(Above) const { return false; }
  int missing(Above above, float each) const {
    const float unit = each + 1.0f - 1.0f;
    int number = 0;
    for (float before = above.mass; before < mass; before += unit) number++;
    return number;
  }
};

// Where a boundary may lie: from `low` up there is what is wanted, from `high` up there is not.
struct Bracket {
  int32_t low, high;  // bits
  Above at_low, at_high;
};

template <class Wanted>
Boundary search(const float* p, int count, Wanted wanted, Bracket in) {
  float few[FEW];
  Above beside{0, 0};  // what is above all of p
  while (in.high - in.low > 1 && in.at_low.count - in.at_high.count > 1 && !wanted.is_exact(in.at_low)) {
    const int32_t middle = in.low + (in.high - in.low) / 2;
    Above here = from<Wanted::HAS_MASS>(p, count, std::bit_cast<float>(middle));
    here = Above{here.count + beside.count, here.mass + beside.mass};
    (wanted.is_reached(here) ? in.low : in.high) = middle;
    (wanted.is_reached(here) ? in.at_low : in.at_high) = here;
    if (count > FEW && in.at_low.count - in.at_high.count <= FEW) {
      const Floats low = all(std::bit_cast<float>(in.low)), high = all(std::bit_cast<float>(in.high));
      float* next = few;
      for (int i = 0; i < count; i += LANES) {
        const Floats v = load(p + i);
        unsigned inside = at_least(v, low) & ~at_least(v, high);
        for (; inside; inside &= inside - 1) *next++ = p[i + __builtin_ctz(inside)];
      }
      std::fill(next, few + FEW, 0.0f);
      p = few, count = FEW, beside = in.at_high;
    }
  }
  const float least = std::bit_cast<float>(in.low);
  const bool is_tied = in.at_low.count - in.at_high.count > 1 && !wanted.is_exact(in.at_low);
  return Boundary{least, is_tied ? wanted.missing(in.at_high, least) : EVERY};
}

inline Boundary likeliest_of_count(const float* p, int symbols, float likeliest, int k) {
  const int32_t least = std::bit_cast<int32_t>(LEAST), most = std::bit_cast<int32_t>(likeliest) + 1;
  const Above here = from<false>(p, symbols, LEAST);
  if (here.count >= k) return search(p, symbols, Count{k}, Bracket{least, most, here, Above{0, 0}});
  const Above above_zero = from<false>(p, symbols, std::bit_cast<float>(1));
  if (above_zero.count <= k) return Boundary{0, EVERY};
  return search(p, symbols, Count{k}, Bracket{1, least, above_zero, here});
}

inline Boundary likeliest_of_mass(const float* p, int symbols, float likeliest, float top_p) {
  const Above here = from<true>(p, symbols, LEAST);
  const int32_t least = std::bit_cast<int32_t>(LEAST), most = std::bit_cast<int32_t>(likeliest) + 1;
  return search(p, symbols, Mass{std::max(top_p * here.mass, LEAST)},
                Bracket{least, most, here, Above{0, 0}});
}

// Of the k likeliest, which lie above a boundary, those whose mass is top_p of theirs. Their sums are
// made in their order, the likeliest first; `sorted` has room for all symbols.
inline Boundary likeliest_of_mass_among(const float* p, int symbols, Boundary boundary, int k,
                                        float top_p, float* sorted) {
  float* end = std::copy_if(p, p + symbols, sorted, [=](float each) { return each >= boundary.least; });
  std::sort(sorted, end, std::greater<>());
  const int found = static_cast<int>(end - sorted), count = std::min(found, k);
  float total = 0, before = 0;
  for (int i = 0; i < count; i++) total += sorted[i];
  const float wanted = std::max(top_p * total, LEAST);
  int kept = 0;
  for (; kept < count && (kept == 0 || before < wanted); kept++) before += sorted[kept];
  const float least = sorted[kept - 1];
  const bool is_tied = kept < found && sorted[kept] == least;
  const int above = static_cast<int>(std::find(sorted, end, least) - sorted);
  return Boundary{least, is_tied ? kept - above : EVERY};
}

// Zeros what a filter leaves out of a row.
inline void apply(const Filter& filter, float* p, int symbols, float* scratch) {
  const float likeliest = largest(p, symbols);
  if (!(likeliest > 0)) return;  // broken weights: none is a number
  Boundary boundary{0, EVERY};
  if (filter.has_top_k(symbols)) {
    const int k = static_cast<int>(filter.top_k);
    boundary = likeliest_of_count(p, symbols, likeliest, k);
    if (filter.top_p < 1) boundary = likeliest_of_mass_among(p, symbols, boundary, k, filter.top_p, scratch);
  } else if (filter.top_p < 1) {
    boundary = likeliest_of_mass(p, symbols, likeliest, filter.top_p);
  }
  if (const float probable = filter.min_p * likeliest; probable > boundary.least)
    boundary = Boundary{probable, EVERY};
  const Floats least = all(boundary.least);
  for (int i = 0; i < symbols; i += LANES) store(p + i, where_at_least(load(p + i), least, load(p + i)));
  if (boundary.equal == EVERY) return;
  for (int i = 0; i < symbols; i++)
    if (p[i] == boundary.least && boundary.equal-- <= 0) p[i] = 0;
}

}  // namespace
