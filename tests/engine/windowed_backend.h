#pragma once

#include <memory>
#include <vector>

#include "cpu/backend.h"
#include "model/ops/error.h"
#include "model/ops/ops.h"

// The CPU backend with DecodeOps: each of its operators is one of RolloutOps or LayerOps over the
// state that a GPU would keep, padding rows included.
namespace qgrpo::test {

using namespace engine;

class CpuDecode final : public DecodeOps {
 public:
  explicit CpuDecode(Backend& backend) : backend_(&backend) {}

  // What was asked, over all windows.
  std::size_t windows = 0;
  std::size_t padded = 0;
  std::int32_t longest = 0;

  void begin(std::span<const DecodeSequence> sequences, std::int32_t window,
             std::int32_t block_size) override {
    require(rows_.empty(), "a window is already under way");
    block_size_ = block_size;
    window_ = window;
    for (const DecodeSequence& s : sequences) {
      Row row;
      row.sequence = s;
      row.seen.assign(s.request.seen.begin(), s.request.seen.end());
      rows_.push_back(row);
    }
    const auto padding = static_cast<std::size_t>(decode_rows(std::ssize(rows_))) - rows_.size();
    runs_.clear();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const std::int32_t adapter = rows_[i].sequence.adapter;
      if (runs_.empty() || runs_.back().adapter != adapter) {
        runs_.push_back({static_cast<std::int32_t>(i), 0, adapter});
      }
      ++runs_.back().length;
    }
    runs_.back().length += static_cast<std::int32_t>(padding);
    Row stopped;
    stopped.active = false;
    rows_.insert(rows_.end(), padding, stopped);
    sequences_ = sequences.size();
    ++windows;
    padded += padding;
    longest = std::max(longest, window);
  }
  std::int64_t rows() const override { return std::ssize(rows_); }
  std::span<const AdapterRun> runs() const override { return runs_; }

  void embedding(TensorView y, const Weight& table) override {
    std::vector<std::int32_t> tokens;
    for (const Row& row : rows_) tokens.push_back(row.sequence.token);
    backend_->layer().embedding_forward(y, table, tokens);
  }
  void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                     const RopeFrequencies& rope) override {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (!rows_[i].active) continue;
      const DecodeSequence& s = rows_[i].sequence;
      const std::int32_t position = s.position;
      const std::int32_t slot =
          s.block_table[static_cast<std::size_t>(position / block_size_)] * block_size_ +
          position % block_size_;
      backend_->rollout().rope_kv_write(cache, row_of(q, i), row_of(k, i), row_of(v, i), rope,
                                        {&position, 1}, {&slot, 1});
    }
  }
  void attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                 const AttentionShape& shape) override {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      backend_->layer().zero(row_of(o, i));
      if (!rows_[i].active) continue;
      const DecodeSequence& s = rows_[i].sequence;
      PagedSequence paged;
      paged.query_length = 1;
      paged.context_length = s.position + 1;
      paged.prompt_length = s.prompt_length;
      paged.block_table = s.block_table;
      backend_->rollout().paged_attention(row_of(o, i), row_of(q, i), cache, block_size_, shape,
                                          {&paged, 1});
    }
  }
  void sample(ConstTensorView hidden, const Linear& head) override {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      Row& row = rows_[i];
      if (!row.active) continue;
      SampleRequest request = row.sequence.request;
      request.row = static_cast<std::int32_t>(i);
      request.seen = row.seen;
      SampledToken token;
      backend_->rollout().head_sample({&token, 1}, hidden, head, {&request, 1});
      DecodeSequence& s = row.sequence;
      row.drawn.push_back(token);
      row.seen.push_back(token.token);
      s.token = token.token;
      ++s.position;
      ++s.request.position;
      --s.remaining;
      const bool eos =
          std::find(s.eos_ids.begin(), s.eos_ids.end(), token.token) != s.eos_ids.end();
      row.active = !eos && s.remaining > 0;
    }
  }

  void run(std::uint64_t, const std::function<void()>& step) override {
    for (std::int32_t i = 0; i < window_; ++i) step();
  }
  std::vector<std::vector<SampledToken>> finish() override {
    std::vector<std::vector<SampledToken>> out;
    for (std::size_t i = 0; i < sequences_; ++i) out.push_back(rows_[i].drawn);
    rows_.clear();
    return out;
  }

 private:
  static TensorView row_of(TensorView x, std::size_t i) {
    return x.rows(static_cast<std::int64_t>(i), 1);
  }
  static ConstTensorView row_of(ConstTensorView x, std::size_t i) {
    return row_of(TensorView{const_cast<void*>(x.data), x.dtype, x.shape}, i);
  }

  struct Row {
    DecodeSequence sequence;
    bool active = true;
    std::vector<std::int32_t> seen;
    std::vector<SampledToken> drawn;
  };
  Backend* backend_;
  std::int32_t block_size_ = 0;
  std::int32_t window_ = 0;
  std::size_t sequences_ = 0;
  std::vector<Row> rows_;
  std::vector<AdapterRun> runs_;
};

class WindowedBackend final : public Backend {
 public:
  WindowedBackend() : cpu_(cpu::make_cpu_backend(1)), decode_(*cpu_) {}
  CpuDecode& windows() { return decode_; }

  std::string name() const override { return cpu_->name(); }
  std::string description() const override { return cpu_->description(); }
  LayerOps& layer() override { return cpu_->layer(); }
  RolloutOps& rollout() override { return cpu_->rollout(); }
  TrainOps& train() override { return cpu_->train(); }
  DecodeOps* decode() override { return &decode_; }
  DType activation_dtype() const override { return cpu_->activation_dtype(); }
  BackendPreferences preferences() const override { return cpu_->preferences(); }
  std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                           WeightFormat format) const override {
    return cpu_->weight_bytes(rows, cols, format);
  }
  std::size_t workspace_bytes(const WorkspaceShape& shape) const override {
    return cpu_->workspace_bytes(shape);
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override { return cpu_->allocate(bytes); }
  std::unique_ptr<Weight> prepare(ConstTensorView host, WeightFormat format) override {
    return cpu_->prepare(host, format);
  }
  std::unique_ptr<Weight> prepare(const Nf4Tensor& host) override { return cpu_->prepare(host); }
  void update(Weight& weight, ConstTensorView master) override { cpu_->update(weight, master); }
  void unpack(std::span<float> out, const Weight& weight) override { cpu_->unpack(out, weight); }
  void convert(TensorView y, ConstTensorView x) override { cpu_->convert(y, x); }
  void upload(TensorView to, const void* from_host) override { cpu_->upload(to, from_host); }
  void download(void* to_host, ConstTensorView from) override { cpu_->download(to_host, from); }
  void synchronize() override { cpu_->synchronize(); }

 private:
  std::unique_ptr<Backend> cpu_;
  CpuDecode decode_;
};

}  // namespace qgrpo::test
