#include "cpu/head.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

// Up to kHeadRows rows that have entries: hidden row row[i] has the entries [first[i],
// first[i + 1]).
struct RowChunk {
  std::int64_t count = 0;
  std::int32_t row[kHeadRows];
  std::size_t first[kHeadRows + 1];
};

// The chunk that begins at `entry`, which moves to the first entry after it.
RowChunk next_chunk(std::span<const HeadEntry> entries, std::size_t& entry) {
  RowChunk chunk;
  while (entry < entries.size() && chunk.count < kHeadRows) {
    const std::int32_t row = entries[entry].row;
    chunk.row[chunk.count] = row;
    chunk.first[chunk.count] = entry;
    ++chunk.count;
    while (entry < entries.size() && entries[entry].row == row) ++entry;
  }
  chunk.first[chunk.count] = entry;
  return chunk;
}

void require_hidden(ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                    std::size_t results) {
  require(hidden.dtype == DType::f32 && hidden.shape.rank() == 2 &&
              hidden.shape[1] == head.weight->cols(),
          "head: hidden is {} {}, expected f32 [rows, {}]", dtype_name(hidden.dtype),
          hidden.shape.str(), head.weight->cols());
  require_entries(entries, results, hidden.shape[0], head.weight->rows());
}

// Gathers the chunk's hidden rows and computes their logits.
struct ChunkLogits {
  float* hidden;  // (count, H)
  float* logits;  // (count, V)
};
ChunkLogits chunk_logits(GemmContext& context, const RowChunk& chunk, ConstTensorView hidden,
                         const Linear& head) {
  const std::int64_t width = head.weight->cols();
  const std::int64_t vocab = head.weight->rows();
  // Sized for whole chunks at once, so that a longer chunk later on does not grow them.
  const ChunkLogits out{context.scratch(GemmContext::Slot::hidden, kHeadRows * width),
                        context.scratch(GemmContext::Slot::logits, kHeadRows * vocab)};
  for (std::int64_t i = 0; i < chunk.count; ++i) {
    std::memcpy(out.hidden + i * width, hidden.f32() + chunk.row[i] * width,
                static_cast<std::size_t>(width) * sizeof(float));
  }
  head_logits(context, {out.logits, DType::f32, {chunk.count, vocab}},
              {out.hidden, DType::f32, {chunk.count, width}}, head);
  return out;
}

}  // namespace

void head_logits(GemmContext& context, TensorView out, ConstTensorView hidden, const Linear& head) {
  const CpuWeight& weight = cpu_weight(*head.weight);
  const std::int64_t rows = hidden.shape[0];
  require(hidden.dtype == DType::f32 && hidden.shape == Shape({rows, weight.cols()}) &&
              out.dtype == DType::f32 && out.shape == Shape({rows, weight.rows()}),
          "head: hidden {} and logits {}, expected f32 [{}, {}] and [{}, {}]", hidden.shape.str(),
          out.shape.str(), rows, weight.cols(), rows, weight.rows());
  require(!head.bias || head.bias.elements() == weight.rows(), "head: {} biases for {} logits",
          head.bias.elements(), weight.rows());
  Product p;
  p.rows = rows;
  p.a = hidden.f32();
  p.a_row = weight.cols();
  p.b = operand_weight(weight.packed());
  p.out = out.f32();
  p.ld = weight.rows();
  p.bias = head.bias.f32();
  context.run({&p, 1});
}

RowStatistics row_logsumexp(const GemmContext& context, std::span<const float> logits,
                            float inv_temperature) {
  return context.kernels().row_statistics(logits.data(), static_cast<std::int64_t>(logits.size()),
                                          inv_temperature);
}

float row_logprob(const RowStatistics& row, float logit, float inv_temperature) {
  const float x = logit * inv_temperature;
  return static_cast<float>(static_cast<double>(x) - row.log_sum_exp);
}

void head_logprob(GemmContext& context, std::span<HeadResult> out, ConstTensorView hidden,
                  const Linear& head, std::span<const HeadEntry> entries, float temperature) {
  require_hidden(hidden, head, entries, out.size());
  const float inv_t = inverse_temperature(temperature);
  const std::int64_t vocab = head.weight->rows();
  for (std::size_t entry = 0; entry < entries.size();) {
    const RowChunk chunk = next_chunk(entries, entry);
    const ChunkLogits logits = chunk_logits(context, chunk, hidden, head);
    const auto finish_row = [&](std::int64_t i, int) {
      const float* row = logits.logits + i * vocab;
      const RowStatistics s = context.kernels().row_statistics(row, vocab, inv_t);
      for (std::size_t e = chunk.first[i]; e < chunk.first[i + 1]; ++e) {
        out[e].logprob = row_logprob(s, row[entries[e].target], inv_t);
        out[e].entropy = static_cast<float>(s.entropy);
      }
    };
    context.pool().parallel_for(chunk.count, std::ref(finish_row));
  }
}

void head_objective(GemmContext& context, std::span<HeadResult> out,
                    std::span<TokenObjective<float>> token, TensorView dhidden, TensorView dweight,
                    ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                    std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                    float temperature) {
  require_hidden(hidden, head, entries, out.size());
  require_terms(entries, terms.size(), token.size());
  const CpuWeight& weight = cpu_weight(*head.weight);
  const std::int64_t vocab = weight.rows();
  const std::int64_t width = weight.cols();
  require(dhidden.dtype == DType::f32 && dhidden.shape == hidden.shape,
          "head: dhidden is {}, hidden {}", dhidden.shape.str(), hidden.shape.str());
  require(!dweight || (dweight.dtype == DType::f32 && dweight.shape == Shape({vocab, width})),
          "head: dweight is {}, expected f32 [{}, {}]", dweight.shape.str(), vocab, width);
  const float inv_t = inverse_temperature(temperature);

  std::memset(dhidden.data, 0, dhidden.bytes());
  for (std::size_t entry = 0; entry < entries.size();) {
    const RowChunk chunk = next_chunk(entries, entry);
    const ChunkLogits logits = chunk_logits(context, chunk, hidden, head);
    // Per row: statistics, objective of its entries, then dlogits in place of the logits.
    const auto finish_row = [&](std::int64_t i, int) {
      float* row = logits.logits + i * vocab;
      const RowStatistics s = context.kernels().row_statistics(row, vocab, inv_t);
      float total = 0.0f;
      for (std::size_t e = chunk.first[i]; e < chunk.first[i + 1]; ++e) {
        out[e].logprob = row_logprob(s, row[entries[e].target], inv_t);
        out[e].entropy = static_cast<float>(s.entropy);
        const ObjectiveEntry& term = terms[e];
        const TokenObjective<float> o = token_objective<float>(
            out[e].logprob, term.old_logprob, term.reference_logprob, term.advantage, params);
        if (!token.empty()) token[e] = o;
        total += term.weight * o.dlogprob;
      }
      // softmax(x)_v = exp(x_v - max) exp(max - log_sum_exp)
      const auto factor =
          static_cast<float>(-static_cast<double>(total) * static_cast<double>(inv_t) *
                             std::exp(s.max - s.log_sum_exp));
      context.kernels().scaled_exp(row, vocab, inv_t, static_cast<float>(s.max), factor);
      for (std::size_t e = chunk.first[i]; e < chunk.first[i + 1]; ++e) {
        const ObjectiveEntry& term = terms[e];
        // As above: the same inputs give the same value.
        const float dlogprob =
            token_objective<float>(out[e].logprob, term.old_logprob, term.reference_logprob,
                                   term.advantage, params)
                .dlogprob;
        row[entries[e].target] += term.weight * dlogprob * inv_t;
      }
    };
    context.pool().parallel_for(chunk.count, std::ref(finish_row));

    float* gradient = context.scratch(GemmContext::Slot::dhidden, kHeadRows * width);
    std::vector<Product>& products = context.product_list();
    Product p;
    p.rows = chunk.count;
    p.a = logits.logits;
    p.a_row = vocab;
    p.b = operand_weight_transposed(weight.packed());
    p.out = gradient;
    p.ld = width;
    products.push_back(p);
    if (dweight) {
      Product w;
      w.rows = vocab;
      w.a = logits.logits;
      w.a_row = 1;
      w.a_step = vocab;
      w.b = operand_rows(logits.hidden, width, width, chunk.count);
      w.out = dweight.f32();
      w.ld = width;
      w.into = Into::chain;
      products.push_back(w);
    }
    context.run(products);
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      std::memcpy(dhidden.f32() + chunk.row[i] * width, gradient + i * width,
                  static_cast<std::size_t>(width) * sizeof(float));
    }
  }
}

std::size_t head_workspace_bytes(std::int64_t hidden, std::int64_t vocab) {
  return static_cast<std::size_t>(kHeadRows * (vocab + 2 * hidden)) * sizeof(float);
}

}  // namespace qgrpo::cpu
