#pragma once

#include <string>

#include "model/io/json.h"

namespace qgrpo::serve {

// The messages of a chat request as templates want them, a JSON list: contents of several text parts are one
// text, joined by line ends; a missing content is empty; the arguments of tool calls, which OpenAI's API has as
// a text of JSON, are the object itself. As vLLM does it. Throws ApiError 400 on parts that are no text, and on
// arguments that are no JSON.
std::string plain_messages(const io::JsonValue& messages);

}  // namespace qgrpo::serve
