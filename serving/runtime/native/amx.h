// Products of 8 bits in tiles, which are registers of 16 rows of 64 bytes; AMX has eight of them.
//
// Sums of whole numbers are exact, so they are those of vectors. EMULATED_TILES makes the same in plain
// C++, for tests on processors without AMX.
#pragma once
#include <cstddef>
#include <cstdint>

namespace {

constexpr int TILES = 8, TILE_ROWS = 16, TILE_BYTES = 64;  // of each row

#ifdef EMULATED_TILES
struct TileRegisters {
  bool are_configured;
  uint8_t bytes[TILES][TILE_ROWS][TILE_BYTES];
};
thread_local TileRegisters tiles;

inline uint8_t (&tile(int index))[TILE_ROWS][TILE_BYTES] {
  if (!tiles.are_configured) __builtin_trap();  // as a processor does
  return tiles.bytes[index];
}
inline void configure_tiles() { tiles.are_configured = true; }
inline void release_tiles() { tiles.are_configured = false; }
template <int T>
inline void tile_zero() {
  __builtin_memset(tile(T), 0, sizeof tile(T));
}
template <int T>
inline void tile_load(const void* from, size_t stride) {
  for (int row = 0; row < TILE_ROWS; row++)
    __builtin_memcpy(tile(T)[row], static_cast<const char*>(from) + row * stride, TILE_BYTES);
}
template <int T>
inline void tile_store(void* to, size_t stride) {
  for (int row = 0; row < TILE_ROWS; row++)
    __builtin_memcpy(static_cast<char*>(to) + row * stride, tile(T)[row], TILE_BYTES);
}
template <int SUM, int A, int B>
inline void tile_dot() {
  for (int row = 0; row < TILE_ROWS; row++)
    for (int k = 0; k < TILE_ROWS; k++)
      for (int byte = 0; byte < TILE_BYTES; byte++) {
        int32_t* sums = reinterpret_cast<int32_t*>(tile(SUM)[row]);
        sums[byte / 4] += tile(A)[row][4 * k + byte % 4] * static_cast<int8_t>(tile(B)[k][byte]);
      }
}
#else
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

inline void configure_tiles() {
  TileConfiguration each;
  for (int index = 0; index < TILES; index++) {
    each.row_bytes[index] = TILE_BYTES;
    each.rows[index] = TILE_ROWS;
  }
  asm volatile("ldtilecfg %0" ::"m"(each));
}
inline void release_tiles() { asm volatile("tilerelease"); }
// GCC's intrinsics take a tile as a literal, not as a constant of a template.
template <int T>
inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
inline void tile_load(const void* from, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void tile_store(void* to, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
// Adds products of unsigned bytes of A and signed ones of B, four to each sum.
template <int SUM, int A, int B>
inline void tile_dot() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(A), "i"(B));
}
#endif

// Configures this thread's tiles while it lives. Released, they cost a context switch nothing; and
// ONNX Runtime takes the rows that it finds configured for its own.
class TileUse {
 public:
  explicit TileUse(bool is_wanted) : is_wanted_(is_wanted) {
    if (is_wanted) configure_tiles();
  }
  ~TileUse() {
    if (is_wanted_) release_tiles();
  }
  TileUse(const TileUse&) = delete;
  TileUse& operator=(const TileUse&) = delete;

 private:
  const bool is_wanted_;
};

// Some rows in tiles, (2, depth, 16, 64) bytes with zeros after the inputs, and the panels that they
// meet, see layers.h. Whatever is in memory behind a panel meets the zeros.
struct Product {
  const uint8_t* rows;
  const char* panel;
};

struct Columns {
  int gates;
  size_t panel_bytes;
  size_t offset(int column) const {
    return column / gates * panel_bytes + column % gates * TILE_BYTES;
  }
};

// Sums of M tiles of rows and N of columns.
template <int M, int N>
void tile_sums(const Product* products, int count, int depth, const Columns& columns, int column,
               int32_t* sums, size_t sums_stride) {
  tile_zero<0>();
  if (M > 1) tile_zero<1>();
  if (N > 1) tile_zero<2>();
  if (M * N > 2) tile_zero<3>();
  const size_t weights_stride = size_t(columns.gates) * TILE_BYTES;
  for (int i = 0; i < count; i++) {
    const uint8_t* rows = products[i].rows;
    const char* left = products[i].panel + columns.offset(column);
    const char* right = products[i].panel + columns.offset(column + 1);
    for (int k = 0; k < depth; k++) {
      tile_load<4>(rows + size_t(k) * TILE_ROWS * TILE_BYTES, TILE_BYTES);
      tile_load<6>(left + k * TILE_ROWS * weights_stride, weights_stride);
      tile_dot<0, 4, 6>();
      if (M > 1) {
        tile_load<5>(rows + size_t(depth + k) * TILE_ROWS * TILE_BYTES, TILE_BYTES);
        tile_dot<1, 5, 6>();
      }
      if (N > 1) {
        tile_load<7>(right + k * TILE_ROWS * weights_stride, weights_stride);
        tile_dot<2, 4, 7>();
      }
      if (M * N > 2) tile_dot<3, 5, 7>();
    }
  }
  int32_t* of_left = sums + column * TILE_ROWS;
  int32_t* of_right = of_left + TILE_ROWS;
  const size_t below = TILE_ROWS * sums_stride / sizeof(int32_t);
  tile_store<0>(of_left, sums_stride);
  if (M > 1) tile_store<1>(of_left + below, sums_stride);
  if (N > 1) tile_store<2>(of_right, sums_stride);
  if (M * N > 2) tile_store<3>(of_right + below, sums_stride);
}

// Sums of all `products` for one or two tiles of rows, (rows, columns, 16).
inline void sums_of(const Product* products, int count, int depth, int row_tiles,
                    const Columns& columns, int column_count, int32_t* sums) {
  const size_t stride = size_t(column_count) * TILE_BYTES;
  for (int column = 0; column < column_count; column += 2) {
    const bool is_pair = column + 1 < column_count;
    const auto make = row_tiles > 1 ? (is_pair ? tile_sums<2, 2> : tile_sums<2, 1>)
                                    : (is_pair ? tile_sums<1, 2> : tile_sums<1, 1>);
    make(products, count, depth, columns, column, sums, stride);
  }
}

}  // namespace
