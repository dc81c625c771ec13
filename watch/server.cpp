#include "watch/server.h"

#include <charconv>
#include <chrono>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "watch/answers.h"
#include "watch/page.h"

namespace qgrpo::watch {
namespace {

web::Response guarded(web::Response response) {
  response.headers.emplace_back("Content-Security-Policy", std::string(kPagePolicy));
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
  response.headers.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

std::int64_t whole(const web::Request& request, const char* name, std::int64_t otherwise,
                   std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                   std::int64_t most = std::numeric_limits<std::int64_t>::max()) {
  const std::string text = request.parameter(name);
  if (text.empty()) return otherwise;
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || out < least || out > most)
    fail("{} is \"{}\", expected a whole number of {} to {}", name, text, least, most);
  return out;
}

StepRange step_range(const web::Request& request) {
  StepRange range;
  range.first = whole(request, "from", range.first);
  range.last = whole(request, "to", range.last);
  return range;
}

GroupQuery group_query(const web::Request& request) {
  GroupQuery query;
  query.steps = step_range(request);
  query.search = request.parameter("search");
  const std::string filter = request.parameter("filter");
  if (!filter.empty()) query.filter = kGroupFilterNames.parse(filter);
  const std::string order = request.parameter("order");
  if (!order.empty()) query.order = kGroupOrderNames.parse(order);
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  query.among = static_cast<std::size_t>(whole(request, "among", kMost, 0, kMost));
  query.skip = static_cast<std::size_t>(whole(request, "skip", 0, 0, kMost));
  query.limit = static_cast<std::size_t>(whole(request, "limit", 30, 1, 200));
  return query;
}

// A request that is answered with JSON of one run.
using Answer = std::string (*)(const Run&, const web::Request&);
web::Handler of_run(Board& board, Answer answer) {
  return [&board, answer](const web::Request& request) {
    web::Response response;
    try {
      response.body =
          board.ask(whole(request, "run", 0), [&](const Run& run) { return answer(run, request); });
    } catch (const Error& error) {
      response.status = 400;
      response.body = "{\"error\":" + io::json_string(error.what()) + "}";
    }
    return guarded(response);
  };
}

web::Handler of_page(std::string type, std::string text) {
  return [type = std::move(type), text = std::move(text)](const web::Request&) {
    web::Response response;
    response.type = type;
    response.body = text;
    return guarded(response);
  };
}

// An event for each change, a second apart at least; every 15 seconds one at any rate, by which a client that has
// gone is noticed.
void send_events(Board& board, const std::function<bool()>& stopping, web::Sink& sink) {
  using std::chrono::milliseconds;
  constexpr int kBeats = 30;
  const Board::Watcher watcher(board);
  std::uint64_t seen = 0;
  int silent = 0;
  while (!stopping() && sink.connected()) {
    const std::uint64_t now = board.wait(seen, milliseconds(500));
    if (now == seen && ++silent < kBeats) continue;
    silent = 0;
    seen = now;
    if (!sink.write(web::server_sent_event(board.overview()))) return;
    for (int i = 0; i < 5 && !stopping(); ++i) std::this_thread::sleep_for(milliseconds(200));
  }
}

}  // namespace

void add_routes(web::Server& server, Board& board, const std::string& key) {
  server.route("GET", "/", of_page("text/html; charset=utf-8", page_for_key(key)));
  server.route("GET", "/watch.css", of_page("text/css; charset=utf-8", std::string(page_style())));
  server.route("GET", "/watch.js", of_page("text/javascript; charset=utf-8", page_script()));
  server.route("GET", "/api/events", [&board, &server](const web::Request&) {
    web::Response response;
    response.type = "text/event-stream";
    response.producer = [&board, &server](web::Sink& sink) {
      send_events(
          board, [&server] { return server.draining(); }, sink);
    };
    return guarded(response);
  });
  server.route("GET", "/api/curves", of_run(board, [](const Run& run, const web::Request& request) {
                 const auto entries =
                     static_cast<std::size_t>(whole(request, "entries", 300, 4, 5000));
                 return curves_json(run, run.metrics().keys(), step_range(request), entries);
               }));
  server.route("GET", "/api/groups", of_run(board, [](const Run& run, const web::Request& request) {
                 return groups_json(run, group_query(request));
               }));
  server.route("GET", "/api/group", of_run(board, [](const Run& run, const web::Request& request) {
                 return group_json(run, static_cast<std::size_t>(
                                            whole(request, "id", 0, 0, std::int64_t{1} << 40)));
               }));
  server.route("GET", "/api/before-after", of_run(board, [](const Run& run, const web::Request&) {
                 return before_after_json(run);
               }));
  server.route("GET", "/api/details", of_run(board, [](const Run& run, const web::Request&) {
                 return details_json(run);
               }));
}

}  // namespace qgrpo::watch
