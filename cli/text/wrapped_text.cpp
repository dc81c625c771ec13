#include "cli/text/wrapped_text.h"

#include <algorithm>
#include <string_view>

#include "model/ops/program.h"

namespace qgrpo::cli {
namespace {

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

// One line of the text.
void wrap_line(std::string_view line, std::size_t columns, std::size_t hanging, std::string& out) {
  if (code_points(line) <= columns) {
    out += line;
    return;
  }
  const std::size_t indent = std::min(line.find_first_not_of(' '), line.size());
  out += line.substr(0, indent);
  std::size_t used = indent;
  bool first = true;
  for (std::size_t begin = indent; begin < line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    const std::string_view word = line.substr(begin, end - begin);
    begin = std::min(line.find_first_not_of(' ', end), line.size());
    const std::size_t size = code_points(word);
    if (!first && used + 1 + size > columns) {
      out += '\n';
      out.append(indent + hanging, ' ');
      used = indent + hanging;
    } else if (!first) {
      out += ' ';
      ++used;
    }
    out += word;
    used += size;
    first = false;
  }
}

}  // namespace

std::string wrapped(const std::string& text, std::size_t columns, std::size_t hanging) {
  std::string out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    wrap_line(std::string_view(text).substr(begin, end - begin), columns, hanging, out);
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

std::string as_called(std::string text) {
  constexpr std::string_view kName = "qgrpo ";
  if (program_name == "qgrpo") return text;
  for (std::size_t at = 0; (at = text.find(kName, at)) != std::string::npos;) {
    const bool word = at == 0 || text[at - 1] == ' ' || text[at - 1] == '\n';
    if (word) text.replace(at, kName.size() - 1, program_name);
    at += word ? program_name.size() : kName.size();
  }
  return text;
}

}  // namespace qgrpo::cli
