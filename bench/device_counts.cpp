#include "bench/device_counts.h"

#include <dlfcn.h>

#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::bench {
namespace {

// The software GPU's own entry points (docs/softgpu.md).
using Begin = int (*)();
using End = const char* (*)();

Begin find_begin() {
  return reinterpret_cast<Begin>(dlsym(RTLD_DEFAULT, "softgpuProfileBegin"));
}
End find_end() {
  return reinterpret_cast<End>(dlsym(RTLD_DEFAULT, "softgpuProfileEnd"));
}

// Without parameters and the namespaces that all kernels share.
std::string short_name(std::string name) {
  for (const std::string_view part :
       {"(anonymous namespace)::", "qgrpo::cuda::", "kernels::", "void "}) {
    for (std::size_t at = name.find(part); at < name.size(); at = name.find(part)) {
      name.erase(at, part.size());
    }
  }
  if (!name.ends_with(')')) return name;
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    depth += name[i] == ')' ? 1 : name[i] == '(' ? -1 : 0;
    if (depth == 0) return name.substr(0, i);
  }
  return name;
}

KernelCounts read_kernel(const io::JsonValue& kernel) {
  const auto number = [&](const char* key) { return kernel.at(key).as_int(); };
  const io::JsonValue classes = kernel.at("classes");
  const auto conflicts = [shared = kernel.at("shared")](const char* kind) {
    return shared.at(kind).at("conflicts").as_int();
  };
  KernelCounts counts;
  counts.name = short_name(kernel.at("name").as_string());
  counts.library = kernel.at("library").as_bool();
  counts.launches = number("launches");
  const std::int64_t all = number("warp_instructions");
  counts.instructions = all - classes.at("move").as_int() - classes.at("parameter").as_int();
  for (const char* kind : {"global_load", "global_store", "shared_load", "shared_store",
                           "matrix_load", "atomic", "async_copy", "exchange"}) {
    counts.memory_requests += classes.at(kind).as_int();
  }
  counts.integer = classes.at("integer").as_int();
  counts.floating = classes.at("floating").as_int();
  counts.special = classes.at("special").as_int();
  counts.blocks = number("blocks");
  counts.lanes =
      all == 0 ? 0.0 : static_cast<double>(number("executing_lanes")) / static_cast<double>(all);
  counts.unique_bytes = 32 * (number("unique_read_sectors") + number("unique_written_sectors"));
  counts.sector_bytes = counts.library ? counts.unique_bytes : 32 * number("global_sectors");
  counts.mma_flops = number("mma_flops");
  counts.load_conflicts = conflicts("load");
  counts.store_conflicts = conflicts("store");
  counts.matrix_conflicts = conflicts("matrix_load");
  counts.copy_conflicts = conflicts("async_copy");
  counts.atomic_conflicts = conflicts("atomic");
  return counts;
}

}  // namespace

bool software_gpu() {
  return find_begin() != nullptr && find_end() != nullptr;
}

std::vector<KernelCounts> count_kernels(const std::function<void()>& call) {
  require(software_gpu(),
          "counters: they are the software GPU's, and the CUDA runtime of this process "
          "is another one; use softgpu/run");
  require(find_begin()() == 0, "counters: the software GPU's context is lost");
  call();
  const char* text = find_end()();
  require(text != nullptr, "counters: the software GPU's context is lost");
  io::JsonDocument document;
  std::vector<KernelCounts> kernels;
  for (const io::JsonValue& kernel :
       document.parse(text, "the software GPU's profile").at("kernels").as_array()) {
    kernels.push_back(read_kernel(kernel));
  }
  return kernels;
}

void write_counts(io::JsonWriter& w, const KernelCounts& c) {
  w.begin_object();
  w.member("name", c.name);
  w.member("library", c.library);
  w.member("launches", c.launches);
  w.member("blocks", c.blocks);
  w.member("instructions", c.instructions);
  w.member("integer", c.integer);
  w.member("floating", c.floating);
  w.member("special", c.special);
  w.member("memory_requests", c.memory_requests);
  w.member("conflicts", c.conflicts());
  w.member("unique_bytes", c.unique_bytes);
  w.member("sector_bytes", c.sector_bytes);
  w.member("mma_flops", c.mma_flops);
  w.end_object();
}

KernelCounts total(const std::vector<KernelCounts>& kernels) {
  KernelCounts sum;
  sum.name = "total";
  double lanes = 0.0;
  for (const KernelCounts& k : kernels) {
    sum.launches += k.launches;
    sum.instructions += k.instructions;
    sum.integer += k.integer;
    sum.floating += k.floating;
    sum.special += k.special;
    sum.memory_requests += k.memory_requests;
    sum.blocks += k.blocks;
    lanes += k.lanes * static_cast<double>(k.instructions);
    sum.unique_bytes += k.unique_bytes;
    sum.sector_bytes += k.sector_bytes;
    sum.mma_flops += k.mma_flops;
    sum.load_conflicts += k.load_conflicts;
    sum.store_conflicts += k.store_conflicts;
    sum.matrix_conflicts += k.matrix_conflicts;
    sum.copy_conflicts += k.copy_conflicts;
    sum.atomic_conflicts += k.atomic_conflicts;
  }
  sum.lanes = sum.instructions == 0 ? 0.0 : lanes / static_cast<double>(sum.instructions);
  return sum;
}

}  // namespace qgrpo::bench
