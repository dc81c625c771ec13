#pragma once

#include <memory>

#include "model/ops/ops.h"

namespace qgrpo::cpu {

// The reference operators of this folder behind the interface, in float32, weights dequantized to
// plain row-major matrices: slow, for tests that compare whole models with the fast backend. AdamW
// with 8-bit states is the fast backend's own (cpu/adamw.h).
std::unique_ptr<Backend> make_reference_backend();

}  // namespace qgrpo::cpu
