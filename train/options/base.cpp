#include "train/options/base.h"

namespace qgrpo::train {

void describe(BaseOptions& o, OptionSet& set) {
  set.group("What is trained, and on what");
  set.text("model", o.model, "DIR", "Hugging Face folder of a Qwen2/Qwen2.5 model");
  set.text("adapter", o.adapter, "DIR", "Starting adapter, a peft folder");
  set.text("chat_template", o.chat_template, "NAME",
           "chatml (for folders whose own template is missing), or a file with a Jinja template")
      .decides();
  set.text("chat_template_kwargs", o.chat_template_kwargs, "JSON",
           "Object of more variables for the chat template, e.g. {\"enable_thinking\": false}")
      .decides();
  set.choice("quantize", o.quantize, model::kQuantizeNames,
             "Base weights: nf4 (4 bits, default) or none")
      .hides_default()
      .decides();
}

}  // namespace qgrpo::train
