#include "cli/web/watch.h"

#include <fmt/format.h>

#include <chrono>

#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "watch/server.h"

namespace qgrpo::cli {
namespace {

constexpr int kPort = 8001;      // beside `serve` and vLLM, which take 8000
constexpr int kPortsTried = 20;  // where another watch has it
// What a page takes to be told of a change: the reader's pause and the pause between two events.
constexpr std::chrono::milliseconds kLastNews{1500};

}  // namespace

std::unique_ptr<web::Server> listen(const WatchAddress& address) {
  web::ServerOptions options;
  options.host = address.host;
  options.api_key = address.api_key;
  options.key_parameter = "key";
  options.drain = web::Seconds{2};
  const int first = static_cast<int>(address.port.value_or(kPort));
  const int last = address.port ? first : first + kPortsTried;
  std::string trouble;
  for (options.port = first; options.port <= last; ++options.port) {
    try {
      return std::make_unique<web::Server>(options);
    } catch (const Error& error) {
      if (trouble.empty()) trouble = error.what();
    }
  }
  throw Error(trouble);
}

BackgroundWatch::BackgroundWatch(const std::string& folder)
    : board_({folder}), server_(listen({})) {
  watch::add_routes(*server_, board_);
  io::print_error("qgrpo: watch this run at {}/\n", server_->address());
  reader_ = std::thread([this] { board_.follow([this] { return server_->draining(); }); });
  serving_ = std::thread([this] { server_->run(); });
}

BackgroundWatch::~BackgroundWatch() {
  if (board_.watched()) std::this_thread::sleep_for(kLastNews);
  server_->stop();
  serving_.join();
  reader_.join();
}

}  // namespace qgrpo::cli
