#pragma once

#include <functional>
#include <string>

#include "export/merged_weights.h"
#include "model/io/json.h"

// What the folders of both Hugging Face targets have besides weights.
namespace qgrpo::exporting {

// Writes config.json and generation_config.json (model::save_config_like(); `extend` may add members)
// and the tokenizer's files and chat templates (tokenizer::copy_folder_files()).
void write_folder_files(const MergedWeights& weights, const std::string& folder,
                        const std::function<void(io::JsonWriter&)>& extend = {});

// "bfloat16": torch's name.
std::string torch_dtype_name(DType dtype);

// The values rounded to the type (f32, f16 or bf16), as its bytes. Throws Error naming the tensor
// where a value is not finite in it.
std::vector<std::byte> to_dtype(const std::vector<float>& values, DType dtype,
                                const std::string& name);

}  // namespace qgrpo::exporting
