#pragma once

#include "serve/served.h"
#include "web/server.h"

namespace qgrpo::serve {

// Gives the server all routes of the API. `served` must outlive it.
void add_routes(web::Server& server, const Served& served);

}  // namespace qgrpo::serve
