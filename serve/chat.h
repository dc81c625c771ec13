#pragma once

#include "serve/served.h"
#include "web/message.h"

namespace qgrpo::serve {

// POST /v1/chat/completions. Throws ApiError.
web::Response chat_completions(const Served& served, const web::Request& request);

}  // namespace qgrpo::serve
