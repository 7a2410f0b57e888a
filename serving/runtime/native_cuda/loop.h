// What the caller hands over; structures.py has the same in ctypes.
#pragma once
#include <cstdint>

enum Cell { RNN_TANH, RNN_RELU, GRU, LSTM };

// Sizes and weights of a model, these in the host's memory. G gates, A biases (those of a GRU are z,
// r, n of x, n of h); products' weights are floats, or half floats where is_half.
struct Description {
  int32_t cell, is_half;
  int32_t members, depth;  // networks, and the layers of each
  int32_t hidden, symbols, sampled;
  const void* recurrent;      // (members depth, G hidden, hidden)
  const void* input;          // (members, depth - 1, G hidden, hidden)
  const float* table;         // (members, symbols, G hidden), what a symbol adds in a first layer
  const float* bias;          // (members depth, A, hidden)
  const void* decoder;        // (members, symbols, hidden)
  const float* decoder_bias;  // (symbols)
};

// Where the host writes what a window of a loop run takes and reads what it gave; numbers of 32 bits.
struct Places {
  void* input;   // HEAD arrays of (rows), then for each step forced and uniform, (rows) each
  void* output;  // for each step the symbols and their log-probabilities, (rows) each
};
enum Head { SLOTS, TOKENS, STEPS, TEMPERATURE, TOP_K, TOP_P, MIN_P, HEAD };
