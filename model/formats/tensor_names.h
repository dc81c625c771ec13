#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

// Hugging Face's names of a model's tensors.
namespace qgrpo::model {

// Whether a model of the family has a tensor of this name: model.embed_tokens.weight,
// model.norm.weight, lm_head.weight, and of a layer block_tensors(). Of a weight that bitsandbytes
// quantized also its parts (NAME.absmax, ...).
bool is_model_tensor(const Family& family, std::string_view name);

// Whether a tensor is one that programs store and nobody reads, such as the rotary embedding's
// frequencies, which follow from the configuration.
bool is_ignored_buffer(std::string_view name);

// Whether a name that is no model tensor's belongs to a module that the model has, so that leaving
// the tensor out would compute something else: "model.layers.0.self_attn.o_proj.bias".
bool is_within_model(std::string_view name);

// The names of all tensors that the model must have.
std::vector<std::string> needed_tensors(const Config& config);

// N of "model.layers.N.", or -1.
std::int64_t layer_of(std::string_view name);

}  // namespace qgrpo::model
