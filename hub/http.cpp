#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "hub/answers.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

constexpr long kMostRedirects = 10;
constexpr std::size_t kMostBody = std::size_t{256} << 20;  // of an answer that is held in memory
constexpr double kLongestPause = 30.0;
constexpr double kLongestServerPause = 60.0;

// What one exchange has under way, for libcurl's callbacks.
struct Exchange {
  const Request* request = nullptr;
  Response* response = nullptr;
  CURL* curl = nullptr;
  std::FILE* file = nullptr;
  std::uint64_t sent = 0;
  const std::function<bool()>* stopped = nullptr;
  bool was_stopped = false;
  std::string failure;  // an exception's text: none may cross libcurl
};

std::size_t on_header(char* data, std::size_t one, std::size_t size, void* user) {
  Response& response = *static_cast<Exchange*>(user)->response;
  add_header(response.headers, {data, one * size});
  return one * size;
}

std::size_t on_body(char* data, std::size_t one, std::size_t size, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view bytes(data, one * size);
  long status = 0;
  curl_easy_getinfo(exchange.curl, CURLINFO_RESPONSE_CODE, &status);
  try {
    if (exchange.request->sink && status >= 200 && status < 300) {
      return exchange.request->sink(static_cast<int>(status), bytes) ? bytes.size() : 0;
    }
    if (exchange.response->body.size() + bytes.size() > kMostBody) return 0;
    exchange.response->body += bytes;
    return bytes.size();
  } catch (const std::exception& error) {
    exchange.failure = error.what();
    return 0;
  }
}

std::size_t on_read(char* data, std::size_t one, std::size_t size, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::uint64_t left = exchange.request->file_bytes - exchange.sent;
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, one * size));
  const std::size_t got = std::fread(data, 1, wanted, exchange.file);
  if (got < wanted) {
    exchange.failure = exchange.request->file + ": has become shorter while it was sent";
    return CURL_READFUNC_ABORT;
  }
  exchange.sent += got;
  if (exchange.request->on_sent) exchange.request->on_sent(exchange.sent);
  return got;
}

int on_seek(void* user, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
  const auto at = static_cast<off_t>(exchange.request->file_offset) + static_cast<off_t>(offset);
  if (fseeko(exchange.file, at, SEEK_SET) != 0) return CURL_SEEKFUNC_FAIL;
  exchange.sent = static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& exchange = *static_cast<Exchange*>(user);
  exchange.was_stopped = *exchange.stopped && (*exchange.stopped)();
  return exchange.was_stopped ? 1 : 0;
}

using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;
using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

HeaderList headers_of(const Request& request, const Settings& settings) {
  HeaderList headers(nullptr, &curl_slist_free_all);
  const auto add = [&](const std::string& line) {
    curl_slist* next = curl_slist_append(headers.get(), line.c_str());
    require(next != nullptr, "out of memory for a header");
    static_cast<void>(headers.release());
    headers.reset(next);
  };
  for (const auto& line : request.headers) add(line);
  add("Expect:");
  const bool ours =
      request.url == settings.endpoint || request.url.starts_with(settings.endpoint + "/");
  // libcurl drops this header where a redirect leads to another host.
  if (request.authorized && ours && !settings.token.empty())
    add("Authorization: Bearer " + settings.token);
  return headers;
}

// Where to, how far redirects lead, how long to wait, and whom to trust.
void set_route(CURL* curl, const Request& request, const Settings& settings) {
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "qgrpo");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kMostRedirects);
  curl_easy_setopt(curl, CURLOPT_POSTREDIR, static_cast<long>(CURL_REDIR_POST_ALL));
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // What began in secret does not go on in the open.
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR,
                   request.url.starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings.connect_timeout));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings.stall_timeout));
  for (const char* name : {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}) {
    const char* bundle = std::getenv(name);
    if (bundle == nullptr || *bundle == '\0') continue;
    curl_easy_setopt(curl, CURLOPT_CAINFO, bundle);
    break;
  }
}

void set_callbacks(CURL* curl, Exchange& exchange) {
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &exchange);
}

// What is sent: a part of a file, which is open as long as the result lives, or a text.
File set_content(CURL* curl, const Request& request, Exchange& exchange) {
  File file(nullptr, &std::fclose);
  if (!request.file.empty()) {
    file.reset(std::fopen(request.file.c_str(), "rb"));
    if (!file || fseeko(file.get(), static_cast<off_t>(request.file_offset), SEEK_SET) != 0)
      fail("{}: cannot be read ({})", request.file, std::strerror(errno));
    exchange.file = file.get();
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(curl, CURLOPT_READDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(curl, CURLOPT_SEEKDATA, &exchange);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.file_bytes));
  } else if (request.method == "POST") {
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
  }
  return file;
}

bool transport_may_recover(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

std::string host_of(const std::string& url) {
  const std::size_t begin = url.find("://");
  if (begin == url.npos) return url;
  return url.substr(begin + 3, url.find_first_of("/?", begin + 3) - begin - 3);
}

}  // namespace

struct Http::Handle {
  CURL* curl = nullptr;
  Handle() {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    require(ready == CURLE_OK, "libcurl cannot be used here ({})", curl_easy_strerror(ready));
    curl = curl_easy_init();
    require(curl != nullptr, "libcurl cannot be used here");
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { curl_easy_cleanup(curl); }
};

Http::Http(Settings settings)
    : settings_(std::move(settings)), handle_(std::make_unique<Handle>()) {}
Http::~Http() = default;

void Http::check_stopped() const {
  require(!stopped || !stopped(), "interrupted; what is there is kept for the next time");
}

Response Http::once(const Request& request) {
  check_stopped();
  CURL* curl = handle_->curl;
  curl_easy_reset(curl);  // keeps the connection
  Response response;
  Exchange exchange;
  exchange.request = &request;
  exchange.response = &response;
  exchange.curl = curl;
  exchange.stopped = &stopped;
  const HeaderList headers = headers_of(request, settings_);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  set_route(curl, request, settings_);
  set_callbacks(curl, exchange);
  const File file = set_content(curl, request, exchange);

  const CURLcode code = curl_easy_perform(curl);
  if (!exchange.failure.empty()) throw Error(exchange.failure);
  if (exchange.was_stopped) check_stopped();
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  const char* url = nullptr;
  curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &url);
  response.url = url == nullptr ? request.url : url;
  if (code != CURLE_OK) {
    response.problem = curl_easy_strerror(code);
    response.transient = transport_may_recover(code);
  } else {
    response.transient = status == 408 || status == 429 || status >= 500;
  }
  return response;
}

void Http::pause(int attempt, const Response& response) const {
  double seconds = std::min(
      kLongestPause, settings_.retry_seconds * static_cast<double>(1 << std::min(attempt, 16)));
  if (const auto found = response.headers.find("retry-after"); found != response.headers.end()) {
    double asked = 0.0;
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), asked);
    if (error == std::errc() && end == text.data() + text.size() && asked >= 0)
      seconds = std::min(asked, kLongestServerPause);
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < until) {
    check_stopped();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

Response Http::send(const Request& request) {
  for (int attempt = 0;; ++attempt) {
    Response response = once(request);
    if (!response.transient || attempt >= settings_.retries) return response;
    pause(attempt, response);
  }
}

Response Http::demand(const Request& request, const std::string& what) {
  Response response = send(request);
  if (!response.good()) throw Error(explain(response, what, settings_));
  return response;
}

std::string explain(const Response& response, const std::string& what, const Settings& settings) {
  const std::string host = host_of(response.url);
  if (!response.problem.empty()) {
    return fmt::format(
        "{}: {} gives no whole answer ({}{}); check the network, HF_ENDPOINT and https_proxy, or "
        "work from the cache alone with HF_HUB_OFFLINE=1",
        what, host, response.problem,
        response.transient ? fmt::format(", also after {} retries", settings.retries) : "");
  }
  const auto code = [&] {
    const auto found = response.headers.find("x-error-code");
    return found == response.headers.end() ? std::string() : found->second;
  }();
  const char* token = settings.token.empty() ? "no token was given" : "with the token given";
  std::string text;
  if (code == "GatedRepo") {
    text = fmt::format(
        "is gated ({}): accept its terms on its page at {}, then give a token of that account "
        "(HF_TOKEN)",
        token, settings.endpoint);
  } else if (code == "RevisionNotFound") {
    text = "has no such revision: check what stands behind the @";
  } else if (code == "EntryNotFound") {
    text = "has no such file";
  } else if (code == "RepoNotFound" || (response.status == 401 && settings.token.empty())) {
    text = fmt::format(
        "does not exist or is private ({}): check the name, or give a token that may read it "
        "(HF_TOKEN)",
        token);
  } else if (response.status == 401) {
    text = "the token is not valid: make a new one and give it as HF_TOKEN";
  } else if (response.status == 403) {
    text =
        fmt::format("access is refused ({}): give a token that has this right (HF_TOKEN)", token);
  } else if (response.status == 404) {
    text = fmt::format("{} does not have it", host);
  } else if (response.status == 429) {
    text = "the server wants fewer requests: wait some minutes";
  } else if (response.transient) {
    text = fmt::format("{} is in trouble (status {}, also after {} retries): try again later", host,
                       response.status, settings.retries);
  } else {
    text = fmt::format("{} answered with status {}", host, response.status);
  }
  const std::string said = said_in(response.headers, response.body);
  return fmt::format("{}: {}{}", what, text, said.empty() ? "" : " [" + said + "]");
}

}  // namespace qgrpo::hub
