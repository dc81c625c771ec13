#include "export/hugging_face.h"

#include <cmath>
#include <cstring>

#include "model/config_files.h"
#include "model/io/gguf.h"
#include "model/io/gguf_quants.h"
#include "tokenizer/folder_files.h"

namespace qgrpo::exporting {

void write_folder_files(const MergedWeights& weights, const std::string& folder,
                        const std::function<void(io::JsonWriter&)>& extend) {
  const std::string& model = weights.model_path();
  const model::Config& config = weights.config();
  model::save_config_like(
      model, folder, config,
      io::is_model_file(model) ? torch_dtype_name(weights.tensors().front().dtype) : "", extend);
  tokenizer::copy_folder_files(model, folder,
                               {config.eos_token_ids.empty() ? -1 : config.eos_token_ids.front(),
                                config.pad_token_id, config.max_position_embeddings});
}

std::string torch_dtype_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
}

std::vector<std::byte> to_dtype(const std::vector<float>& values, DType dtype,
                                const std::string& name) {
  std::vector<std::byte> out(values.size() * dtype_size(dtype));
  if (dtype == DType::f32) {
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits =
        dtype == DType::f16 ? io::f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    const float back = dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    require(std::isfinite(back), "tensor \"{}\": element {} is {}, beyond the range of {}", name, i,
            values[i], torch_dtype_name(dtype));
    std::memcpy(out.data() + i * 2, &bits, 2);
  }
  return out;
}

}  // namespace qgrpo::exporting
