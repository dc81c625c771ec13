#include "softgpu/exec/launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "softgpu/exec/program.h"
#include "softgpu/exec/warp.h"
#include "softgpu/ptx/error.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

Fault refuse(FaultCode code, const ptx::Function& kernel, const std::string& what) {
  return {code, "resources", fmt::format("{}\n  kernel {}", what, kernel.name)};
}

std::optional<Fault> check_resources(const ptx::Function& kernel, const LaunchConfig& config,
                                     const DeviceLimits& limits, std::size_t param_bytes) {
  const u32 block[3] = {config.block.x, config.block.y, config.block.z};
  const u32 grid[3] = {config.grid.x, config.grid.y, config.grid.z};
  static constexpr char kAxis[] = "xyz";
  for (int i = 0; i < 3; ++i) {
    if (block[i] == 0 || block[i] > limits.block_dim[i]) {
      return refuse(FaultCode::invalid_configuration, kernel,
                    fmt::format("block size {} in {}: must be 1 to {}", block[i], kAxis[i],
                                limits.block_dim[i]));
    }
    if (grid[i] == 0 || grid[i] > limits.grid_dim[i]) {
      return refuse(FaultCode::invalid_configuration, kernel,
                    fmt::format("grid size {} in {}: must be 1 to {}", grid[i], kAxis[i],
                                limits.grid_dim[i]));
    }
  }
  const u64 threads = config.block.count();
  if (threads > limits.threads_per_block) {
    return refuse(FaultCode::invalid_configuration, kernel,
                  fmt::format("{} threads in a block: the device allows {}", threads,
                              limits.threads_per_block));
  }
  const u32* declared = kernel.max_threads;
  if (declared[0] != 0) {
    const u64 most = u64{declared[0]} * std::max(declared[1], 1u) * std::max(declared[2], 1u);
    if (threads > most) {
      return refuse(FaultCode::invalid_value, kernel,
                    fmt::format("{} threads in a block: __launch_bounds__ says {}", threads, most));
    }
  }
  const u64 shared = u64{kernel.dynamic_shared_offset()} * (config.dynamic_shared_bytes != 0) +
                     u64{kernel.shared_bytes} * (config.dynamic_shared_bytes == 0) +
                     config.dynamic_shared_bytes;
  if (shared > limits.shared_bytes_per_block) {
    return refuse(FaultCode::invalid_value, kernel,
                  fmt::format("{} bytes of shared memory ({} static, {} dynamic): the limit is {}",
                              shared, kernel.shared_bytes, config.dynamic_shared_bytes,
                              limits.shared_bytes_per_block));
  }
  if (param_bytes < kernel.param_bytes) {
    return refuse(
        FaultCode::invalid_value, kernel,
        fmt::format("{} bytes of parameters, {} expected", param_bytes, kernel.param_bytes));
  }
  return std::nullopt;
}

// Everything that a host thread needs to run blocks: sized once per launch, reused from launch to
// launch of the same thread.
struct Setup {
  const Program* program;
  const LaunchConfig* config;
  const DeviceLimits* limits;
  const Options* options;
  std::span<const std::byte> params;
  DeviceMemory* memory;
  bool counting;
  std::atomic<u64>* instructions;
  std::atomic<bool>* stop;
};

// Which threads the warp's lanes are.
void number_lanes(Warp& w, const Dim3& block) {
  w.initial = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    const u32 thread = w.id * kLanes + l;
    w.tid[0][l] = thread % block.x;
    w.tid[1][l] = thread / block.x % block.y;
    w.tid[2][l] = thread / block.x / block.y;
    if (thread < block.count()) w.initial |= 1u << l;
  }
}

void set_constants(Warp& w, const Program& program) {
  for (const ProgramConstant& constant : program.constants) {
    for (u32 l = 0; l < kLanes; ++l) {
      if (constant.width == 2) {
        w.reg<u64a>(constant.offset)[l] = constant.value;
      } else {
        w.reg<u32a>(constant.offset)[l] = static_cast<u32>(constant.value);
      }
    }
  }
}

// Shared memory, and what is recorded of it.
void prepare_shared(Worker& worker) {
  const Program& program = *worker.program;
  Block& block = worker.block;
  const bool dynamic = worker.config->dynamic_shared_bytes != 0;
  block.shared_bytes =
      dynamic ? program.kernel->dynamic_shared_offset() + worker.config->dynamic_shared_bytes
              : program.kernel->shared_bytes;
  const std::size_t shared = block.shared_bytes + 64;
  if (worker.shared_storage.size() < shared) {
    worker.shared_storage.resize(shared);
    worker.shared_shadow_storage.resize(shared);
  }
  block.shared = worker.shared_storage.data();
  block.shared_shadow = worker.shared_shadow_storage.data();
  if (block.words.size() < shared / 4 + 1) block.words.resize(shared / 4 + 1);
  // Records of another launch may name operations that are gone and warps that are not there.
  std::fill_n(block.words.begin(), shared / 4 + 1, WordAccess{});
}

// The warps, their registers and local memory.
void prepare_warps(Worker& worker) {
  const Program& program = *worker.program;
  Block& block = worker.block;
  block.threads = static_cast<u32>(worker.config->block.count());
  const u32 warps = (block.threads + kLanes - 1) / kLanes;
  const std::size_t file = std::size_t{program.slots} * kSlotBytes;
  const std::size_t align = 64;
  if (worker.register_storage.size() < file * warps + align) {
    worker.register_storage.resize(file * warps + align);
    worker.shadow_storage.resize(file * warps + align);
  }
  const std::size_t local = std::size_t{program.local_bytes} * kLanes;
  if (worker.local_storage.size() < local * warps + align) {
    worker.local_storage.resize(local * warps + align);
    worker.local_shadow_storage.resize(local * warps + align);
  }
  worker.predicate_storage.assign(std::size_t{2} * warps * program.predicates, 0);
  const auto aligned = [](auto* pointer) {
    return pointer + (64 - reinterpret_cast<std::uintptr_t>(pointer) % 64) % 64;
  };
  block.warps.resize(warps);
  for (u32 i = 0; i < warps; ++i) {
    Warp& w = block.warps[i];
    w.id = i;
    w.block = &block;
    w.worker = &worker;
    w.registers = aligned(worker.register_storage.data()) + file * i;
    w.shadow = aligned(worker.shadow_storage.data()) + file * i;
    w.local = aligned(worker.local_storage.data()) + local * i;
    w.local_shadow = aligned(worker.local_shadow_storage.data()) + local * i;
    w.predicates = worker.predicate_storage.data() + std::size_t{2} * i * program.predicates;
    w.predicate_shadow = w.predicates + program.predicates;
    w.predicates[program.true_predicate] = kAllLanes;
    number_lanes(w, worker.config->block);
    set_constants(w, program);
  }
}

void prepare(Worker& worker, const Setup& setup) {
  const Program& program = *setup.program;
  worker.program = &program;
  worker.config = setup.config;
  worker.limits = setup.limits;
  worker.options = setup.options;
  worker.params = setup.params.data();
  worker.param_bytes = setup.params.size();
  worker.memory = setup.memory;
  worker.counting = setup.counting;
  worker.counters = Counters{};
  worker.read.clear();
  worker.written.clear();
  worker.instructions = setup.instructions;
  worker.stop = setup.stop;
  worker.hits.assign(program.ops.size(), nullptr);
  worker.executed.assign(setup.counting ? program.ops.size() : 0, 0);
  prepare_shared(worker);
  prepare_warps(worker);
}

// Warp instructions by class, from how often each operation was executed.
void add_classes(const Worker& worker, Counters& counters) {
  for (std::size_t i = 0; i < worker.executed.size(); ++i) {
    const u64 n = worker.executed[i];
    if (n == 0) continue;
    const Op& op = worker.program->ops[i];
    counters.warp_instructions += n;
    counters.by_class[static_cast<std::size_t>(op.cls)] += n;
    if (op.cls == OpClass::mma)
      counters.mma_flops += n * 2 * op.source->m * op.source->n * op.source->k;
  }
}

}  // namespace

LoadedModule::LoadedModule(const ptx::Module& module, std::vector<u64> variable_addresses)
    : module_(module), variable_addresses_(std::move(variable_addresses)) {
  require(variable_addresses_.size() >= module_.variables.size(),
          "{}: {} addresses for {} variables", module_.name, variable_addresses_.size(),
          module_.variables.size());
}
LoadedModule::~LoadedModule() = default;

const Program& LoadedModule::program(const ptx::Function& kernel) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Program>& entry = programs_[&kernel];
  if (entry == nullptr) {
    entry = std::make_unique<Program>(lower(module_, kernel, variable_addresses_));
  }
  return *entry;
}

std::optional<Fault> LoadedModule::run(const ptx::Function& kernel, DeviceMemory& memory,
                                       const LaunchConfig& config,
                                       std::span<const std::byte> params,
                                       const DeviceLimits& limits, const Options& options,
                                       Counters* counters) {
  if (auto refused = check_resources(kernel, config, limits, params.size())) return refused;
  const Program& decoded = program(kernel);
  const u64 blocks = config.grid.count();
  int threads =
      options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  threads = static_cast<int>(std::clamp<u64>(blocks, 1, static_cast<u64>(std::max(threads, 1))));

  std::atomic<u64> next{0}, instructions{0};
  std::atomic<bool> stop{false};
  const Setup setup{&decoded,      &config, &limits, &options, params, &memory, counters != nullptr,
                    &instructions, &stop};
  std::mutex result_mutex;
  std::optional<Fault> result;
  std::exception_ptr broken;
  Footprint read, written;

  const auto work = [&](int number) {
    static thread_local Worker worker;
    try {
      prepare(worker, setup);
      worker.smid = static_cast<u32>(number % std::max(limits.sm_count, 1));
      for (u64 block = next++; block < blocks && !stop; block = next++) run_block(worker, block);
    } catch (const KernelFault& fault) {
      stop = true;
      const std::lock_guard lock(result_mutex);
      if (!result) result = Fault{fault.code, fault.kind, fault.what()};
    } catch (...) {
      stop = true;
      const std::lock_guard lock(result_mutex);
      broken = std::current_exception();
    }
    if (counters != nullptr) {
      const std::lock_guard lock(result_mutex);
      *counters += worker.counters;
      add_classes(worker, *counters);
      read.merge(worker.read);
      written.merge(worker.written);
      worker.read.clear();
      worker.written.clear();
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work, i);
  work(0);
  for (std::thread& helper : helpers) helper.join();
  if (broken) std::rethrow_exception(broken);
  if (counters != nullptr) {
    counters->blocks += blocks;
    counters->unique_read += read.bytes();
    counters->unique_written += written.bytes();
    counters->unique_read_sectors += read.sectors();
    counters->unique_written_sectors += written.sectors();
  }
  return result;
}

std::vector<u64> place_variables(const ptx::Module& module, DeviceMemory& memory) {
  std::vector<u64> addresses(module.variables.size(), 0);
  for (std::size_t i = 0; i < module.variables.size(); ++i) {
    const ptx::Variable& variable = module.variables[i];
    if (variable.space == ptx::Space::shared) continue;
    require(!variable.is_extern, "{}: variable {} is defined in another module", module.name,
            variable.name);
    const auto kind =
        variable.space == ptx::Space::constant ? MemoryKind::kConstant : MemoryKind::kVariable;
    addresses[i] = memory.allocate(variable.size, kind, variable.name);
    require(addresses[i] != 0, "{}: no device memory for variable {} of {} bytes", module.name,
            variable.name, variable.size);
    memory.fill(addresses[i], 0, variable.size);
    memory.write(addresses[i], variable.init.data(), variable.init.size());
  }
  for (std::size_t i = 0; i < module.variables.size(); ++i) {
    for (const ptx::Relocation& relocation : module.variables[i].relocations) {
      const ptx::Variable& target = module.variables[relocation.variable];
      u64 value = target.space == ptx::Space::shared
                      ? target.shared_offset + (relocation.generic ? kSharedWindow : 0)
                      : addresses[relocation.variable];
      value += static_cast<u64>(relocation.addend);
      memory.write(addresses[i] + relocation.offset, &value, relocation.size);
    }
  }
  return addresses;
}

}  // namespace softgpu
