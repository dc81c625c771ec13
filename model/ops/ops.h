#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/ops/batch.h"
#include "model/ops/nf4.h"
#include "model/ops/objective.h"
#include "model/ops/tensor.h"

// The operator interface. Each backend (cpu, cuda) implements it; the model, the engine and the
// trainer speak only this. Dimension names: T tokens of the packed batch, S sequences, H hidden,
// NH/NKV heads, D head size, F feed-forward, V vocabulary, R LoRA rank, N x K a linear's outputs x
// inputs.
//
// Views point into memory of the backend; activations have the backend's activation type (float32
// on the CPU, bf16 on a GPU, which takes views that begin at multiples of 16 bytes). Outputs come
// first, gradients have the prefix d. "=" overwrites, "+=" accumulates.
//
// Every row's forward result depends on that row's inputs (and its sequence's) alone: not on the
// other rows of the batch, nor the number of threads. On the CPU that holds bit for bit whatever
// the number of rows; a GPU backend may change kernels with it, and then its float32 sums differ
// in their rounding. Sums over tokens run in the order of the tokens.

namespace qgrpo {

// f32: the backend's most precise matrix operands (float32 on the CPU, rounded to bf16 on a GPU,
// whose master copies are kept elsewhere).
enum class WeightFormat : std::uint8_t { f32, bf16, nf4 };

// A matrix (N, K) as its backend keeps it: opaque, repacked at will, owned by whoever holds it.
class Weight {
 public:
  virtual ~Weight() = default;
  WeightFormat format() const { return format_; }
  std::int64_t rows() const { return rows_; }  // N
  std::int64_t cols() const { return cols_; }  // K
  std::size_t bytes() const { return bytes_; }

 protected:
  Weight(WeightFormat format, std::int64_t rows, std::int64_t cols)
      : format_(format), rows_(rows), cols_(cols) {}
  WeightFormat format_;
  std::int64_t rows_;
  std::int64_t cols_;
  std::size_t bytes_ = 0;
};

// Memory of a backend, freed with this object. Zeroed when made.
class Buffer {
 public:
  virtual ~Buffer() = default;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 protected:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// ---------------------------------------------------------------- linear

// One adapter of a linear: adds scale * B (A x). A: (R, K) f32, B: (N, R) f32, the masters; a GPU
// backend rounds each to bf16 where it uses it. Rank 0 (null views) adds nothing.
struct LoraFactors {
  ConstTensorView a;
  ConstTensorView b;
  float scale = 0.0f;
};

// y = W x + bias + scale_s B_s (A_s x), s = the adapter of the row's segment.
struct Linear {
  const Weight* weight = nullptr;
  ConstTensorView bias;                   // (N) f32 or null
  std::span<const LoraFactors> adapters;  // indexed by Segment::adapter
};

struct LoraGradients {
  TensorView da;  // (R, K) f32, +=; null = not trained
  TensorView db;  // (N, R) f32, +=
};

struct LinearGradients {
  std::span<const LoraGradients>
      adapters;        // indexed like Linear::adapters; shorter = the rest is not trained
  TensorView dweight;  // (N, K) f32, +=; null = frozen
  TensorView dbias;    // (N) f32, +=; null = frozen
};

// ---------------------------------------------------------------- attention

struct AttentionShape {
  std::int32_t heads = 0;     // NH query heads
  std::int32_t kv_heads = 0;  // NKV; NH is a multiple of it
  std::int32_t head_dim = 0;  // D
  // The softmax scale is 1 / sqrt(D).
};

// The online softmax goes through the keys in blocks of this many, counted from the prompt's start
// and anew from its end, in the rollout and in training alike: that is what makes the two bit-equal
// on the CPU.
inline constexpr int kAttentionKeyBlock = 64;

// One layer's paged cache. k, v: (blocks, block_size, NKV * D).
struct KvCacheLayer {
  TensorView k;
  TensorView v;
};

// ---------------------------------------------------------------- head

// One predicted token: the logits of hidden row `row` predict `target`. Several entries may name
// the same row (the prompt's last row predicts the first token of each completion); entries are
// sorted by row.
struct HeadEntry {
  std::int32_t row = 0;
  std::int32_t target = 0;
};

// What an entry contributes to the objective: loss = sum over entries of weight *
// token_objective(...).
struct ObjectiveEntry {
  float weight = 0.0f;
  float advantage = 0.0f;
  float old_logprob = 0.0f;        // ignored on-policy
  float reference_logprob = 0.0f;  // ignored when beta = 0
};

// Read back by the host: one a HeadEntry.
struct HeadResult {
  float logprob = 0.0f;  // log softmax(logits / temperature)[target]
  float entropy = 0.0f;  // of softmax(logits / temperature), nats
};

// ---------------------------------------------------------------- sampling

struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy (the lowest id among equal logits)
  float top_p = 1.0f;               // 1 = off
  std::int32_t top_k = 0;           // 0 = off
  float min_p = 0.0f;               // 0 = off
  float repetition_penalty = 1.0f;  // 1 = off
};

// One token to draw. The order is that of transformers: repetition penalty, temperature, top-k,
// top-p, min-p. The draw depends on (seed, step, prompt, sample, position) and the row's logits
// alone.
struct SampleRequest {
  std::int32_t row = 0;  // hidden row
  SamplingParams params;
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t prompt = 0;
  std::uint32_t sample = 0;
  std::uint32_t position = 0;
  std::span<const std::int32_t> seen;  // ids that the repetition penalty lowers; may repeat
};

struct SampledToken {
  std::int32_t token = 0;
  float logprob = 0.0f;  // log softmax(logits)[token]: temperature 1, what `generate` reports
  float policy_logprob = 0.0f;  // log softmax(logits / temperature)[token] (temperature 0: as 1):
                                // what the objective uses
  float sampled_logprob =
      0.0f;  // under the distribution really sampled, after penalties and truncation
};

// ---------------------------------------------------------------- optimizer

struct AdamWParams;  // model/ops/optimizer.h

// ---------------------------------------------------------------- the groups

// Forward/backward pairs of a layer.
class LayerOps {
 public:
  virtual ~LayerOps() = default;

  // y = table[token], (T, H). table: (V, H).
  virtual void embedding_forward(TensorView y, const Weight& table,
                                 std::span<const std::int32_t> tokens) = 0;
  // dtable[token] += dy, f32 (V, H).
  virtual void embedding_backward(TensorView dtable, ConstTensorView dy,
                                  std::span<const std::int32_t> tokens) = 0;

  // y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps). x, y: (T, H); weight (H) f32; rstd (T)
  // f32, =.
  virtual void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x,
                               ConstTensorView weight, float eps) = 0;
  // dx += ..., dweight += ... (null = frozen); from dy, x, weight, rstd.
  //   dx = rstd * (w dy - x_hat * mean(w dy * x_hat)), x_hat = x * rstd;  dweight = sum_t dy *
  //   x_hat
  virtual void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy,
                                ConstTensorView x, ConstTensorView weight,
                                ConstTensorView rstd) = 0;

  // Rotary embedding in place, half-split pairs (i, i + D/2) as in GPT-NeoX and Qwen2:
  //   x'_i = x_i cos - x_{i+D/2} sin,  x'_{i+D/2} = x_{i+D/2} cos + x_i sin,  angle = position *
  //   theta^(-2i/D).
  // x: (T, heads * D). Angles in double, their cosines and sines rounded to float32.
  virtual void rope_forward(TensorView x, std::int32_t head_dim, double theta,
                            std::span<const std::int32_t> positions) = 0;
  // The transposed rotation (angle -> -angle), in place on dx.
  virtual void rope_backward(TensorView dx, std::int32_t head_dim, double theta,
                             std::span<const std::int32_t> positions) = 0;

  // y = linear(x), (T, N) from (T, K); or y += linear(x) when `accumulate` (the residual stream).
  // Runs cover rows 0..T.
  virtual void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                              std::span<const AdapterRun> runs, bool accumulate = false) = 0;
  // dx = (or +=) W^T dy + scale A^T (B^T dy);  da += (scale B^T dy) x^T;  db += dy (scale A x)^T;
  // dweight += dy x^T;  dbias += sum_t dy.  dx may be null (not needed).
  virtual void linear_backward(TensorView dx, bool accumulate, const LinearGradients& gradients,
                               ConstTensorView dy, ConstTensorView x, const Linear& linear,
                               std::span<const AdapterRun> runs) = 0;

  // y = silu(gate) * up, silu(z) = z / (1 + exp(-z)). All (T, F). y may alias gate.
  virtual void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) = 0;
  // dgate =, dup =. dgate may alias gate or dy, dup may alias up.
  virtual void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy,
                               ConstTensorView gate, ConstTensorView up) = 0;

  // o = softmax(q k^T / sqrt(D)) v over the parent's tokens and, causally, the segment's own. q, o:
  // (T, NH * D); k, v: (T, NKV * D); lse (T, NH) f32, =: log-sum-exp of the scaled scores.
  virtual void attention_forward(TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
                                 ConstTensorView v, const AttentionShape& shape,
                                 std::span<const Segment> segments) = 0;
  // dq =, dk =, dv =. A parent's dk, dv sum over its own queries first, then over its children in
  // order.
  virtual void attention_backward(TensorView dq, TensorView dk, TensorView dv, ConstTensorView d_o,
                                  ConstTensorView q, ConstTensorView k, ConstTensorView v,
                                  ConstTensorView o, ConstTensorView lse,
                                  const AttentionShape& shape,
                                  std::span<const Segment> segments) = 0;

  // y += x.
  virtual void add(TensorView y, ConstTensorView x) = 0;
  // y = x (same shape and type; no overlap).
  virtual void copy(TensorView y, ConstTensorView x) = 0;
  // y = 0.
  virtual void zero(TensorView y) = 0;
  // out[i] = x[rows[i]] (rows of H).
  virtual void gather_rows(TensorView out, ConstTensorView x,
                           std::span<const std::int32_t> rows) = 0;
  // x[rows[i]] += out[i] in the order of i.
  virtual void scatter_add_rows(TensorView x, ConstTensorView values,
                                std::span<const std::int32_t> rows) = 0;
};

// Sampling's operators over the paged cache.
class RolloutOps {
 public:
  virtual ~RolloutOps() = default;

  // cache.k[slot[t]] = k[t], cache.v[slot[t]] = v[t]. k, v: (T, NKV * D).
  virtual void kv_write(const KvCacheLayer& cache, ConstTensorView k, ConstTensorView v,
                        std::span<const std::int32_t> slots) = 0;
  // o = attention of each sequence's rows over its context in the cache, causal. Bit-equal on the
  // CPU to attention_forward of the same tokens as prompt segment and child.
  virtual void paged_attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                               std::int32_t block_size, const AttentionShape& shape,
                               std::span<const PagedSequence> sequences) = 0;
  // Copies whole cache blocks (copy on write): pairs (from, to).
  virtual void copy_blocks(const KvCacheLayer& cache,
                           std::span<const std::pair<std::int32_t, std::int32_t>> pairs) = 0;

  // Draws one token a request from the head's logits of its hidden row. hidden: (S, H). Results on
  // the host when it returns.
  virtual void head_sample(std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                           std::span<const SampleRequest> requests) = 0;
};

// Training's operators.
class TrainOps {
 public:
  virtual ~TrainOps() = default;

  // The log-probs (and entropies) of the entries. hidden: (rows, H). In chunks of rows: the logits
  // never exist whole. Results on the host when it returns.
  virtual void head_logprob(std::span<HeadResult> out, ConstTensorView hidden, const Linear& head,
                            std::span<const HeadEntry> entries, float temperature) = 0;
  // The same, and the objective's gradient in the same pass over the logits (they are computed
  // once):
  //   dhidden = sum over the row's entries of d loss / d hidden  (rows without an entry: 0), (rows,
  //   H), = dweight += (V, H) f32, null = frozen head
  // token[i] receives the per-token objective before weighting.
  virtual void head_objective(std::span<HeadResult> out, std::span<TokenObjective<float>> token,
                              TensorView dhidden, TensorView dweight, ConstTensorView hidden,
                              const Linear& head, std::span<const HeadEntry> entries,
                              std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                              float temperature) = 0;

  // Sum of squares over all elements, in double, in a fixed order independent of threads.
  virtual double sum_of_squares(ConstTensorView x) = 0;
  // AdamW with float32 states: param, m, v updated in place. grad f32.
  virtual void adamw_32bit(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                           const AdamWParams& params) = 0;
  // AdamW with 8-bit block-wise states (blocks of 256): states u8, absmax f32 (one a block).
  virtual void adamw_8bit(TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                          TensorView absmax_v, ConstTensorView grad, const AdamWParams& params) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;         // "cpu"
  virtual std::string description() const = 0;  // "cpu: AVX-512, 2 threads"
  virtual DType activation_dtype() const = 0;

  virtual LayerOps& layer() = 0;
  virtual RolloutOps& rollout() = 0;
  virtual TrainOps& train() = 0;

  // Memory of `bytes`, zeroed. Throws Error when there is not enough.
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;

  // Bytes that allocate() can still give, for a backend with memory of its own; nothing for one
  // that takes the host's.
  virtual std::optional<std::size_t> free_bytes() const { return std::nullopt; }

  // Repacks a host matrix (N, K) of f32, f16 or bf16 into `format` (bf16: the values must be
  // representable or are rounded to nearest even). Values must be finite. nf4 quantizes as
  // nf4_quantize.
  virtual std::unique_ptr<Weight> prepare(ConstTensorView host, WeightFormat format) = 0;
  virtual std::unique_ptr<Weight> prepare(const Nf4Tensor& host) = 0;
  // Bytes that prepare will take, without doing it (for the memory plan).
  virtual std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                                   WeightFormat format) const = 0;
  // Replaces the values of an f32 weight from a master copy in this backend's memory
  // (full-parameter training).
  virtual void update(Weight& weight, ConstTensorView master) = 0;
  // out = the dequantized matrix, f32 (N, K), on the host.
  virtual void unpack(std::span<float> out, const Weight& weight) = 0;

  // Scratch bytes that the operators may use for batches of up to `tokens` rows of a model with
  // these sizes.
  virtual std::size_t workspace_bytes(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn,
                                      std::int64_t vocab) const = 0;

  virtual void upload(TensorView to, const void* from_host) = 0;
  // Asynchronous: valid on the host after synchronize().
  virtual void download(void* to_host, ConstTensorView from) = 0;
  virtual void synchronize() = 0;
};

}  // namespace qgrpo
