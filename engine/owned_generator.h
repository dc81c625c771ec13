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

inline constexpr std::int32_t kGeneratorBlockSize = 16;  // tokens a KV block

// The sizes of a Generator but for its blocks.
GeneratorCapacity generator_capacity(const model::Model& model, std::int32_t max_sequences);

// Bytes of a device's scratch for such a Generator's steps; 0 on the CPU.
std::size_t generator_scratch_bytes(const model::Model& model, const GeneratorCapacity& capacity);

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

// Bytes of KV cache that one block of `block_size` tokens takes, over all layers.
std::size_t kv_block_bytes(const model::Model& model, std::int32_t block_size);

}  // namespace qgrpo::engine
