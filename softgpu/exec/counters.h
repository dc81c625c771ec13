#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>

// What a profiler counts, for launches that are run with counters.
namespace softgpu {

// What a counter counts an operation as.
enum class OpClass : std::uint8_t {
  integer,       // arithmetic, logic, comparison, selection
  move,          // mov and address space conversion: ptxas renames most of them away
  floating,      // add, mul, fma, min, max, conversions
  special,       // the special function unit: rcp, sqrt, ex2, lg2, sin, tanh, divisions
  control,       // branches, calls, exits, fences, commit and wait of asynchronous copies
  exchange,      // shfl, vote, match, redux, movmatrix
  barrier,       // bar, bar.warp.sync
  parameter,     // ld.param of the kernel: an operand from constant memory in machine code
  global_load,   // ld.global and generic loads
  global_store,  // st.global and generic stores
  shared_load,
  shared_store,
  matrix_load,  // ldmatrix
  local,        // local memory and frames of calls
  atomic,       // atom, red
  async_copy,   // cp.async
  mma,
  count
};
constexpr std::size_t kOpClasses = static_cast<std::size_t>(OpClass::count);
std::string_view name_of(OpClass op_class);

// Requests to global memory: warp instructions that touch it with at least one lane.
struct GlobalTraffic {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;    // asked for by the active lanes
  std::uint64_t sectors = 0;  // distinct 32-byte sectors of each request
};
enum class GlobalKind : std::uint8_t { load, store, atomic, async_copy, count };
std::string_view name_of(GlobalKind kind);

// Requests to shared memory. A wavefront is one pass over the 32 banks of 4 bytes: it serves lanes
// that want different banks or the same word. A request of 4 bytes a lane or less goes as one part,
// one of 8 bytes as two halves of the warp, one of 16 bytes as four quarters (ldmatrix: one matrix
// each); a part takes as many wavefronts as the busiest bank has distinct words, and those beyond
// the first are conflicts. Lanes of an atomic operation that name the same word take turns.
struct SharedTraffic {
  std::uint64_t requests = 0;
  std::uint64_t wavefronts = 0;
  std::uint64_t conflicts = 0;
};
enum class SharedKind : std::uint8_t { load, store, atomic, matrix_load, async_copy, count };
std::string_view name_of(SharedKind kind);

// Summed over blocks. A warp instruction counts once however many of its lanes are active.
struct Counters {
  std::uint64_t blocks = 0;
  std::uint64_t warp_instructions = 0;
  // Of these: issued for fewer than 32 lanes, by divergence, after exits, or in a block whose last
  // warp is not full. Lanes that the instruction's own predicate turns off do not matter here.
  std::uint64_t partial_instructions = 0;
  std::uint64_t active_lanes = 0;     // lanes at the instruction, summed over warp instructions
  std::uint64_t executing_lanes = 0;  // of these, not turned off by the predicate
  std::array<std::uint64_t, kOpClasses> by_class{};
  std::uint64_t mma_flops = 0;  // 2 m n k each
  std::array<GlobalTraffic, static_cast<std::size_t>(GlobalKind::count)> global{};
  std::array<SharedTraffic, static_cast<std::size_t>(SharedKind::count)> shared{};
  // Distinct bytes of global memory, and the 32-byte sectors that they lie in, over the whole
  // launch. A byte both read and written counts in both.
  std::uint64_t unique_read = 0, unique_written = 0;
  std::uint64_t unique_read_sectors = 0, unique_written_sectors = 0;

  Counters& operator+=(const Counters& other);
  std::uint64_t operator[](OpClass c) const { return by_class[static_cast<std::size_t>(c)]; }
  const GlobalTraffic& operator[](GlobalKind k) const {
    return global[static_cast<std::size_t>(k)];
  }
  const SharedTraffic& operator[](SharedKind k) const {
    return shared[static_cast<std::size_t>(k)];
  }
  std::uint64_t global_bytes() const;
  std::uint64_t global_sectors() const;
  std::uint64_t shared_conflicts() const;
};

// A set of bytes of global memory: one bit each, in pages made when first touched.
class Footprint {
 public:
  // Aligned accesses of 1, 2, 4 .. 32 bytes, which lie in one sector.
  void add(std::uint64_t address, std::uint32_t bytes) {
    const std::uint32_t mask = bytes >= 32 ? 0xffffffffu : (1u << bytes) - 1u;
    page(address).masks[address % kPageBytes / 32] |= mask << (address % 32);
  }
  // Any stretch.
  void add_range(std::uint64_t address, std::uint64_t bytes);
  void merge(const Footprint& other);
  void clear();
  std::uint64_t bytes() const;
  std::uint64_t sectors() const;

 private:
  static constexpr std::uint64_t kPageBytes = 16384;
  struct Page {
    std::array<std::uint32_t, kPageBytes / 32> masks{};  // a bit a byte
  };
  Page& page(std::uint64_t address) {
    const std::uint64_t number = address / kPageBytes;
    if (number != last_number_) {
      std::unique_ptr<Page>& entry = pages_[number];
      if (entry == nullptr) entry = std::make_unique<Page>();
      last_number_ = number;
      last_ = entry.get();
    }
    return *last_;
  }
  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::uint64_t last_number_ = ~std::uint64_t{0};
  Page* last_ = nullptr;
};

// Counts one request of the lanes in `lanes`, `bytes` each, to global memory (addresses) or shared
// memory (offsets). Entries of other lanes are not looked at.
void count_global(Counters& counters, Footprint& read, Footprint& written, GlobalKind kind,
                  std::uint32_t lanes, const std::uint64_t* address, std::uint32_t bytes);
void count_shared(Counters& counters, SharedKind kind, std::uint32_t lanes,
                  const std::uint64_t* offset, std::uint32_t bytes);

}  // namespace softgpu
