// tokenizer.json with tokenizer_config.json, and a text to encode.
#include "fuzz/targets/tokenizer_files.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(tokenizer) {
  static fuzz::Folder folder;
  const auto files = fuzz::parts(input, 3);
  folder.set_parts(input, {"tokenizer.json", "tokenizer_config.json", "text"});
  const auto loaded = tokenizer::load_tokenizer(folder.path());
  tokenizer::special_tokens(folder.path(), *loaded);
  fuzz::check_encoding(*loaded, files[2].empty() ? "to be, or <|im_end|> not  to be" : files[2]);
  tokenizer::load_chat_template(folder.path(), *loaded);
}
