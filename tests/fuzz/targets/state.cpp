// A checkpoint's files: trainer_state.json, experience.json, adapter_config.json.
#include "train/run/state.h"
#include "fuzz/target.h"
#include "model/ops/error.h"
#include "train/grpo/experience.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(state) {
  static fuzz::Folder folder;
  constexpr std::int64_t kVocab = 512;
  folder.set_parts(input, {"trainer_state.json", "experience.json", "adapter_config.json"});
  try {
    const auto experience = train::read_experience(folder.path() + "/experience.json", kVocab);
    const std::string once = train::experience_json(experience);
    folder.set("experience.json", once);
    fuzz::check(train::experience_json(
                    train::read_experience(folder.path() + "/experience.json", kVocab)) == once,
                "an experience changes when it is written");
  } catch (const Error&) {
  }
  const auto trainer = train::checkpoint_trainer(folder.path());
  const auto state = train::load_trainer_state(folder.path(), trainer.value_or("grpo"));
  fuzz::check(state.global_step >= 0, "a step is negative");
  train::check_same_options(state, state.options, folder.path());
}
