#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

// The order in which GGUF keeps the rows of q and k where a family says gguf_interleaved: of a head's
// D rows, i and i + D/2 beside each other. Row i + j D/2 here is row 2 i + j there, j = 0, 1.
namespace qgrpo::model {

enum class Interleave { apply, undo };  // to GGUF's order, from it

// to = the rows of `from` in the other order; `rows` of equal size, in `heads` heads.
void move_interleaved_rows(std::span<std::byte> to, std::span<const std::byte> from,
                           std::int64_t rows, std::int64_t heads, Interleave direction);

}  // namespace qgrpo::model
