#pragma once

#include <cstdint>
#include <string_view>

#include "softgpu/exec/launch_config.h"

namespace softgpu::runtime {

// What a program can ask about the card that is being emulated. Sizes in bytes, clocks in kHz.
struct DeviceModel {
  std::string_view key;   // SOFTGPU_DEVICE
  std::string_view name;  // as cudaGetDeviceProperties gives it
  int major = 0, minor = 0;
  int sm_count = 0;
  std::uint64_t memory = 0;
  int threads_per_sm = 0, blocks_per_sm = 0;
  int shared_per_sm = 0;
  int shared_per_block_optin = 0;  // what a kernel may use after cudaFuncSetAttribute
  int l2_bytes = 0;
  int bus_bits = 0;
  int clock_khz = 0, memory_clock_khz = 0;

  static constexpr int kSharedPerBlock = 48 * 1024;  // without opting in
  static constexpr int kSharedReserved = 1024;       // taken by the system in each block
  static constexpr int kRegistersPerSm = 65536;
  static constexpr int kThreadsPerBlock = 1024;

  DeviceLimits limits() const;
};

// The card that SOFTGPU_DEVICE names (l4, a100, h100, h200, t4; l4 if unset) with SOFTGPU_SMS multiprocessors
// (all of the card's if unset). Fewer make programs that size their grid by the card run faster.
// Throws softgpu::Error for a name or number that is not one.
DeviceModel device_from_environment();

// Resident blocks of `threads` threads on one multiprocessor, with `registers` a thread and
// `shared` bytes (static and dynamic) a block; 0 if not even one fits.
int resident_blocks(const DeviceModel& model, int threads, int registers, std::uint64_t shared);

}  // namespace softgpu::runtime
