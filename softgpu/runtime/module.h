#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "softgpu/exec/device_memory.h"
#include "softgpu/exec/launch.h"
#include "softgpu/ptx/ir.h"

namespace softgpu::runtime {

struct FatBinary;

// A __global__ function that the program registered.
struct Kernel {
  FatBinary* binary = nullptr;
  std::string name;                         // mangled
  std::string title;                        // as in the source, for messages
  const ptx::Function* function = nullptr;  // null until the module is loaded
  std::uint32_t dynamic_shared_limit = 0;   // opted into; 0 = what fits in the default 48 KB
  int carveout = -1;
};

// A __device__ or __constant__ variable that the program registered.
struct ModuleVariable {
  FatBinary* binary = nullptr;
  std::string name;
  std::uint64_t size = 0;
};

// One translation unit's device code.
struct FatBinary {
  const void* wrapper = nullptr;
  std::unique_ptr<ptx::Module> module;   // null until something of it is used
  std::unique_ptr<LoadedModule> loaded;  // the module with its variables placed
  std::string load_error;                // why it cannot be loaded, once tried
};

// What the program registered before main, loaded (parsed, its variables placed) at first use, so
// that unused translation units cost nothing.
class ModuleRegistry {
 public:
  explicit ModuleRegistry(DeviceMemory& memory) : memory_(memory) {}

  FatBinary* add_binary(const void* wrapper);
  // A function that two translation units both define is registered twice under one host address;
  // the first stays.
  void add_kernel(FatBinary* binary, const void* host, std::string name);
  void add_variable(FatBinary* binary, const void* host, std::string name, std::uint64_t size);
  void remove_binary(FatBinary* binary);

  // The kernel behind a host function's address or a kernel handle; loaded. Throws ApiError:
  // invalid device function, no kernel image, invalid PTX.
  Kernel& kernel(const void* host_or_handle);
  // As kernel, without loading; null if there is none.
  Kernel* find_kernel(const void* host_or_handle);
  // Device address and size of the variable behind a host symbol; loaded. Throws ApiError.
  std::pair<std::uint64_t, std::uint64_t> variable(const void* host);
  void load(FatBinary& binary);
  // After all device memory was freed: variables get memory and their first values at the next use.
  void unbind_all();

 private:
  DeviceMemory& memory_;
  std::vector<std::unique_ptr<FatBinary>> binaries_;
  std::map<const void*, std::unique_ptr<Kernel>> kernels_;  // by host address
  std::map<const void*, ModuleVariable> variables_;
};

}  // namespace softgpu::runtime
