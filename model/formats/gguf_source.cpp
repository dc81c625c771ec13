// The tensors of a GGUF file.
#include <map>

#include "model/formats/gguf_names.h"
#include "model/formats/gguf_rows.h"
#include "model/formats/tensor_names.h"
#include "model/formats/tensor_source.h"
#include "model/gguf_config.h"
#include "model/io/gguf.h"
#include "model/io/gguf_quants.h"

namespace qgrpo::model {
namespace {

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(const std::string& path) : file_(path) {
    for (const auto& [gguf, tensor] : file_.tensors()) {
      if (const auto name = hugging_face_name(gguf)) where_[*name] = gguf;
    }
  }

  bool contains(const std::string& name) const override { return where_.count(name) != 0; }
  const std::string& path_of(const std::string&) const override { return file_.path(); }

  Storage storage(const std::string& name) const override {
    switch (static_cast<io::GgmlType>(file_.tensor(where_.at(name)).type)) {
      case io::GgmlType::f32:
        return Storage::f32;
      case io::GgmlType::f16:
        return Storage::f16;
      case io::GgmlType::bf16:
        return Storage::bf16;
      default:
        return Storage::quantized;
    }
  }

  StoredMatrix read(const std::string& name, const Shape& shape, io::Hash64& hash,
                    std::size_t& done) override {
    const std::string& gguf = where_.at(name);
    const io::GgufTensor& tensor = file_.tensor(gguf);
    check_tensor_shape(file_.path(), gguf, tensor.shape, shape, "its metadata");
    const auto data = file_.data(tensor);
    hash.add(data.data(), data.size());
    done += data.size();
    StoredMatrix out;
    const std::int64_t heads = interleaved_heads(gguf);
    const DType dtype = plain_dtype(storage(name));
    const bool aligned = reinterpret_cast<std::uintptr_t>(data.data()) % dtype_size(dtype) == 0;
    if (storage(name) != Storage::quantized && aligned) {
      out.plain = {data.data(), dtype, shape};
      if (heads == 0) return out;
      out.bytes.resize(data.size());
      move_interleaved_rows(out.bytes, data, shape[0], heads, Interleave::undo);
      out.plain.data = out.bytes.data();
      return out;
    }
    out.values.resize(shape.elements());
    io::ggml_dequantize(out.values, static_cast<io::GgmlType>(tensor.type), data.data());
    if (heads > 0) {
      const auto stored = out.values;
      move_interleaved_rows(std::as_writable_bytes(std::span(out.values)),
                            std::as_bytes(std::span(stored)), shape[0], heads, Interleave::undo);
    }
    out.plain = {out.values.data(), DType::f32, shape};
    return out;
  }

  void check_names(const Config& config) const override {
    for (const auto& [gguf, tensor] : file_.tensors()) {
      if (gguf == kRopeDivisors) continue;  // gguf_config() has read it
      const auto name = hugging_face_name(gguf);
      require(
          name && is_model_tensor(*config.family, *name),
          "{}: holds tensor \"{}\", which the architecture {} is not computed with here; take a "
          "file without it",
          file_.path(), gguf, config.family->gguf);
      require(layer_of(*name) < config.num_layers,
              "{}: holds tensor \"{}\", but its metadata says {}.block_count is {}", file_.path(),
              gguf, config.family->gguf, config.num_layers);
    }
  }
  std::string why_missing(const std::string& name) const override {
    const auto gguf = gguf_name(name);
    return gguf ? fmt::format(" (\"{}\" in GGUF)", *gguf) : "";
  }
  std::size_t total_bytes() const override { return file_.size(); }
  void drop_pages() const override { file_.drop_pages(); }

 private:
  // The heads of a matrix whose rows lie interleaved; 0: they lie in order.
  std::int64_t interleaved_heads(const std::string& gguf) const {
    const Family& family = gguf_family(file_);
    if (!family.gguf_interleaved) return 0;
    const auto count = [&](const char* key) {
      const io::GgufValue* value = file_.find(fmt::format("{}.attention.{}", family.gguf, key));
      return value != nullptr ? value->as_int() : 0;
    };
    if (gguf.ends_with(".attn_q.weight")) return count("head_count");
    if (!gguf.ends_with(".attn_k.weight")) return 0;
    const std::int64_t kv_heads = count("head_count_kv");
    return kv_heads > 0 ? kv_heads : count("head_count");
  }
  static DType plain_dtype(Storage storage) {
    return storage == Storage::f16    ? DType::f16
           : storage == Storage::bf16 ? DType::bf16
                                      : DType::f32;
  }

  io::GgufFile file_;
  std::map<std::string, std::string> where_;  // Hugging Face's name to the file's
};

}  // namespace

std::unique_ptr<TensorSource> open_gguf(const std::string& path) {
  return std::make_unique<GgufSource>(path);
}

}  // namespace qgrpo::model
