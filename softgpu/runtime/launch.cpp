#include "softgpu/runtime/launch.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "softgpu/ptx/error.h"

namespace softgpu::runtime {
namespace {

void check_shape(const DeviceLimits& limits, const Kernel& kernel, dim3 grid, dim3 block) {
  const std::array<std::uint32_t, 3> blocks = {grid.x, grid.y, grid.z};
  const std::array<std::uint32_t, 3> threads = {block.x, block.y, block.z};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (blocks[axis] == 0 || blocks[axis] > limits.grid_dim[axis]) {
      refuse(cudaErrorInvalidConfiguration,
             "{}: grid ({}, {}, {}), the device allows 1 to {} in {}", kernel.title, grid.x, grid.y,
             grid.z, limits.grid_dim[axis], "xyz"[axis]);
    }
    if (threads[axis] == 0 || threads[axis] > limits.block_dim[axis]) {
      refuse(cudaErrorInvalidConfiguration,
             "{}: block ({}, {}, {}), the device allows 1 to {} in {}", kernel.title, block.x,
             block.y, block.z, limits.block_dim[axis], "xyz"[axis]);
    }
  }
  const std::uint64_t total = std::uint64_t{block.x} * block.y * block.z;
  if (total > limits.threads_per_block) {
    refuse(cudaErrorInvalidConfiguration, "{}: {} threads a block, the device allows {}",
           kernel.title, total, limits.threads_per_block);
  }
  const int bound = max_threads_per_block(*kernel.function);
  if (total > static_cast<std::uint64_t>(bound)) {
    refuse(cudaErrorInvalidValue, "{}: {} threads a block, its launch bounds promise at most {}",
           kernel.title, total, bound);
  }
}

// The line of SOFTGPU_COUNTERS.
void print(const Kernel& kernel, const LaunchConfig& config, const Counters& c) {
  std::string classes;
  for (std::size_t i = 0; i < kOpClasses; ++i) {
    if (c.by_class[i] == 0) continue;
    classes += fmt::format(", {} {}", name_of(static_cast<OpClass>(i)), c.by_class[i]);
  }
  fmt::print(
      stderr,
      "softgpu: counters {} grid {}x{}x{} block {}x{}x{}: warp instructions {} (partial {}){}, "
      "bytes {}, sectors {}, unique bytes read {} written {}, conflicts {}, mma flops {}\n",
      kernel.title, config.grid.x, config.grid.y, config.grid.z, config.block.x, config.block.y,
      config.block.z, c.warp_instructions, c.partial_instructions, classes, c.global_bytes(),
      c.global_sectors(), c.unique_read, c.unique_written, c.shared_conflicts(), c.mma_flops);
}

LaunchShape shape_of(const Kernel& kernel, const LaunchConfig& config) {
  LaunchShape shape;
  shape.threads = static_cast<std::uint32_t>(config.block.count());
  shape.static_shared = kernel.function->shared_bytes;
  shape.dynamic_shared = config.dynamic_shared_bytes;
  return shape;
}

}  // namespace

int max_threads_per_block(const ptx::Function& function) {
  const auto product = [](const std::uint32_t(&d)[3]) {
    return std::uint64_t{std::max(d[0], 1u)} * std::max(d[1], 1u) * std::max(d[2], 1u);
  };
  std::uint64_t bound = DeviceModel::kThreadsPerBlock;
  if (function.max_threads[0] != 0) bound = std::min(bound, product(function.max_threads));
  if (function.required_threads[0] != 0)
    bound = std::min(bound, product(function.required_threads));
  return static_cast<int>(bound);
}

int registers_per_thread(const ptx::Function& function) {
  int registers = static_cast<int>(std::min(std::max(function.slots, 16u), 255u));
  if (function.max_registers != 0) {
    registers = std::min(registers, static_cast<int>(function.max_registers));
  }
  int threads = max_threads_per_block(function);
  if (function.max_threads[0] != 0 && function.min_blocks_per_sm > 1) {
    threads *= static_cast<int>(function.min_blocks_per_sm);
  }
  // The compiler never takes so many that one block of the declared size would not fit.
  if (function.max_threads[0] != 0 || function.required_threads[0] != 0) {
    registers = std::min(registers, std::max(16, DeviceModel::kRegistersPerSm / threads / 8 * 8));
  }
  return registers;
}

std::size_t dynamic_shared_limit(const Kernel& kernel) {
  const std::size_t statics = kernel.function->shared_bytes;
  const std::size_t usual = DeviceModel::kSharedPerBlock;
  return std::max<std::size_t>(statics < usual ? usual - statics : 0, kernel.dynamic_shared_limit);
}

std::shared_ptr<KernelLaunch> prepare_launch(Runtime& runtime, const void* function, dim3 grid,
                                             dim3 block, void** args, std::size_t shared) {
  Kernel& kernel = runtime.modules.kernel(function);
  check_shape(runtime.model.limits(), kernel, grid, block);
  if (shared > dynamic_shared_limit(kernel)) {
    refuse(
        cudaErrorInvalidValue,
        "{}: {} bytes of dynamic shared memory beside {} static ones, allowed are {} (more, up to "
        "{} in all, after cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize))",
        kernel.title, shared, kernel.function->shared_bytes, dynamic_shared_limit(kernel),
        runtime.model.shared_per_block_optin);
  }
  auto launch = std::make_shared<KernelLaunch>();
  launch->kernel = &kernel;
  launch->config = {
      {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, static_cast<std::uint32_t>(shared)};
  launch->parameters.resize(kernel.function->param_bytes);
  for (std::size_t i = 0; i < kernel.function->params.size(); ++i) {
    const ptx::Parameter& parameter = kernel.function->params[i];
    if (args == nullptr || args[i] == nullptr) {
      refuse(cudaErrorInvalidValue, "{}: no value for parameter {}", kernel.title, i);
    }
    std::memcpy(launch->parameters.data() + parameter.offset, args[i], parameter.size);
  }
  return launch;
}

Body launch_body(Runtime& runtime, std::shared_ptr<const KernelLaunch> launch) {
  return [&runtime, launch = std::move(launch)] {
    const Kernel& kernel = *launch->kernel;
    DeviceLimits limits = runtime.model.limits();
    limits.shared_bytes_per_block = static_cast<std::uint32_t>(std::max<std::size_t>(
        DeviceModel::kSharedPerBlock,
        kernel.function->dynamic_shared_offset() + kernel.dynamic_shared_limit));
    Counters counters;
    const bool counting = runtime.print_counters || runtime.profile.active();
    std::optional<Fault> fault;
    try {
      fault = kernel.binary->loaded->run(*kernel.function, runtime.memory, launch->config,
                                         launch->parameters, limits, runtime.options,
                                         counting ? &counters : nullptr);
    } catch (const std::exception& error) {
      throw FaultError(cudaErrorLaunchFailure, fmt::format("{}: {}", kernel.title, error.what()));
    }
    if (fault) {
      std::string message = fmt::format("{}: {}", fault->kind, fault->message);
      const std::size_t mangled = message.find(kernel.name);
      if (mangled != std::string::npos) {
        message.replace(mangled, kernel.name.size(), kernel.title);
      }
      throw FaultError(static_cast<int>(fault->code), message);
    }
    if (runtime.print_counters) print(kernel, launch->config, counters);
    if (runtime.profile.active()) {
      runtime.profile.add(kernel.title, shape_of(kernel, launch->config), counters);
    }
  };
}

void launch(Runtime& runtime, const void* function, dim3 grid, dim3 block, void** args,
            std::size_t shared, cudaStream_t stream) {
  const auto target = runtime.stream(stream);
  const auto prepared = prepare_launch(runtime, function, grid, block, args, shared);
  runtime.submit(target, cudaGraphNodeTypeKernel, prepared->kernel->title,
                 launch_body(runtime, prepared), prepared);
}

}  // namespace softgpu::runtime
