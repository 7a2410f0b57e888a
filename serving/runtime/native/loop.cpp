// The compiled loop as one function: what decode.onnx computes, to the bit, without its nodes.
//
// A block of LANES units is computed for a few rows at once: the products of all its gates stay in
// registers, and the cell is applied to them there. Sums of floats are made in ONNX Runtime's order:
// SUM_AT_ONCE products one after another, then added to what came before.
//
// Compiled once for each instruction set, see vector.h. The caller packs the weights, see packing.py:
//   panels   (H / LANES, inputs, gates, LANES) floats, or (H / LANES, inputs / 4, gates, LANES, 4) bytes
//   padded   every row of units is filled up to a multiple of LANES, here called `width`
#include <cmath>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "activations.h"
#include "loop.h"

namespace {

constexpr int SUM_AT_ONCE = 256;
constexpr float GREEDY_FACTOR = 1e20f;
constexpr int SUMS = LANES == 16 ? 24 : 12;  // vectors of them that fit the registers
constexpr int WIDEST = 16;                   // vectors of weights that are read at once
constexpr int DRAWN_AT_ONCE = 4;

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

template <class P, class Cell, bool UPPER, int U, int M>
void units(const Layer& layer, int inputs, int width, int block, const Row* rows) {
  constexpr int G = Cell::GATES, A = Cell::TOTALS;
  constexpr bool IS_GRU = A > G;
  typename P::Total totals[A][U][M];
#pragma GCC unroll 4
  for (int a = 0; a < A; a++)
#pragma GCC unroll 8
    for (int u = 0; u < U; u++)
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) {
        const bool from_bias = UPPER || (IS_GRU && a >= 2);
        const void* p = from_bias ? layer.bias : rows[m].table;
        totals[a][u][m] = P::load(p, a * width + (block + u) * LANES);
      }
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
      const int at = (block + u) * LANES;
      auto gate = [&](int a) { return P::value(totals[a][u][m], layer.scale, a * width + at); };
      Floats n_of_x;
      const bool is_looked_up = IS_GRU && !UPPER;
      if (is_looked_up) n_of_x = load(static_cast<const float*>(rows[m].table) + 2 * width + at);
      Floats h = Cell::step(gate, rows[m], at, is_looked_up ? &n_of_x : nullptr);
      store(rows[m].h_after + at, h);
      P::keep(layer, rows[m], at, h);
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
void some_logits(const Model& model, const void* const* tops, float* const* out, int count) {
  if constexpr (M > 0) {
    if (count != M) return some_logits<P, M - 1>(model, tops, out, count);
    constexpr int U = blocks_at_once(1, M);
    const int blocks = model.symbols_width / LANES;
    int block = 0;
    for (; block + U <= blocks; block += U) logits_of<P, U, M>(model, block, tops, out);
    if constexpr (U > 1)
      for (; block < blocks; block++) logits_of<P, 1, M>(model, block, tops, out);
  }
}

float largest(const float* x, int count) {
  Floats most = all(-__FLT_MAX__);
  int i = 0;
  for (; i + LANES <= count; i += LANES) most = max(most, load(x + i));
  float lanes[LANES], found;
  store(lanes, most);
  found = lanes[0];
  for (int lane = 1; lane < LANES; lane++) found = lanes[lane] > found ? lanes[lane] : found;
  for (; i < count; i++) found = x[i] > found ? x[i] : found;
  return found;
}

// exp(x - most) and its sum; reads and writes up to the next multiple of LANES.
float exponentials(const float* x, float* p, int count, float most) {
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

// Rows that draw a symbol at once, each with its buffers of symbols_width floats.
struct Draw {
  const float* logits;
  float* p;
  float uniform;
  float factor;
  int64_t id;
  float most, exponentials;  // of the logits themselves
};

void draw(const Model& model, Draw* rows, int count) {
  const int S = model.sampled;
  for (int row = 0; row < count; row++) {
    Draw& it = rows[row];
    it.most = largest(it.logits, model.symbols);
    float total;
    if (it.factor == 1.0f && S == model.symbols) {
      it.exponentials = total = exponentials(it.logits, it.p, S, it.most);
    } else {
      it.exponentials = exponentials(it.logits, it.p, model.symbols, it.most);
      for (int i = 0; i < S; i += LANES) store(it.p + i, mul(load(it.logits + i), all(it.factor)));
      total = exponentials(it.p, it.p, S, largest(it.p, S));
    }
    const Floats scale = all(1.0f / total);
    for (int i = 0; i < S; i += LANES) store(it.p + i, mul(load(it.p + i), scale));
  }
  float before[DRAWN_AT_ONCE] = {};
  for (int i = 0; i < S; i++)  // several rows at once, as each addition waits for the last one
    for (int row = 0; row < count; row++) rows[row].p[i] = before[row] += rows[row].p[i];
  for (int row = 0; row < count; row++) {
    Draw& it = rows[row];
    const float wanted = it.uniform * before[row];
    unsigned passed_by = 0;
    int i = 0;
    for (; i + LANES <= S; i += LANES) passed_by += passed(load(it.p + i), all(wanted));
    for (; i < S; i++) passed_by += it.p[i] <= wanted;
    it.id = passed_by;
  }
}

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

// Where of ONNX Runtime, which each state passes, adds what it chose to 0: none is -0.
static void copy(const float* from, float* to, int count) {
  for (int i = 0; i < count; i++) to[i] = from[i] + 0.0f;
}

template <class P, class Cell>
int run(const Model& model, const Run& run) {
  constexpr bool IS_INT8 = P::K == 4;
  const int N = run.rows, H = model.hidden, L = model.layers, width = model.width;
  const int V = model.symbols_width, depth = L / model.members;
  const size_t of_layers = size_t(L) * N * width;
  Buffer<float> h(2 * of_layers), c(run.c ? of_layers : 0), logits(size_t(N) * V);
  Buffer<float> p(size_t(DRAWN_AT_ONCE) * V);
  Buffer<uint8_t> q(IS_INT8 ? 2 * of_layers : 0);
  if (!h || !c || !logits || !p || !q) return 1;
  // Of the two places that a row of a layer has, the one that holds its state.
  std::vector<uint8_t> place(size_t(L) * N);
  std::vector<int64_t> token(run.tokens, run.tokens + N);
  std::vector<float> factor(N);
  auto offset = [&](int layer, int row, int which) {
    return which * of_layers + (size_t(layer) * N + row) * width;
  };
  for (int layer = 0; layer < L; layer++)
    for (int row = 0; row < N; row++) {
      const size_t given = (size_t(layer) * N + row) * H;
      __builtin_memcpy(h.at(offset(layer, row, 0)), run.h + given, H * 4);
      if (run.c) __builtin_memcpy(c.at(offset(layer, row, 0)), run.c + given, H * 4);
      if constexpr (IS_INT8) {
        Row it{};
        it.q_after = q.at(offset(layer, row, 0));
        for (int at = 0; at < width; at += LANES)
          P::keep(model.each[layer], it, at, load(h.at(offset(layer, row, 0)) + at));
      }
    }
  for (int row = 0; row < N; row++)
    factor[row] = run.temperature[row] == 0 ? GREEDY_FACTOR : 1.0f / run.temperature[row];
  auto as_input = [&](int layer, int row, int which) -> const void* {
    if constexpr (IS_INT8) return q.at(offset(layer, row, which));
    return h.at(offset(layer, row, which));
  };
  std::vector<int> alive;
  std::vector<Row> rows;
  std::vector<const void*> tops;
  std::vector<float*> of_row;
  for (int t = 0; t < run.steps; t++) {
    alive.clear();
    for (int row = 0; row < N; row++) {
      if (run.row_steps[row] > t) alive.push_back(row);
      run.tokens_out[size_t(t) * N + row] = 0;
      run.log_probs[size_t(t) * N + row] = 0;
    }
    const int count = static_cast<int>(alive.size());
    for (int layer = 0; layer < L; layer++) {
      const Layer& now = model.each[layer];
      const bool is_upper = layer % depth > 0;
      rows.clear();
      for (int row : alive) {
        uint8_t& which = place[size_t(layer) * N + row];
        Row it{};
        it.h = as_input(layer, row, which);
        it.h_before = h.at(offset(layer, row, which));
        which ^= 1;
        it.h_after = h.at(offset(layer, row, which));
        if (IS_INT8) it.q_after = q.at(offset(layer, row, which));
        if (run.c) it.c = c.at(offset(layer, row, 0));
        if (is_upper)
          it.x = as_input(layer - 1, row, place[size_t(layer - 1) * N + row]);
        else
          it.table = static_cast<const float*>(now.table) + token[row] * Cell::GATES * width;
        rows.push_back(it);
      }
      if (is_upper)
        all_units<P, Cell, true>(now, model.inputs, width, rows);
      else
        all_units<P, Cell, false>(now, model.inputs, width, rows);
    }
    tops.clear();
    of_row.clear();
    for (int row : alive) {
      for (int member = 0; member < model.members; member++) {
        const int top = (member + 1) * depth - 1;
        tops.push_back(as_input(top, row, place[size_t(top) * N + row]));
      }
      of_row.push_back(logits.at(size_t(row) * V));
    }
    constexpr int M = rows_at_once(1);
    for (int at = 0; at < count; at += M)
      some_logits<P, M>(model, &tops[size_t(at) * model.members], &of_row[at],
                        count - at < M ? count - at : M);
    for (int at = 0; at < count; at += DRAWN_AT_ONCE) {
      Draw draws[DRAWN_AT_ONCE];
      const int some = count - at < DRAWN_AT_ONCE ? count - at : DRAWN_AT_ONCE;
      for (int i = 0; i < some; i++) {
        const int row = alive[at + i];
        const float u = run.uniform[size_t(t) * N + row];
        draws[i] = Draw{of_row[at + i], p.at(size_t(i) * V), run.temperature[row] == 0 ? 0.0f : u,
                        factor[row], 0, 0, 0};
      }
      draw(model, draws, some);
      for (int i = 0; i < some; i++) {
        const int row = alive[at + i];
        const size_t place_out = size_t(t) * N + row;
        const int64_t forced = run.forced[place_out];
        const int64_t chosen = forced >= 0 ? forced : draws[i].id;
        token[row] = run.tokens_out[place_out] = chosen;
        run.log_probs[place_out] =
            (draws[i].logits[chosen] - draws[i].most) - std::log(draws[i].exponentials);
      }
    }
  }
  for (int layer = 0; layer < L; layer++)
    for (int row = 0; row < N; row++) {
      const size_t given = (size_t(layer) * N + row) * H;
      const int which = place[size_t(layer) * N + row];
      copy(h.at(offset(layer, row, which)), run.h_after + given, H);
      if (run.c) copy(c.at(offset(layer, row, 0)), run.c_after + given, H);
    }
  return 0;
}

template <class P>
int run_cell(const Model& model, const Run& it) {
  switch (model.cell) {
    case RNN_TANH: return run<P, RnnTanh>(model, it);
    case RNN_RELU: return run<P, RnnRelu>(model, it);
    case GRU: return run<P, Gru>(model, it);
    case LSTM: return run<P, Lstm>(model, it);
  }
  return 2;
}

}  // namespace

extern "C" int ISA(unroll_run)(const Model* model, const Run* it) {
  return model->is_int8 ? run_cell<Int8>(*model, *it) : run_cell<Fp32>(*model, *it);
}
