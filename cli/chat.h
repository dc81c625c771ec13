#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "cli/common.h"

namespace qgrpo::cli {

struct ChatOptions {
  ModelOptions model;  // no model: the demo's, in output_dir
  std::string output_dir = "outputs";
  DeviceOptions device;
  SamplingOptions sampling;                  // an absent one: the folder's generation_config.json
  std::optional<std::string> system_prompt;  // absent: the chat template's
  std::optional<std::string> prompt;         // one question; only its answer is printed
  std::int64_t max_tokens = 1024;            // of an answer
  std::optional<std::uint64_t> seed;         // absent: other answers each time
};

// A conversation on standard input and `out`, answers shown as they are written. Ctrl-C stops an
// answer, Ctrl-D ends. Lines that begin with a slash are commands (/help lists them). Where the
// conversation outgrows the model's positions, its oldest turns are left out. Throws Error where
// model or adapter cannot be loaded. Returns 0.
int run_chat(const ChatOptions& given, std::ostream& out);

}  // namespace qgrpo::cli
