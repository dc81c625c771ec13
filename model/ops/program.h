#pragma once

#include <string>

namespace qgrpo {

// How the program was called ("qgrpo", "build/qgrpo"), for messages that tell what to type. Set once, by main().
inline std::string program_name = "qgrpo";

}  // namespace qgrpo
