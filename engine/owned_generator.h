#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/generator.h"
#include "model/model.h"

// A Generator for a program that does nothing else with the device: its sizes, and its memory.
namespace qgrpo::engine {

// Bytes that the backend can still allocate: the device's, or this machine's.
std::size_t available_memory(const Backend& backend);

// Bytes of KV cache that a block of kBlockSize tokens takes, over all layers.
std::size_t kv_block_bytes(const model::Model& model);

// KV blocks that fit into half of it (GeneratorLoad::affordable_blocks).
std::int64_t affordable_blocks(const model::Model& model);

// A Generator together with its memory. Throws Error with the figures where the machine, or the
// device, has not enough.
class OwnedGenerator {
 public:
  OwnedGenerator(const model::Model& model, const GeneratorCapacity& capacity);
  Generator& operator*() { return *generator_; }
  Generator* operator->() { return generator_.get(); }
  const GeneratorCapacity& capacity() const { return capacity_; }

 private:
  GeneratorCapacity capacity_;
  std::unique_ptr<Buffer> buffer_;
  model::Arena arena_;
  std::unique_ptr<Generator> generator_;
};

}  // namespace qgrpo::engine
