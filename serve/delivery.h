#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/served.h"
#include "web/message.h"

namespace qgrpo::serve {

// The jobs of one HTTP request under way: hands over their pieces until all have ended. What it is destroyed
// with is cancelled.
class Delivery {
 public:
  // Submits the jobs, each with its number as Piece::prompt. Throws ApiError.
  Delivery(EngineLoop& loop, std::vector<Job> jobs);
  ~Delivery() { mailbox_->cancel(); }
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // Calls `take` with every piece until the last, or until the client has gone (`connected`, asked often): then
  // false. Throws ApiError where a job failed.
  bool run(const std::function<bool()>& connected, const std::function<void(Piece&)>& take);

 private:
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::int64_t open_ = 0;  // completions
};

// A response of server-sent events: `events` sends them by `send`, which is false when the client has gone, and
// "data: [DONE]" follows. What it throws becomes an event with the error.
using Send = std::function<bool(const std::string& json)>;
web::Response event_stream(std::function<void(const Send& send, web::Sink& sink)> events);

}  // namespace qgrpo::serve
