#include "cuda/sampling.h"

#include <cstring>

#include "cuda/kernels/embedding.h"
#include "cuda/linear.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

// The state of up to kSampleChunkRequests requests in Slot::sampling_state, one copy each way.
class RequestState {
 public:
  explicit RequestState(Device& device, std::int64_t count)
      : count_(static_cast<std::size_t>(count)),
        bytes_(head_sizes::sampling_state_bytes(count)),
        image_(bytes_),
        base_(device.scratch<std::byte>(Slot::sampling_state, static_cast<std::int64_t>(bytes_))) {}

  void set(std::size_t i, const SamplingRow& row) {
    std::memcpy(image_.data() + i * sizeof(SamplingRow), &row, sizeof row);
    for (const std::size_t word : {kActive, kRemaining}) {
      const std::int32_t one = 1;
      std::memcpy(image_.data() + word_offset(word) + i * sizeof one, &one, sizeof one);
    }
  }
  void upload(Device& device) const {
    QGRPO_CUDA(
        cudaMemcpyAsync(base_, image_.data(), bytes_, cudaMemcpyHostToDevice, device.handle()));
  }
  // Waits for the tokens.
  void download(Device& device) {
    QGRPO_CUDA(
        cudaMemcpyAsync(image_.data(), base_, bytes_, cudaMemcpyDeviceToHost, device.handle()));
    device.stream().synchronize();
  }
  std::int32_t status(std::size_t i) const {
    return read<std::int32_t>(word_offset(kStatus) + i * sizeof(std::int32_t));
  }
  SampledToken token(std::size_t i) const {
    return read<SampledToken>(results_offset() + i * sizeof(SampledToken));
  }

  DecodeSampling device_state() const {
    const auto words = [&](std::size_t word) {
      return reinterpret_cast<std::int32_t*>(base_ + word_offset(word));
    };
    DecodeSampling state;
    state.row = reinterpret_cast<const SamplingRow*>(base_);
    state.active = words(kActive);
    state.remaining = words(kRemaining);
    state.count = words(kCount);
    state.status = words(kStatus);
    state.results = reinterpret_cast<SampledToken*>(base_ + results_offset());
    state.window = 1;
    return state;
  }

 private:
  static constexpr std::size_t kActive = 0, kRemaining = 1, kCount = 2, kStatus = 3;
  static_assert(sizeof(SamplingRow) == 120 && sizeof(SampledToken) == 16,
                "as head_sizes::sampling_state_bytes counts");

  // Rows first, then tokens, then the words: each part is aligned as its elements.
  std::size_t results_offset() const { return count_ * sizeof(SamplingRow); }
  std::size_t word_offset(std::size_t word) const {
    return results_offset() + count_ * (sizeof(SampledToken) + word * sizeof(std::int32_t));
  }
  template <typename T>
  T read(std::size_t at) const {
    T value;
    std::memcpy(&value, image_.data() + at, sizeof value);
    return value;
  }

  std::size_t count_;
  std::size_t bytes_;
  std::vector<std::byte> image_;  // zeroed: count, status, results
  std::byte* base_;
};

// Draws for requests[order[begin .. end)], whose logits are rows of `logits`: place[i] of the i-th.
void draw(Device& device, std::span<SampledToken> out, const float* logits, std::int64_t vocab,
          std::span<const SampleRequest> requests, std::span<const std::size_t> order,
          std::span<const std::int32_t> place) {
  const auto count = static_cast<std::int64_t>(order.size());
  RequestState state(device, count);
  bool penalizes = false;
  std::vector<SamplingRow> rows;
  for (std::size_t i = 0; i < order.size(); ++i) {
    rows.push_back(sampling_row(requests[order[i]]));
    rows.back().logits_row = place[i];
    state.set(i, rows.back());
    penalizes = penalizes || rows.back().params.repetition_penalty != 1.0f;
  }
  DecodeSampling on_device = state.device_state();
  if (penalizes) {
    const std::int64_t words = seen_words(vocab);
    std::vector<std::uint32_t> seen(static_cast<std::size_t>(count * words));
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (rows[i].params.repetition_penalty == 1.0f) continue;
      mark_seen(std::span(seen).subspan(i * static_cast<std::size_t>(words),
                                        static_cast<std::size_t>(words)),
                requests[order[i]], vocab);
    }
    on_device.seen = device.scratch<std::uint32_t>(Slot::sampling_seen, count * words);
    on_device.seen_words = words;
    QGRPO_CUDA(cudaMemcpyAsync(on_device.seen, seen.data(), seen.size() * sizeof(std::uint32_t),
                               cudaMemcpyHostToDevice, device.handle()));
  }
  state.upload(device);
  decode_sample(device, logits, count, vocab, on_device);
  state.download(device);
  for (std::size_t i = 0; i < order.size(); ++i) {
    require_drawn(state.status(i), rows[i], 0);
    out[order[i]] = state.token(i);
  }
}

}  // namespace

SamplingRow sampling_row(const SampleRequest& request, std::span<const std::int32_t> eos_ids) {
  require_sampling(request.params);
  require(eos_ids.size() <= kernels::kMaxEosIds,
          "sampling: {} ids end a sequence; the CUDA backend takes up to {}", eos_ids.size(),
          kernels::kMaxEosIds);
  SamplingRow row;
  row.params = request.params;
  row.seed = request.seed;
  row.step = request.step;
  row.prompt = request.prompt;
  row.sample = request.sample;
  row.position = request.position;
  row.logits_row = request.row;
  row.eos_count = static_cast<std::int32_t>(eos_ids.size());
  std::copy(eos_ids.begin(), eos_ids.end(), row.eos);
  return row;
}

void mark_seen(std::span<std::uint32_t> words, const SampleRequest& request, std::int64_t vocab) {
  require_seen(request, vocab);
  for (const std::int32_t id : request.seen) {
    words[static_cast<std::size_t>(id) / 32] |= std::uint32_t{1} << (id % 32);
  }
}

void decode_sample(Device& device, const float* logits, std::int64_t rows, std::int64_t vocab,
                   const DecodeSampling& state) {
  require(vocab <= std::int64_t{1} << 19,
          "sampling: a vocabulary of {}; the CUDA backend takes up to 524288", vocab);
  const std::int64_t parts = rows * ((vocab + kernels::kSamplingPart - 1) / kernels::kSamplingPart);
  static_assert(kernels::kSamplingPart == 2048 && sizeof(kernels::SamplingPart) == 32,
                "as head_sizes::sampling_parts_bytes counts");
  QGRPO_CUDA(kernels::sample_rows(
      device.handle(), state, device.scratch<kernels::SamplingPart>(Slot::sampling_parts, parts),
      logits, rows, vocab));
}

void require_drawn(std::int32_t status, const SamplingRow& row, std::int32_t drawn) {
  SampleRequest request;
  request.params = row.params;
  request.prompt = row.prompt;
  request.sample = row.sample;
  request.position = row.position + static_cast<std::uint32_t>(drawn);
  require_drawn(static_cast<SamplingStatus>(status), request);
}

void HeadSampler::sample(Device& device, std::span<SampledToken> out, ConstTensorView hidden,
                         const Linear& head, std::span<const SampleRequest> requests) {
  if (requests.empty() && out.empty()) return;
  const CudaWeight& weight = cuda_weight(*head.weight);
  const std::int64_t width = weight.cols();
  const std::int64_t vocab = weight.rows();
  require(!head.bias, "head_sample: a head with a bias is not supported on CUDA");
  require(width % 8 == 0, "head_sample: {} inputs; the CUDA backend takes a multiple of 8", width);
  require(hidden.shape.rank() == 2, "head_sample: hidden is {}, expected [rows, {}]",
          hidden.shape.str(), width);
  const auto* from = static_cast<const bf16*>(
      require_view("head_sample", "hidden", hidden, DType::bf16, hidden.shape[0] * width));

  const std::vector<std::size_t> order = requests_by_row(requests, out.size(), hidden.shape[0]);
  for (std::size_t next = 0; next < order.size();) {
    const std::size_t begin = next;
    std::vector<std::int32_t> gather, place;
    for (; next < order.size() && next - begin < static_cast<std::size_t>(kSampleChunkRequests);
         ++next) {
      const std::int32_t row = requests[order[next]].row;
      if (gather.empty() || gather.back() != row) {
        if (static_cast<std::int64_t>(gather.size()) == kSampleChunkRows) break;
        gather.push_back(row);
      }
      place.push_back(static_cast<std::int32_t>(gather.size()) - 1);
    }
    const auto rows = static_cast<std::int64_t>(gather.size());
    auto* gathered = device.scratch<bf16>(Slot::hidden, rows * width);
    auto* logits = device.scratch<float>(Slot::logits, rows * vocab);
    QGRPO_CUDA(kernels::gather_rows(device.handle(), gathered, from,
                                    gather_.upload(device, std::span<const std::int32_t>(gather)),
                                    rows, width));
    few_row_logits(device, logits, gathered, weight, rows);
    draw(device, out, logits, vocab, requests,
         std::span<const std::size_t>(order).subspan(begin, next - begin), place);
  }
}

}  // namespace qgrpo::cuda
