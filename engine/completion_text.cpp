#include "engine/completion_text.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo::engine {

StopWords StopWords::of(const std::vector<std::string>& stops,
                        const tokenizer::Tokenizer& tokenizer) {
  StopWords words;
  for (const auto& stop : stops) {
    require(!stop.empty(), "stop: found an empty string, expected at least one character");
    const auto id = tokenizer.token_to_id(stop);
    if (id && tokenizer.is_special(*id)) {
      words.ids.push_back(*id);
    } else {
      words.strings.push_back(stop);
    }
  }
  return words;
}

std::string CompletionText::push(const TokenEvent& event) {
  const std::int32_t id = event.sampled.token;
  const bool last = event.finish != FinishReason::none;
  std::string text;
  if (std::ranges::find(stops_->ids, id) != stops_->ids.end()) {
    text += matcher_.push(decoder_.flush());
    text += matcher_.finish();
    stopped_ = true;
    stop_id_ = id;
    return text;
  }
  // The eos token is no part of the text; ids that only the embedding has mean nothing.
  if (event.finish != FinishReason::stop && tokenizer_->id_to_token(id).has_value())
    text += matcher_.push(decoder_.push(id));
  if (last && !matcher_.stopped()) {
    text += matcher_.push(decoder_.flush());
    text += matcher_.finish();
  }
  stopped_ = matcher_.stopped();
  return text;
}

}  // namespace qgrpo::engine
