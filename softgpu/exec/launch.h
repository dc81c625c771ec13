#pragma once

// Runs one kernel of a parsed PTX module on the host: warp by warp, 32 lanes at a time, blocks
// spread over host threads.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "softgpu/exec/counters.h"
#include "softgpu/exec/fault.h"
#include "softgpu/exec/launch_config.h"

namespace softgpu {

class DeviceMemory;
struct Program;

namespace ptx {
struct Module;
struct Function;
}  // namespace ptx

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
