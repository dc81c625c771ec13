#pragma once

#include <array>
#include <cstdint>

// What a launch is asked for, and within which limits.
namespace softgpu {

struct Dim3 {
  std::uint32_t x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

struct LaunchConfig {
  Dim3 grid;
  Dim3 block;
  std::uint32_t dynamic_shared_bytes = 0;
};

// What the emulated card allows. shared_bytes_per_block is the limit in force for this kernel: 48
// KB, or what the function opted into.
struct DeviceLimits {
  int sm_count = 58;
  int major = 8, minor = 9;
  std::uint32_t threads_per_block = 1024;
  std::array<std::uint32_t, 3> block_dim = {1024, 1024, 64};
  std::array<std::uint32_t, 3> grid_dim = {2147483647u, 65535u, 65535u};
  std::uint32_t shared_bytes_per_block = 49152;
  std::uint32_t registers_per_block = 65536;
  std::uint32_t registers_per_thread = 255;
};

struct Options {
  std::uint64_t warp_instructions = 0;  // budget of one launch, in warp instructions; 0: no limit
  int threads = 0;                      // host threads; 0: as many as the host has
  bool check_uninitialised = true;
  bool check_races = true;
};

}  // namespace softgpu
