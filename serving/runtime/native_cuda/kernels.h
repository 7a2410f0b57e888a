// The kernels between the products: gates of a layer, the draw, copies of states.
#pragma once
#include <cstring>

#include "loop.h"
#include "platform.h"

constexpr int UNITS_A_BLOCK = 128;
constexpr float GREEDY_FACTOR = 1e20f;
constexpr float LEAST = 5.9604651881e-08f;  // just above 2^-24: what is less has no mass
constexpr int LANES = 32;                   // parts of a running sum

// What a loop run of one batch size works on, all on the device. L layers, N rows, H units.
struct Work {
  int rows, layers, depth, members, hidden, gates, states, padding;
  const int32_t* input;  // see Places
  int32_t* output;
  int32_t* start;  // the step of the window at which a piece begins
  int32_t* token;  // the last symbol of each row, (N)
  float* h;        // (L, N, H)
  float* c;        // likewise; of an LSTM
  Half* h_half;    // h as half-precision products take it; else none
  float* of_h;     // products, (L, N, G H)
  float* of_x;     // (members, N, G H)
  float* logits;   // (N, V), without their bias
  float* pool;     // states of all slots, (slots + 1, states, L, H)
};

__device__ inline int32_t head(const Work& w, Head which, int row) {
  return w.input[which * w.rows + row];
}

__device__ inline float as_float(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

__device__ inline int32_t as_bits(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

__global__ void begin_piece(int32_t* start, int32_t at) {
  EACH_THREAD(thread) {
    if (thread == 0) *start = at;
  }
}

// Put staged states into their slots; a block each.
__global__ void place_states(float* pool, const float* staged, const int32_t* slots, int size) {
  EACH_THREAD(thread) {
    for (int i = thread; i < size; i += blockDim.x)
      pool[size_t(slots[blockIdx.x]) * size + i] = staged[size_t(blockIdx.x) * size + i];
  }
}

// Bring the rows' states from their slots; a block for each row and layer.
__global__ void gather_states(Work w) {
  const int row = blockIdx.x, layer = blockIdx.y, L = w.layers, H = w.hidden;
  const float* slot = w.pool + size_t(head(w, SLOTS, row)) * w.states * L * H + size_t(layer) * H;
  const size_t to = (size_t(layer) * w.rows + row) * H;
  EACH_THREAD(thread) {
    if (layer == 0 && thread == 0) w.token[row] = head(w, TOKENS, row);
    for (int unit = thread; unit < H; unit += blockDim.x) {
      w.h[to + unit] = slot[unit];
      if (w.h_half) w.h_half[to + unit] = to_half(slot[unit]);
      if (w.c) w.c[to + unit] = slot[size_t(L) * H + unit];
    }
  }
}

__global__ void scatter_states(Work w) {
  const int row = blockIdx.x, layer = blockIdx.y, L = w.layers, H = w.hidden;
  const int number = head(w, SLOTS, row);
  if (number == w.padding) return;
  float* slot = w.pool + size_t(number) * w.states * L * H + size_t(layer) * H;
  const size_t from = (size_t(layer) * w.rows + row) * H;
  EACH_THREAD(thread) {
    for (int unit = thread; unit < H; unit += blockDim.x) {
      slot[unit] = w.h[from + unit];
      if (w.c) slot[size_t(L) * H + unit] = w.c[from + unit];
    }
  }
}

__device__ inline float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

// One layer of every network, from its products; a block for some units of a row of a network.
__global__ void apply_gates(Work w, Cell cell, const float* table, int symbols, const float* bias,
                            int level, int step) {
  const int row = blockIdx.x, network = blockIdx.z, H = w.hidden, GH = w.gates * H;
  const int layer = network * w.depth + level;
  if (*w.start + step >= head(w, STEPS, row)) return;  // it has ended, and keeps its state
  const float* of_h = w.of_h + (size_t(layer) * w.rows + row) * GH;
  const float* of_x = w.of_x + (size_t(network) * w.rows + row) * GH;
  if (level == 0) of_x = table + (size_t(network) * symbols + w.token[row]) * GH;
  const float* b = bias + size_t(layer) * (cell == GRU ? 4 : w.gates) * H;
  const size_t at = (size_t(layer) * w.rows + row) * H;
  EACH_THREAD(thread) {
    const int unit = blockIdx.y * blockDim.x + thread;
    if (unit >= H) continue;
    float h;
    if (cell == GRU) {
      const float z = logistic(of_x[unit] + of_h[unit] + b[unit]);
      const float r = logistic(of_x[H + unit] + of_h[H + unit] + b[H + unit]);
      const float n_of_h = of_h[2 * H + unit] + b[3 * H + unit];
      const float n = tanhf(of_x[2 * H + unit] + b[2 * H + unit] + r * n_of_h);
      h = n + z * (w.h[at + unit] - n);
    } else if (cell == LSTM) {
      float gate[4];
      for (int g = 0; g < 4; g++) gate[g] = of_x[g * H + unit] + of_h[g * H + unit] + b[g * H + unit];
      const float i = logistic(gate[0]), o = logistic(gate[1]), f = logistic(gate[2]);
      const float c = f * w.c[at + unit] + i * tanhf(gate[3]);
      w.c[at + unit] = c;
      h = o * tanhf(c);
    } else {
      const float sum = of_x[unit] + of_h[unit] + b[unit];
      h = cell == RNN_TANH ? tanhf(sum) : sum < 0.0f ? 0.0f : sum;
    }
    w.h[at + unit] = h;
    if (w.h_half) w.h_half[at + unit] = to_half(h);
  }
}

// Make values[i] the sum of values[0] to values[i]; by LANES parts, whose ends meet exactly.
__device__ inline void sum_up(float* values, int count, float* ends) {
  const int part = ((count + LANES - 1) / LANES) | 1;  // odd, for the banks of shared memory
  EACH_THREAD(thread) {
    if (thread >= LANES) continue;
    float sum = 0.0f;
    for (int i = thread * part; i < count && i < (thread + 1) * part; i++) sum += values[i];
    ends[thread + 1] = sum;
  }
  EACH_THREAD(thread) {
    if (thread > 0) continue;
    float sum = 0.0f;
    ends[0] = sum;
    for (int lane = 1; lane <= LANES; lane++) ends[lane] = sum += ends[lane];
  }
  EACH_THREAD(thread) {
    if (thread >= LANES) continue;
    const float before = ends[thread];
    float sum = 0.0f;
    for (int i = thread * part; i < count && i < (thread + 1) * part; i++) {
      sum += values[i];
      values[i] = before + sum;
    }
  }
}

struct Add {
  __device__ static float of(float a, float b) { return a + b; }
};
struct Max {
  __device__ static float of(float a, float b) { return a < b ? b : a; }
};

// Fold two arrays of a number a thread into their first places.
template <class Fold>
__device__ inline void fold(float* one, float* other) {
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    EACH_THREAD(thread) {
      if (thread >= half) continue;
      one[thread] = Fold::of(one[thread], one[thread + half]);
      other[thread] = Fold::of(other[thread], other[thread + half]);
    }
  }
}

// Bytes of shared memory that the draw takes.
inline size_t draw_bytes(int sampled, int threads) {
  return (3 * size_t(sampled) + 4 * size_t(threads) + LANES + 2) * sizeof(float);
}

// Zero in p what the filters leave out, as the export's graphs do; p[i] is likeliest at most.
__device__ inline void keep_likeliest(float* p, int S, float likeliest, int top_k, float top_p,
                                      float min_p, float* ranked, int32_t* rank, float* ends) {
  const bool has_top_k = top_k < S;
  EACH_THREAD(thread) {
    for (int i = thread; i < S; i += blockDim.x) {
      const float own = p[i];
      int before = 0;  // how many are likelier, or equal and of a lower id
      for (int j = 0; j < S; j++) before += p[j] > own || (p[j] == own && j < i);
      rank[i] = before;
      const float mass = has_top_k ? own : (own + 1.0f) - 1.0f;  // else in whole units of 2^-23
      ranked[before] = before < top_k ? mass : 0.0f;
    }
  }
  sum_up(ranked, S, ends);
  const float wanted = fmaxf(top_p * ranked[S - 1], LEAST);
  EACH_THREAD(thread) {
    for (int i = thread; i < S; i += blockDim.x) {
      if (rank[i] == 0) continue;  // the likeliest stays
      const bool is_within = top_p == 1.0f || ranked[rank[i] - 1] < wanted;
      const bool is_probable = p[i] >= min_p * likeliest;
      if (!(rank[i] < top_k && is_within && is_probable)) p[i] = 0.0f;
    }
  }
}

// Choose the next symbol of a row and tell its log-probability; a block each.
__global__ void draw(Work w, const float* bias, int symbols, int sampled, int step) {
  SHARED(shared);
  const int row = blockIdx.x, N = w.rows, V = symbols, S = sampled, threads = blockDim.x;
  const int t = *w.start + step;
  float *p = shared, *ranked = p + S;
  int32_t* rank = reinterpret_cast<int32_t*>(ranked + S);
  float *one = ranked + 2 * S, *other = one + threads, *three = other + threads;
  float *four = three + threads, *ends = four + threads;
  int32_t* tokens_out = w.output + size_t(t) * 2 * N;
  if (t >= head(w, STEPS, row)) {
    EACH_THREAD(thread) {
      if (thread == 0) tokens_out[row] = tokens_out[N + row] = 0;
    }
    return;
  }
  const int32_t forced = w.input[(size_t(HEAD) + 2 * size_t(t)) * N + row];
  const float uniform = as_float(w.input[(size_t(HEAD) + 2 * size_t(t) + 1) * N + row]);
  const float temperature = as_float(head(w, TEMPERATURE, row));
  const float factor = temperature == 0.0f ? GREEDY_FACTOR : 1.0f / temperature;
  const float* logits = w.logits + size_t(row) * V;
  EACH_THREAD(thread) {
    float most = -3.402823466e38f, most_sampled = most;
    for (int i = thread; i < V; i += threads) {
      const float logit = logits[i] + bias[i];
      most = Max::of(most, logit);
      if (i < S) most_sampled = Max::of(most_sampled, logit);
    }
    one[thread] = most;
    other[thread] = most_sampled;
  }
  fold<Max>(one, other);
  const float most = one[0], top = product(other[0], factor);
  EACH_THREAD(thread) {
    float total = 0.0f, total_sampled = 0.0f;
    for (int i = thread; i < V; i += threads) {
      const float logit = logits[i] + bias[i];
      total += expf(logit - most);
      if (i < S) total_sampled += p[i] = expf(product(logit, factor) - top);
    }
    three[thread] = total;
    four[thread] = total_sampled;
  }
  fold<Add>(three, four);
  const float log_total = logf(three[0]), scale = 1.0f / four[0];
  if (forced < 0) {
    EACH_THREAD(thread) {
      for (int i = thread; i < S; i += threads) p[i] *= scale;
    }
    const int32_t asked = head(w, TOP_K, row), top_k = asked == 0 || asked > S ? S : asked;
    const float top_p = as_float(head(w, TOP_P, row)), min_p = as_float(head(w, MIN_P, row));
    if (top_k < S || top_p < 1.0f || min_p > 0.0f)
      keep_likeliest(p, S, scale, top_k, top_p, min_p, ranked, rank, ends);
    sum_up(p, S, ends);
    const float wanted = (temperature == 0.0f ? 0.0f : uniform) * p[S - 1];
    EACH_THREAD(thread) {
      float passed = 0.0f;
      for (int i = thread; i < S; i += threads) passed += p[i] <= wanted;
      one[thread] = other[thread] = passed;
    }
    fold<Add>(one, other);
  }
  EACH_THREAD(thread) {
    if (thread > 0) continue;
    int chosen = forced;
    if (forced < 0) {
      chosen = static_cast<int>(one[0]);
      chosen = chosen < S ? chosen : S - 1;
    }
    w.token[row] = tokens_out[row] = chosen;
    tokens_out[N + row] = as_bits(logits[chosen] + bias[chosen] - most - log_total);
  }
}
