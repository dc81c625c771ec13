#include <algorithm>

#include "bench/device.h"
#include "bench/device_sizes.h"
#include "model/ops/rng.h"

namespace qgrpo::bench {
namespace {

constexpr std::int64_t kValues = 65536;  // different random values; larger tensors repeat them
// More weights than any cache of today's GPUs holds.
constexpr std::size_t kRotation = std::size_t{256} << 20;
constexpr std::size_t kMostCopies = 64;

constexpr NamedCase kCases[] = {
    {"decode_rmsnorm", &DeviceBench::decode_rmsnorm},
    {"decode_qkv", &DeviceBench::decode_qkv},
    {"decode_rope_kv_write", &DeviceBench::decode_rope_kv_write},
    {"decode_attention", &DeviceBench::decode_attention},
    {"decode_o", &DeviceBench::decode_o},
    {"decode_gate_up", &DeviceBench::decode_gate_up},
    {"decode_down", &DeviceBench::decode_down},
    {"decode_head_sample", &DeviceBench::decode_head_sample},
    {"decode_head_sample_top_p", &DeviceBench::decode_head_sample_top_p},
    {"linear_forward", &DeviceBench::linear_forward},
    {"linear_backward", &DeviceBench::linear_backward},
    {"rmsnorm_forward", &DeviceBench::rmsnorm_forward, true},
    {"rmsnorm_backward", &DeviceBench::rmsnorm_backward, true},
    {"rope_forward", &DeviceBench::rope_forward, true},
    {"swiglu_forward", &DeviceBench::swiglu_forward, true},
    {"swiglu_backward", &DeviceBench::swiglu_backward, true},
    {"attention_forward", &DeviceBench::attention_forward, true},
    {"attention_backward", &DeviceBench::attention_backward, true},
    {"head_logprob", &DeviceBench::head_logprob},
    {"head_objective", &DeviceBench::head_objective},
    {"adamw_8bit", &DeviceBench::adamw_8bit, true},
};

}  // namespace

std::span<const NamedCase> device_cases() {
  return kCases;
}

// ---------------------------------------------------------------- operands

void DeviceBench::open_window() {
  DecodeOps* decode = backend_.decode();
  if (decode == nullptr) return;
  const std::vector<std::int32_t> table = counted(kContext / kBlock);
  DecodeSequence sequence;
  sequence.position = kContext - 1;
  sequence.prompt_length = kPrompt;
  sequence.adapter = 0;
  sequence.block_table = table;
  std::vector<DecodeSequence> sequences(static_cast<std::size_t>(rows_), sequence);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].request.row = static_cast<std::int32_t>(i);
    sequences[i].request.sample = static_cast<std::uint32_t>(i);
  }
  decode->begin(sequences, 1, kBlock);
  in_window_ = true;
}

// A window has to draw: here from a head of 64 tokens.
void DeviceBench::close_window() {
  if (!in_window_) return;
  in_window_ = false;
  constexpr std::int64_t kVocabulary = 64, kWidth = 64;
  DecodeOps& decode = *backend_.decode();
  const std::vector<float> values(static_cast<std::size_t>(kVocabulary * kWidth), 0.5f);
  const auto weight = backend_.prepare(
      ConstTensorView{values.data(), DType::f32, {kVocabulary, kWidth}}, WeightFormat::bf16);
  Linear head;
  head.weight = weight.get();
  decode.sample(activations({decode.rows(), kWidth}), head);
  decode.finish();
}

void DeviceBench::clear() {
  close_window();
  weights_.clear();
  adapters_.clear();
  buffers_.clear();
}

TensorView DeviceBench::filled(Shape shape, DType dtype, float scale) {
  Rng rng(1, RngStream::test, static_cast<std::uint32_t>(buffers_.size()));
  const std::int64_t n = shape.elements();
  std::vector<float> values(static_cast<std::size_t>(std::min(n, kValues)));
  for (float& x : values) x = scale * rng.normal();
  std::vector<std::uint16_t> halves(values.size());
  std::transform(values.begin(), values.end(), halves.begin(), f32_to_bf16);
  const void* from = values.data();
  if (dtype == DType::bf16) from = halves.data();
  buffers_.push_back(backend_.allocate(static_cast<std::size_t>(n) * dtype_size(dtype)));
  const TensorView view{buffers_.back()->data(), dtype, shape};
  const TensorView flat{view.data, dtype, {n}};
  for (std::int64_t at = 0; at < n; at += kValues) {
    backend_.upload(flat.rows(at, std::min(kValues, n - at)), from);
  }
  return view;
}

TensorView DeviceBench::activations(Shape shape, float scale) {
  return filled(shape, backend_.activation_dtype(), scale);
}

TensorView DeviceBench::floats(Shape shape, float scale) {
  return filled(shape, DType::f32, scale);
}

TensorView DeviceBench::bytes(Shape shape) {
  buffers_.push_back(backend_.allocate(static_cast<std::size_t>(shape.elements())));
  return {buffers_.back()->data(), DType::u8, shape};
}

std::unique_ptr<Weight> DeviceBench::nf4_weight(std::int64_t outputs, std::int64_t inputs) {
  Nf4Tensor tensor;
  tensor.shape = {outputs, inputs};
  const std::int64_t n = outputs * inputs;
  Rng rng(2, RngStream::test);
  std::vector<std::uint8_t> random(static_cast<std::size_t>(kValues));
  for (std::uint8_t& x : random) x = static_cast<std::uint8_t>(rng.next_u32());
  const auto repeated = [&](std::int64_t count) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = random[i % random.size()];
    return out;
  };
  tensor.packed = repeated((n + 1) / 2);
  tensor.absmax = repeated(tensor.blocks());
  tensor.nested_absmax.assign(
      static_cast<std::size_t>((tensor.blocks() + kNf4NestedBlock - 1) / kNf4NestedBlock), 0.01f);
  tensor.offset = 0.03f;
  return backend_.prepare(tensor);
}

std::vector<Linear> DeviceBench::linears(std::int64_t outputs, std::int64_t inputs, bool bias) {
  std::vector<Linear> out;
  // Two at least: a backend may keep what it made of the last weight it met.
  std::size_t copies = 2;
  for (std::size_t i = 0; i < copies; ++i) {
    Linear linear;
    weights_.push_back(nf4_weight(outputs, inputs));
    linear.weight = weights_.back().get();
    if (bias) linear.bias = floats({outputs});
    LoraFactors lora;
    const TensorView a = floats({kRank, inputs}, 0.02f);
    const TensorView b = floats({outputs, kRank}, 0.02f);
    lora.a = a;
    lora.b = b;
    lora.scale = 1.0f;
    if (backend_.activation_dtype() == DType::bf16) {
      const TensorView a_shadow = activations(a.shape), b_shadow = activations(b.shape);
      backend_.convert(a_shadow, a);
      backend_.convert(b_shadow, b);
      lora.a_shadow = a_shadow;
      lora.b_shadow = b_shadow;
    }
    adapters_.push_back(std::make_unique<std::vector<LoraFactors>>(1, lora));
    linear.adapters = *adapters_.back();
    out.push_back(linear);
    if (timed_ && i == 0) {
      copies = std::clamp<std::size_t>(kRotation / linear.weight->bytes(), 2, kMostCopies);
    }
  }
  return out;
}

// The tied head: bf16, as the checkpoint has it.
const Weight& DeviceBench::head_weight() {
  const std::int64_t v = config_.vocab_size, h = config_.hidden_size;
  Rng rng(3, RngStream::test);
  std::vector<std::uint16_t> random(static_cast<std::size_t>(kValues));
  for (std::uint16_t& x : random) x = f32_to_bf16(0.02f * rng.normal());
  std::vector<std::uint16_t> host(static_cast<std::size_t>(v * h));
  // Rows of different values: the period is no multiple of a row.
  const std::size_t period = random.size() - 7;
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = random[i % period];
  weights_.push_back(backend_.prepare({host.data(), DType::bf16, {v, h}}, WeightFormat::bf16));
  return *weights_.back();
}

}  // namespace qgrpo::bench
