#include "train/data/taught_prompt.h"

#include <fmt/format.h>

#include <filesystem>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::train {

void write_taught_prompt(const std::string& folder, const PromptOptions& prompt) {
  io::JsonWriter w;
  w.begin_object();
  w.member("system_prompt", prompt.system_prompt);
  w.member("one_shot", prompt.one_shot);
  w.end_object();
  io::write_file_atomically(folder + "/" + kTaughtPromptFile, w.str() + "\n");
}

std::string TaughtPrompt::text() const {
  std::string what = prompt.system_prompt;
  for (char& c : what) c = c == '\n' ? ' ' : c;
  constexpr std::size_t kMost = 40;
  if (what.size() > kMost) what = what.substr(0, kMost) + "..";
  return fmt::format("system prompt: {}{}, as the model was trained ({})",
                     what.empty() ? std::string("none") : fmt::format("\"{}\"", what),
                     prompt.one_shot ? ", and a solved question" : "", file);
}

std::optional<TaughtPrompt> read_taught_prompt(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    std::error_code error;
    if (folder.empty() || !std::filesystem::is_directory(folder, error)) continue;
    TaughtPrompt taught;
    taught.file = (std::filesystem::path(folder) / kTaughtPromptFile).string();
    if (!std::filesystem::exists(taught.file, error)) continue;
    io::JsonDocument document;
    const io::JsonValue root = document.parse_file(taught.file);
    taught.prompt.system_prompt = root.at("system_prompt").as_string();
    const auto one_shot = root.find("one_shot");
    taught.prompt.one_shot = one_shot && one_shot->as_bool();
    return taught;
  }
  return std::nullopt;
}

}  // namespace qgrpo::train
