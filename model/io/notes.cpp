#include "model/io/notes.h"

#include <fmt/format.h>

#include <mutex>
#include <set>

#include "model/io/standard_streams.h"
#include "model/io/utf8.h"

namespace qgrpo::io {
namespace {

constexpr std::size_t kLongestLine = 4096;  // bytes
constexpr std::size_t kLineEnd = 512;       // of them, behind what was left out

bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

// The text without its middle, cut between characters.
std::string shortened(const std::string& text) {
  const auto inside = [&](std::size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
  };
  std::size_t begin = kLongestLine - kLineEnd - 64;
  std::size_t end = text.size() - kLineEnd;
  while (inside(begin)) --begin;
  while (inside(end)) ++end;
  return fmt::format("{} [.. {} bytes ..] {}", std::string_view(text).substr(0, begin), end - begin,
                     std::string_view(text).substr(end));
}

struct Notes {
  std::mutex mutex;
  std::set<std::string> said;
  std::function<void(const std::string&)> sink;
};

Notes& notes() {
  static Notes instance;
  return instance;
}

}  // namespace

std::string shown_line(std::string_view text) {
  std::string bytes(text);
  std::string valid;
  utf8::decode(bytes, valid, utf8::Replacement::kMaximalPart, /*last=*/true);
  std::string out;
  for (std::size_t at = 0; at < valid.size();) {
    const char32_t c = utf8::next(valid, at);
    if (c == '\n' || c == '\r' || c == '\t') {
      out += ' ';
    } else if (is_control(c)) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else {
      utf8::append(out, c);
    }
  }
  return out.size() <= kLongestLine ? out : shortened(out);
}

void note(const std::string& text) {
  Notes& n = notes();
  const std::lock_guard lock(n.mutex);
  if (n.sink) {
    n.sink(text);
  } else if (n.said.insert(text).second) {
    print_error("qgrpo: note: {}\n", shown_line(text));
  }
}

void set_note_sink(std::function<void(const std::string&)> sink) {
  Notes& n = notes();
  const std::lock_guard lock(n.mutex);
  n.sink = std::move(sink);
}

}  // namespace qgrpo::io
