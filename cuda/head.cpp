#include "cuda/head.h"

#include "cuda/kernels/embedding.h"
#include "cuda/kernels/head.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

static_assert(sizeof(HeadResult) == sizeof(float2), "log-prob and entropy, as the kernels write");
static_assert(sizeof(ObjectiveEntry) == sizeof(float4), "weight, advantage, old, reference");
static_assert(sizeof(TokenObjective<float>) == 20, "as head_sizes::tokens_bytes counts");

void require_hidden(ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                    std::size_t results) {
  require(hidden.shape.rank() == 2 && hidden.shape[1] == head.weight->cols(),
          "head: hidden is {}, expected [rows, {}]", hidden.shape.str(), head.weight->cols());
  require(!head.bias, "head: a head with a bias is not supported on CUDA");
  require(head.weight->cols() % 8 == 0, "head: {} inputs; the CUDA backend takes a multiple of 8",
          head.weight->cols());
  require_entries(entries, results, hidden.shape[0], head.weight->rows());
}

// Entries from `begin` on and their distinct rows, on the host: gathered rows, where the entries of
// each begin (one more than rows), and targets, one after the other.
struct Chunk {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::int64_t rows = 0;
  std::vector<std::int32_t> lists;
};
Chunk next_chunk(std::span<const HeadEntry> entries, std::size_t begin) {
  Chunk chunk;
  chunk.begin = begin;
  std::vector<std::int32_t> first, targets;
  std::size_t e = begin;
  for (; e < entries.size(); ++e) {
    if (e == begin || entries[e - 1].row != entries[e].row) {
      if (chunk.rows == kHeadChunkRows) break;
      ++chunk.rows;
      chunk.lists.push_back(entries[e].row);
      first.push_back(static_cast<std::int32_t>(e - begin));
    }
    targets.push_back(entries[e].target);
  }
  chunk.end = e;
  first.push_back(static_cast<std::int32_t>(e - begin));
  chunk.lists.insert(chunk.lists.end(), first.begin(), first.end());
  chunk.lists.insert(chunk.lists.end(), targets.begin(), targets.end());
  return chunk;
}

// A chunk on the device: its hidden rows, their logits, and the lists.
struct DeviceChunk {
  const bf16* hidden;          // (rows, H)
  const std::int32_t* gather;  // (rows): hidden rows
  float* logits;               // (rows, V)
  kernels::HeadRows rows;
};

// What does not change from chunk to chunk.
struct Operands {
  const bf16* hidden;
  const bf16* weight;  // (V, H)
  std::int64_t width;
  std::int64_t vocab;
  float inverse;
  float2* results;  // one an entry of the call
};

Operands operands(Device& device, ConstTensorView hidden, const Linear& head, float inverse,
                  std::size_t entries) {
  const CudaWeight& weight = cuda_weight(*head.weight);
  Operands o;
  o.inverse = inverse;
  o.width = weight.cols();
  o.vocab = weight.rows();
  o.hidden = static_cast<const bf16*>(
      require_view("head", "hidden", hidden, DType::bf16, hidden.shape[0] * o.width));
  o.weight = weight.dense(device);
  o.results = device.scratch<float2>(Slot::results, static_cast<std::int64_t>(entries));
  return o;
}

DeviceChunk chunk_logits(Device& device, Gemm& gemm, DeviceArray<std::int32_t>& lists,
                         const Chunk& chunk, const Operands& o) {
  DeviceChunk out;
  out.gather = lists.upload(device, std::span<const std::int32_t>(chunk.lists));
  auto* gathered = device.scratch<bf16>(Slot::hidden, chunk.rows * o.width);
  out.hidden = gathered;
  out.logits = device.scratch<float>(Slot::logits, chunk.rows * o.vocab);
  out.rows.first = out.gather + chunk.rows;
  out.rows.targets = out.rows.first + chunk.rows + 1;
  out.rows.results = o.results + chunk.begin;
  out.rows.rows = chunk.rows;
  out.rows.vocab = o.vocab;
  out.rows.inverse_temperature = o.inverse;
  QGRPO_CUDA(
      kernels::gather_rows(device.handle(), gathered, o.hidden, out.gather, chunk.rows, o.width));
  gemm.run(out.logits, DType::f32, gathered, o.weight, chunk.rows, o.vocab, o.width);
  return out;
}

template <typename T>
void download(Device& device, std::span<T> to, const void* from) {
  if (to.empty()) return;
  QGRPO_CUDA(
      cudaMemcpyAsync(to.data(), from, to.size_bytes(), cudaMemcpyDeviceToHost, device.handle()));
}

}  // namespace

void Head::logprob(Device& device, Gemm& gemm, std::span<HeadResult> out, ConstTensorView hidden,
                   const Linear& head, std::span<const HeadEntry> entries, float temperature) {
  require_hidden(hidden, head, entries, out.size());
  const float inverse = inverse_temperature(temperature);
  if (entries.empty()) return;
  const Operands o = operands(device, hidden, head, inverse, entries.size());
  for (std::size_t next = 0; next < entries.size();) {
    const Chunk chunk = next_chunk(entries, next);
    const DeviceChunk c = chunk_logits(device, gemm, lists_, chunk, o);
    QGRPO_CUDA(kernels::head_logprob(device.handle(), c.rows, c.logits));
    next = chunk.end;
  }
  download(device, out, o.results);
  device.stream().synchronize();
}

void Head::objective(Device& device, Gemm& gemm, std::span<HeadResult> out,
                     std::span<TokenObjective<float>> token, TensorView dhidden, TensorView dweight,
                     ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                     std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                     float temperature) {
  require_hidden(hidden, head, entries, out.size());
  require_terms(entries, terms.size(), token.size());
  const std::int64_t width = head.weight->cols();
  const std::int64_t vocab = head.weight->rows();
  require_view("head", "dhidden", dhidden, DType::bf16, hidden.shape[0] * width);
  if (dweight) require_view("head", "dweight", dweight, DType::f32, vocab * width);
  const float inverse = inverse_temperature(temperature);
  const cudaStream_t stream = device.handle();
  if (dhidden.bytes() > 0) QGRPO_CUDA(cudaMemsetAsync(dhidden.data, 0, dhidden.bytes(), stream));
  if (entries.empty()) return;

  const Operands o = operands(device, hidden, head, inverse, entries.size());
  const auto count = static_cast<std::int64_t>(entries.size());
  const auto* term = reinterpret_cast<const float4*>(terms_.upload(device, terms));
  auto* tokens = device.scratch<TokenObjective<float>>(Slot::head_tokens, count);
  auto* at_target = device.scratch<float2>(Slot::head_targets, count);
  for (std::size_t next = 0; next < entries.size();) {
    const Chunk chunk = next_chunk(entries, next);
    const DeviceChunk c = chunk_logits(device, gemm, lists_, chunk, o);
    const kernels::HeadObjective objective{term + chunk.begin, tokens + chunk.begin,
                                           at_target + chunk.begin, params};
    QGRPO_CUDA(kernels::head_objective(stream, c.rows, objective, c.logits));
    // Rows of the gradient lie as far apart as the logits did.
    const auto* dlogits = reinterpret_cast<const bf16*>(c.logits);
    const std::int64_t stride = 2 * vocab;
    auto* gradient = device.scratch<bf16>(Slot::head_gradient, chunk.rows * width);
    gemm.run_nn(gradient, DType::bf16, dlogits, o.weight, chunk.rows, width, vocab,
                /*accumulate=*/false, stride);
    QGRPO_CUDA(kernels::scatter_rows(stream, static_cast<bf16*>(dhidden.data), gradient, c.gather,
                                     chunk.rows, width));
    if (dweight) {
      gemm.run_tn(dweight.f32(), dlogits, c.hidden, vocab, width, chunk.rows, /*accumulate=*/true,
                  stride);
    }
    next = chunk.end;
  }
  download(device, out, o.results);
  download(device, token, tokens);
  device.stream().synchronize();
}

}  // namespace qgrpo::cuda
