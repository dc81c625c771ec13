#pragma once

// Runs one kernel of a parsed PTX module on the host: warp by warp, 32 lanes at a time, blocks
// spread over host threads.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "softgpu/exec/counters.h"

namespace softgpu {

class DeviceMemory;
struct Program;

namespace ptx {
struct Module;
struct Function;
}  // namespace ptx

// Values are those of cudaError_t, so that a runtime can return them as they are.
enum class FaultCode : int {
  invalid_value = 1,
  invalid_configuration = 9,      // block or grid beyond the device's limits
  invalid_device_function = 98,   // an instruction that is not implemented
  illegal_address = 700,          // outside every allocation, freed, or beyond shared memory
  launch_out_of_resources = 701,  // registers or shared memory beyond the device's limits
  launch_timeout = 702,           // the instruction budget is spent
  assertion = 710,                // __assertfail or trap after it
  illegal_instruction = 715,
  misaligned_address = 716,
  launch_failure = 719,  // checks that hardware is silent about: races, uninitialised values
};

// Why a launch stopped. `message` is complete and readable: kernel, source file:line, block,
// thread, address and what was wrong, in several lines, without a trailing newline.
struct Fault {
  FaultCode code;
  // A stable word for tests: "out-of-bounds", "misaligned", "use-after-free", "uninitialised",
  // "shared-race", "divergent-barrier", "warp-sync", "async-copy", "resources", "budget",
  // "unsupported", "trap", "assertion", "read-only".
  std::string kind;
  std::string message;
};

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

// A module whose variables have their place in device memory, ready to run. Keeps a decoded form of
// each kernel from its first launch on; run may be called by several threads.
class LoadedModule {
 public:
  // `variable_addresses`: device address of each of module.variables, by index (shared variables
  // and those that no kernel uses: anything). The module must outlive this object. See
  // place_variables.
  LoadedModule(const ptx::Module& module, std::vector<std::uint64_t> variable_addresses);
  ~LoadedModule();
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;

  const ptx::Module& module() const { return module_; }
  const std::vector<std::uint64_t>& variable_addresses() const { return variable_addresses_; }

  // Runs `kernel`, one of the module's functions, to its end. `params` is the parameter block in
  // the kernel's own layout (offsets of ptx::Function::params). Returns nothing on success,
  // otherwise the first fault, with device memory in whatever state it had then. Adds to `counters`
  // unless null. Throws softgpu::Error where the kernel cannot be decoded at all.
  std::optional<Fault> run(const ptx::Function& kernel, DeviceMemory& memory,
                           const LaunchConfig& config, std::span<const std::byte> params,
                           const DeviceLimits& limits, const Options& options,
                           Counters* counters = nullptr);

 private:
  const Program& program(const ptx::Function& kernel);
  const ptx::Module& module_;
  std::vector<std::uint64_t> variable_addresses_;
  std::mutex mutex_;
  std::map<const ptx::Function*, std::unique_ptr<Program>> programs_;
};

// Allocates every global and constant variable of the module in device memory, writes initial
// values (zero where the PTX gives none, as the hardware does) and resolves addresses inside them.
// Returns the addresses by index in module.variables, 0 for shared variables. Throws softgpu::Error
// when memory does not suffice or a variable is defined in another module.
std::vector<std::uint64_t> place_variables(const ptx::Module& module, DeviceMemory& memory);

}  // namespace softgpu
