// adapter_config.json of a peft folder, with the modules that it names.
#include "fuzz/target.h"
#include "model/adapter_config.h"
#include "model/ops/error.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(adapter) {
  static fuzz::MemoryFile file;
  file.set(input);
  const model::AdapterConfig adapter(file.path());
  std::vector<model::PerProjection<bool>> has(2);
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    for (const model::Projection p : model::kAllProjections) {
      has[static_cast<std::size_t>(layer)][p] = adapter.selects(layer, p);
      const model::ModuleLora module = adapter.module(layer, p);
      fuzz::check(module.r > 0, "a module has no rank");
    }
  }
  adapter.note_unmatched(has);
}
