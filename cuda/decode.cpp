#include "cuda/decode.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cuda/kernels/embedding.h"
#include "cuda/linear.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

static_assert(kSamplingRowBytes == sizeof(kernels::SamplingRow));
static_assert(kSampledTokenBytes == sizeof(SampledToken));

// Kept graphs: a rollout goes through some ten numbers of rows and three contexts.
constexpr std::size_t kMaxGraphs = 48;

std::uint64_t hash_runs(std::span<const AdapterRun> runs) {
  std::uint64_t hash = runs.size();
  for (const AdapterRun& run : runs) {
    for (const std::int32_t value : {run.begin, run.length, run.adapter}) {
      hash = (hash ^ static_cast<std::uint32_t>(value)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
  }
  return hash;
}

// A step consists of kernels and fills: a copy from the host's memory would be made again, from
// where its data no longer is, each time the graph runs.
void require_kernels_only(cudaGraph_t graph) {
  std::size_t count = 0;
  QGRPO_CUDA(cudaGraphGetNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  QGRPO_CUDA(cudaGraphGetNodes(graph, nodes.data(), &count));
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    QGRPO_CUDA(cudaGraphNodeGetType(node, &type));
    require(type == cudaGraphNodeTypeKernel || type == cudaGraphNodeTypeMemset,
            "internal error: a step of decoding has a node of type {}, expected kernels",
            static_cast<int>(type));
  }
}

// Tokens that a sequence can draw in the window.
std::int32_t most_tokens(const DecodeSequence& s, std::int32_t window) {
  return std::min(s.remaining, window);
}

void require_sequence(const DecodeSequence& s, std::size_t i, std::int32_t window,
                      std::int32_t block_size) {
  require(s.position >= 0 && s.token >= 0 && s.remaining >= 1,
          "decode: sequence {} has position {}, token {} and {} tokens to draw: expected no "
          "negative one and at least 1",
          i, s.position, s.token, s.remaining);
  require(s.prompt_length >= 0 && s.prompt_length <= s.position + 1,
          "decode: sequence {} has a prompt of {} tokens, but its last token is at position {}", i,
          s.prompt_length, s.position);
  const std::int64_t tokens = std::int64_t{s.position} + most_tokens(s, window);
  require(static_cast<std::int64_t>(s.block_table.size()) * block_size >= tokens,
          "decode: sequence {} has {} blocks of {} tokens, a window to position {} needs more", i,
          s.block_table.size(), block_size, tokens - 1);
}

}  // namespace

// ---------------------------------------------------------------- memory and graphs

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

std::byte* PinnedMemory::get(std::size_t bytes) {
  if (bytes > bytes_) {
    if (data_ != nullptr) QGRPO_CUDA(cudaFreeHost(std::exchange(data_, nullptr)));
    bytes_ = 0;
    QGRPO_CUDA(cudaMallocHost(&data_, bytes));
    bytes_ = bytes;
  }
  return static_cast<std::byte*>(data_);
}

DecodeGraph::DecodeGraph(DecodeGraph&& other) noexcept {
  *this = std::move(other);
}
DecodeGraph& DecodeGraph::operator=(DecodeGraph&& other) noexcept {
  key = other.key;
  last_used = other.last_used;
  vocab = other.vocab;
  frequencies = std::move(other.frequencies);
  std::swap(exec, other.exec);
  return *this;
}
DecodeGraph::~DecodeGraph() {
  if (exec != nullptr) cudaGraphExecDestroy(exec);
}

Decode::Decode(Device& device, Rope& rope) : device_(device), rope_(rope) {
  const char* setting = std::getenv("QGRPO_CUDA_GRAPHS");
  use_graphs_ = setting == nullptr || std::string_view(setting) != "0";
  QGRPO_CUDA(cudaEventCreateWithFlags(&finished_, cudaEventDisableTiming));
}

Decode::~Decode() {
  if (begun_) cudaStreamSynchronize(device_.handle());  // copies may use the pinned memory
  cudaEventDestroy(finished_);
}

void Decode::reserve(const WorkspaceShape& shape) {
  if (shape.decode_rows == 0) return;
  const std::int64_t rows = qgrpo::decode_rows(shape.decode_rows);
  pinned_state_.get(
      decode_state_bytes(rows, shape.decode_window, shape.max_context, shape.block_size));
  pinned_seen_.get(decode_seen_bytes(rows, shape.vocab));
}

// ---------------------------------------------------------------- a window's state

void Decode::begin(std::span<const DecodeSequence> sequences, std::int32_t window,
                   std::int32_t block_size) {
  require(!begun_, "decode: the window before was not finished");
  require(!sequences.empty() && window > 0 && block_size > 0,
          "decode: {} sequences, a window of {} tokens and blocks of {}: expected at least 1 each",
          sequences.size(), window, block_size);
  sequences_ = sequences.size();
  rows_ = qgrpo::decode_rows(static_cast<std::int64_t>(sequences_));
  window_ = window;
  stride_ = decode_window(window);
  block_size_ = block_size;
  std::int64_t context = 0;
  penalty_ = false;
  runs_.clear();
  for (std::size_t i = 0; i < sequences_; ++i) {
    const DecodeSequence& s = sequences[i];
    require_sequence(s, i, window, block_size);
    context = std::max(context, std::int64_t{s.position} + most_tokens(s, window));
    penalty_ = penalty_ || s.request.params.repetition_penalty != 1.0f;
    if (runs_.empty() || runs_.back().adapter != s.adapter) {
      runs_.push_back({static_cast<std::int32_t>(i), 0, s.adapter});
    }
    ++runs_.back().length;
  }
  runs_.back().length += static_cast<std::int32_t>(rows_ - static_cast<std::int64_t>(sequences_));
  max_context_ = decode_context(context);
  max_blocks_ = (max_context_ + block_size - 1) / block_size;
  layout_ = decode_layout(rows_, stride_, max_blocks_);
  state_ = device_.scratch<std::byte>(Slot::decode_state, static_cast<std::int64_t>(layout_.bytes));
  host_ = pinned_state_.get(layout_.bytes);
  fill_state(sequences);
  seen_vocab_ = 0;
  seen_ = nullptr;
  QGRPO_CUDA(
      cudaMemcpyAsync(state_, host_, layout_.results, cudaMemcpyHostToDevice, device_.handle()));
  begun_ = true;
  device_.set_few_rows(true);
}

void Decode::fill_state(std::span<const DecodeSequence> sequences) {
  std::memset(host_, 0, layout_.results);  // padding rows are not active
  const auto ints = [&](std::size_t offset) {
    return reinterpret_cast<std::int32_t*>(host_ + offset);
  };
  seen_ids_.assign(penalty_ ? sequences.size() : 0, {});
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const DecodeSequence& s = sequences[i];
    SampleRequest request = s.request;
    request.row = static_cast<std::int32_t>(static_cast<std::int64_t>(i) % kDecodeLogitsRows);
    const kernels::SamplingRow row = sampling_row(request, s.eos_ids);
    std::memcpy(host_ + layout_.sampling + i * sizeof(row), &row, sizeof(row));
    ints(layout_.token)[i] = s.token;
    ints(layout_.position)[i] = s.position;
    ints(layout_.prompt_length)[i] = s.prompt_length;
    ints(layout_.active)[i] = 1;
    ints(layout_.remaining)[i] = s.remaining;
    const auto blocks = std::min(s.block_table.size(), static_cast<std::size_t>(max_blocks_));
    std::copy_n(s.block_table.begin(), blocks,
                ints(layout_.block_tables) + i * static_cast<std::size_t>(max_blocks_));
    if (penalty_ && request.params.repetition_penalty != 1.0f) {
      seen_ids_[i].assign(request.seen.begin(), request.seen.end());
    }
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(rows_);) {
    std::size_t end = i + 1;
    const bool shared = i < sequences.size() && sequences[i].prompt_group >= 0;
    while (shared && end < sequences.size() &&
           sequences[end].prompt_group == sequences[i].prompt_group) {
      ++end;
    }
    for (std::size_t row = i; row < end; ++row) {
      ints(layout_.group_first)[row] = static_cast<std::int32_t>(i);
      ints(layout_.group_size)[row] = static_cast<std::int32_t>(end - i);
    }
    i = end;
  }
}

// The bits of the ids that the repetition penalty lowers, for a vocabulary of this size.
void Decode::prepare_seen(std::int64_t vocab) {
  if (!penalty_ || seen_vocab_ == vocab) return;
  require(seen_vocab_ == 0, "decode: heads of {} and of {} ids in one window", seen_vocab_, vocab);
  const auto words = static_cast<std::size_t>(seen_words(vocab));
  const std::size_t bytes = decode_seen_bytes(rows_, vocab);
  require(bytes == static_cast<std::size_t>(rows_) * words * sizeof(std::uint32_t),
          "internal error: {} words of seen ids for a vocabulary of {}", words, vocab);
  seen_ =
      device_.scratch<std::uint32_t>(Slot::decode_seen, rows_ * static_cast<std::int64_t>(words));
  auto* host = reinterpret_cast<std::uint32_t*>(pinned_seen_.get(bytes));
  std::fill_n(host, bytes / sizeof(std::uint32_t), 0u);
  for (std::size_t i = 0; i < seen_ids_.size(); ++i) {
    SampleRequest request;
    request.seen = seen_ids_[i];
    mark_seen({host + i * words, words}, request, vocab);
  }
  QGRPO_CUDA(cudaMemcpyAsync(seen_, host, bytes, cudaMemcpyHostToDevice, device_.handle()));
  seen_vocab_ = vocab;
}

void Decode::require_begun(const char* what) const {
  require(begun_, "decode: {} without begin()", what);
}

// ---------------------------------------------------------------- the operators of a step

DecodeRows Decode::decode_rows_view() const {
  DecodeRows rows;
  rows.positions = on_device<std::int32_t>(layout_.position);
  rows.active = on_device<std::int32_t>(layout_.active);
  rows.prompt_length = on_device<std::int32_t>(layout_.prompt_length);
  rows.group_first = on_device<std::int32_t>(layout_.group_first);
  rows.group_size = on_device<std::int32_t>(layout_.group_size);
  rows.block_tables = on_device<std::int32_t>(layout_.block_tables);
  rows.rows = rows_;
  rows.max_blocks = max_blocks_;
  rows.max_context = max_context_;
  rows.block_size = block_size_;
  return rows;
}

void Decode::embedding(TensorView y, const Weight& table) {
  require_begun("embedding");
  const CudaWeight& weight = cuda_weight(table);
  require(weight.format() != WeightFormat::nf4, "embedding: an nf4 table is not supported");
  require_view("embedding", "y", y, DType::bf16, rows_ * weight.cols());
  QGRPO_CUDA(kernels::gather_rows(device_.handle(), static_cast<bf16*>(y.data),
                                  weight.dense(device_), on_device<std::int32_t>(layout_.token),
                                  rows_, weight.cols()));
}

void Decode::rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                           const RopeFrequencies& frequencies) {
  require_begun("rope_kv_write");
  last_frequencies_ = frequencies;
  decode_rope_kv_write(device_, rope_, cache, q, k, v, frequencies, decode_rows_view());
}

void Decode::attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                       const AttentionShape& shape) {
  require_begun("attention");
  decode_attention(device_, o, q, cache, shape, decode_rows_view());
}

void Decode::sample(ConstTensorView hidden, const Linear& head) {
  require_begun("sample");
  const CudaWeight& weight = cuda_weight(*head.weight);
  const std::int64_t vocab = weight.rows();
  const std::int64_t width = weight.cols();
  require(!head.bias && head.adapters.empty(),
          "head: a bias or an adapter of the head is not supported on CUDA");
  const auto* x =
      static_cast<const bf16*>(require_view("head", "hidden", hidden, DType::bf16, rows_ * width));
  prepare_seen(vocab);
  last_vocab_ = vocab;
  auto* logits = device_.scratch<float>(Slot::logits, std::min(rows_, kDecodeLogitsRows) * vocab);
  for (std::int64_t begin = 0; begin < rows_; begin += kDecodeLogitsRows) {
    const std::int64_t rows = std::min(kDecodeLogitsRows, rows_ - begin);
    few_row_logits(device_, logits, x + begin * width, weight, rows);
    kernels::DecodeSampling state;
    state.row = on_device<kernels::SamplingRow>(layout_.sampling) + begin;
    state.active = on_device<std::int32_t>(layout_.active) + begin;
    state.remaining = on_device<std::int32_t>(layout_.remaining) + begin;
    state.count = on_device<std::int32_t>(layout_.count) + begin;
    state.status = on_device<std::int32_t>(layout_.status) + begin;
    state.results = on_device<SampledToken>(layout_.results) + begin * stride_;
    state.window = static_cast<std::int32_t>(stride_);
    state.token = on_device<std::int32_t>(layout_.token) + begin;
    state.position = on_device<std::int32_t>(layout_.position) + begin;
    if (penalty_) {
      state.seen_words = seen_words(vocab);
      state.seen = seen_ + begin * state.seen_words;
    }
    decode_sample(device_, logits, rows, vocab, state);
  }
}

// ---------------------------------------------------------------- running a window

DecodeGraph::Key Decode::graph_key(std::uint64_t step) const {
  return {step,        rows_,    max_context_,     stride_,
          block_size_, penalty_, hash_runs(runs_), device_.scratch_generation()};
}

// The step's graph, ready to run; null when it has yet to be recorded.
DecodeGraph* Decode::find_graph(std::uint64_t step) {
  // Slots that have moved do not come back: what names their old places is dropped.
  std::erase_if(graphs_, [&](const DecodeGraph& graph) {
    return graph.key.generation != device_.scratch_generation();
  });
  const auto find = [&] {
    const DecodeGraph::Key key = graph_key(step);
    const auto found = std::find_if(graphs_.begin(), graphs_.end(),
                                    [&](const DecodeGraph& graph) { return graph.key == key; });
    return found == graphs_.end() ? nullptr : &*found;
  };
  DecodeGraph* graph = find();
  if (graph == nullptr) return nullptr;
  prepare_seen(graph->vocab);
  rope_.table(device_, graph->frequencies, max_context_);
  return find();  // none, where that has moved a slot
}

DecodeGraph& Decode::record(std::uint64_t step, const std::function<void()>& run) {
  const cudaStream_t stream = device_.handle();
  cudaGraph_t recorded = nullptr;
  QGRPO_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  try {
    run();
  } catch (...) {
    cudaStreamEndCapture(stream, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    cudaGetLastError();
    throw;
  }
  QGRPO_CUDA(cudaStreamEndCapture(stream, &recorded));
  DecodeGraph graph;
  try {
    require_kernels_only(recorded);
    QGRPO_CUDA(cudaGraphInstantiate(&graph.exec, recorded, 0));
  } catch (...) {
    cudaGraphDestroy(recorded);
    throw;
  }
  QGRPO_CUDA(cudaGraphDestroy(recorded));
  graph.key = graph_key(step);
  graph.vocab = last_vocab_;
  graph.frequencies = last_frequencies_;
  if (graphs_.size() >= kMaxGraphs) {
    const auto oldest = std::min_element(
        graphs_.begin(), graphs_.end(),
        [](const DecodeGraph& a, const DecodeGraph& b) { return a.last_used < b.last_used; });
    graphs_.erase(oldest);
  }
  graphs_.push_back(std::move(graph));
  ++recorded_;
  return graphs_.back();
}

void Decode::run_window(std::uint64_t key, const std::function<void()>& step) {
  std::int32_t left = window_;
  if (!use_graphs_) {
    for (; left > 0; --left) step();
    return;
  }
  DecodeGraph* graph = find_graph(key);
  if (graph == nullptr) {
    step();
    --left;
    graph = &record(key, step);
  }
  graph->last_used = ++clock_;
  for (; left > 0; --left) {
    QGRPO_CUDA(cudaGraphLaunch(graph->exec, device_.handle()));
    ++replayed_;
  }
}

void Decode::run(std::uint64_t key, const std::function<void()>& step) {
  require_begun("run()");
  try {
    run_window(key, step);
  } catch (...) {
    end();
    throw;
  }
}

// Back to before begin(), also after an error: nothing uses the pinned memory then.
void Decode::end() noexcept {
  device_.set_few_rows(false);
  begun_ = false;
  cudaStreamSynchronize(device_.handle());
}

std::vector<std::vector<SampledToken>> Decode::finish() {
  require_begun("finish()");
  try {
    const cudaStream_t stream = device_.handle();
    QGRPO_CUDA(cudaMemcpyAsync(host_ + layout_.count, state_ + layout_.count,
                               layout_.bytes - layout_.count, cudaMemcpyDeviceToHost, stream));
    QGRPO_CUDA(cudaEventRecord(finished_, stream));
    QGRPO_CUDA(cudaEventSynchronize(finished_));
  } catch (...) {
    end();
    throw;
  }
  device_.set_few_rows(false);
  begun_ = false;

  const auto* count = reinterpret_cast<const std::int32_t*>(host_ + layout_.count);
  const auto* status = reinterpret_cast<const std::int32_t*>(host_ + layout_.status);
  const auto* sampling = reinterpret_cast<const kernels::SamplingRow*>(host_ + layout_.sampling);
  const auto* results = reinterpret_cast<const SampledToken*>(host_ + layout_.results);
  std::vector<std::vector<SampledToken>> out(sequences_);
  for (std::size_t i = 0; i < sequences_; ++i) {
    require_drawn(status[i], sampling[i], count[i]);
    const SampledToken* first = results + i * static_cast<std::size_t>(stride_);
    out[i].assign(first, first + count[i]);
  }
  return out;
}

}  // namespace qgrpo::cuda
