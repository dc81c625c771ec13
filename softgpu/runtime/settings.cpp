#include "softgpu/runtime/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "softgpu/ptx/error.h"

namespace softgpu::runtime {

std::string text_setting(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == 0 ? fallback : value;
}

std::uint64_t number_setting(const char* name, std::uint64_t fallback) {
  const std::string text = text_setting(name, "");
  if (text.empty()) return fallback;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size(),
          "{}={}: expected a whole number", name, text);
  return value;
}

bool has_setting(const char* name) {
  return !text_setting(name, "").empty();
}

int planned_failure(std::string_view entry_point) {
  static const std::string list = text_setting("SOFTGPU_FAIL", "");
  std::string_view rest = list;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    int code = 0;
    const char* end = item.data() + item.size();
    const bool good = equals != item.npos && equals > 0 &&
                      std::from_chars(item.data() + equals + 1, end, code).ptr == end && code > 0;
    require(good, "SOFTGPU_FAIL={}: expected CALL=CODE, more of them behind commas", list);
    if (item.substr(0, equals) == entry_point) return code;
  }
  return 0;
}

}  // namespace softgpu::runtime
