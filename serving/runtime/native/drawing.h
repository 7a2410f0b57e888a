// How the next symbol of some rows is drawn, with the bits of export/drawing.
#pragma once
#include <vector>

#include "filters.h"
#include "layers.h"
#include "softmax.h"

namespace {

constexpr float GREEDY_FACTOR = 1e20f;
constexpr int DRAWN_AT_ONCE = 4;  // rows, as each addition waits for the last one
constexpr int WHOLE_AT_MOST = 512;  // symbols; of more, one is drawn by block
constexpr int BLOCKS = 16;
constexpr int CHAINS = 10;  // sums that are made at once
constexpr float BELOW_ONE = 1 - 0x1p-23f;

// Floats of a row of probabilities: zeros lie behind its symbols, as many as some loop reads.
inline size_t padded_symbols(int symbols) {
  const size_t multiple = symbols > WHOLE_AT_MOST ? CHAINS * SUM_AT_ONCE : AT_ONCE;
  return (symbols + multiple - 1) / multiple * multiple;
}

// One row's draw.
struct Draw {
  const float* logits;
  float* p;           // padded_symbols, with zeros behind the symbols
  float* scratch;     // symbols_width
  const float* bias;  // of the symbols that may be drawn; none where nothing is added
  Filter filter;
  float factor, uniform;
  int64_t forced;
  int64_t id;
  float most, exponentials;  // of the logits themselves
};

// Where blocks of ids end: a block's sum is taken in the middle of a sum of SUM_AT_ONCE.
struct Cut {
  int block, chunk, at;
};

// By groups of CHAINS chunks, and in each in rising order of the place.
inline std::vector<Cut> cuts_of(int symbols) {
  std::vector<Cut> cuts;
  if (symbols <= WHOLE_AT_MOST) return cuts;
  const int size = (symbols + BLOCKS - 1) / BLOCKS;
  for (int block = 0; block < BLOCKS; block++) {
    const int end = std::min((block + 1) * size, symbols) - 1;
    cuts.push_back(Cut{block, end / SUM_AT_ONCE, end % SUM_AT_ONCE + 1});
  }
  std::sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
    const int of_a = a.chunk / CHAINS, of_b = b.chunk / CHAINS;
    return of_a < of_b || (of_a == of_b && a.at < b.at);
  });
  return cuts;
}

// Makes p of the logits, and of these what a log-probability takes.
inline void probabilities(const Model& model, Draw& row) {
  const int S = model.sampled;
  row.most = largest(row.logits, model.symbols);
  row.exponentials = exponentials(row.logits, row.p, model.symbols, row.most);
  if (row.forced >= 0) return;
  float total = row.exponentials;
  if (row.factor != 1.0f || row.bias || S != model.symbols) {
    const Floats factor = all(row.factor);
    int i = 0;
    for (; i + LANES <= S; i += LANES) {
      Floats x = load(row.logits + i);
      if (row.bias) x = add(x, load(row.bias + i));
      store(row.p + i, mul(x, factor));
    }
    for (; i < S; i++) row.p[i] = (row.bias ? row.logits[i] + row.bias[i] : row.logits[i]) * row.factor;
    total = exponentials(row.p, row.p, S, largest(row.p, S));
    for (i = (S + LANES - 1) / LANES * LANES; i < model.symbols; i++) row.p[i] = 0;
  }
  const Floats scale = all(1.0f / total);
  for (int i = 0; i < S; i += LANES) store(row.p + i, mul(load(row.p + i), scale));
}

// Sums of the probabilities up to the end of each block, as a product with ones and zeros makes them.
inline void sum_blocks(const float* p, int symbols, const std::vector<Cut>& cuts, float (&cdf)[BLOCKS]) {
  const int chunks = (symbols + SUM_AT_ONCE - 1) / SUM_AT_ONCE;
  float before = 0;
  size_t begun = 0;
  for (int group = 0; group < chunks; group += CHAINS, p += CHAINS * SUM_AT_ONCE) {
    float sums[CHAINS] = {};
    int at = 0;
    auto go_on = [&](int until) {
      float now[CHAINS];  // in registers, as only constants index it
      each<CHAINS>([&](auto c) __attribute__((always_inline)) { now[c] = sums[c]; });
      for (; at < until; at++)
        each<CHAINS>([&](auto c) __attribute__((always_inline)) { now[c] += p[c * SUM_AT_ONCE + at]; });
      each<CHAINS>([&](auto c) __attribute__((always_inline)) { sums[c] = now[c]; });
    };
    size_t cut = begun;
    for (; cut < cuts.size() && cuts[cut].chunk < group + CHAINS; cut++) {
      go_on(cuts[cut].at);
      cdf[cuts[cut].block] = sums[cuts[cut].chunk - group];
    }
    go_on(SUM_AT_ONCE);
    for (int chunk = 0; chunk < CHAINS; before += sums[chunk++])
      for (size_t i = begun; i < cut; i++)
        if (cuts[i].chunk == group + chunk) cdf[cuts[i].block] += before;
    begun = cut;
  }
}

// The ids among which a row's symbol lies.
struct Part {
  float* p;
  int64_t first;
  float left;  // of u times the total, after what comes before
};

inline Part part_of(const Model& model, const Draw& row, int size, const std::vector<Cut>& cuts) {
  if (model.sampled <= WHOLE_AT_MOST) return Part{row.p, 0, row.uniform};
  float cdf[BLOCKS];
  sum_blocks(row.p, model.sampled, cuts, cdf);
  const float wanted = row.uniform * cdf[BLOCKS - 1];
  int block = 0;
  while (block < BLOCKS - 1 && cdf[block] <= wanted) block++;
  const float before = block ? cdf[block - 1] : 0.0f;
  return Part{row.p + block * size, block * size, wanted - before};
}

// Turns the probabilities of M rows into sums of those up to each; a row's last sum is its total.
template <int M>
void accumulate(const Part* parts, int size) {
  float* p[M];
  float sums[M];
  each<M>([&](auto m) __attribute__((always_inline)) { p[m] = parts[m].p, sums[m] = 0; });
  for (int i = 0; i < size; i++)
    each<M>([&](auto m) __attribute__((always_inline)) { p[m][i] = sums[m] += p[m][i]; });
}

inline int64_t count_up_to(const float* cdf, int size, float wanted) {
  int64_t count = 0;
  int i = 0;
  for (; i + LANES <= size; i += LANES) count += __builtin_popcount(at_least(all(wanted), load(cdf + i)));
  for (; i < size; i++) count += cdf[i] <= wanted;
  return count;
}

// Draws the symbols of up to DRAWN_AT_ONCE rows, but for those that are forced.
inline void draw(const Model& model, Draw* rows, int count, const std::vector<Cut>& cuts) {
  const int S = model.sampled;
  const bool is_whole = S <= WHOLE_AT_MOST;
  const int size = is_whole ? S : (S + BLOCKS - 1) / BLOCKS;
  Part parts[DRAWN_AT_ONCE];
  Draw* free[DRAWN_AT_ONCE];
  int number = 0;
  for (Draw* row = rows; row < rows + count; row++) {
    probabilities(model, *row);
    if (row->forced >= 0) continue;
    if (row->filter.cuts(S)) apply(row->filter, row->p, S, row->scratch);
    parts[number] = part_of(model, *row, size, cuts);
    free[number++] = row;
  }
  switch (number) {
    case 1: accumulate<1>(parts, size); break;
    case 2: accumulate<2>(parts, size); break;
    case 3: accumulate<3>(parts, size); break;
    case 4: accumulate<4>(parts, size); break;
  }
  for (int i = 0; i < number; i++) {
    const Part& part = parts[i];
    const float total = part.p[size - 1];
    // A block's sum may be rounded to less here than in the product: still, one of it is drawn.
    const float wanted = is_whole ? part.left * total : std::min(part.left, total * BELOW_ONE);
    free[i]->id = part.first + count_up_to(part.p, size, wanted);
    if (!is_whole) std::fill(free[i]->p + S, free[i]->p + BLOCKS * size, 0.0f);
  }
}

}  // namespace
