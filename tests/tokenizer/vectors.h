#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "support/error_of.h"
#include "support/vectors.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::test {

using namespace tokenizer;

// A JSON file of tests/vectors/tokenizer.
class Vectors {
 public:
  explicit Vectors(const std::string& name)
      : root_(document_.parse_file(vector_path("tokenizer/" + name))) {}
  const io::JsonValue& root() const { return root_; }

 private:
  io::JsonDocument document_;
  io::JsonValue root_;
};

// The folder with Qwen2.5's tokenizer, 11 MB, which is not part of the repository.
inline std::optional<std::string> qwen_folder() {
  return external_path("QGRPO_QWEN_TOKENIZER", "golden/qwen2.5-tokenizer");
}

// A folder of its own for a test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

// Checks ids, decoded and decoded_skip_special of each entry of an encodings file.
void check_encodings(const Tokenizer& tokenizer, const io::JsonValue& entries);

// Checks that text given out token by token is whole UTF-8 at each step and adds up to `text`.
void check_stream(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids,
                  bool skip_special_tokens, const std::string& text);

}  // namespace qgrpo::test
