#pragma once

#include <cstdint>
#include <string>

namespace softgpu::runtime {

// An environment variable, or `fallback` where it is unset or empty. number_setting throws
// softgpu::Error where the text is not a whole number.
std::string text_setting(const char* name, const std::string& fallback);
std::uint64_t number_setting(const char* name, std::uint64_t fallback);
bool has_setting(const char* name);

}  // namespace softgpu::runtime
