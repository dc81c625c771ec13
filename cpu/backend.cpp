#include "cpu/backend.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "cpu/adamw.h"
#include "cpu/attention.h"
#include "cpu/attention_tile.h"
#include "cpu/elementwise.h"
#include "cpu/embedding.h"
#include "cpu/gemm.h"
#include "cpu/head.h"
#include "cpu/kv_cache.h"
#include "cpu/linear.h"
#include "cpu/paged_attention.h"
#include "cpu/rmsnorm.h"
#include "cpu/rope.h"
#include "cpu/sampling.h"
#include "cpu/swiglu.h"
#include "cpu/weight.h"

namespace qgrpo::cpu {
namespace {

int thread_count(int threads) {
  require(threads >= 0 && threads <= 1024, "cpu: {} threads, expected 1 to 1024 (0: automatic)",
          threads);
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

class CpuBuffer : public Buffer {
 public:
  explicit CpuBuffer(std::size_t bytes) : memory_(bytes) {
    if (bytes > 0) std::memset(memory_.data(), 0, bytes);
    data_ = memory_.data();
    bytes_ = bytes;
  }

 private:
  AlignedBuffer memory_;
};

template <typename T>
std::span<T> elements(TensorView x) {
  return {static_cast<T*>(x.data), static_cast<std::size_t>(x.elements())};
}
std::span<const float> floats(ConstTensorView x) {
  return {x.f32(), static_cast<std::size_t>(x.elements())};
}

// Bounds of what a model can have, for the size of the scratch alone.
constexpr std::int64_t kWorkspaceRank = 256;  // LoRA rank
constexpr std::int64_t kWorkspaceDim = 256;   // head size

class CpuBackend final : public Backend, LayerOps, RolloutOps, TrainOps {
 public:
  explicit CpuBackend(int threads)
      : pool_(thread_count(threads)),
        gemm_(pool_),
        context_(pool_, gemm_.isa()),
        sampling_(static_cast<std::size_t>(pool_.threads())) {}

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("cpu: {}, {} thread{}", gemm_.isa() == Isa::avx512 ? "AVX-512" : "AVX2",
                       pool_.threads(), pool_.threads() == 1 ? "" : "s");
  }
  DType activation_dtype() const override { return DType::f32; }
  BackendPreferences preferences() const override { return kPreferences; }
  LayerOps& layer() override { return *this; }
  RolloutOps& rollout() override { return *this; }
  TrainOps& train() override { return *this; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    return std::make_unique<CpuBuffer>(bytes);
  }
  std::unique_ptr<Weight> prepare(ConstTensorView host, WeightFormat format) override {
    return CpuWeight::prepare(host, format, pool_, gemm_.isa());
  }
  std::unique_ptr<Weight> prepare(const Nf4Tensor& host) override {
    return CpuWeight::prepare(host, pool_);
  }
  std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                           WeightFormat format) const override {
    return CpuWeight::packed_bytes(rows, cols, format);
  }
  void update(Weight& weight, ConstTensorView master) override {
    auto* own = dynamic_cast<CpuWeight*>(&weight);
    require(own != nullptr, "cpu: the weight to update belongs to another backend");
    own->update(master, pool_);
  }
  void unpack(std::span<float> out, const Weight& weight) override {
    cpu_weight(weight).unpack(out, pool_);
  }
  std::size_t workspace_bytes(const WorkspaceShape& shape) const override {
    // Attention: delta of every (token, head), heads of 8 or more; a tile a thread; rope's table.
    const std::int64_t tile =
        (5 * kKeyBlock + 2 * kKeyBlock + kTileRows) * kWorkspaceDim + 2 * kKeyBlock * kKeyBlock;
    const std::int64_t own =
        shape.tokens * shape.hidden / 8 + tile * pool_.threads() + shape.tokens * kWorkspaceDim;
    return static_cast<std::size_t>(own) * sizeof(float) +
           linear_workspace_bytes(shape.tokens, kWorkspaceRank, pool_.threads()) +
           head_workspace_bytes(shape.hidden, shape.vocab);
  }
  void convert(TensorView y, ConstTensorView x) override { cpu::copy(context_, y, x); }
  void upload(TensorView to, const void* from_host) override {
    if (to.bytes() > 0) std::memcpy(to.data, from_host, to.bytes());
  }
  void download(void* to_host, ConstTensorView from) override {
    if (from.bytes() > 0) std::memcpy(to_host, from.data, from.bytes());
  }
  void synchronize() override {}

 private:
  // LayerOps
  void embedding_forward(TensorView y, const Weight& table,
                         std::span<const std::int32_t> tokens) override {
    embedding_rows(y, cpu_weight(table), tokens, pool_);
  }
  void embedding_backward(TensorView dtable, ConstTensorView dy,
                          std::span<const std::int32_t> tokens) override {
    cpu::scatter_add_rows(context_, dtable, dy, tokens);
  }
  void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x, ConstTensorView weight,
                       float eps) override {
    cpu::rmsnorm_forward(context_, y, rstd, x, weight, eps);
  }
  void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy, ConstTensorView x,
                        ConstTensorView weight, ConstTensorView rstd) override {
    cpu::rmsnorm_backward(context_, dx, dweight, dy, x, weight, rstd);
  }
  void rope_forward(TensorView x, const RopeFrequencies& rope,
                    std::span<const std::int32_t> positions) override {
    cpu::rope(context_, x, rope, positions, 1.0f);
  }
  void rope_backward(TensorView dx, const RopeFrequencies& rope,
                     std::span<const std::int32_t> positions) override {
    cpu::rope(context_, dx, rope, positions, -1.0f);
  }
  void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                      std::span<const AdapterRun> runs, ConstTensorView residual) override {
    if (residual && residual.data != y.data) cpu::copy(context_, y, residual);
    cpu::linear_forward(gemm_, y, x, linear, runs, /*accumulate=*/static_cast<bool>(residual));
  }
  void linear_backward(TensorView dx, bool accumulate, const LinearGradients& gradients,
                       ConstTensorView dy, ConstTensorView x, const Linear& linear,
                       std::span<const AdapterRun> runs) override {
    cpu::linear_backward(gemm_, dx, accumulate, gradients, dy, x, linear, runs);
  }
  void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) override {
    cpu::swiglu_forward(context_, y, gate, up);
  }
  void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy, ConstTensorView gate,
                       ConstTensorView up) override {
    cpu::swiglu_backward(context_, dgate, dup, dy, gate, up);
  }
  void attention_forward(TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
                         ConstTensorView v, const AttentionShape& shape,
                         std::span<const Segment> segments) override {
    cpu::attention_forward(context_, o, lse, q, k, v, shape, segments);
  }
  void attention_backward(TensorView dq, TensorView dk, TensorView dv, ConstTensorView d_o,
                          ConstTensorView q, ConstTensorView k, ConstTensorView v,
                          ConstTensorView o, ConstTensorView lse, const AttentionShape& shape,
                          std::span<const Segment> segments) override {
    cpu::attention_backward(context_, dq, dk, dv, d_o, q, k, v, o, lse, shape, segments);
  }
  void add(TensorView y, ConstTensorView x) override { cpu::add(context_, y, x); }
  void copy(TensorView y, ConstTensorView x) override { cpu::copy(context_, y, x); }
  void zero(TensorView y) override { cpu::zero(context_, y); }
  void gather_rows(TensorView out, ConstTensorView x, std::span<const std::int32_t> rows) override {
    cpu::gather_rows(context_, out, x, rows);
  }
  void scatter_add_rows(TensorView x, ConstTensorView values,
                        std::span<const std::int32_t> rows) override {
    cpu::scatter_add_rows(context_, x, values, rows);
  }

  // RolloutOps
  void kv_write(const KvCacheLayer& cache, ConstTensorView k, ConstTensorView v,
                std::span<const std::int32_t> slots) override {
    cpu::kv_write(context_, cache, k, v, slots);
  }
  void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                     const RopeFrequencies& rope, std::span<const std::int32_t> positions,
                     std::span<const std::int32_t> slots) override {
    cpu::rope(context_, q, rope, positions, 1.0f);
    cpu::rope(context_, k, rope, positions, 1.0f);
    cpu::kv_write(context_, cache, k, v, slots);
  }
  void paged_attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                       std::int32_t block_size, const AttentionShape& shape,
                       std::span<const PagedSequence> sequences) override {
    cpu::paged_attention(context_, o, q, cache, block_size, shape, sequences);
  }
  void copy_blocks(const KvCacheLayer& cache,
                   std::span<const std::pair<std::int32_t, std::int32_t>> pairs) override {
    cpu::copy_blocks(cache, pairs);
  }
  void head_sample(std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                   std::span<const SampleRequest> requests) override {
    cpu::head_sample(gemm_, context_, sampling_, out, hidden, head, requests);
  }

  // TrainOps
  void head_logprob(std::span<HeadResult> out, ConstTensorView hidden, const Linear& head,
                    std::span<const HeadEntry> entries, float temperature) override {
    cpu::head_logprob(gemm_, out, hidden, head, entries, temperature);
  }
  void head_objective(std::span<HeadResult> out, std::span<TokenObjective<float>> token,
                      TensorView dhidden, TensorView dweight, ConstTensorView hidden,
                      const Linear& head, std::span<const HeadEntry> entries,
                      std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                      float temperature) override {
    cpu::head_objective(gemm_, out, token, dhidden, dweight, hidden, head, entries, terms, params,
                        temperature);
  }
  double sum_of_squares(ConstTensorView x) override {
    require(x.dtype == DType::f32, "sum_of_squares: x is {}, expected f32", dtype_name(x.dtype));
    const std::span<const float> all = floats(x);
    squares_.assign((all.size() + kSquareChunk - 1) / kSquareChunk, 0.0);
    constexpr std::size_t kGroup = 16;  // chunks a task
    const std::size_t tasks = (squares_.size() + kGroup - 1) / kGroup;
    pool_.parallel_for(static_cast<std::int64_t>(tasks), [&](std::int64_t t, int) {
      const std::size_t first = static_cast<std::size_t>(t) * kGroup;
      const std::size_t count = std::min(kGroup, squares_.size() - first);
      const std::size_t from = first * kSquareChunk;
      sum_of_squares_chunks(std::span(squares_).subspan(first, count),
                            all.subspan(from, std::min(count * kSquareChunk, all.size() - from)));
    });
    double sum = 0.0;
    for (const double chunk : squares_) sum += chunk;
    return sum;
  }
  void adamw_32bit(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                   const AdamWParams& params) override {
    check_optimizer(param, m, v, grad, DType::f32);
    for_parameters(param.elements(), [&](std::size_t i, std::size_t n) {
      cpu::adamw_32bit(elements<float>(param).subspan(i, n), elements<float>(m).subspan(i, n),
                       elements<float>(v).subspan(i, n), floats(grad).subspan(i, n), params);
    });
  }
  void adamw_8bit(TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                  TensorView absmax_v, ConstTensorView grad, const AdamWParams& params) override {
    check_optimizer(param, m, v, grad, DType::u8);
    const std::int64_t blocks = (param.elements() + kOptimizerBlock - 1) / kOptimizerBlock;
    require(absmax_m.elements() == blocks && absmax_v.elements() == blocks,
            "adamw_8bit: {} and {} block maxima for {} blocks", absmax_m.elements(),
            absmax_v.elements(), blocks);
    for_parameters(param.elements(), [&](std::size_t i, std::size_t n) {
      const std::size_t block = i / kOptimizerBlock;
      const std::size_t count = (n + kOptimizerBlock - 1) / kOptimizerBlock;
      const Adam8bitState state{elements<std::uint8_t>(m).subspan(i, n),
                                elements<std::uint8_t>(v).subspan(i, n),
                                elements<float>(absmax_m).subspan(block, count),
                                elements<float>(absmax_v).subspan(block, count)};
      cpu::adamw_8bit(elements<float>(param).subspan(i, n), state, floats(grad).subspan(i, n),
                      params);
    });
  }

  static void check_optimizer(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                              DType state) {
    require(param.dtype == DType::f32 && grad.dtype == DType::f32 && m.dtype == state &&
                v.dtype == state && grad.elements() == param.elements() &&
                m.elements() == param.elements() && v.elements() == param.elements(),
            "adamw: parameters {}, gradient {}, states {} {} and {} {} (expected {})",
            param.shape.str(), grad.shape.str(), dtype_name(m.dtype), m.shape.str(),
            dtype_name(v.dtype), v.shape.str(), dtype_name(state));
  }
  // body(first, count) over ranges that begin at multiples of the optimizer's blocks.
  template <typename Body>
  void for_parameters(std::int64_t n, Body&& body) {
    constexpr std::int64_t kRange = 128 * kOptimizerBlock;
    pool_.parallel_for((n + kRange - 1) / kRange, [&](std::int64_t t, int) {
      body(static_cast<std::size_t>(t * kRange),
           static_cast<std::size_t>(std::min(kRange, n - t * kRange)));
    });
  }

  ThreadPool pool_;
  GemmContext gemm_;
  LayerContext context_;
  std::vector<SampleScratch> sampling_;
  std::vector<double> squares_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace qgrpo::cpu
