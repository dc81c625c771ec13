#pragma once

#include <string>
#include <string_view>

namespace qgrpo::tokenizer {

// Unicode normalisation form C of well-formed UTF-8, as Hugging Face's `tokenizers` computes it: by
// the data of Unicode 9.0. Combining marks that are newer stay where they are; with today's data
// they would be reordered, and such a text would get other ids.
//
// Returns `text` itself where it is already in that form (always so for ASCII), else a view of
// `storage`, which receives the normalised text.
std::string_view normalize_nfc(std::string_view text, std::string& storage);

}  // namespace qgrpo::tokenizer
