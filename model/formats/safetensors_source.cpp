// The tensors of a Hugging Face folder.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "model/formats/bnb4bit.h"
#include "model/formats/path_kind.h"
#include "model/formats/tensor_names.h"
#include "model/formats/tensor_source.h"
#include "model/io/json.h"
#include "model/io/notes.h"
#include "model/io/paths.h"
#include "model/io/safetensors.h"

namespace qgrpo::model {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kIndex = "model.safetensors.index.json";

// The files of the index, by tensor; nothing where there is no index.
struct Index {
  std::string path;
  std::map<std::string, std::string> file_of;
  std::set<std::string> files() const {
    std::set<std::string> out;
    for (const auto& [name, file] : file_of) out.insert(file);
    return out;
  }
};

Index read_index(const std::string& folder) {
  Index index{folder + "/" + kIndex, {}};
  io::JsonDocument document;
  const io::JsonValue map = document.parse_file(index.path).at("weight_map");
  for (const auto& [name, value] : map.as_object()) {
    const fs::path file = fs::path(value.as_string()).lexically_normal();
    require(file.is_relative() && !file.empty() && *file.begin() != "..",
            "{}: found the path \"{}\", expected one inside the folder", value.where(),
            value.as_string());
    index.file_of[name] = file.string();
  }
  require(!index.file_of.empty(), "{}: names no tensors, expected those of the weights' files",
          map.where());
  return index;
}

// The files that hold the weights, by transformers' rule: the single one goes before the index.
struct Files {
  Index index;  // without a path where it does not count
  std::vector<std::string> paths;
};

Files choose_files(const std::string& folder) {
  Files out;
  const bool indexed = io::exists(folder + "/" + kIndex);
  if (io::exists(folder + "/" + kSingle)) {
    out.paths.push_back(folder + "/" + kSingle);
    if (!indexed) return out;
    const auto named = read_index(folder).files();
    if (named != std::set<std::string>{kSingle}) {
      io::note(
          fmt::format("{0}: {1} is read, as transformers does; {2} beside it names other files ({3}"
                      "{4}), which are not. Remove {1} to read those",
                      folder, kSingle, kIndex, *named.begin(), named.size() > 1 ? ", .." : ""));
    }
    return out;
  }
  if (!indexed) fail_without_weights(folder);
  out.index = read_index(folder);
  const auto files = out.index.files();
  std::size_t there = 0;
  for (const auto& file : files) {
    out.paths.push_back(folder + "/" + file);
    if (io::exists(out.paths.back())) ++there;
  }
  for (const auto& file : files) {
    require(io::exists(folder + "/" + file),
            "{}: names the file \"{}\", which is not there ({} of {} are); fetch the missing ones",
            out.index.path, file, there, files.size());
  }
  return out;
}

class SafetensorsSource : public TensorSource {
 public:
  explicit SafetensorsSource(const std::string& folder) : folder_(folder) {
    Files files = choose_files(folder);
    index_ = std::move(files.index);
    for (const auto& path : files.paths) {
      files_.push_back(std::make_unique<io::SafetensorsFile>(path));
      total_ += io::file_size(path);
      add_names(files_.size() - 1);
    }
    use_head_as_embedding();
    bnb4bit_ = std::any_of(where_.begin(), where_.end(), [](const auto& entry) {
      return entry.first.find(".quant_state.bitsandbytes__") != std::string::npos;
    });
  }

  bool contains(const std::string& name) const override { return where_.count(name) != 0; }
  const std::string& path_of(const std::string& name) const override { return file(name).path(); }
  bool bnb4bit() const override { return bnb4bit_; }

  Storage storage(const std::string& name) const override {
    // Which of the two it is, its parts decide: as read() finds them.
    if (is_bnb4bit(find_, name)) {
      return read_bnb4bit(find_, name).nf4 ? Storage::nf4 : Storage::quantized;
    }
    const std::string& type = plain_type(name);
    return type == "BF16" ? Storage::bf16 : type == "F16" ? Storage::f16 : Storage::f32;
  }

  StoredMatrix read(const std::string& name, const Shape& shape, io::Hash64& hash,
                    std::size_t& done) override {
    const io::SafetensorsFile& in = file(name);
    StoredMatrix out;
    if (!is_bnb4bit(find_, name)) {
      check_tensor_shape(in.path(), name, in.shape(name), shape, "config.json");
      if (plain_type(name) == "F64") {
        out.values = in.values(name);
        out.plain = {out.values.data(), DType::f32, shape};
        done += out.plain.bytes() * 2;
      } else {
        out.plain = in.tensor(name);
        done += out.plain.bytes();
      }
      hash.add(out.plain.data, out.plain.bytes());
      return out;
    }
    Bnb4bitWeight weight = read_bnb4bit(find_, name);
    check_tensor_shape(in.path(), name, weight.shape, shape, "config.json");
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

  void check_names(const Config& config) const override {
    const Family& family = *config.family;
    std::vector<std::string> unread;
    for (const auto& [name, at] : where_) {
      const std::string& path = files_[at]->path();
      require(layer_of(name) < config.num_layers,
              "{}: holds tensor \"{}\", but config.json says num_hidden_layers is {}", path, name,
              config.num_layers);
      if (is_model_tensor(family, name) || is_ignored_buffer(name)) continue;
      require(!is_within_model(name),
              "{}: holds tensor \"{}\", which no {} model has, but config.json says model_type is "
              "\"{}\"; expected plain weights: of that architecture, with adapters merged, not "
              "quantized but by bitsandbytes",
              path, name, family.name, family.model_type);
      unread.push_back(name);
    }
    if (unread.empty()) return;
    io::note(fmt::format("{}: {} tensor{} that no {} model has {} not read: {}{}", folder_,
                         unread.size(), unread.size() == 1 ? "" : "s", family.name,
                         unread.size() == 1 ? "is" : "are", unread.front(),
                         unread.size() > 1 ? ", .." : ""));
  }

  std::string why_missing(const std::string& name) const override {
    if (const auto said = index_.file_of.find(name); said != index_.file_of.end()) {
      return fmt::format(", though {} says that {} holds it", index_.path, said->second);
    }
    if (name == kHead && contains(kEmbedding)) {
      return ", but config.json says tie_word_embeddings is false (or leaves it out, which means "
             "the same)";
    }
    // A wrapper's names: "module.model.layers.0. ..".
    for (const auto& [found, at] : where_) {
      if (found.size() > name.size() && found.ends_with(name) &&
          found[found.size() - name.size() - 1] == '.') {
        return fmt::format("; it is called \"{}\" there: save the model without what wraps it",
                           found);
      }
    }
    return where_.empty() ? "" : fmt::format("; there is \"{}\"", where_.begin()->first);
  }

  std::size_t total_bytes() const override { return total_; }
  void drop_pages() const override {
    for (const auto& in : files_) in->drop_pages();
  }

 private:
  // A tied model may be saved with either name for the one matrix.
  void use_head_as_embedding() {
    const auto head = where_.find(kHead);
    if (contains(kEmbedding) || head == where_.end()) return;
    files_[head->second]->rename(kHead, kEmbedding);
    where_[kEmbedding] = head->second;
    where_.erase(head);
  }
  void add_names(std::size_t number) {
    io::SafetensorsFile& in = *files_[number];
    for (std::string name : in.names()) {
      // As the bare Qwen2Model calls them.
      for (const char* own : {"layers.", "embed_tokens.", "norm."}) {
        if (!name.starts_with(own)) continue;
        const std::string full = "model." + name;
        in.rename(name, full);
        name = full;
        break;
      }
      const auto [known, fresh] = where_.emplace(name, number);
      require(fresh || same(*files_[known->second], in, name),
              "{} and {} both hold tensor \"{}\", with different values; remove the file that is "
              "not the model's",
              files_[known->second]->path(), in.path(), name);
    }
  }
  static bool same(const io::SafetensorsFile& a, const io::SafetensorsFile& b,
                   const std::string& name) {
    return a.type(name) == b.type(name) && a.shape(name) == b.shape(name) &&
           std::equal(a.bytes(name).begin(), a.bytes(name).end(), b.bytes(name).begin());
  }
  const io::SafetensorsFile& file(const std::string& name) const {
    return *files_[where_.at(name)];
  }
  const std::string& plain_type(const std::string& name) const {
    const std::string& type = file(name).type(name);
    require(type == "F32" || type == "F16" || type == "BF16" || type == "F64",
            "{}: tensor \"{}\" has the type {}, expected F32, F16, BF16 or F64", file(name).path(),
            name, type);
    return type;
  }

  FindFile find_ = [this](const std::string& name) {
    const auto found = where_.find(name);
    return found == where_.end() ? nullptr : files_[found->second].get();
  };
  std::string folder_;
  Index index_;
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::map<std::string, std::size_t> where_;
  std::size_t total_ = 0;
  bool bnb4bit_ = false;
};

}  // namespace

bool has_safetensors(const std::string& folder) {
  if (io::exists(folder + "/" + kSingle)) return true;
  if (!io::exists(folder + "/" + kIndex)) return false;
  const auto files = read_index(folder).files();
  return std::all_of(files.begin(), files.end(),
                     [&](const auto& file) { return io::exists(folder + "/" + file); });
}

std::unique_ptr<TensorSource> open_safetensors_folder(const std::string& folder) {
  return std::make_unique<SafetensorsSource>(folder);
}

}  // namespace qgrpo::model
