#include "model/formats/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>

#include "model/formats/bnb4bit.h"
#include "model/formats/gguf_names.h"
#include "model/io/gguf.h"
#include "model/io/gguf_quants.h"
#include "model/io/hash.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"

namespace qgrpo::model {

// One way of storing tensors. Names are Hugging Face's.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual bool contains(const std::string& name) const = 0;
  virtual const std::string& path_of(const std::string& name) const = 0;
  virtual Storage storage(const std::string& name) const = 0;
  // Adds what it read to the hash and to `done`.
  virtual StoredMatrix read(const std::string& name, const Shape& shape, io::Hash64& hash,
                            std::size_t& done) = 0;
  virtual bool bnb4bit() const { return false; }
  virtual std::size_t total_bytes() const = 0;
  virtual void drop_pages() const = 0;
};

struct Checkpoint::Progress {
  std::string path;
  std::size_t done = 0;
  io::Hash64 hash;
};

namespace {

void check_shape(const std::string& path, const std::string& name, const Shape& found,
                 const Shape& expected, const char* config) {
  require(found == expected, "{}: tensor \"{}\" is {}, but {} says {}", path, name, found.str(),
          config, expected.str());
}

class SafetensorsSource : public TensorSource {
 public:
  explicit SafetensorsSource(const std::string& folder) {
    const std::string single = folder + "/model.safetensors";
    const std::string index = folder + "/model.safetensors.index.json";
    if (std::filesystem::exists(index)) {
      io::JsonDocument document;
      const io::JsonValue map = document.parse_file(index).at("weight_map");
      std::map<std::string, std::size_t> opened;
      for (const auto& [name, value] : map.as_object()) {
        const std::string shard = value.as_string();
        require(shard.find('/') == std::string::npos,
                "{}: found the path \"{}\", expected a file name", value.where(), shard);
        auto [found, fresh] = opened.emplace(shard, files_.size());
        if (fresh) files_.push_back(std::make_unique<io::SafetensorsFile>(folder + "/" + shard));
        const io::SafetensorsFile& file = *files_[found->second];
        require(file.contains(name), "{}: tensor \"{}\" is missing, though {} says it is there",
                file.path(), name, index);
        where_[name] = found->second;
      }
    } else if (std::filesystem::exists(single)) {
      files_.push_back(std::make_unique<io::SafetensorsFile>(single));
      for (const auto& name : files_[0]->names()) where_[name] = 0;
    } else {
      fail(
          "{}: no weights there; expected model.safetensors or model.safetensors.index.json with "
          "its shards",
          folder);
    }
    for (const auto& file : files_) total_ += std::filesystem::file_size(file->path());
    bnb4bit_ = std::any_of(where_.begin(), where_.end(), [](const auto& entry) {
      return entry.first.find(".quant_state.bitsandbytes__") != std::string::npos;
    });
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, file] : where_) out.push_back(name);
    return out;
  }
  bool contains(const std::string& name) const override { return where_.count(name) != 0; }
  const std::string& path_of(const std::string& name) const override { return file(name).path(); }
  bool bnb4bit() const override { return bnb4bit_; }

  Storage storage(const std::string& name) const override {
    // Which of the two it is, its parts decide: as read() finds them.
    if (is_bnb4bit(find_, name)) {
      return read_bnb4bit(find_, name).nf4 ? Storage::nf4 : Storage::quantized;
    }
    switch (plain(name).dtype) {
      case DType::bf16:
        return Storage::bf16;
      case DType::f16:
        return Storage::f16;
      default:
        return Storage::f32;
    }
  }

  StoredMatrix read(const std::string& name, const Shape& shape, io::Hash64& hash,
                    std::size_t& done) override {
    const io::SafetensorsFile& in = file(name);
    StoredMatrix out;
    if (!is_bnb4bit(find_, name)) {
      out.plain = plain(name);
      check_shape(in.path(), name, out.plain.shape, shape, "config.json");
      hash.add(out.plain.data, out.plain.bytes());
      done += out.plain.bytes();
      return out;
    }
    Bnb4bitWeight weight = read_bnb4bit(find_, name);
    check_shape(in.path(), name, weight.shape, shape, "config.json");
    done += in.tensor(name).bytes();
    if (weight.nf4) {
      out.nf4 = std::move(weight.nf4);
      hash.add(out.nf4->packed.data(), out.nf4->packed.size());
      hash.add(out.nf4->absmax.data(), out.nf4->absmax.size());
      hash.add(out.nf4->nested_absmax.data(), out.nf4->nested_absmax.size() * sizeof(float));
      hash.add(&out.nf4->offset, sizeof(float));
      return out;
    }
    out.values = std::move(weight.values);
    out.plain = {out.values.data(), DType::f32, shape};
    hash.add(out.values.data(), out.plain.bytes());
    return out;
  }

  std::size_t total_bytes() const override { return total_; }
  void drop_pages() const override {
    for (const auto& in : files_) in->drop_pages();
  }

 private:
  const io::SafetensorsFile& file(const std::string& name) const {
    return *files_[where_.at(name)];
  }
  ConstTensorView plain(const std::string& name) const {
    const ConstTensorView view = file(name).tensor(name);
    require(view.dtype == DType::f32 || view.dtype == DType::f16 || view.dtype == DType::bf16,
            "{}: tensor \"{}\" has the type {}, expected F32, F16 or BF16", file(name).path(), name,
            dtype_name(view.dtype));
    return view;
  }

  FindFile find_ = [this](const std::string& name) {
    const auto found = where_.find(name);
    return found == where_.end() ? nullptr : files_[found->second].get();
  };
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::map<std::string, std::size_t> where_;
  std::size_t total_ = 0;
  bool bnb4bit_ = false;
};

class GgufSource : public TensorSource {
 public:
  explicit GgufSource(const std::string& path) : file_(path) {
    for (const auto& [gguf, tensor] : file_.tensors()) {
      if (const auto name = hugging_face_name(gguf)) where_[*name] = gguf;
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, gguf] : where_) out.push_back(name);
    return out;
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
    check_shape(file_.path(), gguf, tensor.shape, shape, "its metadata");
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

std::unique_ptr<TensorSource> open_source(const std::string& path) {
  if (io::is_model_file(path)) return std::make_unique<GgufSource>(path);
  return std::make_unique<SafetensorsSource>(path);
}

}  // namespace

Checkpoint::Checkpoint(const std::string& path)
    : source_(open_source(path)), progress_(std::make_unique<Progress>()) {
  progress_->path = path;
}

Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;

bool Checkpoint::contains(const std::string& name) const {
  return source_->contains(name);
}

StoredMatrix Checkpoint::matrix(const std::string& name, const Shape& shape) {
  require(contains(name), "{}: tensor \"{}\" is missing", progress_->path, name);
  return source_->read(name, shape, progress_->hash, progress_->done);
}

std::vector<float> Checkpoint::values(const std::string& name, const Shape& shape) {
  StoredMatrix read = matrix(name, shape);
  std::vector<float> out;
  if (read.nf4) {
    out.resize(shape.elements());
    nf4_dequantize(out, *read.nf4);
  } else {
    out = read.values.empty() ? io::to_float(read.plain) : std::move(read.values);
  }
  require(std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }),
          "{}: tensor \"{}\" has a value that is not finite", path_of(name), name);
  return out;
}

Storage Checkpoint::storage(const std::string& name) const {
  require(contains(name), "{}: tensor \"{}\" is missing", progress_->path, name);
  return source_->storage(name);
}

bool Checkpoint::bnb4bit() const {
  return source_->bnb4bit();
}

const std::string& Checkpoint::path_of(const std::string& name) const {
  return source_->path_of(name);
}

std::vector<std::string> Checkpoint::names() const {
  return source_->names();
}

void Checkpoint::check_layers(std::int64_t num_layers) const {
  constexpr std::string_view prefix = "model.layers.";
  for (const auto& name : names()) {
    if (!name.starts_with(prefix)) continue;
    std::int64_t layer = 0;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, layer);
    require(error != std::errc() || layer < num_layers,
            "{}: holds tensor \"{}\", but {} says num_hidden_layers is {}", path_of(name), name,
            io::is_model_file(progress_->path) ? "its metadata" : "config.json", num_layers);
  }
}

std::size_t Checkpoint::total_bytes() const {
  return source_->total_bytes();
}

std::size_t Checkpoint::done_bytes() const {
  return progress_->done;
}

std::uint64_t Checkpoint::fingerprint() const {
  return progress_->hash.value();
}

void Checkpoint::drop_pages() const {
  source_->drop_pages();
}

}  // namespace qgrpo::model
