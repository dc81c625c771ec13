// A Hugging Face folder whose linears are in bitsandbytes' 4 bits, as transformers saves one.
#include "model/formats/bnb4bit.h"

#include <optional>

#include "export/export.h"
#include "export/hugging_face.h"
#include "export/output.h"
#include "export/produce_in_order.h"
#include "model/io/safetensors.h"

namespace qgrpo::exporting {
namespace {

// BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
// as transformers writes it.
void write_quantization(io::JsonWriter& w, DType compute) {
  w.key("quantization_config");
  w.begin_object();
  w.member("_load_in_4bit", true);
  w.member("_load_in_8bit", false);
  w.member("bnb_4bit_compute_dtype", torch_dtype_name(compute));
  w.member("bnb_4bit_quant_storage", "uint8");
  w.member("bnb_4bit_quant_type", "nf4");
  w.member("bnb_4bit_use_double_quant", true);
  w.member("llm_int8_enable_fp32_cpu_offload", false);
  w.member("llm_int8_has_fp16_weight", false);
  w.key("llm_int8_skip_modules");
  w.null();
  w.key("llm_int8_threshold");
  w.raw("6.0");  // transformers wants a float's spelling
  w.member("load_in_4bit", true);
  w.member("load_in_8bit", false);
  w.member("quant_method", "bitsandbytes");
  w.end_object();
}

}  // namespace

void write_bnb4bit(MergedWeights& weights, const ExportOptions& options, const std::string& folder,
                   const RecordTensor& record, const ExportProgress& progress) {
  struct Item {
    std::vector<float> source;
    std::vector<float> written;
    std::vector<std::byte> bytes;                  // of a plain tensor
    std::optional<model::Bnb4bitParts> quantized;  // of a linear
  };
  const auto& tensors = weights.tensors();
  SafetensorsFolder out(folder, options.max_shard_bytes);
  produce_in_order<Item>(
      options.threads, tensors.size(),
      [&](std::size_t i) {
        const ModelTensor& tensor = tensors[i];
        Item item;
        item.source = weights.values(tensor);
        if (tensor.linear) {
          item.quantized.emplace(nf4_quantize(item.source, tensor.shape), tensor.dtype);
          item.written.resize(item.source.size());
          nf4_dequantize(item.written, item.quantized->nf4);
        } else {
          item.bytes = to_dtype(item.source, tensor.dtype, tensor.name);
          item.written = io::to_float({item.bytes.data(), tensor.dtype, tensor.shape});
        }
        return item;
      },
      [&](std::size_t i, Item item) {
        const ModelTensor& tensor = tensors[i];
        std::vector<SafetensorsFolder::Part> parts;
        if (item.quantized) {
          for (const auto& [suffix, view] : item.quantized->views()) {
            parts.emplace_back(tensor.name + suffix, view);
          }
        } else {
          parts.push_back({tensor.name, {item.bytes.data(), tensor.dtype, tensor.shape}});
        }
        out.add(parts);
        record(tensor, item.source, item.written);
        weights.drop_pages();
        if (progress) {
          progress("quantizing", static_cast<double>(i + 1) / static_cast<double>(tensors.size()));
        }
      });
  out.finish();
  const DType compute = weights.tensors().front().dtype;
  write_folder_files(weights, folder, [&](io::JsonWriter& w) { write_quantization(w, compute); });
}

}  // namespace qgrpo::exporting
