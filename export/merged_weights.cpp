#include "export/merged_weights.h"

#include "model/config_files.h"
#include "model/formats/bnb4bit.h"
#include "model/io/gguf.h"
#include "model/io/json.h"

namespace qgrpo::exporting {
namespace {

using model::Storage;

// The type that a quantized checkpoint computes in, which its plain copies get: the torch_dtype of
// config.json, that of a GGUF file's plain matrices, or bf16.
DType computed_dtype(const std::string& path, const model::Checkpoint& checkpoint) {
  if (io::is_model_file(path)) {
    switch (checkpoint.storage("model.embed_tokens.weight")) {
      case Storage::f32:
        return DType::f32;
      case Storage::f16:
        return DType::f16;
      default:
        return DType::bf16;
    }
  }
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path + "/config.json");
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto value = root.find(key);
    if (!value || !value->is_string()) continue;
    if (value->as_string_view() == "float16") return DType::f16;
    if (value->as_string_view() == "float32") return DType::f32;
    break;
  }
  return DType::bf16;
}

// w += scale * B A, float32: for each row the sum over the ranks in their order, then one product
// with the scale, as peft does it.
void add_product(std::vector<float>& w, const Shape& shape, const std::vector<float>& a,
                 const std::vector<float>& b, float scale) {
  const auto rows = static_cast<std::size_t>(shape[0]);
  const auto cols = static_cast<std::size_t>(shape[1]);
  const std::size_t rank = b.size() / rows;
  std::vector<float> delta(cols);
  for (std::size_t n = 0; n < rows; ++n) {
    std::fill(delta.begin(), delta.end(), 0.0f);
    for (std::size_t r = 0; r < rank; ++r) {
      const float factor = b[n * rank + r];
      const float* from = a.data() + r * cols;
      for (std::size_t k = 0; k < cols; ++k) delta[k] += factor * from[k];
    }
    float* row = w.data() + n * cols;
    for (std::size_t k = 0; k < cols; ++k) row[k] += scale * delta[k];
  }
}

}  // namespace

MergeInto parse_merge_into(const std::string& name) {
  if (name == "original") return MergeInto::original;
  if (name == "nf4") return MergeInto::nf4;
  fail("--merge-into: found \"{}\", expected original or nf4", name);
}

MergedWeights::MergedWeights(Backend& backend, const std::string& model, const std::string& adapter,
                             MergeInto into)
    : backend_(backend),
      model_path_(model),
      into_(into),
      config_(model::load_config(model)),
      checkpoint_(model) {
  checkpoint_.check_names(config_);
  if (!adapter.empty()) {
    adapter_ =
        std::make_unique<model::LoraAdapter>(model::LoraAdapter::load(backend, config_, adapter));
  }
  const DType computed = computed_dtype(model, checkpoint_);
  const auto add = [&](const std::string& name, const Shape& shape, bool linear) {
    DType dtype = computed;
    switch (checkpoint_.storage(name)) {
      case Storage::f32:
        // What surrounds quantized weights is float32 in GGUF files, without a need for it.
        dtype = io::is_model_file(model) ? computed : DType::f32;
        break;
      case Storage::f16:
        dtype = DType::f16;
        break;
      case Storage::bf16:
        dtype = DType::bf16;
        break;
      default:
        break;
    }
    tensors_.push_back({name, shape, linear, dtype});
  };
  const model::Config& c = config_;
  add("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, false);
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    const std::string layer = fmt::format("model.layers.{}.", l);
    add(layer + "input_layernorm.weight", {c.hidden_size}, false);
    for (const model::Projection p : model::kAllProjections) {
      const std::string path = layer + model::projection_path(p);
      const std::int64_t outputs = model::projection_outputs(c, p);
      add(path + ".weight", {outputs, model::projection_inputs(c, p)}, true);
      if (model::has_bias(*c.family, p)) {
        add(path + ".bias", {outputs}, false);
      }
    }
    if (c.family->head_norms) {
      add(layer + "self_attn.q_norm.weight", {c.head_dim}, false);
      add(layer + "self_attn.k_norm.weight", {c.head_dim}, false);
    }
    add(layer + "post_attention_layernorm.weight", {c.hidden_size}, false);
  }
  add("model.norm.weight", {c.hidden_size}, false);
  if (!c.tie_word_embeddings) add("lm_head.weight", {c.vocab_size, c.hidden_size}, false);
}

std::vector<float> MergedWeights::host_factor(TensorView view) {
  std::vector<float> out(view.elements());
  backend_.download(out.data(), view);
  backend_.synchronize();
  return out;
}

std::vector<float> MergedWeights::values(const ModelTensor& tensor) {
  std::vector<float> w;
  std::vector<float> a;
  std::vector<float> b;
  float scale = 0.0f;
  bool quantize = false;
  {
    const std::lock_guard lock(mutex_);
    w = checkpoint_.values(tensor.name, tensor.shape);
    quantize = tensor.linear && into_ == MergeInto::nf4 && !checkpoint_.bnb4bit();
    if (tensor.linear && adapter_) {
      for (std::int64_t l = 0; l < config_.num_layers && a.empty(); ++l) {
        for (const model::Projection p : model::kAllProjections) {
          const auto& factors = adapter_->at(l, p);
          if (!factors.a || factors.name + ".weight" != tensor.name) continue;
          a = host_factor(factors.a);
          b = host_factor(factors.b);
          scale = factors.scale;
        }
      }
    }
  }
  if (quantize) nf4_dequantize(w, nf4_quantize(w, tensor.shape));
  if (!a.empty()) add_product(w, tensor.shape, a, b, scale);
  return w;
}

void MergedWeights::drop_pages() {
  const std::lock_guard lock(mutex_);
  checkpoint_.drop_pages();
}

}  // namespace qgrpo::exporting
