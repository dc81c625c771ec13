#include "web/message.h"

#include <algorithm>

namespace qgrpo::web {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

bool HeaderOrder::operator()(std::string_view a, std::string_view b) const {
  return std::ranges::lexicographical_compare(a, b,
                                              [](char x, char y) { return lower(x) < lower(y); });
}

std::string Request::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string{} : found->second;
}

std::string Request::parameter(const std::string& name) const {
  const auto found = query.find(name);
  return found == query.end() ? std::string{} : found->second;
}

bool equal_secrets(std::string_view a, std::string_view b) {
  // The time follows from the length of `a`, what the client sent, alone.
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(other);
  }
  return difference == 0;
}

std::string server_sent_event(std::string_view text) {
  std::string event;
  while (true) {
    const std::size_t end = text.find('\n');
    event += "data: ";
    event += text.substr(0, end);
    event += '\n';
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return event + '\n';
}

}  // namespace qgrpo::web
