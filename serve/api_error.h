#pragma once

#include <string>
#include <utility>

#include "model/ops/error.h"
#include "web/message.h"

namespace qgrpo::serve {

// What is answered with an HTTP status other than 200. `param`: the field of the request that is at fault, or "".
class ApiError : public Error {
 public:
  ApiError(int status, const std::string& message, std::string param = {})
      : Error(message), status_(status), param_(std::move(param)) {}

  int status() const { return status_; }
  const std::string& param() const { return param_; }

 private:
  int status_;
  std::string param_;
};

template <typename... Args>
void require_request(bool condition, const char* param, fmt::format_string<Args...> format,
                     Args&&... args) {
  if (!condition) throw ApiError(400, fmt::format(format, std::forward<Args>(args)...), param);
}

// {"error": {"message", "type", "param", "code"}}: OpenAI's form, with vLLM's names of the types.
std::string error_json(int status, const std::string& message, const std::string& param = {});
web::Response error_response(int status, const std::string& message, const std::string& param = {});

}  // namespace qgrpo::serve
