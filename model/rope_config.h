#pragma once

#include "model/config.h"
#include "model/io/json.h"

// The rotary embedding in config.json.
namespace qgrpo::model {

// Sets rope_theta and rope_scaling: transformers 4 has rope_theta and rope_scaling, 5 has
// rope_parameters; either may be given for each kind of layer. max_position_embeddings must be set.
// Throws Error naming the key where it is of a type that is not computed.
void read_rope(Config& config, const io::JsonValue& root);
// Writes both as transformers 4 and 5 read them. Within an object.
void write_rope(io::JsonWriter& writer, const Config& config);

}  // namespace qgrpo::model
