#include "vectors.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "model/io/file.h"
#include "model/ops/error.h"

namespace qgrpo::test {

using namespace tokenizer;

TemporaryFolder::TemporaryFolder() {
  auto pattern = (std::filesystem::temp_directory_path() / "qgrpo-test-XXXXXX").string();
  require(mkdtemp(pattern.data()) != nullptr, "cannot make the folder {}", pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void TemporaryFolder::write(const std::string& name, const std::string& content) const {
  io::write_file_atomically(path_ + "/" + name, content);
}

void check_stream(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                  bool skip_special_tokens, const std::string& text) {
  StreamDecoder stream(tokenizer, skip_special_tokens);
  std::string joined;
  for (const auto id : ids) {
    const std::string piece = stream.push(id);
    CHECK(utf8::is_valid(piece));
    joined += piece;
  }
  joined += stream.flush();
  CHECK(joined == text);
}

void check_encodings(const Tokenizer& tokenizer, const io::JsonValue& entries) {
  for (const auto& entry : entries.as_array()) {
    const auto text = entry.at("text").as_string();
    CAPTURE(text);
    const auto ids = entry.at("ids").as_ids();
    const auto decoded = entry.at("decoded").as_string();
    const auto without_special = entry.at("decoded_skip_special").as_string();
    CHECK(tokenizer.encode(text) == ids);
    CHECK(tokenizer.decode(ids) == decoded);
    CHECK(tokenizer.decode(ids, true) == without_special);
    check_stream(tokenizer, ids, false, decoded);
    check_stream(tokenizer, ids, true, without_special);
  }
}

}  // namespace qgrpo::test
