#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "softgpu/exec/fault.h"

namespace softgpu::runtime {

// The name and the sentence of a cudaError_t; "unrecognized error code" for both where it is none.
const char* error_name(int code);
const char* error_text(int code);

// What an entry point answers: a code, and for people a line that says more. An empty message (a
// query that found nothing, an error that the caller surely expects) is not printed.
class ApiError : public std::runtime_error {
 public:
  ApiError(cudaError_t code, const std::string& message)
      : std::runtime_error(message), code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

template <typename... Args>
[[noreturn]] void refuse(cudaError_t code, fmt::format_string<Args...> format, Args&&... args) {
  throw ApiError(code, fmt::format(format, std::forward<Args>(args)...));
}
[[noreturn]] inline void refuse(cudaError_t code) {
  throw ApiError(code, "");
}

// A fault of work that was accepted earlier: poisons the context.
class FaultError : public std::runtime_error {
 public:
  FaultError(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  cudaError_t code() const { return static_cast<cudaError_t>(code_); }

 private:
  int code_;
};

}  // namespace softgpu::runtime
