#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace softgpu::runtime {

// An environment variable, or `fallback` where it is unset or empty. number_setting throws
// softgpu::Error where the text is not a whole number.
std::string text_setting(const char* name, const std::string& fallback);
std::uint64_t number_setting(const char* name, std::uint64_t fallback);
bool has_setting(const char* name);

// The code with which SOFTGPU_FAIL ("cudaMalloc=2,cudaFree=46") lets an entry point fail at once; 0:
// it is not named there. Throws softgpu::Error where that is no list of names and codes.
int planned_failure(std::string_view entry_point);

}  // namespace softgpu::runtime
