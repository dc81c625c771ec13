#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "softgpu/exec/control.h"
#include "softgpu/exec/lower_tables.h"
#include "softgpu/exec/program.h"
#include "softgpu/exec/warp.h"
#include "softgpu/ptx/error.h"

namespace softgpu {
namespace {

using ptx::Instruction;
using ptx::Opcode;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Space;
using ptx::Type;

constexpr std::uint32_t kRecursionStack = 64
                                          << 10;  // bytes a thread when functions call themselves

class Lowering {
 public:
  Lowering(const ptx::Module& module, const ptx::Function& kernel,
           const std::vector<std::uint64_t>& addresses)
      : module_(module), kernel_(kernel), addresses_(addresses) {}

  Program run() {
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

 private:
  std::uint32_t new_slots(std::uint32_t slots) {
    if (slots == 2) program_.slots = (program_.slots + 1) / 2 * 2;
    const std::uint32_t offset = program_.slots * kSlotBytes;
    program_.slots += slots;
    return offset;
  }

  std::uint32_t constant(std::uint64_t value, int width) {
    if (width == 1) value &= 0xffffffffu;
    const auto [it, added] = constants_.try_emplace({value, width}, 0);
    if (added) {
      it->second = new_slots(static_cast<std::uint32_t>(width));
      program_.constants.push_back({it->second, static_cast<std::uint8_t>(width), value});
    }
    return it->second;
  }

  std::uint32_t function_number(std::uint32_t module_index) {
    const auto found = numbers_.find(module_index);
    return found == numbers_.end() ? 0xffffffffu : found->second;
  }

  // The kernel and everything that it may call, callees behind callers; their parts of the register
  // file and the depth of the stack.
  void find_functions() {
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

  std::uint32_t depth(std::uint32_t number, std::set<std::uint32_t>& path) {
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

  void add_function(std::uint32_t module_index) {
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

  void lower_function(std::uint32_t number) {
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

  struct Place {
    std::uint32_t offset = 0;
    std::uint8_t width = 0;
    bool predicate = false;
    bool negated = false;
  };

  // Where functions may call themselves, 64-bit registers have a bank of their own: a return
  // restores the registers of single lanes, and must know which bytes are a lane's.
  std::uint32_t register_offset(const Operand& operand) const {
    const bool second_bank = program_.recursive && operand.bits == 64;
    return (function_->first_slot + operand.index + (second_bank ? function_->slots : 0)) *
           kSlotBytes;
  }

  std::uint64_t value_of(const Operand& operand) const {
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

  Place source(const Instruction& in, int i) {
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

  Place destination(const Instruction&, const Operand& operand) {
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

  std::uint32_t vector(const Instruction& in, const Operand& operand, bool is_source) {
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

  void set_address(const Instruction& in, const Operand& operand, std::uint32_t& offset,
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

  Op base_op(const Instruction& in) {
    Op op;
    op.source = &in;
    op.function = function_number_;
    if (in.guard != ptx::kNone) {
      op.guard = function_->first_predicate + in.guard;
      op.guard_negated = in.guard_negated;
    }
    return op;
  }

  void unsupported(const Instruction& in, std::string text) {
    Op op = base_op(in);
    op.flags = kControl;
    op.mode = static_cast<std::uint8_t>(Control::unsupported);
    op.cls = OpClass::control;
    op.target = static_cast<std::uint32_t>(program_.unsupported.size());
    program_.unsupported.push_back(std::move(text));
    program_.ops.push_back(op);
  }

  static void set(Op& op, int i, const Place& place) {
    std::uint32_t* offsets[] = {&op.d, &op.a, &op.b, &op.c, &op.e};
    bool* predicates[] = {&op.pred_d, &op.pred_a, &op.pred_b, &op.pred_c, nullptr};
    *offsets[i] = place.offset;
    op.width[i] = place.width;
    if (predicates[i] != nullptr) *predicates[i] = place.predicate;
    if (i == 1) op.negate_a = place.negated;
    if (i == 2) op.negate_b = place.negated;
    if (i == 3 && place.predicate) op.negate_b = place.negated;  // third source as a predicate
  }

  void lower_instruction(const Instruction& in) {
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

  void lower_control(const Instruction& in) {
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
            {site.callee == ptx::kNone ? 0xffffffffu : function_number(site.callee), &site});
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

  bool is_memory(Opcode op) const {
    return op == Opcode::ld || op == Opcode::ldu || op == Opcode::st || op == Opcode::atom ||
           op == Opcode::red || op == Opcode::ldmatrix;
  }

  void lower_plain(const Instruction& in) {
    Op op = base_op(in);
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
    if (in.carry_out || in.op == Opcode::addc || in.op == Opcode::subc ||
        in.op == Opcode::madc_lo || in.op == Opcode::madc_hi) {
      op.pd = carry_;
    }
    if (in.op == Opcode::mma) {
      op.d = vector(in, in.dst, false);
      op.a = vector(in, in.src[0], true);
      op.b = vector(in, in.src[1], true);
      op.c = vector(in, in.src[2], true);
      for (std::uint8_t& width : op.width) width = 0;
    } else if (is_memory(in.op)) {
      set_address(in, in.src[0], op.a, op.width[1], op.imm);
      if (in.op == Opcode::st) {
        op.elements = vector(in, in.src[1], true);
        op.count = in.src[1].kind == OperandKind::vector ? in.src[1].count : 1;
      } else if (in.op == Opcode::atom || in.op == Opcode::red) {
        if (in.src[1].kind == OperandKind::vector) {
          unsupported(in, ptx::describe(module_, in));
          return;
        }
        set(op, 2, source(in, 1));
        if (in.src[2].kind != OperandKind::none) set(op, 3, source(in, 2));
      } else {
        op.elements = vector(in, in.dst, false);
        op.count = in.dst.kind == OperandKind::vector ? in.dst.count : 1;
        op.width[0] = 0;
      }
    } else if (in.op == Opcode::cp_async) {
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
      } else {
        if (in.src[3].kind == OperandKind::immediate) {
          op.c = constant(static_cast<std::uint64_t>(in.src[3].imm), 1);
          op.width[3] = 1;
        } else {
          set(op, 3, source(in, 3));
        }
      }
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

  void lower_sources(const Instruction& in, Op& op) {
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

  void set_sync(const Instruction& in, Op& op) {
    if (in.op == Opcode::mma || in.op == Opcode::ldmatrix || in.op == Opcode::movmatrix) {
      op.flags = static_cast<std::uint8_t>(op.flags | kSync | kNoMask);
    } else if (op.width[4] != 0 && (in.op >= Opcode::shfl_up && in.op <= Opcode::elect) &&
               in.op != Opcode::activemask) {
      op.flags = static_cast<std::uint8_t>(op.flags | kSync);
    }
  }

  // cvt between registers wider than its types: through a temporary of the right width.
  bool split_cvt(const Instruction& in, Op& op) {
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
  static Handler truncate_handler();
  static Handler extend_handler();

  void finish(const Instruction& in, Op& op) {
    using Select = Handler (*)(const Instruction&, Op&);
    static constexpr Select kSelect[] = {
        select_move,     select_integer, select_bits,  select_float, select_half,
        select_compare,  select_convert, select_load,  select_store, select_atomic,
        select_exchange, select_async,   select_matrix};
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

  void resolve_targets() {
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

  const ptx::Module& module_;
  const ptx::Function& kernel_;
  const std::vector<std::uint64_t>& addresses_;
  Program program_;
  ProgramFunction* function_ = nullptr;
  std::uint32_t function_number_ = 0;
  std::uint32_t trash_ = 0, carry_ = 0, trash_predicate_ = 0;
  std::map<std::pair<std::uint64_t, int>, std::uint32_t> constants_;
  std::map<std::uint32_t, std::uint32_t> numbers_;  // module's function -> program's
  std::map<std::uint32_t, std::vector<std::uint32_t>> first_op_;
  std::vector<std::uint32_t> table_function_;
};

Handler Lowering::truncate_handler() {
  return [](Warp& warp, const Op& op) {
    alignas(64) std::uint32_t out[kLanes];
    const u64a* a = warp.reg<u64a>(op.a);
    for (std::uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = static_cast<std::uint32_t>(a[lane]);
    const auto commit = [&] {
      u32a* d = warp.reg<u32a>(op.d);
      for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
        if ((warp.exec >> lane & 1) != 0) d[lane] = out[lane];
      }
    };
    commit();
  };
}

Handler Lowering::extend_handler() {
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

Program lower(const ptx::Module& module, const ptx::Function& kernel,
              const std::vector<std::uint64_t>& variable_addresses) {
  return Lowering(module, kernel, variable_addresses).run();
}

}  // namespace softgpu
