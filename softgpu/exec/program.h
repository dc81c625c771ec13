#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "softgpu/exec/counters.h"
#include "softgpu/ptx/ir.h"

// A kernel with the functions it calls, lowered to a flat list of operations: each has its handler
// and the places of its operands in a warp's register file.
namespace softgpu {

struct Warp;
struct Op;
using Handler = void (*)(Warp&, const Op&);

constexpr std::uint32_t kLanes = 32;
constexpr std::uint32_t kAllLanes = 0xffffffffu;
constexpr std::uint32_t kSlotBytes = kLanes * 4;  // one 32-bit register of all lanes
constexpr std::uint32_t kNoGuard = 0xffffffffu;
constexpr std::uint32_t kNoFunction = 0xffffffffu;  // ProgramCall::callee of an indirect call

// How the shadow of the destination follows from the shadows of the sources.
enum class Taint : std::uint8_t {
  none,       // the handler keeps the shadow itself, or there is nothing to keep
  strict,     // one uninitialised bit in a source: all of the destination is
  copy,       // moves bits: the handler itself, run on the shadows
  and_,       // a zero that is known stays known
  or_,        // a one that is known stays known
  xor_,       // bit by bit
  shift,      // the shadow is shifted like the value; a shadow in the amount spoils all
  select,     // selp
  predicate,  // and, or, xor, not of predicates
  control,    // uses the value to decide: an error
};

// Special cases in the interpreter's loop.
enum OpFlag : std::uint8_t {
  kControl = 1,  // may change the program counter or the active lanes
  kSync = 2,     // waits for the lanes of its member mask (register e, or all without one)
  kNoMask = 4,   // ... without a member mask: all threads of the warp
};

// d, a, b, c, e: byte offsets in the register file, or slots of predicates. width: 32-bit slots of
// each (d, a, b, c, e), 0 where it is no register.
struct Op {
  Handler run = nullptr;
  std::uint32_t d = 0, a = 0, b = 0, c = 0, e = 0;
  std::uint8_t width[5] = {0, 0, 0, 0, 0};
  std::uint8_t flags = 0;
  Taint taint = Taint::none;
  OpClass cls = OpClass::integer;
  std::uint8_t count = 1;  // vector elements
  std::uint8_t mode = 0;   // meaning is the handler's own
  bool negate_a = false;   // predicate operand a is complemented
  bool negate_b = false;
  bool guard_negated = false;
  bool pred_a = false, pred_b = false, pred_d = false, pred_c = false;  // operand is a predicate
  std::uint32_t guard = kNoGuard;
  std::uint32_t pd = 0;        // second predicate (destination of shfl, set by select handlers)
  std::uint32_t target = 0;    // operation to go to; index in Program::tables or ::calls
  std::uint32_t elements = 0;  // first of `count` in Program::elements
  std::uint32_t index = 0;     // own position
  std::int64_t imm = 0;
  const ptx::Instruction* source = nullptr;
  std::uint32_t function = 0;  // in Program::functions
};

// A register of a vector operand.
struct Element {
  std::uint32_t offset = 0;
  std::uint8_t width = 1;
};

struct ProgramFunction {
  const ptx::Function* source = nullptr;
  std::uint32_t entry = 0;  // operation
  // Its part of the register file. Where Program::recursive, a second bank of as many slots follows
  // for the 64-bit registers.
  std::uint32_t first_slot = 0, slots = 0;
  std::uint32_t first_predicate = 0, predicates = 0;
  std::uint32_t frame_offset = 0;  // of the parameter frame behind the locals
  std::uint32_t frame_bytes = 0;   // locals and parameter frame of one call
};

struct ProgramConstant {
  std::uint32_t offset;
  std::uint8_t width;
  std::uint64_t value;
};

struct ProgramCall {
  std::uint32_t callee;  // in functions
  const ptx::CallSite* site;
};

struct Program {
  const ptx::Module* module = nullptr;
  const ptx::Function* kernel = nullptr;
  std::vector<Op> ops;
  std::vector<Element> elements;
  std::vector<ProgramConstant> constants;
  std::vector<ProgramFunction> functions;  // [0] is the kernel
  std::vector<ProgramCall> calls;
  std::vector<std::vector<std::uint32_t>> tables;
  std::vector<std::string> unsupported;
  std::uint32_t slots = 0;
  std::uint32_t predicates = 0;
  std::uint32_t true_predicate = 0;  // its value is always all ones
  std::uint32_t local_bytes = 0;     // a thread, all calls together
  bool recursive = false;
};

// Lowers `kernel`. `variable_addresses` as in LoadedModule. Throws softgpu::Error.
Program lower(const ptx::Module& module, const ptx::Function& kernel,
              const std::vector<std::uint64_t>& variable_addresses);

// Handlers by instruction, one function per file; null where the file does not know it. `op` has
// its operands already and may be completed (mode, taint).
Handler select_integer(const ptx::Instruction& in, Op& op);
Handler select_bits(const ptx::Instruction& in, Op& op);
Handler select_float(const ptx::Instruction& in, Op& op);
Handler select_half(const ptx::Instruction& in, Op& op);
Handler select_compare(const ptx::Instruction& in, Op& op);
Handler select_convert(const ptx::Instruction& in, Op& op);
Handler select_move(const ptx::Instruction& in, Op& op);
Handler select_load(const ptx::Instruction& in, Op& op);
Handler select_store(const ptx::Instruction& in, Op& op);
Handler select_atomic(const ptx::Instruction& in, Op& op);
Handler select_exchange(const ptx::Instruction& in, Op& op);
Handler select_async(const ptx::Instruction& in, Op& op);
Handler select_matrix(const ptx::Instruction& in, Op& op);

}  // namespace softgpu
