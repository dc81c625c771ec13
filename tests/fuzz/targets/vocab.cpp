// vocab.json and merges.txt with tokenizer_config.json, and a text to encode.
#include "fuzz/targets/tokenizer_files.h"
#include "model/io/utf8.h"
#include "tokenizer/load.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(vocab) {
  static fuzz::Folder folder;
  const auto files = fuzz::parts(input, 4);
  folder.set_parts(input, {"vocab.json", "merges.txt", "tokenizer_config.json", "text"});
  const auto loaded = tokenizer::load_tokenizer(folder.path());
  const std::string_view text = files[3].empty() ? "to be, or not  to be" : files[3];
  const std::string decoded = fuzz::check_encoding(*loaded, text);
  // Without added tokens nothing is lost, but for what NFC changes.
  if (files[2].empty() && utf8::is_ascii(text))
    fuzz::check(decoded == text, "encoding and decoding changes a text");
}
