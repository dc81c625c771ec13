#include "train/options/base.h"

#include <filesystem>

#include "model/io/hash.h"

namespace qgrpo::train {
namespace {

// A name with what stands behind it: "NAME (fingerprint of the file)"; the name alone where there is
// no such file.
std::string identified(const std::string& name, const std::string& file) {
  std::error_code error;
  if (name.empty() || !std::filesystem::is_regular_file(file, error)) return name;
  return fmt::format("{} ({:016x})", name, io::file_fingerprint(file));
}

}  // namespace

void describe(BaseOptions& o, OptionSet& set) {
  set.group("What is trained, and on what");
  set.text("model", o.model, "DIR",
           "Hugging Face folder of a Qwen2.5, Qwen3, Llama or Mistral model");
  set.text("adapter", o.adapter, "DIR", "Starting adapter, a peft folder").decides([&o] {
    return identified(o.adapter, o.adapter + "/adapter_model.safetensors");
  });
  set.text("chat_template", o.chat_template, "NAME",
           "chatml (for folders whose own template is missing), or a file with a Jinja template")
      .decides([&o] { return identified(o.chat_template, o.chat_template); });
  set.text("chat_template_kwargs", o.chat_template_kwargs, "JSON",
           "Object of more variables for the chat template, e.g. {\"enable_thinking\": false}")
      .decides();
  set.choice("quantize", o.quantize, model::kQuantizeNames,
             "Base weights: nf4 (4 bits, default) or none")
      .hides_default()
      .decides();
}

}  // namespace qgrpo::train
