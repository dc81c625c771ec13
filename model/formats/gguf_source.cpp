// The tensors of a GGUF file.
#include <map>

#include "model/formats/gguf_names.h"
#include "model/formats/tensor_names.h"
#include "model/formats/tensor_source.h"
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
    const DType dtype = plain_dtype(storage(name));
    const bool aligned = reinterpret_cast<std::uintptr_t>(data.data()) % dtype_size(dtype) == 0;
    if (storage(name) != Storage::quantized && aligned) {
      out.plain = {data.data(), dtype, shape};
      return out;
    }
    out.values.resize(shape.elements());
    io::ggml_dequantize(out.values, static_cast<io::GgmlType>(tensor.type), data.data());
    out.plain = {out.values.data(), DType::f32, shape};
    return out;
  }

  void check_names(std::int64_t num_layers) const override {
    for (const auto& [gguf, tensor] : file_.tensors()) {
      const auto name = hugging_face_name(gguf);
      require(
          name && is_model_tensor(*name),
          "{}: holds tensor \"{}\", which the architecture qwen2 is not computed with here; take "
          "a file without it",
          file_.path(), gguf);
      require(layer_of(*name) < num_layers,
              "{}: holds tensor \"{}\", but its metadata says qwen2.block_count is {}",
              file_.path(), gguf, num_layers);
    }
  }
  std::string why_missing(const std::string& name) const override {
    const auto gguf = gguf_name(name);
    return gguf ? fmt::format(" (\"{}\" in GGUF)", *gguf) : "";
  }
  std::size_t total_bytes() const override { return file_.size(); }
  void drop_pages() const override { file_.drop_pages(); }

 private:
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
