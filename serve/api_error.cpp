#include "serve/api_error.h"

#include "model/io/json.h"

namespace qgrpo::serve {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 400:
    case 408:
    case 414:
      return "BadRequestError";
    case 401:
      return "AuthenticationError";
    case 403:
      return "PermissionDeniedError";
    case 404:
      return "NotFoundError";
    case 405:
      return "MethodNotAllowedError";
    case 413:
      return "RequestTooLargeError";
    case 429:
      return "TooManyRequestsError";
    case 501:
      return "NotImplementedError";
    case 503:
      return "ServiceUnavailableError";
    default:
      return "InternalServerError";
  }
}

}  // namespace

std::string error_json(int status, const std::string& message, const std::string& param) {
  io::JsonWriter json;
  json.begin_object();
  json.key("error");
  json.begin_object();
  json.member("message", message);
  json.member("type", type_of(status));
  json.key("param");
  param.empty() ? json.null() : json.value(param);
  json.member("code", status);
  json.end_object();
  json.end_object();
  return json.str();
}

web::Response error_response(int status, const std::string& message, const std::string& param) {
  web::Response response;
  response.status = status;
  response.body = error_json(status, message, param);
  if (status == 429) response.headers.emplace_back("Retry-After", "1");
  return response;
}

}  // namespace qgrpo::serve
