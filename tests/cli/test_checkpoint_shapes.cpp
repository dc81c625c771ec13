// Model folders as people have them: each scores as the plain folder of the same weights, or is
// refused with a line that says which two things contradict each other.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include "model/io/safetensors.h"
#include "support/program.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

using Tensors = std::vector<std::pair<std::string, ConstTensorView>>;

const std::string kIds = "{\"ids\":[5,17,300,42,7,101,256,33]}\n";

// The tiny model's tensors, from files that stay open.
const Tensors& tiny(bool tied = true) {
  static const auto read = [](const std::vector<std::string>& names) {
    static std::vector<std::unique_ptr<io::SafetensorsFile>> files;
    Tensors out;
    for (const auto& name : names) {
      files.push_back(std::make_unique<io::SafetensorsFile>(vector_path(name)));
      for (const auto& tensor : files.back()->names()) {
        out.emplace_back(tensor, files.back()->tensor(tensor));
      }
    }
    return out;
  };
  static const Tensors one = read({"tiny_qwen2/model.safetensors"});
  static const Tensors two = read({"tiny_qwen2_untied/model-00001-of-00002.safetensors",
                                   "tiny_qwen2_untied/model-00002-of-00002.safetensors"});
  return tied ? one : two;
}

// A folder with the tiny model's configuration, and files to be written into it.
class Folder {
 public:
  explicit Folder(bool tied = true) {
    const std::string from = tied ? "tiny_qwen2/" : "tiny_qwen2_untied/";
    for (const char* name : {"config.json", "generation_config.json"}) {
      scratch_.write(name, read_text(vector_path(from + name)));
    }
  }
  void file(const std::string& name, const Tensors& tensors) const {
    std::filesystem::create_directories(std::filesystem::path(scratch_.path(name)).parent_path());
    io::write_safetensors(scratch_.path(name), tensors);
  }
  // Names by file: as the index has them.
  void index(const std::vector<std::pair<std::string, Tensors>>& files) const {
    std::string map;
    for (const auto& [file, tensors] : files) {
      for (const auto& [name, view] : tensors) {
        map += fmt::format("{}\"{}\": \"{}\"", map.empty() ? "" : ", ", name, file);
      }
    }
    scratch_.write("model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  }
  void config(const std::string& from, const std::string& to) const {
    std::string text = read_text(scratch_.path("config.json"));
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    scratch_.write("config.json", text.replace(at, from.size(), to));
  }
  // A member more in config.json.
  void member(const std::string& text) const { config("{", "{" + text + ", "); }
  ProgramResult score() const {
    return run_qgrpo({"score", "--model", scratch_.path(), "--quantize", "none"}, kIds);
  }
  void refused(const std::vector<std::string>& names) const { check_refused(score(), 1, names); }
  std::string path() const { return scratch_.path(); }

 private:
  ScratchFolder scratch_;
};

const std::string& plain_score(bool tied = true) {
  static const auto score = [](const char* model) {
    const auto result =
        run_qgrpo({"score", "--model", vector_path(model), "--quantize", "none"}, kIds);
    REQUIRE(result.exit_code == 0);
    return result.out;
  };
  static const std::string one = score("tiny_qwen2");
  static const std::string two = score("tiny_qwen2_untied");
  return tied ? one : two;
}

// Scores as the plain folder does. `note`: what standard error says; nothing where it is empty.
void check_same(const Folder& folder, const std::string& note = "", bool tied = true) {
  const auto result = folder.score();
  CHECK(result.exit_code == 0);
  CHECK(result.out == plain_score(tied));
  if (note.empty()) {
    CHECK(result.err == "");
  } else {
    CAPTURE(result.err);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    CHECK(result.err.find("qgrpo: note: ") == 0);
    CHECK(result.err.find(note) != std::string::npos);
  }
}

Tensors renamed(const Tensors& tensors, const std::function<std::string(std::string)>& name) {
  Tensors out;
  for (const auto& [from, view] : tensors) out.emplace_back(name(from), view);
  return out;
}

Tensors half(bool second) {
  const Tensors& all = tiny();
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  return second ? Tensors(middle, all.end()) : Tensors(all.begin(), middle);
}

// A tensor with every value doubled.
struct Other {
  std::vector<float> values;
  ConstTensorView view;
  explicit Other(ConstTensorView from) : values(io::to_float(from)), view(from) {
    for (float& x : values) x *= 2.0f;
    view.data = values.data();
    view.dtype = DType::f32;
  }
};

ConstTensorView tensor(const std::string& name, bool tied = true) {
  for (const auto& [found, view] : tiny(tied)) {
    if (found == name) return view;
  }
  FAIL(name);
  return {};
}

Tensors with(Tensors tensors, const std::string& name, ConstTensorView view) {
  tensors.emplace_back(name, view);
  return tensors;
}

// The plain file with all tensors in F64.
std::string as_f64(const Tensors& tensors) {
  std::string header = "{";
  std::string data;
  for (const auto& [name, view] : tensors) {
    const auto values = io::to_float(view);
    std::string shape;
    for (int i = 0; i < view.shape.rank(); ++i) {
      shape += fmt::format("{}{}", i > 0 ? "," : "", view.shape[i]);
    }
    header += fmt::format("{}\"{}\":{{\"dtype\":\"F64\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          data.empty() ? "" : ",", name, shape, data.size(),
                          data.size() + values.size() * 8);
    for (const float value : values) {
      const double wide = value;
      data.append(reinterpret_cast<const char*>(&wide), 8);
    }
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

}  // namespace

TEST_CASE("checkpoint shapes: which files count") {
  SUBCASE("model.safetensors goes before an index of other files") {
    const Folder folder;
    folder.file("model.safetensors", tiny());
    Tensors other;
    const Other doubled(tensor("model.norm.weight"));
    for (const auto& [name, view] : tiny()) {
      other.emplace_back(name, name == "model.norm.weight" ? doubled.view : view);
    }
    folder.file("old-1.safetensors", other);
    folder.index({{"old-1.safetensors", other}});
    check_same(folder, "model.safetensors is read, as transformers does");
  }
  SUBCASE("an index of model.safetensors itself") {
    const Folder folder;
    folder.file("model.safetensors", tiny());
    folder.index({{"model.safetensors", tiny()}});
    check_same(folder);
  }
  SUBCASE("shards named ./x, and in subfolders") {
    const Folder folder;
    folder.file("a.safetensors", half(false));
    folder.file("parts/b.safetensors", half(true));
    folder.index({{"./a.safetensors", half(false)}, {"parts/b.safetensors", half(true)}});
    check_same(folder);
  }
  SUBCASE("shards outside the folder") {
    for (const char* path : {"../b.safetensors", "/tmp/b.safetensors", "a/../../b.safetensors"}) {
      const Folder folder;
      folder.index({{path, tiny()}});
      folder.refused({"model.safetensors.index.json", path, "inside the folder"});
    }
  }
  SUBCASE("tensors that the index leaves out, or puts elsewhere") {
    const Folder folder;
    folder.file("a.safetensors", half(false));
    folder.file("b.safetensors", half(true));
    folder.index({{"a.safetensors", {half(true).front()}}, {"b.safetensors", {half(false)[1]}}});
    check_same(folder);
  }
  SUBCASE("a tensor that the index names and no file has") {
    const Folder folder;
    Tensors missing = tiny();
    std::erase_if(missing, [](const auto& entry) { return entry.first == "model.norm.weight"; });
    folder.file("a.safetensors", missing);
    folder.index({{"a.safetensors", tiny()}});
    folder.refused(
        {"\"model.norm.weight\" is missing, though", "index.json says", "a.safetensors"});
  }
  SUBCASE("a shard that is not there") {
    const Folder folder;
    folder.file("a.safetensors", half(false));
    folder.index({{"a.safetensors", half(false)}, {"b.safetensors", half(true)}});
    folder.refused({"index.json", "\"b.safetensors\"", "1 of 2"});
  }
  SUBCASE("two files with one tensor") {
    const Folder folder;
    const auto norm = tensor("model.norm.weight");
    const Tensors both = with(half(false), "model.norm.weight", norm);
    folder.file("a.safetensors", both);
    folder.file("b.safetensors", half(true));
    folder.index({{"a.safetensors", half(false)}, {"b.safetensors", half(true)}});
    check_same(folder);
    const Other doubled(norm);
    folder.file("a.safetensors", with(half(false), "model.norm.weight", doubled.view));
    folder.refused({"a.safetensors", "b.safetensors", "model.norm.weight", "different values"});
  }
  SUBCASE("weights in files that nothing names") {
    const Folder folder;
    folder.refused({"no weights there", "model.safetensors"});
    folder.file("model-00001-of-00001.safetensors", tiny());
    folder.refused({"model-00001-of-00001.safetensors", "without the index"});
    std::filesystem::rename(folder.path() + "/model-00001-of-00001.safetensors",
                            folder.path() + "/pytorch_model.bin");
    folder.refused({"pytorch_model.bin", "save_pretrained"});
  }
}

TEST_CASE("checkpoint shapes: one matrix or two") {
  const auto embedding = tensor("model.embed_tokens.weight");
  SUBCASE("tied, with the same matrix stored twice") {
    const Folder folder;
    folder.file("model.safetensors", with(tiny(), "lm_head.weight", embedding));
    check_same(folder);
  }
  SUBCASE("tied, with the head's name alone") {
    const Folder folder;
    folder.file("model.safetensors", renamed(tiny(), [](const std::string& name) {
                  return name == "model.embed_tokens.weight" ? "lm_head.weight" : name;
                }));
    check_same(folder);
  }
  SUBCASE("tied, with another head: both count, as in transformers") {
    const Folder tied(false);
    tied.config("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    tied.file("model.safetensors", tiny(false));
    check_same(tied, "tie_word_embeddings is true, but lm_head.weight is stored and differs",
               false);
    // What is exported says so.
    const ScratchFolder out;
    const auto exported = run_qgrpo(
        {"export", "--model", tied.path(), "--to", "merged", "--output", out.path("merged")});
    CHECK(exported.exit_code == 0);
    CHECK(read_text(out.path("merged/config.json")).find("\"tie_word_embeddings\": false") !=
          std::string::npos);
    const auto again =
        run_qgrpo({"score", "--model", out.path("merged"), "--quantize", "none"}, kIds);
    CHECK(again.err == "");
    CHECK(again.out == plain_score(false));
  }
  SUBCASE("not tied, without a head") {
    const Folder folder;
    folder.config("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    folder.file("model.safetensors", tiny());
    folder.refused({"\"lm_head.weight\" is missing", "tie_word_embeddings is false"});
  }
}

TEST_CASE("checkpoint shapes: names and types") {
  SUBCASE("the bare model's names") {
    const Folder folder;
    folder.file("model.safetensors", renamed(tiny(), [](const std::string& name) {
                  return name.substr(std::strlen("model."));
                }));
    check_same(folder);
  }
  SUBCASE("a wrapper's names") {
    for (const std::string prefix : {"module.", "_orig_mod.", "base_model.model."}) {
      const Folder folder;
      folder.file("model.safetensors",
                  renamed(tiny(), [&](const std::string& name) { return prefix + name; }));
      folder.refused({"\"model.embed_tokens.weight\" is missing",
                      "called \"" + prefix + "model.embed_tokens.weight\""});
    }
  }
  SUBCASE("tensors of something else are left out, with a note") {
    const Folder folder;
    const auto norm = tensor("model.norm.weight");
    folder.file("model.safetensors",
                with(with(tiny(), "score.weight", norm), "v_head.summary.weight", norm));
    check_same(folder, "2 tensors that no Qwen2 model has are not read: score.weight, ..");
  }
  SUBCASE("stored buffers are nothing") {
    const Folder folder;
    folder.file("model.safetensors", with(tiny(), "model.layers.0.self_attn.rotary_emb.inv_freq",
                                          tensor("model.norm.weight")));
    check_same(folder);
  }
  SUBCASE("tensors that would change the result") {
    for (const std::string name :
         {"model.layers.0.self_attn.o_proj.bias", "model.layers.1.self_attn.q_norm.weight",
          "lm_head.bias", "model.layers.0.mlp.up_proj.qweight",
          "model.layers.0.self_attn.q_proj.lora_A.weight", "model.embed_tokens.bias"}) {
      const Folder folder;
      folder.file("model.safetensors", with(tiny(), name, tensor("model.norm.weight")));
      folder.refused({"\"" + name + "\", which no Qwen2 model has"});
    }
  }
  SUBCASE("F64") {
    const Folder folder;
    const ScratchFolder other;
    other.write("model.safetensors", as_f64(tiny()));
    std::filesystem::copy_file(other.path("model.safetensors"),
                               folder.path() + "/model.safetensors");
    check_same(folder);
  }
}

TEST_CASE("checkpoint shapes: keys of config.json that change the result") {
  const auto refuses = [](const std::string& member, const std::vector<std::string>& names) {
    CAPTURE(member);
    const Folder folder;
    folder.file("model.safetensors", tiny());
    folder.member(member);
    std::vector<std::string> all = {"config.json"};
    all.insert(all.end(), names.begin(), names.end());
    folder.refused(all);
  };
  refuses("\"is_causal\": false", {"is_causal is false"});
  refuses("\"use_mrope\": true", {"use_mrope is true"});
  refuses("\"logit_scale\": 0.5", {"logit_scale is 0.5"});
  refuses("\"num_experts\": 8", {"num_experts is 8"});
  refuses("\"quantization\": {\"bits\": 4}", {"quantization is {\"bits\":4}", "MLX"});
  refuses("\"layer_types\": [\"full_attention\", \"sliding_attention\"]", {"sliding_attention"});
  refuses("\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}",
          {"rope_scaling", "dynamic"});
  refuses("\"rope_scaling\": {\"factor\": 2.0}", {"rope_scaling", "factor is 2"});
  refuses("\"rope_scaling\": {\"rope_type\": \"yarn\"}", {"rope_scaling", "factor"});
  refuses("\"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 1",
          {"use_sliding_window", "window of 16"});

  const auto passes = [](const std::string& member) {
    CAPTURE(member);
    const Folder folder;
    folder.file("model.safetensors", tiny());
    folder.member(member);
    check_same(folder);
  };
  passes("\"is_causal\": true, \"use_mrope\": false, \"logit_scale\": 1.0, \"num_experts\": null");
  passes("\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]");
  passes("\"rope_scaling\": null, \"some_new_key\": {\"a\": 1}");
  passes("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1.0}");
  passes("\"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 3");
  passes("\"use_sliding_window\": true, \"sliding_window\": null");
}

}  // namespace qgrpo::test
