// The compiled loop as one function: what the decode graphs compute, to the bit, without their nodes.
//
// Compiled once for each instruction set, see vector.h.
#include <cmath>
#include <vector>

#include "alternatives.h"
#include "buffer.h"
#include "drawing.h"
#include "layers.h"
#include "loop.h"
#include "tiled_layers.h"

namespace {

// The state of all rows: two places for each row of a layer, the one that holds it and the next one.
template <class P>
class State {
 public:
  State(const Model& model, const Run& run)
      : model_(model),
        rows_(run.rows),
        of_layers_(size_t(model.layers) * run.rows * model.width),
        h_(2 * of_layers_),
        c_(run.c ? of_layers_ : 0),
        q_(IS_INT8 ? 2 * of_layers_ : 0),
        place_(size_t(model.layers) * run.rows) {}
  explicit operator bool() const { return h_ && c_ && q_; }

  void enter(const Run& run) {
    for (int layer = 0; layer < model_.layers; layer++)
      for (int row = 0; row < rows_; row++) {
        const size_t given = index(layer, row) * model_.hidden;
        float* h = h_.at(offset(layer, row, 0));
        __builtin_memcpy(h, run.h + given, model_.hidden * 4);
        if (run.c) __builtin_memcpy(c_.at(offset(layer, row, 0)), run.c + given, model_.hidden * 4);
        if constexpr (IS_INT8) {
          Row it{};
          it.q_after = q_.at(offset(layer, row, 0));
          for (int at = 0; at < model_.width; at += LANES) P::keep(model_.each[layer], it, at, load(h + at));
        }
      }
  }

  // A row of a layer as its products take it.
  const void* input(int layer, int row) const { return input(layer, row, place_[index(layer, row)]); }

  // What a layer's step reads and writes of a row; the row is in its next place then.
  Row step(int layer, int row, bool has_c) {
    uint8_t& which = place_[index(layer, row)];
    Row it{};
    it.h = input(layer, row, which);
    it.h_before = h_.at(offset(layer, row, which));
    which ^= 1;
    it.h_after = h_.at(offset(layer, row, which));
    if (IS_INT8) it.q_after = q_.at(offset(layer, row, which));
    if (has_c) it.c = c_.at(offset(layer, row, 0));
    return it;
  }

  void leave(const Run& run) const {
    for (int layer = 0; layer < model_.layers; layer++)
      for (int row = 0; row < rows_; row++) {
        const size_t given = index(layer, row) * model_.hidden;
        copy(h_.at(offset(layer, row, place_[index(layer, row)])), run.h_after + given);
        if (run.c) copy(c_.at(offset(layer, row, 0)), run.c_after + given);
      }
  }

 private:
  static constexpr bool IS_INT8 = P::K == 4;

  size_t index(int layer, int row) const { return size_t(layer) * rows_ + row; }
  size_t offset(int layer, int row, int which) const {
    return which * of_layers_ + index(layer, row) * model_.width;
  }
  const void* input(int layer, int row, int which) const {
    if constexpr (IS_INT8) return q_.at(offset(layer, row, which));
    return h_.at(offset(layer, row, which));
  }
  // Where of ONNX Runtime, which each state passes, adds what it chose to 0: none is -0.
  void copy(const float* from, float* to) const {
    for (int i = 0; i < model_.hidden; i++) to[i] = from[i] + 0.0f;
  }

  const Model& model_;
  int rows_;
  size_t of_layers_;
  Buffer<float> h_, c_;
  Buffer<uint8_t> q_;
  std::vector<uint8_t> place_;
};

// Makes a step of all layers for the rows that are alive.
template <class P, class Cell>
void all_layers(const Model& model, const Run& run, const std::vector<int>& alive,
                const std::vector<int64_t>& token, State<P>& state, Products<P>& products,
                std::vector<Row>& rows) {
  const int depth = model.layers / model.members;
  for (int layer = 0; layer < model.layers; layer++) {
    const Layer& now = model.each[layer];
    const bool is_upper = layer % depth > 0;
    rows.clear();
    for (int row : alive) {
      Row it = state.step(layer, row, run.c);
      if (is_upper)
        it.x = state.input(layer - 1, row);
      else
        it.table = static_cast<const float*>(now.table) + token[row] * Cell::GATES * model.width;
      rows.push_back(it);
    }
    if (is_upper)
      products.template units<Cell, true>(now, rows);
    else
      products.template units<Cell, false>(now, rows);
  }
}

// Makes the logits of the rows that are alive, in that order.
template <class P>
void all_logits(const Model& model, const std::vector<int>& alive, const State<P>& state,
                Products<P>& products, std::vector<const void*>& tops,
                const std::vector<float*>& logits) {
  const int depth = model.layers / model.members;
  tops.clear();
  for (int row : alive)
    for (int member = 1; member <= model.members; member++)
      tops.push_back(state.input(member * depth - 1, row));
  products.logits(tops, logits.data(), static_cast<int>(alive.size()));
}

// Fetches a symbol's rows of the tables while other rows draw: those of 5,000 symbols fit no cache.
template <class Cell>
void prefetch(const Model& model, int64_t token) {
  const size_t size = size_t(Cell::GATES) * model.width * 4;
  for (int layer = 0; layer < model.layers; layer += model.layers / model.members) {
    const char* row = static_cast<const char*>(model.each[layer].table) + token * size;
    for (size_t at = 0; at < size; at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

template <class P, class Cell>
Outcome run(const Model& model, const Run& run) {
  const int N = run.rows, V = model.symbols_width;
  const size_t padded = padded_symbols(V);
  State<P> state(model, run);
  Buffer<float> logits(size_t(N) * V), p(DRAWN_AT_ONCE * padded), scratch(V);
  Products<P> products(model, N);
  if (!state || !products || !logits || !p || !scratch) return OUT_OF_MEMORY;
  state.enter(run);
  std::vector<int64_t> token(run.tokens, run.tokens + N), automaton(N);
  if (run.automaton) automaton.assign(run.automaton, run.automaton + N);
  for (int row = 0; row < N; row++) {
    if (token[row] < 0 || token[row] >= model.symbols) return NO_SUCH_SYMBOL;
    if (run.automaton && (automaton[row] < 0 || automaton[row] >= run.states)) return NO_SUCH_STATE;
  }
  const std::vector<Cut> cuts = cuts_of(model.sampled);
  std::vector<int64_t> keys(run.alternatives ? model.symbols : 0);
  std::vector<int> alive, asks(N, -1);
  for (int i = 0; i < run.asking; i++) asks[run.asking_rows[i]] = i;
  std::vector<Row> rows;
  std::vector<const void*> tops;
  std::vector<float*> of_row;
  for (int t = 0; t < run.steps; t++) {
    const size_t begin = size_t(t) * N;
    alive.clear();
    of_row.clear();
    for (int row = 0; row < N; row++)
      if (run.row_steps[row] > t) {
        alive.push_back(row);
        of_row.push_back(logits.at(size_t(row) * V));
      } else {
        run.tokens_out[begin + row] = 0;
        run.log_probs[begin + row] = 0;
      }
    all_layers<P, Cell>(model, run, alive, token, state, products, rows);
    all_logits<P>(model, alive, state, products, tops, of_row);
    const int count = static_cast<int>(alive.size());
    for (int at = 0; at < count; at += DRAWN_AT_ONCE) {
      Draw draws[DRAWN_AT_ONCE];
      const int some = std::min(count - at, DRAWN_AT_ONCE);
      for (int i = 0; i < some; i++) {
        const int row = alive[at + i];
        const bool is_greedy = run.temperature[row] == 0;
        draws[i] = Draw{
            of_row[at + i],
            p.at(i * padded),
            scratch.at(0),
            run.automaton ? run.bias + automaton[row] * model.sampled : nullptr,
            Filter{run.top_k[row], run.top_p[row], run.min_p[row]},
            is_greedy ? GREEDY_FACTOR : 1.0f / run.temperature[row],
            is_greedy ? 0.0f : run.uniform[begin + row],
            run.forced[begin + row],
            0,
            0,
            0,
        };
      }
      draw(model, draws, some, cuts);
      for (int i = 0; i < some; i++) {
        const int row = alive[at + i];
        const Draw& it = draws[i];
        const int64_t chosen = it.forced >= 0 ? it.forced : it.id;
        if (chosen >= model.symbols) return NO_SUCH_SYMBOL;
        token[row] = run.tokens_out[begin + row] = chosen;
        prefetch<Cell>(model, chosen);
        const float logarithm = std::log(it.exponentials);
        run.log_probs[begin + row] = (it.logits[chosen] - it.most) - logarithm;
        if (run.automaton && it.forced < 0) {
          automaton[row] = run.next[automaton[row] * model.sampled + chosen];
          if (automaton[row] < 0 || automaton[row] >= run.states) return NO_SUCH_STATE;
        }
        if (asks[row] >= 0) {
          const size_t found = (size_t(t) * run.asking + asks[row]) * run.alternatives;
          find_likeliest(it.logits, model.symbols, run.alternatives, keys.data(), run.alternative_ids + found);
          for (size_t k = found; k < found + run.alternatives; k++)
            run.alternative_log_probs[k] =
                (it.logits[run.alternative_ids[k]] - it.most) - logarithm;
        }
      }
    }
    if (run.automaton) std::copy(automaton.begin(), automaton.end(), run.automata_out + begin);
  }
  state.leave(run);
  return DONE;
}

template <class P>
Outcome run_cell(const Model& model, const Run& it) {
  switch (model.cell) {
    case RNN_TANH: return run<P, RnnTanh>(model, it);
    case RNN_RELU: return run<P, RnnRelu>(model, it);
    case GRU: return run<P, Gru>(model, it);
    case LSTM: return run<P, Lstm>(model, it);
  }
  return NO_SUCH_CELL;
}

}  // namespace

extern "C" int ISA(unroll_run)(const Model* model, const Run* it) {
  return model->is_int8 ? run_cell<Int8>(*model, *it) : run_cell<Fp32>(*model, *it);
}

#ifdef __AVX512VNNI__
extern "C" int unroll_run_amx(const Model* model, const Run* it) {
  return model->is_int8 ? run_cell<TiledInt8>(*model, *it) : run_cell<Fp32>(*model, *it);
}
#endif
