#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::engine {

// Finds stop strings in text that arrives in pieces, and says what may be shown meanwhile.
//
// The completion ends with the first byte at which any stop string is complete; where several end
// there, the longest counts. It is cut before that string, so it contains no stop string. The
// result does not depend on how the text is cut into pieces.
//
//   out += matcher.push(piece);        for every piece, until stopped()
//   if (!matcher.stopped()) out += matcher.finish();
class StopMatcher {
 public:
  // Throws Error for an empty stop string. No stop strings: all text passes at once.
  explicit StopMatcher(std::vector<std::string> stops);

  // Takes the next piece and returns the text that is now certain to belong to the completion. The
  // longest end of the text that could still become a stop string is held back. Where text and
  // stop strings are UTF-8 and pieces are whole characters, so is what is returned. After a match:
  // nothing.
  std::string push(std::string_view piece);

  // The text ends here: returns what was held back. Nothing after a match.
  std::string finish();

  bool stopped() const { return !matched_.empty(); }
  const std::string& matched() const { return matched_; }  // the stop string found, or empty

 private:
  std::size_t held_length() const;

  std::vector<std::string> stops_;
  std::string held_;  // not yet returned
  std::string matched_;
};

}  // namespace qgrpo::engine
