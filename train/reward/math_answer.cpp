#include "train/reward/math_answer.h"

#include <algorithm>
#include <array>
#include <vector>

#include "train/data/python_text.h"
#include "train/reward/answer.h"
#include "train/reward/math_lexer.h"
#include "train/reward/math_parse.h"

namespace qgrpo::train {
namespace {

constexpr auto kNowhere = std::string_view::npos;
constexpr int kMostBoxes = 8;
constexpr std::size_t kBetweenBoxes = 10;  // bytes, as math-verify has it
constexpr std::size_t kBetweenListed = 70;
constexpr std::size_t kAfterAnswer = 200;  // bytes behind "answer is" in which it is looked for

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// What a LaTeX answer and the same in plain text have in common. Words in lower case.
std::string canonical(std::string_view text) {
  std::string out;
  bool words = true;
  bool spaced = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      std::size_t end = i + 1;
      while (end < text.size() && ((text[end] | 0x20) >= 'a' && (text[end] | 0x20) <= 'z')) ++end;
      const std::string_view name = text.substr(i + 1, end - i - 1);
      constexpr std::array<std::string_view, 13> plain = {
          "text", "textbf", "textit",       "textrm",     "mathrm",       "mathbf", "mbox",
          "left", "right",  "operatorname", "textnormal", "displaystyle", "quad"};
      if (std::find(plain.begin(), plain.end(), name) != plain.end()) {
        i = end - 1;
        continue;
      }
      if (name.empty() && end < text.size()) {
        if (text[end] == '{' || text[end] == '}') {
          out += '\\';
          out += text[end];
        }
        i = end;  // \, \! \; "\ " \$ \%
        if (text[end] == '%') out += '%';
        continue;
      }
      words = false;
    }
    if (c == ' ' || c == '\n' || c == '\t' || c == '$' || c == '"' || c == '*') {
      spaced = true;
      continue;
    }
    // "1 2" is not 12.
    if (spaced && !out.empty() && is_digit(out.back()) && is_digit(c)) out += ' ';
    spaced = false;
    if (std::string_view("+-/^_=<>").find(c) != kNowhere) words = false;
    out += c;
  }
  while (!out.empty() && (out.back() == '.' || out.back() == ',')) out.pop_back();
  if (words) std::erase_if(out, [](char x) { return x == '{' || x == '}'; });
  // The letter of a choice: (A).
  if (out.size() == 3 && out[0] == '(' && out[2] == ')' && (out[1] | 0x20) >= 'a' &&
      (out[1] | 0x20) <= 'z')
    out = out.substr(1, 1);
  if (words)
    for (char& c : out)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return out;
}

// A box: where it begins and its content. A last one that is not closed goes to the end.
struct Box {
  std::size_t begin = kNowhere;
  std::size_t end = kNowhere;  // behind the brace
  std::string_view content;
};

Box last_box(std::string_view text) {
  const std::size_t boxed = text.rfind("\\boxed");
  const std::size_t framed = text.rfind("\\fbox");
  Box out;
  out.begin = boxed == kNowhere || (framed != kNowhere && framed > boxed) ? framed : boxed;
  if (out.begin == kNowhere) return out;
  std::size_t at = out.begin + (text.substr(out.begin).starts_with("\\boxed") ? 6 : 5);
  while (at < text.size() && text[at] == ' ') ++at;
  if (at >= text.size() || text[at] != '{') {
    // \boxed 5
    const std::size_t end = std::min(text.find_first_of(" $\n", at), text.size());
    out.content = text.substr(std::min(at, text.size()), end - std::min(at, end));
    out.end = end;
    return out;
  }
  std::size_t end = at + 1;
  for (int depth = 1; end < text.size(); ++end) {
    depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
    if (depth == 0) break;
  }
  out.content = text.substr(at + 1, end - at - 1);
  out.end = std::min(end + 1, text.size());
  return out;
}

// The contents of the last box and of those just before it: \boxed{2} and \boxed{3} are 2, 3.
std::optional<std::string> boxed(std::string_view text) {
  const Box last = last_box(text);
  if (last.begin == kNowhere) return std::nullopt;
  std::string out(last.content);
  std::size_t begin = last.begin;
  std::string_view before_content = last.content;
  for (int i = 1; i < kMostBoxes; ++i) {
    const std::string_view front = text.substr(0, begin);
    const Box box =
        last_box(front.substr(front.size() - std::min<std::size_t>(front.size(), 1000)));
    if (box.begin == kNowhere) break;
    const std::size_t offset = front.size() - std::min<std::size_t>(front.size(), 1000);
    const std::string_view between = front.substr(box.end + offset);
    const bool listed = between.find(" and ") != kNowhere || between.find(" or ") != kNowhere ||
                        between.find(',') != kNowhere || between.find(';') != kNowhere;
    if (between.size() >= kBetweenBoxes &&
        !(listed && between.size() < kBetweenListed && box.content != before_content))
      break;
    if (box.content != before_content) out = std::string(box.content) + "," + out;
    before_content = box.content;
    begin = box.begin + offset;
  }
  return out;
}

// A whole answer: an expression, words in it allowed (xy, \text{even}), "and" and "or" as commas.
MathAnswer formula(std::string_view text) {
  text = python_strip(text);
  if (text.size() > kMostExpression) return {};
  MathAnswer out{std::string(text), std::nullopt};
  std::vector<MathToken> tokens = math_tokens(text);
  for (MathToken& t : tokens)
    if (t.kind == Tok::word && (t.text == "and" || t.text == "or")) t.kind = Tok::comma;
  out.node = parse_math(tokens);
  return out;
}

// The content of the last $...$, $$...$$, \(...\) or \[...\] and the text behind it.
std::optional<std::pair<std::string_view, std::string_view>> last_formula(std::string_view text) {
  std::optional<std::pair<std::string_view, std::string_view>> out;
  std::size_t best = 0;
  const auto offer = [&](std::size_t begin, std::size_t end, std::size_t length) {
    if (end < begin || (out && end <= best)) return;
    best = end;
    out = std::pair(text.substr(begin, end - begin),
                    text.substr(std::min(end + length, text.size())));
  };
  for (const auto& [open, close] : {std::pair("\\(", "\\)"), std::pair("\\[", "\\]")}) {
    const std::size_t end = text.rfind(close);
    if (end == kNowhere) continue;
    const std::size_t begin = text.substr(0, end).rfind(open);
    if (begin != kNowhere) offer(begin + 2, end, 2);
  }
  std::size_t end = text.rfind('$');
  if (end != kNowhere && end > 0 && text[end - 1] == '$') --end;  // $$
  if (end != kNowhere && end > 0 && text[end - 1] != '\\') {
    const std::size_t begin = text.substr(0, end).rfind('$');
    const bool money = begin != kNowhere && begin > 0 && text[begin - 1] == '\\';
    if (begin != kNowhere && !money && text.substr(begin, end - begin).find('\n') == kNowhere)
      offer(begin + 1, end, text.substr(end).starts_with("$$") ? 2 : 1);
  }
  return out;
}

// Behind the last "answer is", "answer:" or "answer =", up to the end of the line.
std::optional<std::string_view> after_answer(std::string_view text) {
  std::string low(text);
  for (char& c : low)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  for (std::size_t at = low.rfind("answer"); at != kNowhere && low.size() - at < 2000;
       at = at == 0 ? kNowhere : low.rfind("answer", at - 1)) {
    const std::string_view line = text.substr(at, std::min(text.find('\n', at), text.size()) - at);
    const std::string_view low_line =
        std::string_view(low).substr(at, std::min<std::size_t>(line.size(), 60));
    std::size_t begin = kNowhere;
    for (const std::string_view mark : {" is:", " is", ":", "="}) {
      const std::size_t found = low_line.find(mark);
      if (found != kNowhere) begin = std::min(begin, found + mark.size());
    }
    if (begin == kNowhere) continue;
    std::string_view rest = line.substr(std::min(begin, line.size()));
    while (rest.starts_with(' ') || rest.starts_with('*') || rest.starts_with(':'))
      rest.remove_prefix(1);
    if (!rest.empty()) return rest.substr(0, kAfterAnswer);
  }
  return std::nullopt;
}

// Behind "answer is": all of it, else the first formula, else what stands before a comma or a
// bracket, since the answer comes first there.
MathAnswer first_in_prose(std::string_view text) {
  MathAnswer whole = whole_expression(text);
  if (whole.node) return whole;
  for (const auto& [open, close] :
       {std::pair("$", "$"), std::pair("\\(", "\\)"), std::pair("\\[", "\\]")}) {
    const std::string_view mark = open;
    const std::size_t begin = text.find(mark);
    if (begin == kNowhere || (begin > 0 && text[begin - 1] == '\\')) continue;
    const std::string_view inside = text.substr(begin + mark.size());
    const std::size_t start = std::min(inside.find_first_not_of('$'), inside.size());
    const std::size_t end = inside.find(close, start);
    if (end != kNowhere) return formula(inside.substr(start, end - start));
  }
  for (const std::string_view mark : {", ", " (", ". "}) {
    const MathAnswer front = last_number_expression(text.substr(0, text.find(mark)));
    if (!front.text.empty()) return front;
  }
  return last_number_expression(text);
}

// A formula between dollars, else the whole, else the last number's.
MathAnswer in_prose(std::string_view text) {
  MathAnswer whole = whole_expression(text);
  if (whole.node) return whole;
  if (const auto found = last_formula(text)) {
    const MathAnswer behind = last_number_expression(found->second);
    if (!behind.text.empty()) return behind;
    return formula(found->first);
  }
  return last_number_expression(text);
}

}  // namespace

MathAnswer math_answer(std::string_view text) {
  if (const auto content = boxed(text)) return formula(*content);
  const bool tagged = text.find("<answer>") != kNowhere;
  if (tagged) text = extract_xml_answer(text);
  if (const std::size_t at = text.rfind("####"); at != kNowhere) {
    text = python_strip(text.substr(at + 4));
    text = text.substr(0, text.find('\n'));
  }
  text = python_strip(text);
  MathAnswer whole = whole_expression(text);
  if (whole.node) return whole;
  if (const auto rest = after_answer(text)) {
    MathAnswer out = first_in_prose(*rest);
    if (!out.text.empty()) return out;
    return {std::string(python_strip(*rest)), std::nullopt};
  }
  // A short text without a number is an answer in words, as many golds are.
  MathAnswer out = in_prose(text);
  if (!out.text.empty()) return out;
  return formula(text);
}

MathAnswer math_gold(std::string_view text) {
  text = python_strip(text);
  const bool marked = text.find("\\boxed") != kNowhere || text.find("\\fbox") != kNowhere ||
                      text.find("<answer>") != kNowhere || text.find("####") != kNowhere;
  if (marked || text.size() > kAfterAnswer || text.find('\n') != kNowhere) return math_answer(text);
  return formula(text);
}

bool same_math_answer(const MathAnswer& found, const MathAnswer& wanted) {
  const std::string a = canonical(found.text);
  if (!a.empty() && a == canonical(wanted.text)) return true;
  return found.node && wanted.node &&
         same_math(*found.node, *wanted.node, MathRounding::six_decimals);
}

}  // namespace qgrpo::train
