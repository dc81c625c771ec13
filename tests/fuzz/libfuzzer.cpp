// What libFuzzer calls, with the one target that is linked in.
#include <cstddef>
#include <cstdint>

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // What is thrown here ends the process, with the way that led to it.
  qgrpo::fuzz::run(qgrpo::fuzz::targets().front(), input);
  return 0;
}
