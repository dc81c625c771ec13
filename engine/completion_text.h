#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/sequence.h"
#include "engine/stop.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::engine {

// Where completions end beside their eos tokens. A stop string that is the spelling of a special token, which is
// no text, is found by its id.
struct StopWords {
  std::vector<std::string> strings;
  std::vector<std::int32_t> ids;

  // Throws Error for an empty stop string.
  static StopWords of(const std::vector<std::string>& stops, const tokenizer::Tokenizer& tokenizer);
};

// The text of one completion while it grows: whole UTF-8 characters, without special tokens, the eos token and
// what completed a stop string.
class CompletionText {
 public:
  // Both must outlive it.
  CompletionText(const tokenizer::Tokenizer& tokenizer, const StopWords& stops,
                 bool skip_special_tokens = true)
      : tokenizer_(&tokenizer),
        stops_(&stops),
        decoder_(tokenizer, skip_special_tokens),
        matcher_(stops.strings) {}

  // Takes the completion's next token; returns the text that is certain now. After the last token, and after a
  // stop, that is all of it.
  std::string push(const TokenEvent& event);

  // A stop string, or the token of one, is there: the completion is to end (FinishReason::stop).
  bool stopped() const { return stopped_; }
  // Which.
  const std::string& stop_string() const { return matcher_.matched(); }
  std::optional<std::int32_t> stop_id() const { return stop_id_; }

 private:
  const tokenizer::Tokenizer* tokenizer_;
  const StopWords* stops_;
  tokenizer::StreamDecoder decoder_;
  StopMatcher matcher_;
  bool stopped_ = false;
  std::optional<std::int32_t> stop_id_;
};

}  // namespace qgrpo::engine
