#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "watch/board.h"
#include "web/server.h"

namespace qgrpo::cli {

struct WatchAddress {
  std::string host = "127.0.0.1";
  std::optional<std::int64_t> port;  // none: 8001, or the next that is free
  std::string api_key = {};
};

// A server there, which listens from now on. Throws Error where it cannot.
std::unique_ptr<web::Server> listen(const WatchAddress& address);

// Shows a run beside its training: `train --watch`. Tells the address on standard error; a page that is open when
// the training ends has seen how it ended.
class BackgroundWatch {
 public:
  // The run's folder, which need not be there yet. Throws Error where no port is free.
  explicit BackgroundWatch(const std::string& folder);
  ~BackgroundWatch();
  BackgroundWatch(const BackgroundWatch&) = delete;
  BackgroundWatch& operator=(const BackgroundWatch&) = delete;

 private:
  watch::Board board_;
  std::unique_ptr<web::Server> server_;
  std::thread reader_;
  std::thread serving_;
};

}  // namespace qgrpo::cli
