#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "softgpu/runtime/state.h"

namespace softgpu::runtime {

// A checked launch: the configuration and its own copy of the parameters.
struct KernelLaunch {
  Kernel* kernel = nullptr;
  LaunchConfig config;
  std::vector<std::byte> parameters;  // in the kernel's layout
  std::vector<void*> pointers;        // to each parameter, for programs that ask
};

// Checks a launch against the card as the real runtime does before it accepts one (codes 1, 9, 98),
// and copies the parameters: args[i] points at the i-th. Throws ApiError.
std::shared_ptr<KernelLaunch> prepare_launch(Runtime& runtime, const void* function, dim3 grid,
                                             dim3 block, void** args, std::size_t shared);
// Runs it; faults become FaultError.
Body launch_body(Runtime& runtime, std::shared_ptr<const KernelLaunch> launch);
// prepare_launch and submit.
void launch(Runtime& runtime, const void* function, dim3 grid, dim3 block, void** args,
            std::size_t shared, cudaStream_t stream);

// An estimate of what ptxas would use: the slots that the interpreter needs, within the bounds that
// the kernel declares.
int registers_per_thread(const ptx::Function& function);
int max_threads_per_block(const ptx::Function& function);
// Dynamic shared memory that a launch may ask for, with what the function opted into.
std::size_t dynamic_shared_limit(const Kernel& kernel);

}  // namespace softgpu::runtime
