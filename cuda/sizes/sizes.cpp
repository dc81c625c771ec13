#include "cuda/sizes/sizes.h"

#include <algorithm>

#include "cuda/sizes/attention.h"
#include "cuda/sizes/backward.h"
#include "cuda/sizes/decode.h"
#include "cuda/sizes/head.h"
#include "cuda/sizes/linear.h"
#include "cuda/sizes/paged_attention.h"
#include "cuda/sizes/weight.h"
#include "model/ops/decode.h"

namespace qgrpo::cuda {
namespace {

// Devices have at most so many multiprocessors; what is split by their number is planned for any.
constexpr std::int64_t kMostProcessors = 192;

struct MatrixShape {
  std::int64_t n = 0;  // outputs
  std::int64_t k = 0;  // inputs
};

// The matrices of a block, in the order of the projections.
std::array<MatrixShape, 7> block_matrices(const WorkspaceShape& s) {
  const std::int64_t q = std::int64_t{s.attention.heads} * s.attention.head_dim;
  const std::int64_t kv = std::int64_t{s.attention.kv_heads} * s.attention.head_dim;
  return {{{q, s.hidden},
           {kv, s.hidden},
           {kv, s.hidden},
           {s.hidden, q},
           {s.ffn, s.hidden},
           {s.ffn, s.hidden},
           {s.hidden, s.ffn}}};
}

// The dequantized matrices of a block: the policy and the reference, and the recomputation and the
// backward pass, use them one after the other.
std::size_t dense_cache_bytes(const WorkspaceShape& s) {
  std::size_t bytes = 0;
  for (const MatrixShape& m : block_matrices(s)) {
    bytes += aligned_bytes(static_cast<std::size_t>(dense_weight_elements(m.n, m.k)) * 2);
  }
  return bytes;
}

// The slots' sizes, filled in by part.
class Slots {
 public:
  explicit Slots(const WorkspaceShape& shape) : s_(shape), matrices_(block_matrices(shape)) {
    for (const MatrixShape& m : matrices_) {
      widest_n_ = std::max(widest_n_, m.n);
      widest_k_ = std::max(widest_k_, m.k);
    }
    for (const std::int64_t rank : shape.lora_ranks) {
      lora_rank_ = std::max(lora_rank_, rank);
      pads_lora_ = pads_lora_ || padded_rank(rank) != rank;
    }
    loading();
    linear();
    if (s_.decode_rows > 0) rollout();
    head();
    rows();
    attention();
    if (s_.training) training();
  }
  const SlotBytes& bytes() const { return bytes_; }

 private:
  void need(Slot slot, std::size_t bytes) {
    std::size_t& most = bytes_[static_cast<std::size_t>(slot)];
    most = std::max(most, bytes);
  }
  void need_floats(Slot slot, std::int64_t n) { need(slot, static_cast<std::size_t>(n) * 4); }
  void need_halves(Slot slot, std::int64_t n) { need(slot, static_cast<std::size_t>(n) * 2); }
  void need_ints(Slot slot, std::int64_t n) { need_floats(slot, n); }

  void loading();
  void linear();
  void few_rows();
  void rollout();
  void head();
  void rows();
  void attention();
  void training();

  const WorkspaceShape& s_;
  std::array<MatrixShape, 7> matrices_;
  std::int64_t widest_n_ = 0;
  std::int64_t widest_k_ = 0;
  std::int64_t lora_rank_ = 0;  // the largest; 0 = no adapter
  bool pads_lora_ = false;      // some rank is not as kernels need it
  SlotBytes bytes_{};
};

// While the model is read: matrices are quantized in pieces.
void Slots::loading() {
  if (s_.linears != WeightFormat::nf4) return;
  std::int64_t largest = 0;
  for (const MatrixShape& m : matrices_) largest = std::max(largest, m.n * m.k);
  need(Slot::weight, quantize_chunk_bytes(largest, sizeof(float)));
  need_floats(Slot::sums, quantize_absmax_elements(largest));
}

void Slots::linear() {
  need(Slot::gemm, kGemmWorkspaceBytes);
  if (s_.linears == WeightFormat::nf4) need(Slot::weight, dense_cache_bytes(s_));
  need_floats(Slot::sums, linear_sums_elements(s_.tokens, widest_n_));
  need_floats(Slot::low_sums, linear_low_elements(s_.tokens, lora_rank_));
  need_halves(Slot::low, linear_low_elements(s_.tokens, lora_rank_));
}

// Products of a decode step; the logits are another (few_row_logits).
void Slots::few_rows() {
  const std::int64_t rows = decode_rows(s_.decode_rows);
  need(Slot::split_counters, split_counters_bytes());
  need_halves(Slot::low, few_rows_low_elements(lora_rank_, rows));
  // Adapters have shadows; B is copied only where its rows have to be padded.
  if (pads_lora_) need_halves(Slot::low_b, few_rows_factor_elements(widest_n_, lora_rank_));
  const bool nf4 = s_.linears == WeightFormat::nf4;
  for (std::int64_t processors = 1; processors <= kMostProcessors; ++processors) {
    const auto sums = [&](MatrixShape m, bool quantized) {
      return split_sums_elements(m.n, m.k, quantized, rows, processors);
    };
    // The launches: q, k and v; o; gate and up; down; the head.
    std::int64_t most = sums(matrices_[0], nf4) + sums(matrices_[1], nf4) + sums(matrices_[2], nf4);
    most = std::max(most, sums(matrices_[3], nf4));
    most = std::max(most, sums(matrices_[4], nf4) + sums(matrices_[5], nf4));
    most = std::max(most, sums(matrices_[6], nf4));
    most = std::max(most, sums({s_.vocab, s_.hidden}, false));
    for (const MatrixShape& m : matrices_) {
      most = std::max(most, few_rows_low_sums_elements(lora_rank_, m.k, rows, processors));
    }
    need_floats(Slot::split_sums, most);
  }
}

void Slots::rollout() {
  few_rows();
  const std::int64_t rows = decode_rows(s_.decode_rows);
  const std::int64_t context = decode_context(s_.max_context);
  need(Slot::attention_parts, decode_parts_bytes(rows, s_.attention, context));
  need(Slot::attention_states, decode_states_bytes(rows, s_.attention, context));
  need(Slot::attention_counters, decode_counters_bytes(rows, s_.attention));
  need(Slot::paged_tiles, paged_tiles_bytes(s_.tokens));
  need(Slot::paged_tables, paged_tables_bytes(s_.decode_rows, s_.max_context, s_.block_size));
  need(Slot::paged_rows, paged_rows_bytes(s_.decode_rows, s_.max_context, s_.block_size));
  need(Slot::cache_slots, token_index_bytes(s_.tokens));
  need(Slot::cache_positions, token_index_bytes(s_.tokens));
  need(Slot::cache_pairs, cache_pairs_bytes(s_.decode_rows));
  need(Slot::decode_state,
       decode_state_bytes(rows, s_.decode_window, s_.max_context, s_.block_size));
  need(Slot::decode_seen, decode_seen_bytes(rows, s_.vocab));
  need(Slot::logits, decode_logits_bytes(rows, s_.vocab));
  // Of prompts' last rows: a request for each completion.
  const std::int64_t requests = std::min(s_.decode_rows, kSampleChunkRequests);
  need(Slot::hidden, head_sizes::sample_gathered_bytes(s_.decode_rows, s_.hidden));
  need(Slot::logits, head_sizes::sample_logits_bytes(s_.decode_rows, s_.vocab));
  need(Slot::sampling_gather, head_sizes::sample_gather_bytes(s_.decode_rows));
  need(Slot::sampling_parts, head_sizes::sampling_parts_bytes(std::max(rows, requests), s_.vocab));
  need(Slot::sampling_state, head_sizes::sampling_state_bytes(requests));
  need(Slot::sampling_seen, head_sizes::sampling_seen_bytes(requests, s_.vocab));
}

void Slots::head() {
  const std::int64_t entries = s_.head_rows;
  need(Slot::hidden, head_sizes::gathered_bytes(s_.head_rows, s_.hidden));
  need(Slot::logits, head_sizes::logits_bytes(s_.head_rows, s_.vocab));
  need(Slot::head_lists, head_sizes::lists_bytes(s_.head_rows, entries));
  need(Slot::results, head_sizes::results_bytes(entries));
  if (!s_.training) return;
  need(Slot::head_gradient, head_sizes::gradient_bytes(s_.head_rows, s_.hidden));
  need(Slot::head_terms, head_sizes::terms_bytes(entries));
  need(Slot::head_tokens, head_sizes::tokens_bytes(entries));
  need(Slot::head_targets, head_sizes::targets_bytes(entries));
}

void Slots::rows() {
  need_ints(Slot::tokens, s_.tokens);
  need_ints(Slot::gather, std::max(s_.tokens, s_.head_rows));
  need(Slot::rope_positions, token_index_bytes(s_.tokens));
  need(Slot::rope_table, rope_table_bytes(decode_context(s_.max_context), s_.attention.head_dim));
}

void Slots::attention() {
  need(Slot::attention_tiles, attention_tiles_bytes(s_.tokens));
}

void Slots::training() {
  const AttentionShape& shape = s_.attention;
  need(Slot::attention_steps, attention_steps_bytes(s_.tokens));
  need(Slot::attention_tasks, attention_tasks_bytes(s_.tokens, shape));
  need(Slot::attention_split, attention_split_bytes(s_.tokens, shape));
  need(Slot::attention_statistics, attention_statistics_bytes(s_.tokens, shape));
  need(Slot::attention_partial,
       attention_partial_bytes(attention_max_slots(s_.tokens, shape), shape));
  const LinearBackwardSizes linear_sizes{s_.tokens, widest_n_, widest_k_, lora_rank_};
  need(Slot::low_sums, linear_sizes.low_sums());
  need(Slot::low, linear_sizes.low());
  need(Slot::low_x, linear_sizes.low_x());
  // Only a model whose matrices are all f32 can be trained whole: then embeddings, biases and norms
  // have gradients too.
  const bool whole = s_.linears == WeightFormat::f32;
  const std::int64_t scattered = whole ? std::max(s_.tokens, s_.head_rows) : s_.head_rows;
  need(Slot::scatter_rows, scatter_bytes(scattered));
  need(Slot::scatter_first, scatter_bytes(scattered));
  need(Slot::scatter_index, scatter_bytes(scattered));
  if (whole) need(Slot::partials, partial_sums_bytes(s_.tokens, std::max(widest_n_, s_.hidden)));
  need(Slot::squares, most_squares_bytes(s_.trained_elements, s_.trained_tensors));
  need(Slot::squares_table, squares_table_bytes(s_.trained_tensors));
}

}  // namespace

std::size_t weight_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  if (format == WeightFormat::nf4) return Nf4Layout(rows, cols).bytes;
  return aligned_bytes(static_cast<std::size_t>(rows * cols) * 2);
}

SlotBytes slot_bytes(const WorkspaceShape& shape) {
  return Slots(shape).bytes();
}

std::vector<NamedBytes> CudaSizes::workspace_parts(const WorkspaceShape& shape) const {
  const SlotBytes slots = slot_bytes(shape);
  std::vector<NamedBytes> out;
  for (std::size_t i = 0; i < kSlots; ++i) {
    out.push_back({std::string(kSlotTexts[i].meaning), slots[i]});
  }
  return out;
}

std::size_t CudaSizes::pinned_bytes(const WorkspaceShape& shape) const {
  if (shape.decode_rows == 0) return 0;
  const std::int64_t rows = decode_rows(shape.decode_rows);
  return decode_state_bytes(rows, shape.decode_window, shape.max_context, shape.block_size) +
         decode_seen_bytes(rows, shape.vocab);
}

std::unique_ptr<BackendSizes> make_cuda_sizes() {
  return std::make_unique<CudaSizes>();
}

}  // namespace qgrpo::cuda
