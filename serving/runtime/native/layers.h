// A step of the layers and its logits, for some rows at once.
//
// A block of LANES units is computed for a few rows at once: the products of all its gates stay in
// registers, and the cell is applied to them there. Sums of floats are made in ONNX Runtime's order:
// SUM_AT_ONCE products one after another, then added to what came before.
//
// The caller packs the weights, see packing.py:
//   panels   (H / LANES, inputs, gates, LANES) floats, or (H / LANES, inputs / 4, gates, LANES, 4) bytes
//   padded   every row of units is filled up to a multiple of LANES, here called `width`
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "activations.h"
#include "loop.h"

namespace {

constexpr int SUM_AT_ONCE = 256;
constexpr int CACHED = 1 << 18;  // bytes of weights that meet all rows before the next ones do
constexpr int SUMS = LANES == 16 ? 24 : 12;  // vectors of them that fit the registers
constexpr int WIDEST = 16;                   // vectors of weights that are read at once

// A row of one layer in one step.
struct Row {
  const void* x;      // the layer below, as products take it; in a first layer, unused
  const void* table;  // the symbol's row, (gates, width); in an upper layer, unused
  const void* h;      // as products take it
  const float* h_before;
  float* h_after;
  uint8_t* q_after;  // h_after in 8 bits
  float* c;
};

struct Fp32 {
  using Total = Floats;
  using Input = float;
  static constexpr int K = 1;  // inputs that meet a vector of weights at once
  static Floats load(const void* p, int at) { return ::load(static_cast<const float*>(p) + at); }
  static Floats zero() { return all(0.0f); }
  static Floats spread(const float* h, int k) { return all(h[k]); }
  static Floats weight(const char* p) { return ::load(reinterpret_cast<const float*>(p)); }
  static Floats multiply(Floats sum, Floats h, Floats w) { return fma(h, w, sum); }
  static Floats value(Floats total, const float*, int) { return total; }
  static void keep(const Layer&, const Row&, int, Floats) {}
};

struct Int8 {
  using Total = Ints;
  using Input = uint8_t;
  static constexpr int K = 4;
  static Ints load(const void* p, int at) { return ::load(static_cast<const int32_t*>(p) + at); }
  static Ints zero() { return all(int32_t(0)); }
  static Ints spread(const uint8_t* h, int k) {
    int32_t four;
    __builtin_memcpy(&four, h + 4 * k, 4);
    return all(four);
  }
  static Ints weight(const char* p) { return ::load(reinterpret_cast<const int32_t*>(p)); }
  static Ints multiply(Ints sum, Ints h, Ints w) { return dot(sum, h, w); }
  static Floats value(Ints total, const float* scale, int at) {
    return mul(to_floats(total), ::load(scale + at));
  }
  static void keep(const Layer& layer, const Row& row, int at, Floats h) {
    Floats steps = div(h, all(layer.step));
    steps = max(steps, all(static_cast<float>(-layer.zero_point)));
    steps = min(steps, all(static_cast<float>(255 - layer.zero_point)));
    store_bytes(row.q_after + at, add(rounded(steps), all(layer.zero_point)));
  }
};

// Calls a function with each of 0 to N - 1 as constants, so that arrays they index lie in registers.
template <int N, class F>
inline __attribute__((always_inline)) void each(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// Adds M rows' products with G gates of U blocks of units to totals; gate g's are totals[into[g]].
template <class P, int G, int U, int M, int A>
inline __attribute__((always_inline)) void multiply(
    const void* const (&inputs)[M], const char* panel, size_t panel_bytes, int count,
    const int (&into)[G], typename P::Total (&totals)[A][U][M]) {
  const int groups = count / P::K;
  const typename P::Input* h[M];
  for (int m = 0; m < M; m++) h[m] = static_cast<const typename P::Input*>(inputs[m]);
  for (int first = 0; first < groups; first += SUM_AT_ONCE) {
    const int last = groups < first + SUM_AT_ONCE ? groups : first + SUM_AT_ONCE;
    typename P::Total sums[U * G * M];
    each<U * G * M>([&](auto i) __attribute__((always_inline)) { sums[i] = P::zero(); });
    for (int k = first; k < last; k++) {
      const char* at = panel + size_t(k) * G * LANES * 4;
      auto weight = [&](int i) __attribute__((always_inline)) {
        return P::weight(at + i / G * panel_bytes + i % G * LANES * 4);
      };
      if constexpr (M <= U * G) {  // the smaller of both sides stays in registers
        typename P::Total row[M];
        each<M>([&](auto m) __attribute__((always_inline)) { row[m] = P::spread(h[m], k); });
        each<U * G>([&](auto i) __attribute__((always_inline)) {
          const auto w = weight(i);
          each<M>([&](auto m) __attribute__((always_inline)) {
            sums[i * M + m] = P::multiply(sums[i * M + m], row[m], w);
          });
        });
      } else {
        typename P::Total w[U * G];
        each<U * G>([&](auto i) __attribute__((always_inline)) { w[i] = weight(i); });
        each<M>([&](auto m) __attribute__((always_inline)) {
          const auto row = P::spread(h[m], k);
          each<U * G>([&](auto i) __attribute__((always_inline)) {
            sums[i * M + m] = P::multiply(sums[i * M + m], row, w[i]);
          });
        });
      }
    }
    each<U * G * M>([&](auto i) __attribute__((always_inline)) {
      auto& total = totals[into[i / M % G]][i / M / G][i % M];
      total = add(total, sums[i]);
    });
  }
}

// Each cell: how many gates have products of h, how many totals, where those of x go.
struct Rnn {
  static constexpr int GATES = 1, TOTALS = 1;
  static constexpr int OF_H[] = {0}, OF_X[] = {0};
};
struct RnnTanh : Rnn {
  template <class Gate>
  static Floats step(const Gate& gate, const Row&, int, const Floats*) {
    return tanh(gate(0));
  }
};
struct RnnRelu : Rnn {
  template <class Gate>
  static Floats step(const Gate& gate, const Row&, int, const Floats*) {
    return relu(gate(0));
  }
};
struct Gru {  // z, r, n of h, n of x
  static constexpr int GATES = 3, TOTALS = 4;
  static constexpr int OF_H[] = {0, 1, 2}, OF_X[] = {0, 1, 3};
  template <class Gate>
  static Floats step(const Gate& gate, const Row& row, int at, const Floats* given) {
    Floats z = logistic(gate(0)), r = logistic(gate(1));
    Floats n = tanh(add(given ? *given : gate(3), mul(r, gate(2))));
    return add(n, mul(z, sub(load(row.h_before + at), n)));
  }
};
struct Lstm {  // i, o, f, c
  static constexpr int GATES = 4, TOTALS = 4;
  static constexpr int OF_H[] = {0, 1, 2, 3}, OF_X[] = {0, 1, 2, 3};
  template <class Gate>
  static Floats step(const Gate& gate, const Row& row, int at, const Floats*) {
    Floats i = logistic(gate(0)), o = logistic(gate(1)), f = logistic(gate(2));
    Floats c = add(mul(f, load(row.c + at)), mul(i, tanh(gate(3))));
    store(row.c + at, c);
    return mul(o, tanh(c));
  }
};

// What a total of units is before products: the bias, or the symbol's row of the table.
template <class P, class Cell, bool UPPER>
inline __attribute__((always_inline)) auto before_products(const Layer& layer, int width, const Row& row,
                                                           int a, int at) {
  const bool from_bias = UPPER || (Cell::TOTALS > Cell::GATES && a >= 2);
  return P::load(from_bias ? layer.bias : row.table, a * width + at);
}

// Whether the table's n of a row is read after the products, unlike its other gates.
template <class Cell, bool UPPER>
constexpr bool IS_LOOKED_UP = Cell::TOTALS > Cell::GATES && !UPPER;

// Fetches that n while the products are made: a table of 5,000 symbols fits no cache.
template <class Cell, bool UPPER>
inline __attribute__((always_inline)) void fetch_n(int width, const Row& row, int at) {
  if constexpr (IS_LOOKED_UP<Cell, UPPER>)
    __builtin_prefetch(static_cast<const float*>(row.table) + 2 * width + at);
}

// Makes a step of LANES units of a row from their totals.
template <class P, class Cell, bool UPPER, class Total>
inline __attribute__((always_inline)) void apply(const Layer& layer, int width, const Row& row, int at,
                                                 const Total& total) {
  const auto gate = [&](int a) { return P::value(total(a), layer.scale, a * width + at); };
  Floats n_of_x;
  constexpr bool IS_GIVEN = IS_LOOKED_UP<Cell, UPPER>;
  if (IS_GIVEN) n_of_x = load(static_cast<const float*>(row.table) + 2 * width + at);
  const Floats h = Cell::step(gate, row, at, IS_GIVEN ? &n_of_x : nullptr);
  store(row.h_after + at, h);
  P::keep(layer, row, at, h);
}

template <class P, class Cell, bool UPPER, int U, int M>
void units(const Layer& layer, int inputs, int width, int block, const Row* rows) {
  constexpr int G = Cell::GATES, A = Cell::TOTALS;
  for (int u = 0; u < U; u++)
    for (int m = 0; m < M; m++) fetch_n<Cell, UPPER>(width, rows[m], (block + u) * LANES);
  typename P::Total totals[A][U][M];
#pragma GCC unroll 4
  for (int a = 0; a < A; a++)
#pragma GCC unroll 8
    for (int u = 0; u < U; u++)
#pragma GCC unroll 8
      for (int m = 0; m < M; m++)
        totals[a][u][m] = before_products<P, Cell, UPPER>(layer, width, rows[m], a, (block + u) * LANES);
  const size_t panel_bytes = size_t(inputs) / P::K * G * LANES * 4;
  const void* given[M];
  if (UPPER) {
    for (int m = 0; m < M; m++) given[m] = rows[m].x;
    const char* panel = static_cast<const char*>(layer.x_panels) + block * panel_bytes;
    multiply<P, G, U, M, A>(given, panel, panel_bytes, inputs, Cell::OF_X, totals);
  }
  for (int m = 0; m < M; m++) given[m] = rows[m].h;
  const char* panel = static_cast<const char*>(layer.h_panels) + block * panel_bytes;
  multiply<P, G, U, M, A>(given, panel, panel_bytes, inputs, Cell::OF_H, totals);
  for (int u = 0; u < U; u++)
    for (int m = 0; m < M; m++) {
      const auto total = [&](int a) __attribute__((always_inline)) { return totals[a][u][m]; };
      apply<P, Cell, UPPER>(layer, width, rows[m], (block + u) * LANES, total);
    }
}

constexpr int blocks_at_once(int gates, int rows) {
  int blocks = 8;
  while (blocks > 1 && (gates * blocks * rows > SUMS || gates * blocks > WIDEST)) blocks /= 2;
  return blocks;
}

constexpr int rows_at_once(int gates) { return gates == 1 ? SUMS / 4 : SUMS / gates; }

// All units of M rows; blocks that are left over one by one.
template <class P, class Cell, bool UPPER, int M>
void tile(const Layer& layer, int inputs, int width, int first, int last, const Row* rows) {
  constexpr int U = blocks_at_once(Cell::GATES, M);
  int block = first;
  for (; block + U <= last; block += U) units<P, Cell, UPPER, U, M>(layer, inputs, width, block, rows);
  if constexpr (U > 1)
    for (; block < last; block++) units<P, Cell, UPPER, 1, M>(layer, inputs, width, block, rows);
}

template <class P, class Cell, bool UPPER, int M>
void rest(const Layer& layer, int inputs, int width, int first, int last, const Row* rows, int count) {
  if constexpr (M > 0) {
    if (count == M) return tile<P, Cell, UPPER, M>(layer, inputs, width, first, last, rows);
    rest<P, Cell, UPPER, M - 1>(layer, inputs, width, first, last, rows, count);
  }
}

template <class P, class Cell, bool UPPER>
void all_units(const Layer& layer, int inputs, int width, const std::vector<Row>& rows) {
  constexpr int M = rows_at_once(Cell::GATES), U = blocks_at_once(Cell::GATES, M);
  const int count = static_cast<int>(rows.size()), blocks = width / LANES;
  if (count < M) return rest<P, Cell, UPPER, M - 1>(layer, inputs, width, 0, blocks, rows.data(), count);
  for (int block = 0; block < blocks; block += U) {  // its weights stay in the nearest cache
    const int last = block + U < blocks ? block + U : blocks;
    int at = 0;
    for (; at + M <= count; at += M)
      tile<P, Cell, UPPER, M>(layer, inputs, width, block, last, &rows[at]);
    rest<P, Cell, UPPER, M - 1>(layer, inputs, width, block, last, &rows[at], count - at);
  }
}

// Logits of M rows, U blocks of symbols.
template <class P, int U, int M>
void logits_of(const Model& model, int block, const void* const* tops, float* const* out) {
  typename P::Total totals[1][U][M];
  for (int u = 0; u < U; u++)
    for (int m = 0; m < M; m++)
      totals[0][u][m] = P::load(model.decoder_bias, (block + u) * LANES);
  const size_t panel_bytes = size_t(model.inputs) / P::K * LANES * 4;
  for (int member = 0; member < model.members; member++) {
    const void* h[M];
    for (int m = 0; m < M; m++) h[m] = tops[m * model.members + member];
    const char* panel = static_cast<const char*>(model.decoder_panels[member]) + block * panel_bytes;
    multiply<P, 1, U, M, 1>(h, panel, panel_bytes, model.inputs, Rnn::OF_H, totals);
  }
  for (int u = 0; u < U; u++)
    for (int m = 0; m < M; m++) {
      const int at = (block + u) * LANES;
      store(out[m] + at, P::value(totals[0][u][m], model.decoder_scale, at));
    }
}

template <class P, int M>
void some_logits(const Model& model, int first, int last, const void* const* tops, float* const* out,
                 int count) {
  if constexpr (M > 0) {
    if (count != M) return some_logits<P, M - 1>(model, first, last, tops, out, count);
    constexpr int U = blocks_at_once(1, M);
    int block = first;
    for (; block + U <= last; block += U) logits_of<P, U, M>(model, block, tops, out);
    if constexpr (U > 1)
      for (; block < last; block++) logits_of<P, 1, M>(model, block, tops, out);
  }
}

// Makes products of a run row by row, in vectors.
template <class P>
class Products {
 public:
  Products(const Model& model, int) : model_(model) {}
  explicit operator bool() const { return true; }

  template <class Cell, bool UPPER>
  void units(const Layer& layer, const std::vector<Row>& rows) {
    all_units<P, Cell, UPPER>(layer, model_.inputs, model_.width, rows);
  }

  // Logits of rows, from their members' top layers.
  void logits(const std::vector<const void*>& tops, float* const* out, int count) {
    constexpr int M = rows_at_once(1);
    const int blocks = model_.symbols_width / LANES;
    const int cached = std::max(8, CACHED / (model_.inputs / P::K * LANES * 4));
    for (int first = 0; first < blocks; first += cached)
      for (int at = 0; at < count; at += M)
        some_logits<P, M>(model_, first, std::min(first + cached, blocks),
                          &tops[size_t(at) * model_.members], &out[at], std::min(count - at, M));
  }

 private:
  const Model& model_;
};

}  // namespace
