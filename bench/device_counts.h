#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

// What the kernels of an operator did, as the software GPU counts it.
namespace qgrpo::bench {

struct KernelCounts {
  std::string name;      // as in the source, without parameters
  bool library = false;  // cuBLASLt: computed on the host, only bytes and operations are known
  std::int64_t launches = 0;
  std::int64_t instructions = 0;  // warp instructions, moves and parameters not counted: the
                                  // machine code has hardly any of these
  double lanes = 0.0;             // executing lanes of an instruction, on average
  std::int64_t unique_bytes = 0;  // sectors of global memory, 32 bytes each, read or written by a
                                  // launch at least once: what DRAM moves when L2 keeps the rest
  std::int64_t sector_bytes = 0;  // sectors of every request: what L2 moves
  std::int64_t mma_flops = 0;
  // Passes over shared memory's banks beyond one for each request, by the kind of access.
  std::int64_t load_conflicts = 0, store_conflicts = 0, matrix_conflicts = 0, copy_conflicts = 0,
               atomic_conflicts = 0;
  std::int64_t conflicts() const {
    return load_conflicts + store_conflicts + matrix_conflicts + copy_conflicts + atomic_conflicts;
  }
};

// Whether this process's CUDA runtime is the software GPU: then times say nothing about a GPU.
bool software_gpu();

// The kernels that `call` launches; it must have a software GPU. Throws Error where it fails.
std::vector<KernelCounts> count_kernels(const std::function<void()>& call);

// The sum, under the name "total".
KernelCounts total(const std::vector<KernelCounts>& kernels);

}  // namespace qgrpo::bench
