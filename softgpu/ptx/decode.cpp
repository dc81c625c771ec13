#include "softgpu/ptx/decode.h"

#include <bit>
#include <utility>

#include "softgpu/ptx/modifiers.h"
#include "softgpu/ptx/rules.h"

namespace softgpu::ptx {
namespace {

// A literal knows its own width (32: 0f, 64: 0d and decimal); the instruction's type decides.
void fit_literal(Operand& operand, Type type) {
  if (operand.kind != OperandKind::immediate || operand.bits == 0) return;
  if (type == Type::f32 && operand.bits == 64) {
    const auto value = static_cast<float>(std::bit_cast<double>(operand.imm));
    operand.imm = std::bit_cast<std::uint32_t>(value);
  } else if (type == Type::f64 && operand.bits == 32) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(operand.imm));
    operand.imm = std::bit_cast<std::int64_t>(static_cast<double>(value));
  }
}

Type type_of_source(const Instruction& i, std::size_t source) {
  if (i.op == Opcode::cvt || i.op == Opcode::set) return i.type_a;
  if (i.op == Opcode::slct && source == 2) return i.type_a;
  return i.type;
}

}  // namespace

bool decode_opcode(std::string_view name, std::span<const std::string_view> words, Instruction& out,
                   bool& drop_last) {
  drop_last = false;
  const Rule* const found = find_rule(name);
  if (found == nullptr) return false;
  const Rule& rule = *found;
  Modifiers m;
  if (!read_modifiers(words, m)) return false;
  if ((m.seen & ~(rule.allowed | kType)) != 0) return false;
  if (rule.types >= 0 && m.type_count != rule.types) return false;

  out.op = rule.op;
  out.type = m.types[0];
  out.type_a = m.type_count == 2 ? m.types[1] : Type::none;
  out.round = m.round;
  out.compare = m.compare;
  out.atomic = m.atomic;
  out.space = m.space;
  out.vector = m.vector;
  const auto has = [&](Group group) { return (m.seen & group) != 0; };
  out.ftz = has(kFtz);
  out.sat = has(kSat);
  out.nan = has(kNan);
  out.xorsign_abs = has(kXorsign);
  out.relu = has(kRelu);
  out.carry_out = has(kCarry);
  out.sync = has(kSync);
  out.aligned = has(kAligned);
  out.uniform = has(kUniform);
  out.volatile_or_atomic = m.strong;
  out.read_only = has(kReadOnly);
  out.trans = has(kTrans);
  out.bypass_l1 = m.bypass_l1;
  drop_last = has(kHint);
  if (rule.refine != nullptr && !rule.refine(m, out)) return false;
  return m.keyword_count == 0;
}

bool has_destination(Opcode op) {
  switch (op) {
    case Opcode::st:
    case Opcode::red:
    case Opcode::prefetch:
    case Opcode::discard:
    case Opcode::applypriority:
    case Opcode::fence:
    case Opcode::cp_async:
    case Opcode::cp_async_commit_group:
    case Opcode::cp_async_wait_group:
    case Opcode::cp_async_wait_all:
    case Opcode::bar_sync:
    case Opcode::bar_arrive:
    case Opcode::bar_warp_sync:
    case Opcode::griddepcontrol:
    case Opcode::nanosleep:
    case Opcode::bra:
    case Opcode::brx_idx:
    case Opcode::call:
    case Opcode::ret:
    case Opcode::exit:
    case Opcode::trap:
    case Opcode::brkpt:
    case Opcode::nop:
    case Opcode::unsupported:
      return false;
    default:
      return true;
  }
}

bool place_operands(std::span<const Operand> operands, const Operand& second, Instruction& out) {
  if (has_destination(out.op)) {
    if (operands.empty()) return false;
    out.dst = operands.front();
    out.dst2 = second;
    operands = operands.subspan(1);
  }
  // bar.red without a thread count: the predicate still comes third.
  const bool red = out.op == Opcode::bar_red_popc || out.op == Opcode::bar_red_and ||
                   out.op == Opcode::bar_red_or;
  if (operands.size() > std::size(out.src)) return false;
  for (std::size_t s = 0; s < operands.size(); ++s) out.src[s] = operands[s];
  if (red && operands.size() == 2) std::swap(out.src[1], out.src[2]);
  for (std::size_t s = 0; s < operands.size(); ++s) fit_literal(out.src[s], type_of_source(out, s));
  return true;
}

}  // namespace softgpu::ptx
