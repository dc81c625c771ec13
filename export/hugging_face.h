#pragma once

#include <functional>
#include <optional>
#include <string>

#include "export/merged_weights.h"
#include "model/io/json.h"

// What the folders of both Hugging Face targets have besides weights.
namespace qgrpo::exporting {

// Writes config.json: that of the model (made anew from a GGUF file's metadata), without its
// quantization_config; `extend` may add members. And copies generation_config.json, the tokenizer
// and the chat template (from a GGUF file: makes them).
void write_folder_files(const MergedWeights& weights, const std::string& folder,
                        const std::function<void(io::JsonWriter&)>& extend = {});

// The text of the model's chat template (Jinja), or nothing.
std::optional<std::string> chat_template_text(const std::string& model);

// "bfloat16": torch's name.
std::string torch_dtype_name(DType dtype);

// The values rounded to the type (f32, f16 or bf16), as its bytes. Throws Error naming the tensor
// where a value is not finite in it.
std::vector<std::byte> to_dtype(const std::vector<float>& values, DType dtype,
                                const std::string& name);

}  // namespace qgrpo::exporting
