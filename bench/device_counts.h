#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/io/json.h"

// What the kernels of an operator did, as the software GPU counts it.
namespace qgrpo::bench {

struct KernelCounts {
  std::string name;      // as in the source, without parameters
  bool library = false;  // cuBLASLt: computed on the host, only bytes and operations are known
  std::int64_t launches = 0;
  std::int64_t instructions = 0;  // warp instructions, moves and parameters not counted: the
                                  // machine code has hardly any of these
  // Of these, by the unit that executes them: arithmetic of integers (selection and comparison too) and of
  // float32 (conversions too), special functions, and all that goes through a multiprocessor's load and store
  // unit: global and shared memory, exchanges between lanes.
  std::int64_t integer = 0, floating = 0, special = 0, memory_requests = 0;
  std::int64_t blocks = 0;        // of all launches
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

inline double as_double(std::int64_t count) {
  return static_cast<double>(count);
}

// Whether this process's CUDA runtime is the software GPU: then times say nothing about a GPU.
bool software_gpu();

// The kernels that `call` launches; it must have a software GPU. Throws Error where it fails.
std::vector<KernelCounts> count_kernels(const std::function<void()>& call);

// As an object of the counts above.
void write_counts(io::JsonWriter& writer, const KernelCounts& counts);

// The sum, under the name "total".
KernelCounts total(const std::vector<KernelCounts>& kernels);

}  // namespace qgrpo::bench
