#include "train/options/prompting.h"

namespace qgrpo::train {

void describe(PromptingOptions& o, OptionSet& set) {
  set.group("Prompts");
  set.text("system_prompt", o.system_prompt, "TEXT",
           "Before each question (default: the GSM8K notebook's)")
      .decides([&o] { return o.system_prompt ? "=" + *o.system_prompt : std::string("default"); });
  set.flag("one_shot", o.one_shot, "A solved question before the real one").decides();
  set.whole("max_prompt_length", o.max_prompt_length, "N",
            "Tokens; longer prompts are cut on the left")
      .within(1, 1 << 20, "longer prompts are cut on the left")
      .decides();
}

}  // namespace qgrpo::train
