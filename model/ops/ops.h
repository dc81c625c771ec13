#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/batch.h"
#include "model/ops/decode.h"
#include "model/ops/head.h"
#include "model/ops/kv_cache.h"
#include "model/ops/linear.h"
#include "model/ops/memory.h"
#include "model/ops/nf4.h"
#include "model/ops/objective.h"
#include "model/ops/rope.h"
#include "model/ops/sampling.h"
#include "model/ops/tensor.h"
#include "model/ops/weight.h"

// The operator interface. Each backend (cpu, cuda) implements it; the model, the engine and the
// trainer speak only this. What an operator takes beside views, and the checks of it that every
// backend makes, is in the header of its name (linear.h, attention.h, head.h, sampling.h ...).
// Dimension names: T tokens of the packed batch, S sequences, H hidden,
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

struct AdamWParams;  // model/ops/adamw.h

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

  //   rstd = 1 / sqrt(mean(x^2) + eps)
  //   y    = x * rstd * weight
  // x, y: (T, H); weight (H) f32; rstd (T) f32, =. T is rstd's number of elements: the heads of
  // packed queries or keys are rows, too.
  virtual void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x,
                               ConstTensorView weight, float eps) = 0;
  // With x_hat = x * rstd:
  //   dx      += rstd * (w dy - x_hat * mean(w dy * x_hat))
  //   dweight += sum over t of dy * x_hat          (null = frozen)
  virtual void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy,
                                ConstTensorView x, ConstTensorView weight,
                                ConstTensorView rstd) = 0;

  // Rotary embedding in place, half-split pairs (i, i + D/2) as in GPT-NeoX and transformers:
  //   c, s       = scale * cos(angle), scale * sin(angle), angle = position * per_pair[i]
  //   x'_i       = x_i c - x_{i+D/2} s
  //   x'_{i+D/2} = x_{i+D/2} c + x_i s
  // x: (T, heads * D). c and s in double, rounded to float32.
  virtual void rope_forward(TensorView x, const RopeFrequencies& rope,
                            std::span<const std::int32_t> positions) = 0;
  // The transposed map (s -> -s), in place on dx.
  virtual void rope_backward(TensorView dx, const RopeFrequencies& rope,
                             std::span<const std::int32_t> positions) = 0;

  // y = linear(x), (T, N) from (T, K); or y = residual + linear(x), residual (T, N) or null, may be
  // y. Runs cover rows 0..T.
  virtual void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                              std::span<const AdapterRun> runs, ConstTensorView residual = {}) = 0;
  // y[i] = linears[i](x): products of one input (q, k and v), which a GPU computes in one launch
  // where the rows are few. The values are those of linear_forward.
  virtual void linear_forward_group(std::span<const TensorView> y, ConstTensorView x,
                                    std::span<const Linear> linears,
                                    std::span<const AdapterRun> runs) {
    for (std::size_t i = 0; i < y.size(); ++i) linear_forward(y[i], x, linears[i], runs);
  }
  // act = silu(gate(x)) * up(x), (T, F): the values of linear_forward and swiglu_forward. `gate`
  // and `up` are scratch, and hold their products afterwards only when `keep`. act may alias gate
  // unless `keep`.
  virtual void swiglu_linear_forward(TensorView act, TensorView gate, TensorView up,
                                     ConstTensorView x, const Linear& gate_linear,
                                     const Linear& up_linear, std::span<const AdapterRun> runs,
                                     [[maybe_unused]] bool keep) {
    linear_forward(gate, x, gate_linear, runs);
    linear_forward(up, x, up_linear, runs);
    swiglu_forward(act, gate, up);
  }
  //   dx (=|+=) W^T dy + scale A^T (B^T dy)          dx may be null (not needed)
  //   da      += (scale B^T dy) x^T
  //   db      += dy (scale A x)^T
  //   dweight += dy x^T
  //   dbias   += sum over t of dy
  virtual void linear_backward(TensorView dx, bool accumulate, const LinearGradients& gradients,
                               ConstTensorView dy, ConstTensorView x, const Linear& linear,
                               std::span<const AdapterRun> runs) = 0;

  // y = silu(gate) * up, silu(z) = z / (1 + exp(-z)). All (T, F). y may alias gate.
  virtual void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) = 0;
  // dgate =, dup =. dgate may alias gate or dy, dup may alias up.
  virtual void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy,
                               ConstTensorView gate, ConstTensorView up) = 0;

  // Over the parent's tokens and, causally, the segment's own:
  //   s   = q k^T / sqrt(D)
  //   o   = softmax(s) v
  //   lse = log sum exp s
  // q, o: (T, NH * D); k, v: (T, NKV * D); lse (T, NH) f32. o and lse: =.
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
  // rope_forward of q and k in place, then kv_write of k and v: the same values, in one pass on a
  // GPU. q: (T, NH * D).
  virtual void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k,
                             ConstTensorView v, const RopeFrequencies& rope,
                             std::span<const std::int32_t> positions,
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
  //   dhidden  = sum over the row's entries of d loss / d hidden, (rows, H); rows without one: 0
  //   dweight += d loss / d weight, (V, H) f32; null = frozen head
  // token[i] receives the per-token objective before weighting.
  virtual void head_objective(std::span<HeadResult> out, std::span<TokenObjective<float>> token,
                              TensorView dhidden, TensorView dweight, ConstTensorView hidden,
                              const Linear& head, std::span<const HeadEntry> entries,
                              std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                              float temperature) = 0;

  // Sum of squares over all elements of an f32 tensor, in double, in a fixed order independent of
  // threads.
  virtual double sum_of_squares(ConstTensorView x) = 0;
  // The sum over tensors of sum_of_squares, in their order; a GPU waits once for all of them.
  virtual double sum_of_squares_all(std::span<const ConstTensorView> tensors) {
    double sum = 0.0;
    for (const ConstTensorView& x : tensors) sum += sum_of_squares(x);
    return sum;
  }
  // AdamW with float32 states: param, m, v updated in place. grad f32.
  virtual void adamw_32bit(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                           const AdamWParams& params) = 0;
  // AdamW with 8-bit block-wise states (blocks of 256): states u8, absmax f32 (one a block).
  virtual void adamw_8bit(TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                          TensorView absmax_v, ConstTensorView grad, const AdamWParams& params) = 0;
};

class Backend : public BackendSizes {
 public:
  virtual std::string name() const = 0;         // "cpu"
  virtual std::string description() const = 0;  // "cpu: AVX-512, 2 threads"

  virtual LayerOps& layer() = 0;
  virtual RolloutOps& rollout() = 0;
  virtual TrainOps& train() = 0;
  // Decoding without the host in between, where the backend has it: then every decode row goes
  // through it, and the other operators see prompts and training batches alone.
  virtual DecodeOps* decode() { return nullptr; }

  // Takes the planned memory for weights (bytes, the sum of weight_bytes) and for scratch now;
  // afterwards prepare() and the operators allocate nothing of their own within it. For a backend
  // with memory of its own; else does nothing. Call before the first prepare().
  virtual void reserve([[maybe_unused]] std::size_t weights,
                       [[maybe_unused]] const WorkspaceShape& shape) {}

  // Room on the host for `slots` tensors of up to `bytes` each that leave the device for a while;
  // null for a backend that computes in the host's memory.
  virtual std::unique_ptr<HostStore> make_host_store([[maybe_unused]] std::int64_t slots,
                                                     [[maybe_unused]] std::size_t bytes) {
    return nullptr;
  }

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
  // Replaces the values of an f32 weight from a master copy in this backend's memory
  // (full-parameter training).
  virtual void update(Weight& weight, ConstTensorView master) = 0;
  // out = the dequantized matrix, f32 (N, K), on the host.
  virtual void unpack(std::span<float> out, const Weight& weight) = 0;

  // y = x rounded to y's type, bf16 from f32 (a shadow from its master). On the device, in the
  // order of the operators.
  virtual void convert(TensorView y, ConstTensorView x) = 0;
  virtual void upload(TensorView to, const void* from_host) = 0;
  // Asynchronous: valid on the host after synchronize().
  virtual void download(void* to_host, ConstTensorView from) = 0;
  virtual void synchronize() = 0;
};

}  // namespace qgrpo
