// The weights of a folder: model.safetensors.index.json, and behind it the file that it names, or model.safetensors
// where there is no index. Plain ones and bitsandbytes' 4-bit ones.
#include "fuzz/target.h"
#include "model/formats/checkpoint.h"
#include "model/ops/error.h"

using namespace qgrpo;

namespace {

void read(model::Checkpoint& checkpoint, const std::string& name, const Shape& shape) {
  if (!checkpoint.contains(name)) return;
  try {
    checkpoint.path_of(name);
    checkpoint.storage(name);
    const model::StoredMatrix matrix = checkpoint.matrix(name, shape);
    fuzz::check(matrix.nf4 ? matrix.nf4->shape == shape : matrix.plain.shape == shape,
                "a matrix has another shape");
  } catch (const Error&) {
  }
}

}  // namespace

QGRPO_FUZZ_TARGET(weights) {
  static fuzz::Folder folder;
  const auto files = fuzz::parts(input, 2);
  const bool indexed = !files[0].empty();
  folder.set_parts(
      input, {"model.safetensors.index.json", indexed ? "part.safetensors" : "model.safetensors"});
  folder.remove(indexed ? "model.safetensors" : "part.safetensors");
  model::Checkpoint checkpoint(folder.path());
  read(checkpoint, "model.layers.0.self_attn.q_proj.weight", {2, 8});
  read(checkpoint, "model.layers.0.mlp.up_proj.weight", {2, 64});
  read(checkpoint, "lm_head.weight", {2, 8});
  read(checkpoint, "model.embed_tokens.weight", {2, 8});
  if (checkpoint.contains("model.norm.weight")) checkpoint.values("model.norm.weight", {8});
  model::Config config;
  config.num_layers = 1;
  config.tie_word_embeddings = true;
  checkpoint.check_names(config);
}
