#include <algorithm>
#include <set>
#include <utility>

#include "softgpu/exec/control.h"
#include "softgpu/exec/lower_tables.h"
#include "softgpu/exec/lowering.h"
#include "softgpu/ptx/error.h"

namespace softgpu {

using ptx::OperandKind;

namespace {

// Bytes a thread when functions call themselves.
constexpr std::uint32_t kRecursionStack = 64 << 10;

}  // namespace

Program Lowering::run() {
  program_.module = &module_;
  program_.kernel = &kernel_;
  find_functions();
  trash_ = new_slots(2);
  program_.true_predicate = program_.predicates++;
  carry_ = program_.predicates++;
  trash_predicate_ = program_.predicates++;
  for (std::size_t f = program_.functions.size(); f-- > 0;)
    lower_function(static_cast<std::uint32_t>(f));
  for (std::size_t i = 0; i < program_.ops.size(); ++i) {
    Op& op = program_.ops[i];
    op.index = static_cast<std::uint32_t>(i);
  }
  resolve_targets();
  return std::move(program_);
}

std::uint32_t Lowering::new_slots(std::uint32_t slots) {
  if (slots == 2) program_.slots = (program_.slots + 1) / 2 * 2;
  const std::uint32_t offset = program_.slots * kSlotBytes;
  program_.slots += slots;
  return offset;
}

std::uint32_t Lowering::constant(std::uint64_t value, int width) {
  if (width == 1) value &= 0xffffffffu;
  const auto [it, added] = constants_.try_emplace({value, width}, 0);
  if (added) {
    it->second = new_slots(static_cast<std::uint32_t>(width));
    program_.constants.push_back({it->second, static_cast<std::uint8_t>(width), value});
  }
  return it->second;
}

std::uint32_t Lowering::function_number(std::uint32_t module_index) {
  const auto found = numbers_.find(module_index);
  return found == numbers_.end() ? kNoFunction : found->second;
}

// The kernel and everything that it may call, callees behind callers; their parts of the register
// file and the depth of the stack.
void Lowering::find_functions() {
  const auto kernel_index = static_cast<std::uint32_t>(&kernel_ - module_.functions.data());
  add_function(kernel_index);
  for (std::size_t f = 0; f < program_.functions.size(); ++f) {
    bool indirect = false;
    const ptx::Function& function = *program_.functions[f].source;
    for (const ptx::CallSite& call : function.calls) {
      if (call.callee == ptx::kNone) {
        indirect = true;
      } else {
        add_function(call.callee);
      }
    }
    if (!indirect) continue;
    for (std::size_t i = 0; i < module_.functions.size(); ++i) {
      if (!module_.functions[i].is_kernel) add_function(static_cast<std::uint32_t>(i));
    }
    program_.recursive = true;  // cannot be excluded
  }
  std::set<std::uint32_t> path;
  program_.local_bytes = depth(0, path);
  if (program_.recursive) program_.local_bytes += kRecursionStack;
  program_.local_bytes = (program_.local_bytes + 15) / 16 * 16;
  program_.slots = 0;
  for (ProgramFunction& function : program_.functions) {
    function.first_slot = program_.slots;
    program_.slots += program_.recursive ? 2 * function.slots : function.slots;
  }
}

std::uint32_t Lowering::depth(std::uint32_t number, std::set<std::uint32_t>& path) {
  if (!path.insert(number).second) {
    program_.recursive = true;
    return 0;
  }
  std::uint32_t deepest = 0;
  for (const ptx::CallSite& call : program_.functions[number].source->calls) {
    if (call.callee == ptx::kNone) continue;
    deepest = std::max(deepest, depth(function_number(call.callee), path));
  }
  path.erase(number);
  return deepest + program_.functions[number].frame_bytes;
}

void Lowering::add_function(std::uint32_t module_index) {
  if (numbers_.count(module_index) != 0) return;
  numbers_[module_index] = static_cast<std::uint32_t>(program_.functions.size());
  ProgramFunction added;
  added.source = &module_.functions[module_index];
  added.slots = (added.source->slots + 1) / 2 * 2;
  added.first_predicate = program_.predicates;
  added.predicates = added.source->predicates;
  program_.predicates += added.predicates;
  added.frame_offset = (added.source->local_bytes + 15) / 16 * 16;
  added.frame_bytes = added.frame_offset + (added.source->frame_bytes + 15) / 16 * 16;
  program_.functions.push_back(added);
}

void Lowering::lower_function(std::uint32_t number) {
  function_number_ = number;
  function_ = &program_.functions[number];
  std::vector<std::uint32_t>& first = first_op_[number];
  function_->entry = static_cast<std::uint32_t>(program_.ops.size());
  for (const Instruction& in : function_->source->instructions) {
    first.push_back(static_cast<std::uint32_t>(program_.ops.size()));
    lower_instruction(in);
  }
  first.push_back(static_cast<std::uint32_t>(program_.ops.size()));
  static const Instruction leave = [] {
    Instruction in;
    in.op = Opcode::ret;
    return in;
  }();
  lower_instruction(leave);
}

Op Lowering::base_op(const Instruction& in) {
  Op op;
  op.source = &in;
  op.function = function_number_;
  if (in.guard != ptx::kNone) {
    op.guard = function_->first_predicate + in.guard;
    op.guard_negated = in.guard_negated;
  }
  return op;
}

void Lowering::unsupported(const Instruction& in, std::string text) {
  Op op = base_op(in);
  op.flags = kControl;
  op.mode = static_cast<std::uint8_t>(Control::unsupported);
  op.cls = OpClass::control;
  op.target = static_cast<std::uint32_t>(program_.unsupported.size());
  program_.unsupported.push_back(std::move(text));
  program_.ops.push_back(op);
}

void Lowering::lower_instruction(const Instruction& in) {
  if (in.op == Opcode::unsupported) {
    const auto& texts = function_->source->unsupported_text;
    unsupported(in, in.target < texts.size() ? texts[in.target] : std::string("?"));
  } else if (is_control(in.op)) {
    lower_control(in);
  } else if (is_nop(in.op)) {
    Op op = base_op(in);
    op.run = [](Warp&, const Op&) {};
    op.cls = OpClass::control;
    program_.ops.push_back(op);
  } else {
    lower_plain(in);
  }
}

void Lowering::lower_control(const Instruction& in) {
  Op op = base_op(in);
  op.flags = kControl;
  op.mode = static_cast<std::uint8_t>(control_of(in.op));
  op.cls = OpClass::control;
  op.target = in.target;
  switch (in.op) {
    case Opcode::brx_idx:
      set(op, 1, source(in, 0));
      op.target = static_cast<std::uint32_t>(program_.tables.size());
      program_.tables.push_back(function_->source->branch_tables.at(in.target));
      table_function_.push_back(function_number_);
      break;
    case Opcode::call: {
      const ptx::CallSite& site = function_->source->calls.at(in.target);
      op.target = static_cast<std::uint32_t>(program_.calls.size());
      program_.calls.push_back(
          {site.callee == ptx::kNone ? kNoFunction : function_number(site.callee), &site});
      if (site.callee == ptx::kNone) set(op, 1, source(in, 0));
      break;
    }
    case Opcode::bar_warp_sync:
      set(op, 4, source(in, 0));
      op.flags |= kSync;
      op.cls = OpClass::barrier;
      break;
    case Opcode::bar_sync:
    case Opcode::bar_arrive:
    case Opcode::bar_red_popc:
    case Opcode::bar_red_and:
    case Opcode::bar_red_or:
      op.cls = OpClass::barrier;
      set(op, 1, source(in, 0));
      if (in.src[1].kind != OperandKind::none) set(op, 2, source(in, 1));
      if (in.src[2].kind == OperandKind::pred) {
        op.pd = function_->first_predicate + in.src[2].index;
        op.pred_c = true;
        op.negate_b = in.src[2].negated;
      } else if (in.src[2].kind == OperandKind::immediate) {
        op.pd = program_.true_predicate;
        op.pred_c = true;
        op.negate_b = in.src[2].imm == 0;
      }
      set(op, 0, destination(in, in.dst));
      break;
    default:
      break;
  }
  program_.ops.push_back(op);
}

void Lowering::finish(const Instruction& in, Op& op) {
  using Select = Handler (*)(const Instruction&, Op&);
  static constexpr Select kSelect[] = {select_move,  select_integer, select_bits,     select_float,
                                       select_half,  select_compare, select_convert,  select_load,
                                       select_store, select_atomic,  select_exchange, select_async,
                                       select_matrix};
  for (const Select select : kSelect) {
    op.run = select(in, op);
    if (op.run != nullptr) break;
  }
  if (op.run == nullptr) {
    unsupported(in, ptx::describe(module_, in));
    return;
  }
  program_.ops.push_back(op);
}

void Lowering::resolve_targets() {
  for (Op& op : program_.ops) {
    if ((op.flags & kControl) == 0) continue;
    if (static_cast<Control>(op.mode) == Control::bra) {
      op.target = first_op_[op.function].at(op.target);
    }
  }
  for (std::size_t i = 0; i < program_.tables.size(); ++i) {
    for (std::uint32_t& target : program_.tables[i]) {
      target = first_op_[table_function_[i]].at(target);
    }
  }
}

Program lower(const ptx::Module& module, const ptx::Function& kernel,
              const std::vector<std::uint64_t>& variable_addresses) {
  return Lowering(module, kernel, variable_addresses).run();
}

}  // namespace softgpu
