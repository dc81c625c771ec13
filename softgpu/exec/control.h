#pragma once

#include <cstdint>

namespace softgpu {

// Op::mode of operations with the flag kControl: what the scheduler does with them.
enum class Control : std::uint8_t {
  bra,
  brx,
  call,
  ret,
  exit,
  trap,
  unsupported,
  bar_sync,
  bar_arrive,
  bar_red_popc,
  bar_red_and,
  bar_red_or,
  bar_warp_sync,
};

}  // namespace softgpu
