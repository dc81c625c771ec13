#include "softgpu/runtime/settings.h"

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

}  // namespace softgpu::runtime
