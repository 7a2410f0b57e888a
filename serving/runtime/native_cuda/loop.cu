// The compiled loop on CUDA: cuBLAS makes the products, two kernels of our own the rest of a step, and
// a CUDA graph holds some steps of one batch size.
//
//     recurrent products of all layers (one call)
//     gates of layer 0; for each further layer its input's product, then its gates
//     the decoder's product, the draw        beside them: recurrent products of the next step
//
// States of all slots lie on the device. A loop run gathers those of its rows, makes its steps in
// windows, each with one copy to the device and one back, and scatters the states into their slots.
// Each runner has its own streams, so that runners do not wait for each other.
#include <memory>
#include <utility>
#include <vector>

#include "kernels.h"
#include "products.h"

namespace {

constexpr int STAGED = 64;  // states that are brought to the device at once
constexpr size_t SHARED_ANYWAY = 48 << 10;

int gates_of(int cell) { return cell == GRU ? 3 : cell == LSTM ? 4 : 1; }

thread_local std::string error;

template <class F>
int attempt(F f) {
  try {
    cudaSetDevice(0);
    f();
    return 0;
  } catch (const std::exception& problem) {
    error = problem.what();
    cudaGetLastError();
    return 1;
  }
}

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cannot make an event"); }
  Event(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }

  // What comes to `then` from now on waits for what `first` has to do now.
  void order(cudaStream_t first, cudaStream_t then) {
    check(cudaEventRecord(event_, first), "cannot record an event");
    check(cudaStreamWaitEvent(then, event_, 0), "cannot wait for an event");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

struct Model {
  const Description sizes;
  const int gates, layers;
  const size_t number_bytes;  // of a weight of a product
  const int draw_threads;
  const size_t shared_bytes;
  const Blas blas;
  const Memory recurrent, input, table, bias, decoder, decoder_bias;

  Model(const Description& d, const char* blas_name)
      : sizes(d),
        gates(gates_of(d.cell)),
        layers(d.members * d.depth),
        number_bytes(d.is_half ? sizeof(Half) : sizeof(float)),
        draw_threads(d.symbols <= 512 ? 128 : 512),
        shared_bytes(draw_bytes(d.sampled, draw_threads)),
        blas(blas_name),
        recurrent(number_bytes * layers * of_layer(), d.recurrent),
        input(number_bytes * d.members * (d.depth - 1) * of_layer(), d.input),
        table(sizeof(float) * d.members * d.symbols * gates * d.hidden, d.table),
        bias(sizeof(float) * layers * (d.cell == GRU ? 4 : gates) * d.hidden, d.bias),
        decoder(number_bytes * d.members * d.symbols * d.hidden, d.decoder),
        decoder_bias(sizeof(float) * d.symbols, d.decoder_bias) {
    int most = 0;
    check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
          "cannot ask the device");
    if (shared_bytes > static_cast<size_t>(most))
      throw std::runtime_error("choosing among " + std::to_string(d.sampled) + " symbols takes " +
                               std::to_string(shared_bytes) + " bytes of shared memory, and the GPU " +
                               "has " + std::to_string(most) + "; take --kernels onnx");
    if (shared_bytes > SHARED_ANYWAY)
      check(cudaFuncSetAttribute(draw, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            "cannot have so much shared memory");
  }

  size_t of_layer() const { return size_t(gates) * sizes.hidden * sizes.hidden; }
  const void* at(const Memory& weights, size_t number) const {
    return weights.as<char>() + number * number_bytes;
  }
};

struct Runner {
  const Model& model;
  const int slots;
  const size_t state_size;  // numbers of a slot's state
  Stream stream, side;
  Event forked, joined;
  Products products, side_products;
  Memory pool, staged, staged_slots;
  Pinned host_staged, host_slots;

  Runner(const Model& m, int slots)
      : model(m),
        slots(slots),
        state_size(size_t(m.sizes.cell == LSTM ? 2 : 1) * m.layers * m.sizes.hidden),
        products(m.blas, stream),
        side_products(m.blas, side),
        pool(sizeof(float) * (size_t(slots) + 1) * state_size),
        staged(sizeof(float) * STAGED * state_size),
        staged_slots(sizeof(int32_t) * STAGED),
        host_staged(sizeof(float) * STAGED * state_size),
        host_slots(sizeof(int32_t) * STAGED) {
    wait();
  }
  ~Runner() { cudaStreamSynchronize(stream); }

  void wait() { check(cudaStreamSynchronize(stream), "the device has failed"); }

  void bring(int count, const int32_t* to, const float* states) {
    for (int first = 0; first < count; first += STAGED) {
      const int some = count - first < STAGED ? count - first : STAGED;
      const size_t bytes = sizeof(float) * some * state_size;
      memcpy(host_staged.place(), states + first * state_size, bytes);
      memcpy(host_slots.place(), to + first, sizeof(int32_t) * some);
      copy(staged.as<void>(), host_staged.place(), bytes, cudaMemcpyHostToDevice);
      copy(staged_slots.as<void>(), host_slots.place(), sizeof(int32_t) * some,
           cudaMemcpyHostToDevice);
      launch(stream, dim3(some), 256, 0, place_states, pool.as<float>(), staged.as<float>(),
             staged_slots.as<int32_t>(), static_cast<int>(state_size));
      check(cudaGetLastError(), "cannot place states");
      wait();
    }
  }

  void read(int slot, float* state) {
    const size_t bytes = sizeof(float) * state_size;
    copy(host_staged.place(), pool.as<float>() + slot * state_size, bytes, cudaMemcpyDeviceToHost);
    wait();
    memcpy(state, host_staged.place(), bytes);
  }

  void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, bytes, kind, stream), "cannot copy");
  }
};

// Loop runs of a number of rows: their places on the device, and their graphs.
struct Batch {
  Runner& runner;
  const Model& model;
  const int rows;
  Memory input, output, start, token, h, c, h_half, of_h, of_x, logits;
  Pinned host_input, host_output;
  std::vector<std::pair<int, cudaGraphExec_t>> graphs;

  Batch(Runner& r, int rows, int window)
      : runner(r),
        model(r.model),
        rows(rows),
        input(words(HEAD + 2 * window)),
        output(words(2 * window)),
        start(sizeof(int32_t)),
        token(words(1)),
        h(numbers(model.layers * model.sizes.hidden)),
        c(numbers(is_lstm() ? model.layers * model.sizes.hidden : 0)),
        h_half(model.sizes.is_half ? sizeof(Half) * rows * model.layers * model.sizes.hidden : 0),
        of_h(numbers(model.layers * model.gates * model.sizes.hidden)),
        of_x(numbers(model.sizes.members * model.gates * model.sizes.hidden)),
        logits(numbers(model.sizes.symbols)),
        host_input(words(HEAD + 2 * window)),
        host_output(words(2 * window)) {}
  Batch(const Batch&) = delete;
  ~Batch() {
    cudaStreamSynchronize(runner.stream);
    for (auto& graph : graphs) cudaGraphExecDestroy(graph.second);
  }

  // The first steps load what CUDA loads when it is first used; of no row, they change no state.
  void warm_up() {
    begin(0);
    steps(2);
    runner.wait();
  }

  void capture(int length) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    check(cudaStreamBeginCapture(runner.stream, cudaStreamCaptureModeThreadLocal), "cannot capture");
    try {
      steps(length);
    } catch (...) {
      cudaStreamEndCapture(runner.stream, &graph);
      throw;
    }
    check(cudaStreamEndCapture(runner.stream, &graph), "cannot end a capture");
    const cudaError_t made = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    check(made, "cannot make a graph");
    graphs.emplace_back(length, ready);
  }

  void run(bool is_first, bool is_last, int steps, const int32_t* pieces, int count) {
    runner.copy(input.as<void>(), host_input.place(), words(HEAD + 2 * steps), cudaMemcpyHostToDevice);
    if (is_first) move(gather_states);
    for (int piece = 0, at = 0; piece < count; at += pieces[piece++]) {
      begin(at);
      check(cudaGraphLaunch(graph_of(pieces[piece]), runner.stream), "cannot launch a graph");
    }
    if (is_last) move(scatter_states);
    runner.copy(host_output.place(), output.as<void>(), words(2 * steps), cudaMemcpyDeviceToHost);
    runner.wait();
  }

 private:
  size_t words(int arrays) const { return sizeof(int32_t) * arrays * rows; }
  size_t numbers(int a_row) const { return sizeof(float) * a_row * rows; }
  bool is_lstm() const { return model.sizes.cell == LSTM; }

  Work work() const {
    const Description& d = model.sizes;
    return Work{rows,
                model.layers,
                d.depth,
                d.members,
                d.hidden,
                model.gates,
                is_lstm() ? 2 : 1,
                runner.slots,
                input.as<int32_t>(),
                output.as<int32_t>(),
                start.as<int32_t>(),
                token.as<int32_t>(),
                h.as<float>(),
                is_lstm() ? c.as<float>() : nullptr,
                d.is_half ? h_half.as<Half>() : nullptr,
                of_h.as<float>(),
                of_x.as<float>(),
                logits.as<float>(),
                runner.pool.as<float>()};
  }

  void move(void (*kernel)(Work)) {
    launch(runner.stream, dim3(rows, model.layers), 128, 0, kernel, work());
    check(cudaGetLastError(), "cannot move states");
  }

  void begin(int at) {
    launch(runner.stream, dim3(1), 1, 0, begin_piece, start.as<int32_t>(), int32_t(at));
    check(cudaGetLastError(), "cannot begin a piece");
  }

  cudaGraphExec_t graph_of(int length) const {
    for (auto& graph : graphs)
      if (graph.first == length) return graph.second;
    throw std::runtime_error("no graph has " + std::to_string(length) + " steps");
  }

  // What products take of a layer's h.
  const void* h_of(int layer) const {
    const size_t at = size_t(layer) * rows * model.sizes.hidden;
    if (model.sizes.is_half) return h_half.as<Half>() + at;
    return h.as<float>() + at;
  }

  void multiply_recurrent(Products& products) {
    const int H = model.sizes.hidden, GH = model.gates * H;
    products.make({GH, rows, H, model.layers, model.recurrent.as<void>(), h_of(0),
                   static_cast<long long>(model.of_layer()), static_cast<long long>(rows) * H,
                   of_h.as<float>(), false},
                  model.sizes.is_half);
  }

  void multiply_input(int level) {
    const Description& d = model.sizes;
    const int H = d.hidden, GH = model.gates * H;
    const void* weights = model.at(model.input, (level - 1) * model.of_layer());
    runner.products.make({GH, rows, H, d.members, weights, h_of(level - 1),
                          static_cast<long long>((d.depth - 1) * model.of_layer()),
                          static_cast<long long>(d.depth) * rows * H, of_x.as<float>(), false},
                         d.is_half);
  }

  void multiply_decoder() {
    const Description& d = model.sizes;
    for (int member = 0; member < d.members; member++) {
      const void* weights = model.at(model.decoder, size_t(member) * d.symbols * d.hidden);
      runner.products.make({d.symbols, rows, d.hidden, 1, weights, h_of((member + 1) * d.depth - 1), 0,
                            0, logits.as<float>(), member > 0},
                           d.is_half);
    }
  }

  void steps(int length) {
    const Description& d = model.sizes;
    const dim3 blocks(rows, (d.hidden + UNITS_A_BLOCK - 1) / UNITS_A_BLOCK, d.members);
    for (int step = 0; step < length; step++) {
      if (step == 0) multiply_recurrent(runner.products);
      for (int level = 0; level < d.depth; level++) {
        if (level > 0) multiply_input(level);
        if (level == 0 && step > 0) runner.joined.order(runner.side, runner.stream);
        launch(runner.stream, blocks, UNITS_A_BLOCK, 0, apply_gates, work(), static_cast<Cell>(d.cell),
               static_cast<const float*>(model.table.as<float>()), int(d.symbols),
               static_cast<const float*>(model.bias.as<float>()), level, step);
        check(cudaGetLastError(), "cannot apply gates");
      }
      if (step + 1 < length) {
        runner.forked.order(runner.stream, runner.side);
        multiply_recurrent(runner.side_products);
      }
      multiply_decoder();
      launch(runner.stream, dim3(rows), model.draw_threads, model.shared_bytes, draw, work(),
             static_cast<const float*>(model.decoder_bias.as<float>()), int(d.symbols), int(d.sampled),
             step);
      check(cudaGetLastError(), "cannot draw");
    }
  }
};

extern "C" {

const char* unroll_cuda_sources_digest() { return SOURCES_DIGEST; }
const char* unroll_cuda_error() { return error.c_str(); }

int unroll_cuda_open_model(const Description* description, const char* blas, Model** model) {
  return attempt([&] { *model = new Model(*description, blas); });
}
int unroll_cuda_close_model(Model* model) {
  return attempt([&] { delete model; });
}

int unroll_cuda_open_runner(const Model* model, int slots, Runner** runner) {
  return attempt([&] { *runner = new Runner(*model, slots); });
}
int unroll_cuda_close_runner(Runner* runner) {
  return attempt([&] { delete runner; });
}

// Put so many states, one after another, into slots.
int unroll_cuda_bring(Runner* runner, int count, const int32_t* slots, const float* states) {
  return attempt([&] { runner->bring(count, slots, states); });
}

int unroll_cuda_read(Runner* runner, int slot, float* state) {
  return attempt([&] { runner->read(slot, state); });
}

// Allocate for so many rows, and capture graphs of these lengths, to be used in windows of so many steps.
int unroll_cuda_open_batch(Runner* runner, int rows, int window, const int32_t* lengths, int count,
                           Batch** batch, Places* places) {
  return attempt([&] {
    auto made = std::make_unique<Batch>(*runner, rows, window);
    made->warm_up();
    for (int i = 0; i < count; i++) made->capture(lengths[i]);
    *places = Places{made->host_input.place(), made->host_output.place()};
    *batch = made.release();
  });
}
int unroll_cuda_close_batch(Batch* batch) {
  return attempt([&] { delete batch; });
}

// Make a window of a loop run, the pieces one after another; its rows are those of its first window.
int unroll_cuda_run(Batch* batch, int is_first, int is_last, int steps, const int32_t* pieces,
                    int count) {
  return attempt([&] { batch->run(is_first, is_last, steps, pieces, count); });
}

}  // extern "C"
