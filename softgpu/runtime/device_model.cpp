#include "softgpu/runtime/device_model.h"

#include <algorithm>
#include <array>

#include "softgpu/ptx/error.h"
#include "softgpu/runtime/settings.h"

namespace softgpu::runtime {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

constexpr std::array<DeviceModel, 5> kCards = {{
    {"l4", "NVIDIA L4", 8, 9, 58, 22570 * kMiB, 1536, 24, 100 * 1024, 99 * 1024, 48 << 20, 192,
     2040000, 6251000},
    {"a100", "NVIDIA A100-SXM4-40GB", 8, 0, 108, 40337 * kMiB, 2048, 32, 164 * 1024, 163 * 1024,
     40 << 20, 5120, 1410000, 1215000},
    {"h100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 81006 * kMiB, 2048, 32, 228 * 1024, 227 * 1024,
     50 << 20, 5120, 1980000, 2619000},
    {"h200", "NVIDIA H200", 9, 0, 132, 143771 * kMiB, 2048, 32, 228 * 1024, 227 * 1024, 50 << 20,
     6144, 1980000, 3201000},
    {"t4", "Tesla T4", 7, 5, 40, 15095 * kMiB, 1024, 16, 64 * 1024, 64 * 1024, 4 << 20, 256,
     1590000, 5001000},
}};

}  // namespace

DeviceLimits DeviceModel::limits() const {
  DeviceLimits limits;
  limits.sm_count = sm_count;
  limits.major = major;
  limits.minor = minor;
  limits.threads_per_block = kThreadsPerBlock;
  limits.shared_bytes_per_block = kSharedPerBlock;
  limits.registers_per_block = kRegistersPerSm;
  return limits;
}

DeviceModel device_from_environment() {
  const std::string key = text_setting("SOFTGPU_DEVICE", "l4");
  const auto* card =
      std::find_if(kCards.begin(), kCards.end(), [&](const auto& c) { return c.key == key; });
  require(card != kCards.end(), "SOFTGPU_DEVICE={}: expected l4, a100, h100, h200 or t4", key);
  DeviceModel model = *card;
  const std::uint64_t sms =
      number_setting("SOFTGPU_SMS", static_cast<std::uint64_t>(model.sm_count));
  require(sms >= 1 && sms <= 1024, "SOFTGPU_SMS={}: expected a number from 1 to 1024", sms);
  model.sm_count = static_cast<int>(sms);
  model.memory = number_setting("SOFTGPU_MEMORY_MIB", model.memory / kMiB) * kMiB;
  return model;
}

int resident_blocks(const DeviceModel& model, int threads, int registers, std::uint64_t shared) {
  if (threads <= 0 || threads > DeviceModel::kThreadsPerBlock) return 0;
  const int warps = (threads + 31) / 32;
  // Registers are given to a warp in units of 256, shared memory to a block in units of 128 bytes.
  const int registers_per_warp = (std::max(registers, 1) * 32 + 255) / 256 * 256;
  const int warps_by_registers = DeviceModel::kRegistersPerSm / registers_per_warp;
  int blocks = std::min(model.blocks_per_sm, model.threads_per_sm / 32 / warps);
  blocks = std::min(blocks, warps_by_registers / warps);
  const std::uint64_t taken = (shared + DeviceModel::kSharedReserved + 127) / 128 * 128;
  const auto by_shared = static_cast<std::uint64_t>(model.shared_per_sm) / taken;
  return static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(blocks), by_shared));
}

}  // namespace softgpu::runtime
