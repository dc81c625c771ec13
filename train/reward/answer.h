#pragma once

#include <string_view>

// Where a text has its answer.
namespace qgrpo::train {

// text.split("<answer>")[-1].split("</answer>")[0].strip(), a part of `text`.
std::string_view extract_xml_answer(std::string_view text);

// The part of a text in which its answer is looked for: what stands in the last <answer> (or behind
// an open one), else behind the last "####", else in the last \boxed{}, else all of it.
std::string_view answer_part(std::string_view text);

}  // namespace qgrpo::train
