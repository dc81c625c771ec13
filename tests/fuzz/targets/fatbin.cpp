// The containers that nvcc embeds, and the PTX in them.
#include "softgpu/ptx/fatbin.h"

#include "fuzz/target.h"
#include "softgpu/ptx/parser.h"

QGRPO_FUZZ_TARGET(fatbin) {
  using namespace softgpu::ptx;
  const auto entries = read_fat_binary(std::as_bytes(std::span(input.data(), input.size())));
  for (const FatBinaryEntry& entry : entries) {
    const auto* begin = reinterpret_cast<const char*>(entry.payload.data());
    qgrpo::fuzz::check(
        entry.payload.empty() ||
            (begin >= input.data() && begin + entry.payload.size() <= input.data() + input.size()),
        "a payload is outside of its container");
  }
  const std::string_view text = select_ptx(entries);
  parse_module(text, "input");
}
