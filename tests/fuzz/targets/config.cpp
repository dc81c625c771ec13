// config.json and generation_config.json of a model's folder.
#include "fuzz/target.h"
#include "model/config_files.h"
#include "model/ops/error.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(config) {
  static fuzz::Folder folder;
  folder.set_parts(input, {"config.json", "generation_config.json"});
  try {
    model::load_generation_defaults(folder.path());
  } catch (const Error&) {
  }
  const model::Config config = model::load_config(folder.path());
  model::check_config(config, "a configuration that was read");
  model::parameter_count(config);
  for (const std::int32_t id : config.eos_token_ids) fuzz::check(id >= 0, "a token id is negative");
}
