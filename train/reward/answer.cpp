#include "train/reward/answer.h"

#include "train/data/python_text.h"

namespace qgrpo::train {
std::string_view extract_xml_answer(std::string_view text) {
  return python_strip(python_split_first(python_split_last(text, "<answer>"), "</answer>"));
}

std::string_view answer_part(std::string_view text) {
  if (text.find("<answer>") != std::string_view::npos) text = extract_xml_answer(text);
  constexpr std::string_view mark = "####";
  const std::size_t at = text.rfind(mark);
  if (at != std::string_view::npos) return text.substr(at + mark.size());
  constexpr std::string_view boxed = "\\boxed{";
  const std::size_t box = text.rfind(boxed);
  if (box == std::string_view::npos) return text;
  std::size_t end = box + boxed.size();
  for (int depth = 1; end < text.size(); ++end) {
    depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
    if (depth == 0) break;
  }
  return text.substr(box + boxed.size(), end - box - boxed.size());
}

}  // namespace qgrpo::train
