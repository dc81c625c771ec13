#include "train/data/line_keys.h"

#include <array>

#include "model/io/foreign_keys.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

using io::ForeignKey;
using Neutral = ForeignKey::Neutral;

constexpr auto kMedia = std::to_array<ForeignKey>({
    {"image", Neutral::unset, "an image"},
    {"images", Neutral::unset, "images"},
    {"video", Neutral::unset, "a video"},
    {"videos", Neutral::unset, "videos"},
    {"audio", Neutral::unset, "sound"},
    {"audios", Neutral::unset, "sound"},
});

constexpr auto kSft = std::to_array<ForeignKey>({
    {"weight", Neutral::one, "the weight of an example"},
    {"completion_mask", Neutral::unset,
     "a mask over tokens (write \"weight\": 0 in a message instead)"},
    {"assistant_masks", Neutral::unset,
     "a mask over tokens (write \"weight\": 0 in a message instead)"},
    {"loss_mask", Neutral::unset, "a mask over tokens (write \"weight\": 0 in a message instead)"},
    {"labels", Neutral::unset, "an example of ids that are made already"},
    {"input_ids", Neutral::unset, "an example of ids that are made already"},
    {"functions", Neutral::unset, "OpenAI's older form of tools"},
});

// The line's weight of 0 would leave it out, which nobody else's does here.
void refuse_zero_weight(const io::JsonValue& line) {
  const auto weight = line.find("weight");
  if (!weight || weight->is_null()) return;
  const bool zero =
      weight->is_bool() ? !weight->as_bool() : weight->is_number() && weight->as_double() == 0.0;
  if (zero) fail("{}: weight is {}: leave the line out", line.where(), weight->minified());
}

// A "system" beside messages that do not begin with it.
void check_system(const io::JsonValue& line) {
  const auto system = line.find("system");
  if (!system || !system->is_string() || system->as_string_view().empty()) return;
  for (const char* key : {"messages", "prompt"}) {
    const auto messages = line.find(key);
    if (!messages || !messages->is_array() || messages->as_array().empty()) continue;
    const io::JsonValue first = messages->as_array().front();
    const auto role = first.find("role");
    const auto content = first.find("content");
    if (role && content && role->is_string() && content->is_string() &&
        role->as_string_view() == "system" &&
        content->as_string_view() == system->as_string_view()) {
      return;
    }
    fail(
        "{}: system is a text beside \"{}\", which is not read; expected it as the first message, "
        "{{\"role\": \"system\", \"content\": ..}}",
        line.where(), key);
  }
}

}  // namespace

void check_question_keys(const io::JsonValue& line) {
  io::refuse_keys(line, kMedia);
}

void check_sft_keys(const io::JsonValue& line) {
  io::refuse_keys(line, kMedia);
  refuse_zero_weight(line);
  io::refuse_keys(line, kSft);
  check_system(line);
}

bool is_learned(const std::string& json, const std::string& where) {
  if (json.empty()) return true;
  io::JsonDocument document;
  const io::JsonValue message = document.parse(json, where);
  for (const char* key : {"weight", "train", "loss"}) {
    const auto value = message.find(key);
    if (!value || value->is_null()) continue;
    const bool flag = value->is_bool();
    if (!flag && !value->is_number())
      fail("{}: found {}, expected 0 or 1", value->where(), value->minified());
    const double number = flag ? (value->as_bool() ? 1.0 : 0.0) : value->as_double();
    require(number == 0.0 || number == 1.0,
            "{}: found {}, expected 0 (not learned) or 1; other weights are not supported",
            value->where(), number);
    if (number == 0.0) return false;
  }
  return true;
}

}  // namespace qgrpo::train
