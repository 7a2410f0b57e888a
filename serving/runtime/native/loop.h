// What the caller hands over; structures.py has the same in ctypes.
#pragma once
#include <cstdint>

enum Cell { RNN_TANH, RNN_RELU, GRU, LSTM };

// One layer of one network. Units are padded to `width`.
struct Layer {
  const void* x_panels;  // of the layer below; none in a first layer
  const void* h_panels;
  const void* table;   // first layers: (symbols, gates, width), sums or floats
  const void* bias;    // (totals, width), sums or floats
  const float* scale;  // 8 bits: (totals, width)
  float step;          // 8 bits: what one step of h means
  int32_t zero_point;
};

struct Model {
  const Layer* each;  // layers of all networks, those of a network together
  const void* const* decoder_panels;  // of each network
  const void* decoder_bias;           // (symbols_width)
  const float* decoder_scale;
  int32_t cell, is_int8;
  int32_t layers, members;
  int32_t hidden, width, inputs;  // inputs: hidden, in 8 bits padded to 4
  int32_t symbols, symbols_width, sampled;
};

enum Outcome { DONE, OUT_OF_MEMORY, NO_SUCH_CELL, NO_SUCH_SYMBOL, NO_SUCH_STATE };

struct Run {
  int32_t steps, rows;
  const int64_t* tokens;     // (rows)
  const int64_t* forced;     // (steps, rows); below 0: draw
  const float* uniform;      // (steps, rows)
  const int64_t* row_steps;  // (rows)
  const float* temperature;  // (rows), as the next three
  const int64_t* top_k;
  const float* top_p;
  const float* min_p;
  const float* h;            // (layers, rows, hidden)
  const float* c;            // likewise, or none
  int64_t* tokens_out;       // (steps, rows); 0 after a row's last step, as the next
  float* log_probs;          // (steps, rows)
  float* h_after;
  float* c_after;
  // Automata; none where nothing is banned or favoured.
  int64_t states;
  const float* bias;         // (states, sampled)
  const int64_t* next;       // (states, sampled)
  const int64_t* automaton;  // (rows)
  int64_t* automata_out;     // (steps, rows)
  // The likeliest symbols of some rows.
  int32_t asking, alternatives;
  const int64_t* asking_rows;        // (asking)
  int64_t* alternative_ids;          // (steps, asking, alternatives)
  float* alternative_log_probs;      // likewise
};
