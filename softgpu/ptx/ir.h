#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "softgpu/ptx/opcodes.h"

// A PTX module, decoded: symbols resolved, labels turned into instruction indices, virtual
// registers placed in slots. Everything an interpreter needs, nothing it has to look up by name.
namespace softgpu::ptx {

constexpr std::uint32_t kNone = 0xffffffffu;

enum class OperandKind : std::uint8_t {
  none,       // absent (also the destination "_": compute, do not store)
  reg,        // register: slot `index`, `bits` wide
  pred,       // predicate: predicate slot `index`, complemented if `negated`
  immediate,  // `imm`: the value's bits, sign-extended to 64 (floats: bits of the operand's type)
  special,    // special register `special()`; `bits` is its natural width (32 or 64)
  vector,     // `count` elements: Function::elements[index ...]; each none, reg or immediate
  address,    // [base + imm]: base register slot `index` of `bits`, or no base if index == kNone.
              // imm is then absolute within the instruction's space (shared, local, param)
  variable,   // address of Module::variables[index] + imm, a global or constant (as a value: in the
              // variable's own space; inside brackets: `bracketed` is set)
  dynamic_shared,  // (start of dynamic shared memory) + imm, as `variable`
};

// `bits` is the declared width of the register (16, 32, 64; 8-bit registers are 16), which may be
// larger than the instruction's type: ld, st and cvt extend or truncate.
struct Operand {
  OperandKind kind = OperandKind::none;
  std::uint8_t bits = 0;
  std::uint8_t count = 0;
  bool negated = false;
  bool bracketed = false;
  // Of `variable`, and of an immediate that is a symbol's address: shared_offset, kernel parameter
  // offset, or an offset in the thread's frame (local, frame_param), to be added to the frame's
  // base.
  Space space = Space::generic;
  std::uint32_t index = kNone;
  std::int64_t imm = 0;
  Special special() const { return static_cast<Special>(imm); }
};

// A destination never shares a slot with a source unless the PTX text names the same register
// twice, so that a loop over lanes may write while it reads.
//
// Operands by opcode, where it is not "dst, then the sources in the text's order":
//   setp          dst = p, dst2 = q (p|q), src = a, b[, c]     c only with `combine`
//   shfl, match.all  dst = d, dst2 = p; shfl src = a, b, c, membermask; match src = a, membermask
//   elect         dst = d, dst2 = p; src = membermask
//   lop3          src = a, b, c, immLut        lop3.BOOL: dst2 = p, combine set, src[4] = q
//   add.cc ...    carry_out set; addc, subc, madc read the carry of the thread
//   ld, ldu       dst = register or vector, src[0] = address
//   st            src[0] = address, src[1] = value (register, immediate or vector)
//   atom          dst = d, src = address, b[, c]   (cas: b compares, c is stored); vector forms
//                 have vectors
//   red           src = address, b
//   cp.async      src = shared address, global address, bytes (4, 8, 16), and one of: none; source
//                 bytes, zeros follow; a predicate: true = ignore the source, all zeros
//   cp.async.wait_group  src[0] = N
//   mma           dst = D, src = A, B, C (vectors); types: type D, type_a, type_b, type_c
//   ldmatrix      dst = vector, src[0] = address; `trans`; vector = number of matrices
//   vote          src = predicate, membermask (none without .sync); ballot's dst is a register
//   redux         src = a, membermask
//   bar.sync/arrive  src = barrier id, thread count (or none)
//   bar.red       dst, src = barrier id, thread count (or none), predicate
//   bar.warp.sync src = membermask
//   cvt           type = destination's, type_a = source's; x2 forms from f32: src = high, low
//   set           type = destination's, type_a = compared type
//   slct          type_a = type of the selector src[2]
//   isspacep      dst = predicate; space
//   bra           target; brx.idx: src[0] = index, target = index in Function::branch_tables
//   dp4a, dp2a    type = s32 or u32 of the result, type_a and type_b of the packed factors
//   call          target = index in Function::calls; indirect: src[0] = function address
//   unsupported   target = index in Function::unsupported_text; faults when executed
struct Instruction {
  Opcode op = Opcode::nop;
  Type type = Type::none;
  Type type_a = Type::none, type_b = Type::none, type_c = Type::none;
  Space space = Space::generic;
  Round round = Round::none;
  Compare compare = Compare::none;
  Combine combine = Combine::none;
  AtomicOp atomic = AtomicOp::none;
  PrmtMode prmt = PrmtMode::none;
  TestMode test = TestMode::none;
  std::uint8_t vector = 1;            // elements of ld, st, atom, red; matrices of ldmatrix
  std::uint16_t m = 0, n = 0, k = 0;  // shape of mma
  bool ftz = false, sat = false;      // mma: sat is .satfinite
  bool nan = false;                   // min, max: NaN if one input is NaN
  bool xorsign_abs = false;           // min, max
  bool relu = false;                  // cvt, fma: negative and -0 become 0
  bool carry_out = false;             // .cc
  bool sync = false;                  // *.sync: waits for the lanes of its membermask
  bool aligned = false;               // .aligned: all threads of the warp execute it together
  bool uniform = false;               // bra.uni, call.uni, ret.uni: promised not to diverge
  bool volatile_or_atomic = false;    // ld, st: volatile, relaxed, acquire, release, mmio
  bool read_only = false;             // ld.global.nc
  bool trans = false;                 // ldmatrix, movmatrix
  bool bypass_l1 = false;             // cp.async.cg
  bool guard_negated = false;
  std::uint32_t guard = kNone;     // predicate slot that must hold, or kNone
  std::uint32_t target = kNone;    // see the table above
  std::uint32_t location = kNone;  // Module::locations; kNone without -lineinfo
  std::uint32_t ptx_line = 0;      // line in the PTX text, from 1
  Operand dst, dst2;
  Operand src[5];
};

struct Location {
  std::uint32_t file = 0;  // Module::files
  std::uint32_t line = 0, column = 0;
  std::uint32_t inlined_at = kNone;  // Module::locations: the call site, for inlined code
  std::string function;              // name of the inlined function, if the PTX gives it
};

struct Relocation {
  std::uint64_t offset = 0;    // in Variable::init
  std::uint32_t variable = 0;  // whose address + addend goes there (8 bytes; 4 if `size` is 4)
  std::int64_t addend = 0;
  std::uint8_t size = 8;
  bool generic = false;  // generic(x) rather than the address within its space
};

// A module-scope variable, or a static variable of a function (their names are unique in a module).
struct Variable {
  std::string name;
  Space space = Space::global;  // global, constant or shared
  std::uint64_t size = 0;       // bytes; 0 for extern arrays
  std::uint32_t align = 1;
  bool is_extern = false;  // defined in another module; extern shared = dynamic shared memory
  bool managed = false;
  std::vector<std::byte> init;  // empty (all zero) or `size` bytes
  std::vector<Relocation> relocations;
  std::uint64_t shared_offset = 0;  // shared: where it lies in every kernel that uses it
};

struct Parameter {
  std::string name;
  std::uint32_t offset = 0;  // kernel: in the parameter buffer; function: in the thread's frame
  std::uint32_t size = 0;
  std::uint32_t align = 1;
};

struct CallSite {
  std::uint32_t callee = kNone;  // Module::functions; kNone: indirect, through Instruction::src[0]
  // The caller's side, offsets in its frame; the callee's side is Function::params/results, in
  // order. The interpreter copies arguments in at the call and results back at the return.
  std::vector<Parameter> arguments, results;
};

// Functions without a body that device code may call.
enum class Builtin : std::uint8_t { none, vprintf, assertfail, malloc, free, unknown };

struct BasicBlock {
  std::uint32_t first = 0, end = 0;       // instructions [first, end)
  std::vector<std::uint32_t> successors;  // blocks; empty: the thread returns or exits
  std::uint32_t reconvergence = kNone;    // block where all paths meet again (immediate
                                          // post-dominator), kNone: at the function's end
};

struct Function {
  std::string name;  // mangled
  bool is_kernel = false;
  Builtin builtin = Builtin::none;  // with no instructions
  std::vector<Parameter> params, results;
  std::uint32_t param_bytes = 0;  // kernel: size of the parameter buffer
  std::uint32_t frame_bytes = 0;  // frame_param space: own parameters (if not a kernel) and calls'
  std::uint32_t local_bytes = 0;  // .local variables of one call
  std::uint32_t local_align = 1;
  std::uint32_t slots = 0;  // 32-bit slots a thread; a 64-bit register takes 2, from an even one
  std::uint32_t predicates = 0;           // predicate slots
  std::uint32_t virtual_registers = 0;    // before allocation (64-bit ones count once)
  std::vector<Instruction> instructions;  // in the order of the PTX text
  std::vector<Operand> elements;          // of vector operands
  std::vector<BasicBlock> blocks;
  std::vector<std::vector<std::uint32_t>> branch_tables;  // brx.idx: instruction indices
  std::vector<CallSite> calls;
  std::vector<std::string> unsupported_text;
  // Kernels: static shared memory of this kernel and everything it calls; dynamic shared memory
  // starts at the first multiple of shared_align (at least 16) after it.
  std::uint32_t shared_bytes = 0;
  std::uint32_t shared_align = 16;
  bool uses_dynamic_shared = false;
  std::uint32_t max_threads[3] = {0, 0, 0};       // .maxntid, 0: not given
  std::uint32_t required_threads[3] = {0, 0, 0};  // .reqntid
  std::uint32_t min_blocks_per_sm = 0, max_registers = 0;

  std::uint32_t dynamic_shared_offset() const {
    return (shared_bytes + shared_align - 1) / shared_align * shared_align;
  }
};

struct Module {
  std::string name;  // for messages
  int version_major = 0, version_minor = 0;
  int architecture = 0;            // 80 for sm_80 / compute_80
  std::vector<std::string> files;  // .file
  std::vector<Location> locations;
  std::vector<Variable> variables;
  std::vector<Function> functions;

  const Function* find_function(std::string_view mangled_name) const;  // nullptr if absent
  const Variable* find_variable(std::string_view mangled_name) const;
};

// A function's address as PTX sees it (mov.u64 of a function, tables of function pointers). The
// parser puts these values into immediates and initialisers.
constexpr std::uint64_t kFunctionAddressBase = 0x0f00'0000'0000ull;
constexpr std::uint64_t function_address(std::uint32_t function_index) {
  return kFunctionAddressBase + 16ull * (function_index + 1);
}

// One line for messages, such as "st.global.f32 (kernel.cu:41)".
std::string describe(const Module& module, const Instruction& instruction);

}  // namespace softgpu::ptx
