// What a Hub answers: headers up to an empty line, then a body, which is a commit, a list of files or an error.
#include "fuzz/target.h"
#include "hub/answers.h"
#include "hub/http.h"
#include "model/ops/error.h"

using namespace qgrpo;

namespace {

hub::Headers read_headers(std::string_view& input) {
  hub::Headers headers;
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size() - 1) + 1;
    const std::string_view line = input.substr(0, end);
    input.remove_prefix(end);
    if (line == "\n" || line == "\r\n") break;
    hub::add_header(headers, line);
  }
  return headers;
}

}  // namespace

QGRPO_FUZZ_TARGET(hub) {
  hub::Response response;
  response.headers = read_headers(input);
  response.body = std::string(input);
  response.status = 418;
  response.url = "https://huggingface.co/api/models/a/b";
  hub::next_page(response.headers);
  hub::explain(response, "a/b", hub::Settings());
  try {
    hub::read_commit(response.body, response.url);
  } catch (const Error&) {
  }
  for (const hub::RepoFile& file : hub::read_files(response.body, response.url)) {
    fuzz::check(!file.path.empty() && file.path.front() != '/', "a path leads out of the folder");
    fuzz::check(("/" + file.path + "/").find("/../") == std::string::npos,
                "a path leads out of the folder");
  }
}
