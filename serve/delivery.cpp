#include "serve/delivery.h"

#include <chrono>

namespace qgrpo::serve {

Delivery::Delivery(EngineLoop& loop, std::vector<Job> jobs) {
  std::int32_t number = 0;
  for (Job& job : jobs) {
    job.mailbox = mailbox_;
    job.prompt = number++;
    open_ += job.request.samples;
  }
  loop.submit(std::move(jobs));
}

bool Delivery::run(const std::function<bool()>& connected,
                   const std::function<void(Piece&)>& take) {
  constexpr std::chrono::milliseconds kLook{50};
  while (open_ > 0) {
    if (!connected()) return false;
    for (Piece& piece : mailbox_->take(kLook)) {
      if (!piece.failure.empty()) throw ApiError(piece.status, piece.failure);
      if (piece.finish != engine::FinishReason::none) --open_;
      take(piece);
    }
  }
  return true;
}

web::Response event_stream(std::function<void(const Send& send, web::Sink& sink)> events) {
  web::Response response;
  response.type = "text/event-stream; charset=utf-8";
  response.headers.emplace_back("Cache-Control", "no-cache");
  response.producer = [events = std::move(events)](web::Sink& sink) {
    const Send send = [&](const std::string& json) {
      return sink.write(web::server_sent_event(json));
    };
    try {
      events(send, sink);
    } catch (const ApiError& error) {
      send(error_json(error.status(), error.what(), error.param()));
    } catch (const std::exception& error) {
      send(error_json(500, error.what()));
    }
    sink.write(web::server_sent_event("[DONE]"));
  };
  return response;
}

}  // namespace qgrpo::serve
