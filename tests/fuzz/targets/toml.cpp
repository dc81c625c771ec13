// A configuration file of `train` and `sft`.
#include "cli/toml_options.h"
#include "fuzz/target.h"
#include "train/grpo/options.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(toml) {
  static fuzz::MemoryFile file;
  file.set(input);
  train::TrainOptions options;
  train::OptionSet set;
  train::describe(options, set);
  cli::apply_toml(set, "train", file.path());
  set.check();
  const std::string once = cli::toml_of(set, "train", "");
  // What is written is read again, to the same.
  file.set(once);
  train::TrainOptions same;
  train::OptionSet again;
  train::describe(same, again);
  cli::apply_toml(again, "train", file.path());
  fuzz::check(again.decisive() == set.decisive(), "options change when they are written");
}
