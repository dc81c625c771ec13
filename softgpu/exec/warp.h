#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "softgpu/exec/counters.h"
#include "softgpu/exec/device_memory.h"
#include "softgpu/exec/fault.h"
#include "softgpu/exec/launch_config.h"
#include "softgpu/exec/program.h"

// The state of a running block: its warps, their registers and shadows, shared memory.
namespace softgpu {

// Register files are arrays of bytes that handlers read as what an instruction says they are, 32 or
// 64 bits wide: this folder is compiled with -fno-strict-aliasing.
using u32a = std::uint32_t;
using u64a = std::uint64_t;

// Windows of the generic address space, away from device memory and from what a host maps.
constexpr std::uint64_t kSharedWindow = 0x00a0'0000'0000ull;
constexpr std::uint64_t kLocalWindow = 0x00b0'0000'0000ull;
constexpr std::uint64_t kWindowBytes = std::uint64_t{1} << 24;

// Thrown by handlers; the launch turns it into a Fault.
class KernelFault : public std::runtime_error {
 public:
  KernelFault(FaultCode fault_code, std::string fault_kind, const std::string& text)
      : std::runtime_error(text), code(fault_code), kind(std::move(fault_kind)) {}
  FaultCode code;
  std::string kind;
};

struct Block;
struct Worker;

// A return address, shared by all groups of lanes that came through the same call.
struct CallFrame {
  std::uint32_t return_pc = 0;
  std::uint32_t caller = 0, callee = 0;  // Program::functions
  std::uint32_t local_base = 0;          // the caller's
  const ptx::CallSite* site = nullptr;
  std::shared_ptr<CallFrame> previous;
  std::vector<std::byte> saved_registers;  // of a function that calls itself
  std::vector<std::uint32_t> saved_predicates;
};

enum class Wait : std::uint8_t { none, warp_sync, barrier };

// Lanes of a warp that are at one place.
struct Group {
  std::uint32_t pc = 0;
  std::uint32_t lanes = 0;
  Wait wait = Wait::none;
  std::uint32_t local_base = 0;
  std::uint32_t function = 0;
  std::shared_ptr<CallFrame> stack;
  std::uint32_t sync_mask = 0;  // waiting in bar.warp.sync: its mask
};

// One cp.async instruction whose bytes have not been delivered.
struct AsyncCopy {
  std::uint32_t lanes = 0;
  std::uint32_t bytes = 0;
  const Op* op = nullptr;
  std::uint32_t group[kLanes];        // the thread's commit group
  std::uint32_t destination[kLanes];  // offset in shared memory
  std::uint32_t source_bytes[kLanes];
  std::uint64_t source[kLanes];
};

struct Warp {
  std::byte* registers = nullptr;
  std::byte* shadow = nullptr;  // same layout: a set bit has never been given a value
  std::uint32_t* predicates = nullptr;
  std::uint32_t* predicate_shadow = nullptr;
  bool tainted = false;      // shadows may have set bits; otherwise they are not kept at all
  std::uint32_t exec = 0;    // lanes that execute the current operation
  std::uint32_t active = 0;  // lanes of the current group
  std::uint32_t pc = 0;
  std::uint32_t initial = 0, live = 0;  // lanes that began, that have not exited
  std::uint32_t id = 0;
  std::uint32_t current = 0;     // in groups
  std::uint32_t others_min = 0;  // lowest program counter of the other groups that can run
  bool spent = false;            // its last share of instructions ended before it had to wait
  std::uint32_t spins = 0;       // atomic exchanges and volatile loads since its turn began
  std::uint32_t last_group = 0;  // that ran last
  std::vector<Group> groups;
  std::byte* local = nullptr;  // [lane][Program::local_bytes]
  std::uint8_t* local_shadow = nullptr;
  std::uint32_t local_base = 0;  // of the current group
  std::uint32_t function = 0;
  std::shared_ptr<CallFrame> stack;  // of the current group
  Block* block = nullptr;
  Worker* worker = nullptr;

  // A barrier this warp waits at: id, or -1.
  int barrier = -1;
  std::uint32_t barrier_count = 0;
  bool done = false;

  std::vector<AsyncCopy> copies;
  std::uint32_t committed[kLanes] = {};  // commit groups that each thread has closed

  std::vector<std::uint32_t> seen;  // by warp: epochs below this happened before what runs now
  std::uint32_t sync_epoch = 0;     // of the last synchronisation inside the warp
  std::uint32_t clock = 0;          // of the last one with other warps
  std::uint32_t tid[3][kLanes];

  template <typename T>
  T* reg(std::uint32_t offset) const {
    return reinterpret_cast<T*>(registers + offset);
  }
  template <typename T>
  T* shadow_of(std::uint32_t offset) const {
    return reinterpret_cast<T*>(shadow + offset);
  }
  void set_predicate(std::uint32_t slot, std::uint32_t value) {
    predicates[slot] = (predicates[slot] & ~exec) | (value & exec);
  }
};

// Who touched a word of shared memory last, for the detection of races.
struct WordAccess {
  std::uint32_t write_epoch = 0;
  std::uint32_t read_epoch = 0;
  std::uint32_t readers = 0;  // warps, one bit each
  std::uint8_t write_warp = 0;
  std::uint8_t write_lane = 0;   // kManyLanes: several
  std::uint8_t write_bytes = 0;  // one bit a byte; kMixed: parts by several warps
  std::uint8_t read_bytes = 0;
  std::uint32_t write_op = 0, read_op = 0;  // Op::index
};
constexpr std::uint8_t kMixed = 0x80;
constexpr std::uint8_t kManyLanes = 0xff;

struct Barrier {
  std::uint32_t arrived = 0;   // threads
  std::uint32_t expected = 0;  // 0: nobody has arrived
  std::uint32_t arrive_only = 0;
  const Op* op = nullptr;
  std::vector<std::uint32_t> waiting;  // warps
  std::vector<std::uint32_t> seen;     // merged clocks of those that came
  std::uint32_t popc = 0;
  bool all = true, any = false;
};

struct Block {
  std::uint32_t index[3] = {0, 0, 0};
  std::vector<Warp> warps;
  std::byte* shared = nullptr;
  std::uint8_t* shared_shadow = nullptr;  // set bits have never been written
  std::uint32_t shared_bytes = 0;
  std::vector<WordAccess> words;
  std::uint32_t epoch = 1;  // grows with every synchronisation, also from block to block
  std::uint32_t threads = 0;
  Barrier barriers[16];
  std::uint32_t pending_copies = 0;       // cp.async instructions not delivered, all warps
  std::vector<std::uint32_t> lock_clock;  // what holders of locks have seen
};

struct Worker {
  const Program* program = nullptr;
  const LaunchConfig* config = nullptr;
  const DeviceLimits* limits = nullptr;
  const Options* options = nullptr;
  const std::byte* params = nullptr;
  std::size_t param_bytes = 0;
  DeviceMemory* memory = nullptr;
  Block block;
  std::vector<const Allocation*> hits;  // by operation: the allocation of its last access
  std::vector<std::uint64_t> executed;  // by operation
  bool counting = false;
  Counters counters;
  Footprint read, written;  // of global memory, where counting
  std::vector<std::byte> register_storage, shadow_storage, local_storage, shared_storage;
  std::vector<std::uint8_t> local_shadow_storage, shared_shadow_storage;
  std::vector<std::uint32_t> predicate_storage;
  std::uint32_t smid = 0;
  std::atomic<std::uint64_t>* instructions = nullptr;  // of the launch, all workers
  std::atomic<bool>* stop = nullptr;                   // another worker met a fault
};

// Starts to keep shadows: all registers count as given so far.
void start_taint(Warp& warp);
// Shadows of the destination of `op`, before its handler runs (only for tainted warps).
void propagate_taint(Warp& warp, const Op& op);
// Stops the launch if an executing lane of the 32- or 64-bit register at `offset` holds
// uninitialised bits. `what` completes "uninitialised value used as ...".
void require_initialised(Warp& warp, const Op& op, std::uint32_t offset, int width,
                         const char* what);

// Runs the warp until it waits at a barrier, ends, or has had its share of instructions.
void run_warp(Warp& warp);
// Arrival of all of the warp's lanes at a barrier instruction. True if the warp may go on at once.
bool arrive(Warp& warp, const Op& op);
// Calls and returns of the executing lanes; the rest of the group stays behind as a group of its
// own.
void enter_call(Warp& warp, const Op& op);
void leave_call(Warp& warp);
// Puts lanes of the current group that do not go on with it into a group at `pc`.
void split_off(Warp& warp, std::uint32_t lanes, std::uint32_t pc);

// Runs one block to its end; throws KernelFault.
void run_block(Worker& worker, std::uint64_t block_number);

// Throws KernelFault with the place: kernel, source line, block, thread of `lane`.
[[noreturn]] void fault(const Warp& warp, const Op& op, std::uint32_t lane, FaultCode code,
                        const char* kind, const std::string& what);
// "kernel 'name', file:line, block (x,y,z)" and so on for messages that span threads.
std::string where(const Program& program, const Op& op);
std::string source_line(const Program& program, const Op& op);

inline std::uint32_t first_lane(std::uint32_t lanes) {
  return static_cast<std::uint32_t>(__builtin_ctz(lanes));
}

}  // namespace softgpu
