#pragma once

#include <map>
#include <string>

namespace qgrpo::train {

// The options of a run as its files have them.
struct RecordedOptions {
  // Those that decide the result, by name, as text: what a resumed run must have again.
  std::map<std::string, std::string> decisive;
  // All that have a value, as a JSON object of texts and lists of them: for run.json and trackers.
  std::string json;
};

}  // namespace qgrpo::train
