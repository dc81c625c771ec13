#include "cuda/head.h"

#include <cmath>

#include "cuda/kernels/head.h"
#include "cuda/kernels/rows.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;
using Slot = Device::Slot;

void require_entries(ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                     std::size_t results) {
  require(hidden.shape.rank() == 2 && hidden.shape[1] == head.weight->cols(),
          "head: hidden is {}, expected [rows, {}]", hidden.shape.str(), head.weight->cols());
  require(results == entries.size(), "head: {} results for {} entries", results, entries.size());
  require(!head.bias && head.adapters.empty(),
          "head: a bias or an adapter of the head is not in the CUDA backend yet");
  require(head.weight->cols() % 8 == 0, "head: {} inputs; the CUDA backend takes a multiple of 8",
          head.weight->cols());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const HeadEntry& e = entries[i];
    require(e.row >= 0 && e.row < hidden.shape[0], "head: entry {} names row {} of {}", i, e.row,
            hidden.shape[0]);
    require(e.target >= 0 && e.target < head.weight->rows(),
            "head: entry {} has the target id {}, outside the vocabulary of {}", i, e.target,
            head.weight->rows());
    require(i == 0 || entries[i - 1].row <= e.row, "head: entry {} is not sorted by row", i);
  }
}

// Entries [begin, end) and their distinct rows.
struct Chunk {
  std::vector<std::int32_t> gather;   // hidden rows
  std::vector<std::int32_t> rows;     // per entry, index into gather
  std::vector<std::int32_t> targets;  // per entry
};
Chunk next_chunk(std::span<const HeadEntry> entries, std::size_t& next) {
  Chunk chunk;
  for (; next < entries.size(); ++next) {
    const HeadEntry& e = entries[next];
    if (chunk.gather.empty() || chunk.gather.back() != e.row) {
      if (static_cast<std::int64_t>(chunk.gather.size()) == Head::kHeadRows) break;
      chunk.gather.push_back(e.row);
    }
    chunk.rows.push_back(static_cast<std::int32_t>(chunk.gather.size()) - 1);
    chunk.targets.push_back(e.target);
  }
  return chunk;
}

}  // namespace

void Head::logprob(Device& device, Gemm& gemm, std::span<HeadResult> out, ConstTensorView hidden,
                   const Linear& head, std::span<const HeadEntry> entries, float temperature) {
  require_entries(hidden, head, entries, out.size());
  require(std::isfinite(temperature) && temperature > 0.0f,
          "the temperature is {}, expected a number above 0", temperature);
  if (entries.empty()) return;
  const float inverse = 1.0f / temperature;
  const CudaWeight& weight = cuda_weight(*head.weight);
  const std::int64_t width = weight.cols();
  const std::int64_t vocab = weight.rows();
  const auto* from = static_cast<const bf16*>(
      require_view("head", "hidden", hidden, DType::bf16, hidden.shape[0] * width));
  const bf16* dense = weight.dense(device);
  auto* results = device.scratch<float2>(Slot::results, static_cast<std::int64_t>(entries.size()));
  for (std::size_t next = 0; next < entries.size();) {
    const std::size_t begin = next;
    const Chunk chunk = next_chunk(entries, next);
    const auto rows = static_cast<std::int64_t>(chunk.gather.size());
    const auto count = static_cast<std::int64_t>(chunk.rows.size());
    const auto list = [&](DeviceArray<std::int32_t>& array, const std::vector<std::int32_t>& x) {
      return array.upload(device.stream(), std::span<const std::int32_t>(x));
    };
    auto* gathered = device.scratch<bf16>(Slot::hidden, rows * width);
    auto* logits = device.scratch<float>(Slot::logits, rows * vocab);
    auto* stats = device.scratch<kernels::RowStatistics>(Slot::statistics, rows);
    const cudaStream_t stream = device.handle();
    QGRPO_CUDA(
        kernels::gather_rows(stream, gathered, from, list(gather_, chunk.gather), rows, width));
    gemm.run(logits, DType::f32, gathered, dense, rows, vocab, width);
    QGRPO_CUDA(kernels::row_statistics(stream, stats, logits, rows, vocab, inverse));
    QGRPO_CUDA(kernels::head_entries(stream, results + begin, logits, stats,
                                     list(rows_, chunk.rows), list(targets_, chunk.targets), count,
                                     vocab, inverse));
  }
  static_assert(sizeof(HeadResult) == sizeof(float2),
                "logprob and entropy, as head_entries writes");
  QGRPO_CUDA(cudaMemcpyAsync(out.data(), results, out.size_bytes(), cudaMemcpyDeviceToHost,
                             device.handle()));
  device.stream().synchronize();
}

std::size_t Head::workspace_bytes(std::int64_t rows, std::int64_t hidden, std::int64_t vocab) {
  const std::int64_t chunk = std::min(rows, kHeadRows);
  return static_cast<std::size_t>(chunk * (2 * hidden + 4 * vocab + 12) + 8 * rows);
}

}  // namespace qgrpo::cuda
