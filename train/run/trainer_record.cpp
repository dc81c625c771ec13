#include "train/run/trainer_record.h"

#include <algorithm>
#include <filesystem>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {

std::optional<std::string> trainer_record(const std::string& path,
                                          std::initializer_list<const char*> keys) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  try {
    io::JsonDocument document;
    const io::JsonValue root = document.parse_file(path);
    if (!std::all_of(keys.begin(), keys.end(),
                     [&](const char* key) { return root.find(key).has_value(); }))
      return std::nullopt;
    const auto trainer = root.find("trainer");
    return trainer && trainer->is_string() ? trainer->as_string() : "grpo";
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace qgrpo::train
