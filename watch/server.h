#pragma once

#include "watch/board.h"
#include "web/server.h"

namespace qgrpo::watch {

// What the page asks a server for:
//   GET /, /watch.css, /watch.js
//   GET /api/events        text/event-stream: Board::overview() at once and whenever a run has changed
//   GET /api/curves        ?run=0&from=STEP&to=STEP&entries=300     (curves_json)
//   GET /api/groups        ?run=0&from=&to=&search=&filter=&order=&among=&skip=&limit=   (groups_json)
//   GET /api/group         ?run=0&id=N                              (group_json)
//   GET /api/before-after  ?run=0
//   GET /api/details       ?run=0
// A parameter that is none is answered with status 400 and a sentence. `key`: what the server asks for in the address
// (ServerOptions::api_key), which the page hands on. The board must outlive the server.
void add_routes(web::Server& server, Board& board, const std::string& key = "");

}  // namespace qgrpo::watch
