#include "softgpu/runtime/module.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "softgpu/ptx/error.h"
#include "softgpu/ptx/fatbin.h"
#include "softgpu/ptx/parser.h"
#include "softgpu/runtime/errors.h"

namespace softgpu::runtime {
namespace {

std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? std::string(text.get()) : name;
}

}  // namespace

FatBinary* ModuleRegistry::add_binary(const void* wrapper) {
  binaries_.push_back(std::make_unique<FatBinary>());
  binaries_.back()->wrapper = wrapper;
  return binaries_.back().get();
}

void ModuleRegistry::add_kernel(FatBinary* binary, const void* host, std::string name) {
  auto& slot = kernels_[host];
  if (slot != nullptr) return;
  slot = std::make_unique<Kernel>();
  slot->binary = binary;
  slot->title = demangled(name);
  slot->name = std::move(name);
}

void ModuleRegistry::add_variable(FatBinary* binary, const void* host, std::string name,
                                  std::uint64_t size) {
  variables_[host] = {binary, std::move(name), size};
}

void ModuleRegistry::remove_binary(FatBinary* binary) {
  std::erase_if(kernels_, [&](const auto& entry) { return entry.second->binary == binary; });
  std::erase_if(variables_, [&](const auto& entry) { return entry.second.binary == binary; });
  std::erase_if(binaries_, [&](const auto& b) { return b.get() == binary; });
}

void ModuleRegistry::load(FatBinary& binary) {
  if (!binary.load_error.empty()) refuse(cudaErrorNoKernelImageForDevice);
  if (binary.module == nullptr) {
    try {
      ptx::FatBinaryWrapper wrapper;
      std::memcpy(&wrapper, binary.wrapper, sizeof wrapper);
      const auto entries = ptx::read_fat_binary(ptx::container_of(wrapper));
      const auto position = std::find_if(binaries_.begin(), binaries_.end(),
                                         [&](const auto& b) { return b.get() == &binary; });
      binary.module = std::make_unique<ptx::Module>(ptx::parse_module(
          ptx::select_ptx(entries), fmt::format("ptx#{}", position - binaries_.begin() + 1)));
    } catch (const Error& error) {
      binary.load_error = error.what();
      refuse(cudaErrorNoKernelImageForDevice, "device code cannot be loaded: {}", error.what());
    }
  }
  if (binary.loaded == nullptr) {
    try {
      binary.loaded =
          std::make_unique<LoadedModule>(*binary.module, place_variables(*binary.module, memory_));
    } catch (const Error& error) {
      refuse(cudaErrorMemoryAllocation, "variables of {}: {}", binary.module->name, error.what());
    }
  }
}

Kernel* ModuleRegistry::find_kernel(const void* host_or_handle) {
  if (const auto found = kernels_.find(host_or_handle); found != kernels_.end()) {
    return found->second.get();
  }
  for (auto& [host, kernel] : kernels_) {
    if (kernel.get() == host_or_handle) return kernel.get();
  }
  return nullptr;
}

Kernel& ModuleRegistry::kernel(const void* host_or_handle) {
  Kernel* found = find_kernel(host_or_handle);
  if (found == nullptr) {
    refuse(cudaErrorInvalidDeviceFunction, "{} is not a __global__ function of this program",
           host_or_handle);
  }
  load(*found->binary);
  if (found->function == nullptr) {
    found->function = found->binary->module->find_function(found->name);
    if (found->function == nullptr) {
      refuse(cudaErrorInvalidDeviceFunction, "the PTX has no kernel {}", found->name);
    }
  }
  return *found;
}

std::pair<std::uint64_t, std::uint64_t> ModuleRegistry::variable(const void* host) {
  const auto found = variables_.find(host);
  if (found == variables_.end()) {
    refuse(cudaErrorInvalidSymbol, "{} is not a __device__ or __constant__ variable", host);
  }
  load(*found->second.binary);
  const ptx::Module& module = *found->second.binary->module;
  const ptx::Variable* variable = module.find_variable(found->second.name);
  if (variable == nullptr) {
    refuse(cudaErrorInvalidSymbol, "the PTX has no variable {}", found->second.name);
  }
  const auto index = static_cast<std::size_t>(variable - module.variables.data());
  return {found->second.binary->loaded->variable_addresses()[index], variable->size};
}

void ModuleRegistry::unbind_all() {
  for (const auto& binary : binaries_) binary->loaded.reset();
}

}  // namespace softgpu::runtime
