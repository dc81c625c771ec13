#pragma once

#include <initializer_list>
#include <optional>
#include <string>

namespace qgrpo::train {

// Whose record a JSON file is, "grpo" or "sft" (earlier versions wrote no name: "grpo"); nothing where
// there is none that can be read and has all of these keys.
std::optional<std::string> trainer_record(const std::string& path,
                                          std::initializer_list<const char*> keys);

}  // namespace qgrpo::train
