// As layers.h with products of 8 bits in tiles, where there are rows enough.
#pragma once
#ifdef __AVX512VNNI__
#include <algorithm>
#include <vector>

#include "amx.h"
#include "buffer.h"
#include "layers.h"

namespace {

#ifndef TILED_FROM
#define TILED_FROM 4  // rows; vectors are faster with fewer
#endif

struct TiledInt8 : Int8 {};

constexpr int blocks_across(int gates) { return gates == 3 ? 2 : 4 / gates; }

template <>
class Products<TiledInt8> {
 public:
  Products(const Model& model, int rows)
      : model_(model),
        vectors_(model, rows),
        depth_((model.inputs + TILE_BYTES - 1) / TILE_BYTES),
        of_source_(size_t(rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS * depth_ * TILE_BYTES),
        sources_(std::max(2, model.members) * of_source_),
        sums_(2 * ROWS * COLUMNS * LANES),
        use_(rows >= TILED_FROM) {}
  explicit operator bool() const { return sources_ && sums_; }

  template <class Cell, bool UPPER>
  void units(const Layer& layer, const std::vector<Row>& rows) {
    const int count = static_cast<int>(rows.size());
    if (count < TILED_FROM) return vectors_.units<Cell, UPPER>(layer, rows);
    for (int row = 0; row < count; row++) {
      bring(0, row, rows[row].h);
      if (UPPER) bring(1, row, rows[row].x);
    }
    constexpr int U = blocks_across(Cell::GATES);
    const int blocks = model_.width / LANES;
    for (int block = 0; block < blocks; block += U)
      for (int first = 0; first < count; first += ROWS)
        some_units<Cell, UPPER>(layer, block, std::min(U, blocks - block), &rows[first], first,
                                std::min(ROWS, count - first));
  }

  void logits(const std::vector<const void*>& tops, float* const* out, int count) {
    if (count < TILED_FROM) return vectors_.logits(tops, out, count);
    for (int row = 0; row < count; row++)
      for (int member = 0; member < model_.members; member++)
        bring(member, row, tops[row * model_.members + member]);
    constexpr int U = blocks_across(1);
    const int blocks = model_.symbols_width / LANES;
    for (int block = 0; block < blocks; block += U)
      for (int first = 0; first < count; first += ROWS)
        some_logits(block, std::min(U, blocks - block), &out[first], first,
                    std::min(ROWS, count - first));
  }

 private:
  static constexpr int ROWS = 2 * TILE_ROWS, COLUMNS = 6;  // whose sums are made at once

  // Copies a row to its place in a source of products.
  void bring(int source, int row, const void* from) {
    uint8_t* to = sources_.at(at(source, row / TILE_ROWS) + row % TILE_ROWS * TILE_BYTES);
    for (int k = 0; k < model_.inputs; k += TILE_BYTES, to += TILE_ROWS * TILE_BYTES)
      __builtin_memcpy(to, static_cast<const uint8_t*>(from) + k,
                       std::min(TILE_BYTES, model_.inputs - k));
  }
  size_t at(int source, int tile) const {
    return source * of_source_ + size_t(tile) * depth_ * TILE_ROWS * TILE_BYTES;
  }
  Product product(int source, int row, const void* panels, size_t offset) const {
    return {sources_.at(at(source, row / TILE_ROWS)), static_cast<const char*>(panels) + offset};
  }
  static int tiles(int rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

  template <class Cell, bool UPPER>
  void some_units(const Layer& layer, int block, int blocks, const Row* rows, int first, int count) {
    constexpr int G = Cell::GATES;
    const Columns columns{G, size_t(model_.inputs) * G * LANES};
    const int across = G * blocks;
    for (int u = 0; u < blocks; u++)
      for (int m = 0; m < count; m++)
        fetch_n<Cell, UPPER>(model_.width, rows[m], (block + u) * LANES);
    int32_t *of_h = sums_.at(0), *of_x = sums_.at(ROWS * COLUMNS * LANES);
    const Product h = product(0, first, layer.h_panels, block * columns.panel_bytes);
    sums_of(&h, 1, depth_, tiles(count), columns, across, of_h);
    if (UPPER) {
      const Product x = product(1, first, layer.x_panels, block * columns.panel_bytes);
      sums_of(&x, 1, depth_, tiles(count), columns, across, of_x);
    }
    for (int u = 0; u < blocks; u++)
      for (int m = 0; m < count; m++) {
        const int begin = (m * across + u * G) * LANES, unit = (block + u) * LANES;
        const auto total = [&](int a) __attribute__((always_inline)) {
          Ints sum = before_products<Int8, Cell, UPPER>(layer, model_.width, rows[m], a, unit);
#pragma GCC unroll 4
          for (int g = 0; g < G; g++) {
            if (Cell::OF_H[g] == a) sum = add(sum, load(of_h + begin + g * LANES));
            if (UPPER && Cell::OF_X[g] == a) sum = add(sum, load(of_x + begin + g * LANES));
          }
          return sum;
        };
        apply<Int8, Cell, UPPER>(layer, model_.width, rows[m], unit, total);
      }
  }

  void some_logits(int block, int blocks, float* const* out, int first, int count) {
    const Columns columns{1, size_t(model_.inputs) * LANES};
    products_.clear();
    for (int member = 0; member < model_.members; member++)
      products_.push_back(product(member, first, model_.decoder_panels[member],
                                  block * columns.panel_bytes));
    sums_of(products_.data(), model_.members, depth_, tiles(count), columns, blocks, sums_.at(0));
    for (int m = 0; m < count; m++)
      for (int u = 0; u < blocks; u++) {
        const int symbol = (block + u) * LANES;
        const Ints total = add(Int8::load(model_.decoder_bias, symbol),
                               load(sums_.at((m * blocks + u) * LANES)));
        store(out[m] + symbol, Int8::value(total, model_.decoder_scale, symbol));
      }
  }

  const Model& model_;
  Products<Int8> vectors_;
  const int depth_;
  const size_t of_source_;
  Buffer<uint8_t> sources_;
  Buffer<int32_t> sums_;
  std::vector<Product> products_;
  const TileUse use_;
};

}  // namespace
#endif
