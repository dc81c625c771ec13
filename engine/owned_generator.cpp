#include "engine/owned_generator.h"

#include <algorithm>

#include "model/io/bytes.h"
#include "model/ops/error.h"
#include "model/workspace.h"

namespace qgrpo::engine {

namespace {

std::size_t block_bytes(const model::Model& model, std::int32_t block_size) {
  const model::Config& c = model.config();
  return static_cast<std::size_t>(2 * c.num_layers * block_size * c.kv_size()) *
         dtype_size(model.backend().activation_dtype());
}

// Bytes of the backend's scratch for the steps of such a Generator.
std::size_t scratch_bytes(const model::Model& model, const GeneratorCapacity& capacity) {
  const model::Config& c = model.config();
  WorkspaceShape shape = model::workspace_shape(
      c, model.layer(0).weights[model::Projection::q]->format(), model::lora_ranks(model));
  include_rollout(
      shape, capacity,
      std::min(c.context_length(), std::int64_t{capacity.num_blocks} * capacity.block_size));
  return model.backend().workspace_bytes(shape);
}

}  // namespace

std::size_t available_memory(const Backend& backend) {
  return backend.free_bytes().value_or(io::available_host_memory());
}

std::size_t kv_block_bytes(const model::Model& model) {
  return block_bytes(model, kBlockSize);
}

std::int64_t affordable_blocks(const model::Model& model) {
  return static_cast<std::int64_t>(available_memory(model.backend()) / 2 / kv_block_bytes(model));
}

OwnedGenerator::OwnedGenerator(const model::Model& model, const GeneratorCapacity& capacity)
    : capacity_(capacity) {
  const Backend& backend = model.backend();
  model::Arena count;
  GeneratorBuffers::place(count, model.config(), backend.activation_dtype(), capacity);
  const bool on_device = backend.free_bytes().has_value();
  // The host's scratch is small, and taken as it comes.
  const std::size_t needed = count.used() + (on_device ? scratch_bytes(model, capacity) : 0);
  const std::size_t available = available_memory(backend);
  require(needed <= available,
          "generation needs {} ({} of it KV cache for {} tokens), but only {} are free{}: lower "
          "--max-tokens, the number of completions or --batch-size",
          io::format_bytes(needed),
          io::format_bytes(block_bytes(model, capacity.block_size) *
                           static_cast<std::size_t>(capacity.num_blocks)),
          std::int64_t{capacity.num_blocks} * capacity.block_size, io::format_bytes(available),
          on_device ? " on the device" : "");
  buffer_ = model.backend().allocate(count.used());
  arena_ = model::Arena(buffer_->data(), buffer_->bytes());
  generator_ = std::make_unique<Generator>(model, arena_, capacity);
}

}  // namespace qgrpo::engine
