// Operands, and all instructions but those of control.

#include "softgpu/exec/lower_tables.h"
#include "softgpu/exec/lowering.h"
#include "softgpu/exec/warp.h"

namespace softgpu {

using ptx::OperandKind;
using ptx::Space;
using ptx::Type;

namespace {

// The low half of 64-bit registers.
Handler truncate_handler() {
  return [](Warp& warp, const Op& op) {
    alignas(64) std::uint32_t out[kLanes];
    const u64a* a = warp.reg<u64a>(op.a);
    for (std::uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = static_cast<std::uint32_t>(a[lane]);
    u32a* d = warp.reg<u32a>(op.d);
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.exec >> lane & 1) != 0) d[lane] = out[lane];
    }
  };
}

// 32-bit registers made 64 bits wide.
Handler extend_handler() {
  return [](Warp& warp, const Op& op) {
    alignas(64) std::uint64_t out[kLanes];
    const u32a* a = warp.reg<u32a>(op.a);
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
      out[lane] = op.mode == 1 ? static_cast<std::uint64_t>(
                                     static_cast<std::int64_t>(static_cast<std::int32_t>(a[lane])))
                               : a[lane];
    }
    u64a* d = warp.reg<u64a>(op.d);
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
      if ((warp.exec >> lane & 1) != 0) d[lane] = out[lane];
    }
  };
}

}  // namespace

// Where functions may call themselves, 64-bit registers have a bank of their own: a return
// restores the registers of single lanes, and must know which bytes are a lane's.
std::uint32_t Lowering::register_offset(const Operand& operand) const {
  const bool second_bank = program_.recursive && operand.bits == 64;
  return (function_->first_slot + operand.index + (second_bank ? function_->slots : 0)) *
         kSlotBytes;
}

std::uint64_t Lowering::value_of(const Operand& operand) const {
  switch (operand.kind) {
    case OperandKind::variable:
      if (module_.variables[operand.index].space == Space::shared) {
        return module_.variables[operand.index].shared_offset +
               static_cast<std::uint64_t>(operand.imm);
      }
      return addresses_.at(operand.index) + static_cast<std::uint64_t>(operand.imm);
    case OperandKind::dynamic_shared:
      return kernel_.dynamic_shared_offset() + static_cast<std::uint64_t>(operand.imm);
    default:
      return static_cast<std::uint64_t>(operand.imm);
  }
}

Lowering::Place Lowering::source(const Instruction& in, int i) {
  const Operand& operand = in.src[i];
  switch (operand.kind) {
    case OperandKind::reg:
      return {register_offset(operand), static_cast<std::uint8_t>(operand.bits == 64 ? 2 : 1),
              false, false};
    case OperandKind::pred:
      return {function_->first_predicate + operand.index, 0, true, operand.negated};
    case OperandKind::immediate:
      if (in.type == Type::pred ||
          (in.op >= Opcode::vote_all && in.op <= Opcode::vote_ballot && i == 0)) {
        return {program_.true_predicate, 0, true, (operand.imm & 1) == 0};
      }
      [[fallthrough]];
    case OperandKind::variable:
    case OperandKind::dynamic_shared: {
      const int width = immediate_width(in, i);
      return {constant(value_of(operand), width), static_cast<std::uint8_t>(width), false, false};
    }
    default:
      return {trash_, 0, false, false};
  }
}

Lowering::Place Lowering::destination(const Instruction&, const Operand& operand) {
  switch (operand.kind) {
    case OperandKind::reg:
      return {register_offset(operand), static_cast<std::uint8_t>(operand.bits == 64 ? 2 : 1),
              false, false};
    case OperandKind::pred:
      return {function_->first_predicate + operand.index, 0, true, false};
    default:
      return {trash_, 2, false, false};
  }
}

std::uint32_t Lowering::vector(const Instruction& in, const Operand& operand, bool is_source) {
  const auto first = static_cast<std::uint32_t>(program_.elements.size());
  const auto add = [&](const Operand& one) {
    Element element;
    if (one.kind == OperandKind::reg) {
      element.offset = register_offset(one);
      element.width = one.bits == 64 ? 2 : 1;
    } else if (is_source && one.kind != OperandKind::none) {
      const int width = ptx::bits_of(in.type) == 64 && in.op != Opcode::mov ? 2 : 1;
      element.width = static_cast<std::uint8_t>(width);
      element.offset = constant(value_of(one), width);
    } else {
      element.offset = trash_;
      element.width = ptx::bits_of(in.type) == 64 ? 2 : 1;
    }
    program_.elements.push_back(element);
  };
  if (operand.kind == OperandKind::vector) {
    for (std::uint32_t i = 0; i < operand.count; ++i) {
      add(function_->source->elements[operand.index + i]);
    }
  } else {
    add(operand);
  }
  return first;
}

void Lowering::set_address(const Instruction& in, const Operand& operand, std::uint32_t& offset,
                           std::uint8_t& width, std::int64_t& imm) {
  width = 0;
  if (operand.kind == OperandKind::reg) {  // an address without brackets
    offset = register_offset(operand);
    width = operand.bits == 64 ? 2 : 1;
    imm = 0;
    return;
  }
  imm = static_cast<std::int64_t>(value_of(operand));
  if (operand.kind == OperandKind::address && operand.index != ptx::kNone) {
    offset = register_offset(operand);
    width = operand.bits == 64 ? 2 : 1;
  } else if (in.space == Space::frame_param) {
    imm += function_->frame_offset;
  }
}

void Lowering::set(Op& op, int i, const Place& place) {
  std::uint32_t* offsets[] = {&op.d, &op.a, &op.b, &op.c, &op.e};
  bool* predicates[] = {&op.pred_d, &op.pred_a, &op.pred_b, &op.pred_c, nullptr};
  *offsets[i] = place.offset;
  op.width[i] = place.width;
  if (predicates[i] != nullptr) *predicates[i] = place.predicate;
  if (i == 1) op.negate_a = place.negated;
  if (i == 2) op.negate_b = place.negated;
  if (i == 3 && place.predicate) op.negate_b = place.negated;  // third source as a predicate
}

bool Lowering::is_memory(Opcode op) const {
  return op == Opcode::ld || op == Opcode::ldu || op == Opcode::st || op == Opcode::atom ||
         op == Opcode::red || op == Opcode::ldmatrix;
}

void Lowering::lower_plain(const Instruction& in) {
  Op op = base_op(in);
  set_destinations(in, op);
  if (in.op == Opcode::mma) {
    op.d = vector(in, in.dst, false);
    op.a = vector(in, in.src[0], true);
    op.b = vector(in, in.src[1], true);
    op.c = vector(in, in.src[2], true);
    for (std::uint8_t& width : op.width) width = 0;
  } else if (is_memory(in.op)) {
    if ((in.op == Opcode::atom || in.op == Opcode::red) && in.src[1].kind == OperandKind::vector) {
      unsupported(in, ptx::describe(module_, in));
      return;
    }
    lower_memory(in, op);
  } else if (in.op == Opcode::cp_async) {
    lower_async(in, op);
  } else if (in.dst.kind == OperandKind::vector) {  // mov {a,b}, x
    op.elements = vector(in, in.dst, false);
    op.count = in.dst.count;
    set(op, 1, source(in, 0));
  } else if (in.src[0].kind == OperandKind::vector) {  // mov x, {a,b}
    op.elements = vector(in, in.src[0], true);
    op.count = in.src[0].count;
  } else {
    lower_sources(in, op);
  }
  if (in.op == Opcode::mov && in.src[0].kind == OperandKind::immediate &&
      in.src[0].space == Space::local) {
    op.imm = 1;  // relative to the frame of the call
    op.mode = 1;
  }
  set_sync(in, op);
  if (in.op == Opcode::cvt && split_cvt(in, op)) return;
  finish(in, op);
}

void Lowering::set_destinations(const Instruction& in, Op& op) {
  op.pd = in.dst2.kind == OperandKind::pred ? function_->first_predicate + in.dst2.index
                                            : trash_predicate_;
  if (in.dst.kind == OperandKind::pred) {
    set(op, 0, destination(in, in.dst));
  } else if (in.op == Opcode::setp || in.op == Opcode::isspacep || in.op == Opcode::testp) {
    op.d = trash_predicate_;
    op.pred_d = true;
  } else if (in.dst.kind != OperandKind::vector) {
    set(op, 0, destination(in, in.dst));
  }
  if (in.carry_out || in.op == Opcode::addc || in.op == Opcode::subc || in.op == Opcode::madc_lo ||
      in.op == Opcode::madc_hi) {
    op.pd = carry_;
  }
}

// ld, ldu, st, atom, red, ldmatrix.
void Lowering::lower_memory(const Instruction& in, Op& op) {
  set_address(in, in.src[0], op.a, op.width[1], op.imm);
  if (in.op == Opcode::st) {
    op.elements = vector(in, in.src[1], true);
    op.count = in.src[1].kind == OperandKind::vector ? in.src[1].count : 1;
  } else if (in.op == Opcode::atom || in.op == Opcode::red) {
    set(op, 2, source(in, 1));
    if (in.src[2].kind != OperandKind::none) set(op, 3, source(in, 2));
  } else {
    op.elements = vector(in, in.dst, false);
    op.count = in.dst.kind == OperandKind::vector ? in.dst.count : 1;
    op.width[0] = 0;
  }
}

void Lowering::lower_async(const Instruction& in, Op& op) {
  set_address(in, in.src[0], op.a, op.width[1], op.imm);
  std::int64_t second = 0;
  set_address(in, in.src[1], op.b, op.width[2], second);
  op.target = static_cast<std::uint32_t>(program_.elements.size());  // never used as one
  if (second != 0 || op.width[2] == 0) {
    // The global address' offset: added through a constant by the handler.
    op.d = constant(static_cast<std::uint64_t>(second), 2);
    op.width[0] = 2;
  } else {
    op.width[0] = 0;
  }
  op.count = static_cast<std::uint8_t>(in.src[2].imm);
  if (in.src[3].kind == OperandKind::pred) {
    op.pred_c = true;
    op.c = function_->first_predicate + in.src[3].index;
    op.negate_b = in.src[3].negated;
    op.width[3] = 0;
  } else if (in.src[3].kind == OperandKind::none) {
    op.c = constant(op.count, 1);
    op.width[3] = 1;
  } else if (in.src[3].kind == OperandKind::immediate) {
    op.c = constant(static_cast<std::uint64_t>(in.src[3].imm), 1);
    op.width[3] = 1;
  } else {
    set(op, 3, source(in, 3));
  }
}

void Lowering::lower_sources(const Instruction& in, Op& op) {
  const bool mask_second = in.op == Opcode::redux || in.op == Opcode::match_any ||
                           in.op == Opcode::match_all ||
                           (in.op >= Opcode::vote_all && in.op <= Opcode::vote_ballot);
  if (in.op == Opcode::elect) {
    set(op, 4, source(in, 0));
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (in.src[i].kind == OperandKind::none) continue;
    if (in.src[i].kind == OperandKind::special) continue;
    set(op, mask_second && i == 1 ? 4 : i + 1, source(in, i));
  }
}

void Lowering::set_sync(const Instruction& in, Op& op) {
  if (in.op == Opcode::mma || in.op == Opcode::ldmatrix || in.op == Opcode::movmatrix) {
    op.flags = static_cast<std::uint8_t>(op.flags | kSync | kNoMask);
  } else if (op.width[4] != 0 && (in.op >= Opcode::shfl_up && in.op <= Opcode::elect) &&
             in.op != Opcode::activemask) {
    op.flags = static_cast<std::uint8_t>(op.flags | kSync);
  }
}

// cvt between registers wider than its types: through a temporary of the right width.
bool Lowering::split_cvt(const Instruction& in, Op& op) {
  const int want_source = ptx::bits_of(in.type_a) == 64 ? 2 : 1;
  const int want_destination = ptx::bits_of(in.type) == 64 ? 2 : 1;
  const bool wide_source = op.width[1] == 2 && want_source == 1;
  const bool wide_destination = op.width[0] == 2 && want_destination == 1 && op.d != trash_;
  if (!wide_source && !wide_destination) return false;
  Op before = op, after = op;
  if (wide_source) {
    before.width[0] = 1;
    before.d = new_slots(1);
    before.run = truncate_handler();
    before.taint = Taint::strict;
    program_.ops.push_back(before);
    op.a = before.d;
    op.width[1] = 1;
  }
  if (wide_destination) {
    op.d = new_slots(1);
    op.width[0] = 1;
  }
  finish(in, op);
  if (wide_destination) {
    after.a = op.d;
    after.width[1] = 1;
    after.mode = ptx::is_signed(in.type) ? 1 : 0;
    after.run = extend_handler();
    after.taint = Taint::strict;
    program_.ops.push_back(after);
  }
  return true;
}

}  // namespace softgpu
