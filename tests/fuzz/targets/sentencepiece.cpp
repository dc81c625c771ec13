// tokenizer_config.json, and behind it a tokenizer.model. (What the library does with a model is its own; here counts
// what becomes of that.)
#include "fuzz/targets/tokenizer_files.h"
#include "tokenizer/load.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(sentencepiece) {
  static fuzz::Folder folder;
  folder.set_parts(input, {"tokenizer_config.json", "tokenizer.model"});
  const auto loaded = tokenizer::load_tokenizer(folder.path());
  fuzz::check_encoding(*loaded, "to be, or <s> not  to be");
}
