#include "engine/owned_generator.h"

#include <algorithm>

#include "model/io/bytes.h"
#include "model/ops/error.h"

namespace qgrpo::engine {

std::size_t kv_block_bytes(const model::Model& model, std::int32_t block_size) {
  const model::Config& c = model.config();
  return static_cast<std::size_t>(2 * c.num_layers * block_size * c.kv_size()) *
         dtype_size(model.backend().activation_dtype());
}

std::size_t available_memory(const Backend& backend) {
  const auto device = backend.free_bytes();
  return device ? *device : io::available_host_memory();
}

GeneratorCapacity generator_capacity(const model::Model& model, std::int32_t max_sequences) {
  GeneratorCapacity capacity;
  capacity.block_size = kGeneratorBlockSize;
  capacity.max_sequences = max_sequences;
  // A device of its own reads, and dequantizes, all weights for each chunk of a prompt.
  const bool device = model.backend().free_bytes().has_value();
  capacity.max_tokens = std::max(device ? 1024 : 256, max_sequences);
  return capacity;
}

std::size_t generator_scratch_bytes(const model::Model& model, const GeneratorCapacity& capacity) {
  if (!model.backend().free_bytes()) return 0;  // the host's is small, and taken as it comes
  const model::Config& c = model.config();
  WorkspaceShape shape;
  shape.tokens = capacity.max_tokens;
  shape.head_rows = capacity.max_sequences;
  shape.hidden = c.hidden_size;
  shape.ffn = c.intermediate_size;
  shape.vocab = c.vocab_size;
  shape.attention = c.attention();
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    for (const model::Projection p : model::kAllProjections) {
      for (const LoraFactors& f : model.linear(l, p).adapters) {
        if (!f.a) continue;
        shape.lora_rank = std::max(shape.lora_rank, f.a.shape[0]);
        shape.lora_padded |= f.a.shape[0] % 8 != 0;
      }
    }
  }
  shape.decode_rows = capacity.max_sequences;
  shape.decode_window = capacity.window;
  shape.max_context =
      std::min(c.max_position_embeddings, std::int64_t{capacity.num_blocks} * capacity.block_size);
  shape.block_size = capacity.block_size;
  shape.linears = model.layer(0).weights[model::Projection::q]->format();
  return model.backend().workspace_bytes(shape);
}

OwnedGenerator::OwnedGenerator(const model::Model& model, const GeneratorCapacity& capacity)
    : capacity_(capacity) {
  model::Arena count;
  GeneratorBuffers::place(count, model.config(), model.backend().activation_dtype(), capacity);
  const std::size_t needed = count.used() + generator_scratch_bytes(model, capacity);
  const std::size_t available = available_memory(model.backend());
  require(needed <= available,
          "generation needs {} ({} of it KV cache for {} tokens), but only {} are free{}: lower "
          "--max-tokens, the number of completions or --batch-size",
          io::format_bytes(needed),
          io::format_bytes(kv_block_bytes(model, capacity.block_size) *
                           static_cast<std::size_t>(capacity.num_blocks)),
          std::int64_t{capacity.num_blocks} * capacity.block_size, io::format_bytes(available),
          model.backend().free_bytes() ? " on the device" : "");
  buffer_ = model.backend().allocate(count.used());
  arena_ = model::Arena(buffer_->data(), buffer_->bytes());
  generator_ = std::make_unique<Generator>(model, arena_, capacity);
}

}  // namespace qgrpo::engine
