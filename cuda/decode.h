#pragma once

#include <memory>
#include <vector>

#include "cuda/kv_cache.h"
#include "cuda/paged_attention.h"
#include "cuda/rope.h"
#include "cuda/sampling.h"
#include "cuda/sizes/decode.h"

namespace qgrpo::cuda {

// Page-locked memory of the host, which the device copies without the host's help. Not initialised.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  // At least `bytes`; what was in it is lost when it has to grow. Nothing may be using it.
  std::byte* get(std::size_t bytes);

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A step of decoding as a CUDA graph, and all that its launches have fixed.
struct DecodeGraph {
  struct Key {
    std::uint64_t step = 0;  // DecodeOps::run
    std::int64_t rows = 0;
    std::int64_t max_context = 0;
    std::int64_t window = 0;
    std::int32_t block_size = 0;
    bool penalty = false;
    std::uint64_t runs = 0;        // a hash of the adapter runs
    std::uint64_t generation = 0;  // Device::scratch_generation
    bool operator==(const Key&) const = default;
  };
  Key key;
  cudaGraphExec_t exec = nullptr;
  std::uint64_t last_used = 0;
  // What has to be on the device before it runs.
  std::int64_t vocab = 0;
  RopeFrequencies frequencies;

  DecodeGraph() = default;
  DecodeGraph(DecodeGraph&& other) noexcept;
  DecodeGraph& operator=(DecodeGraph&& other) noexcept;
  ~DecodeGraph();
};

// DecodeOps on the device. begin() uploads the window's state in one copy from pinned memory (and
// the seen ids where there is a repetition penalty); a step reads and changes it there; finish()
// brings the results back in one copy and waits once.
//
// The first window of a kind (DecodeGraph::Key) runs its first step as launches, by which scratch
// gets its size, records the step once and replays it for the rest of the window; later windows of
// that kind only replay. The host waits for nothing in between. QGRPO_CUDA_GRAPHS=0 in the
// environment: every step as launches, with the same bits.
class Decode final : public DecodeOps {
 public:
  Decode(Device& device, Rope& rope);
  ~Decode() override;
  Decode(const Decode&) = delete;
  Decode& operator=(const Decode&) = delete;

  void begin(std::span<const DecodeSequence> sequences, std::int32_t window,
             std::int32_t block_size) override;
  std::int64_t rows() const override { return rows_; }
  std::span<const AdapterRun> runs() const override { return runs_; }

  void embedding(TensorView y, const Weight& table) override;
  void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                     const RopeFrequencies& frequencies) override;
  void attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                 const AttentionShape& shape) override;
  void sample(ConstTensorView hidden, const Linear& head) override;

  void run(std::uint64_t key, const std::function<void()>& step) override;
  std::vector<std::vector<SampledToken>> finish() override;

  // Takes the pinned memory for windows within the shape now.
  void reserve(const WorkspaceShape& shape);
  // Steps that were recorded, and replayed, since the beginning.
  std::uint64_t recorded() const { return recorded_; }
  std::uint64_t replayed() const { return replayed_; }

 private:
  void require_begun(const char* what) const;
  void fill_state(std::span<const DecodeSequence> sequences);
  void prepare_seen(std::int64_t vocab);
  void run_window(std::uint64_t key, const std::function<void()>& step);
  DecodeGraph::Key graph_key(std::uint64_t step) const;
  DecodeGraph* find_graph(std::uint64_t step);
  DecodeGraph& record(std::uint64_t step, const std::function<void()>& run);
  void end() noexcept;
  template <typename T>
  T* on_device(std::size_t offset) const {
    return reinterpret_cast<T*>(state_ + offset);
  }
  DecodeRows decode_rows_view() const;

  Device& device_;
  Rope& rope_;
  bool use_graphs_ = true;
  cudaEvent_t finished_ = nullptr;

  // The window under way.
  bool begun_ = false;
  std::size_t sequences_ = 0;
  std::int64_t rows_ = 0;
  std::int32_t window_ = 0;
  std::int64_t stride_ = 0;  // results a row
  std::int32_t block_size_ = 0;
  std::int64_t max_blocks_ = 0;
  std::int64_t max_context_ = 0;
  bool penalty_ = false;
  std::vector<AdapterRun> runs_;
  std::vector<std::vector<std::int32_t>> seen_ids_;  // (rows), where there is a penalty
  std::int64_t seen_vocab_ = 0;                      // of the ids on the device; 0 = not yet there
  DecodeLayout layout_;
  std::byte* state_ = nullptr;        // on the device
  std::byte* host_ = nullptr;         // its pinned image
  std::uint32_t* seen_ = nullptr;     // on the device
  std::int64_t last_vocab_ = 0;       // of the last call of sample() ...
  RopeFrequencies last_frequencies_;  // ... and of rope_kv_write()

  PinnedMemory pinned_state_;
  PinnedMemory pinned_seen_;
  std::vector<DecodeGraph> graphs_;
  std::uint64_t clock_ = 0;
  std::uint64_t recorded_ = 0;
  std::uint64_t replayed_ = 0;
};

}  // namespace qgrpo::cuda
