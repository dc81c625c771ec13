// mov in all its forms, special registers, address space conversions.

#include <chrono>

#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::OperandKind;
using ptx::Space;
using ptx::Special;
using ptx::Type;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

void mov32(Warp& w, const Op& op) {
  commit(w, op.d, w.reg<u32a>(op.a));
}
void mov64(Warp& w, const Op& op) {
  commit(w, op.d, w.reg<u64a>(op.a));
}
void mov_pred(Warp& w, const Op& op) {
  w.set_predicate(op.d, op.negate_a ? ~w.predicates[op.a] : w.predicates[op.a]);
}
// The address of a .local variable: relative to the frame of the call.
void mov_local(Warp& w, const Op& op) {
  const u64a* a = w.reg<u64a>(op.a);
  alignas(64) u64 out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) out[l] = a[l] + w.local_base;
  commit(w, op.d, out);
}

// d = {e0, e1, ...}, and {e0, e1, ...} = a. `Part` bits each.
template <int Part, typename D>
void pack(Warp& w, const Op& op) {
  alignas(64) D out[kLanes] = {};
  const Element* elements = w.worker->program->elements.data() + op.elements;
  for (u32 i = 0; i < op.count; ++i) {
    const u32a* a = w.reg<u32a>(elements[i].offset);
    for (u32 l = 0; l < kLanes; ++l) {
      const D part = Part == 32 ? a[l] : a[l] & ((u64{1} << Part) - 1);
      out[l] |= static_cast<D>(part << (Part * i));
    }
  }
  commit(w, op.d, out);
}
template <int Part, typename A>
void unpack(Warp& w, const Op& op) {
  alignas(64) A in[kLanes];
  std::memcpy(in, w.reg<A>(op.a), sizeof in);
  const Element* elements = w.worker->program->elements.data() + op.elements;
  for (u32 i = 0; i < op.count; ++i) {
    alignas(64) u32 out[kLanes];
    for (u32 l = 0; l < kLanes; ++l) {
      const u64 part = static_cast<u64>(in[l]) >> (Part * i);
      out[l] = static_cast<u32>(Part == 32 ? part : part & ((u64{1} << Part) - 1));
    }
    commit(w, elements[i].offset, out);
  }
}

void splat32(Warp& w, const Op& op, u32 value) {
  alignas(64) u32 out[kLanes];
  for (u32& x : out) x = value;
  commit(w, op.d, out);
}

u64 nanoseconds() {
  return static_cast<u64>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count());
}
// A clock for the GPU: time that passes with instructions executed would need a model; the host's
// nanoseconds stand for cycles.
u64 cycles() {
  return static_cast<u64>(std::chrono::steady_clock::now().time_since_epoch().count());
}

u32 uniform_special(const Warp& w, Special special) {
  const Worker& worker = *w.worker;
  const LaunchConfig& config = *worker.config;
  switch (special) {
    case Special::ntid_x:
      return config.block.x;
    case Special::ntid_y:
      return config.block.y;
    case Special::ntid_z:
      return config.block.z;
    case Special::ctaid_x:
      return w.block->index[0];
    case Special::ctaid_y:
      return w.block->index[1];
    case Special::ctaid_z:
      return w.block->index[2];
    case Special::nctaid_x:
      return config.grid.x;
    case Special::nctaid_y:
      return config.grid.y;
    case Special::nctaid_z:
      return config.grid.z;
    case Special::warpid:
      return w.id;
    case Special::nwarpid:
      return static_cast<u32>(w.block->warps.size());
    case Special::smid:
      return worker.smid;
    case Special::nsmid:
      return static_cast<u32>(worker.limits->sm_count);
    case Special::clock:
      return static_cast<u32>(cycles());
    case Special::clock_hi:
      return static_cast<u32>(cycles() >> 32);
    case Special::globaltimer_lo:
      return static_cast<u32>(nanoseconds());
    case Special::globaltimer_hi:
      return static_cast<u32>(nanoseconds() >> 32);
    case Special::dynamic_smem_size:
      return config.dynamic_shared_bytes;
    case Special::total_smem_size:
      return w.block->shared_bytes;
    default:
      return 0;
  }
}

u32 lane_special(const Warp& w, Special special, u32 lane) {
  const u32 bit = 1u << lane;
  switch (special) {
    case Special::tid_x:
      return w.tid[0][lane];
    case Special::tid_y:
      return w.tid[1][lane];
    case Special::tid_z:
      return w.tid[2][lane];
    case Special::laneid:
      return lane;
    case Special::lanemask_eq:
      return bit;
    case Special::lanemask_le:
      return bit | (bit - 1);
    case Special::lanemask_lt:
      return bit - 1;
    case Special::lanemask_ge:
      return ~(bit - 1);
    default:
      return ~(bit | (bit - 1));  // lanemask_gt
  }
}

bool differs_by_lane(Special special) {
  return special <= Special::tid_z || special == Special::laneid ||
         (special >= Special::lanemask_eq && special <= Special::lanemask_gt);
}

void mov_special(Warp& w, const Op& op) {
  const auto special = static_cast<Special>(op.mode);
  if (special == Special::clock64 || special == Special::globaltimer ||
      special == Special::gridid) {
    const u64 value = special == Special::clock64       ? cycles()
                      : special == Special::globaltimer ? nanoseconds()
                                                        : 1;
    alignas(64) u64 out[kLanes];
    for (u64& x : out) x = value;
    commit(w, op.d, out);
  } else if (differs_by_lane(special)) {
    alignas(64) u32 out[kLanes];
    for (u32 l = 0; l < kLanes; ++l) out[l] = lane_special(w, special, l);
    commit(w, op.d, out);
  } else {
    splat32(w, op, uniform_special(w, special));
  }
}
// A 32-bit special register read into a 64-bit register.
void mov_special_wide(Warp& w, const Op& op) {
  const auto special = static_cast<Special>(op.mode);
  alignas(64) u64 out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) {
    out[l] = differs_by_lane(special) ? lane_special(w, special, l) : uniform_special(w, special);
  }
  commit(w, op.d, out);
}

// cvta: into the generic space and back. A null pointer of a space is not mapped to null: nvcc does
// not expect it.
template <bool To>
void cvta_op(Warp& w, const Op& op) {
  const u64 window = static_cast<u64>(op.imm);
  alignas(64) u64 out[kLanes];
  if (op.width[1] == 2) {
    const u64a* a = w.reg<u64a>(op.a);
    for (u32 l = 0; l < kLanes; ++l) out[l] = To ? a[l] - window : a[l] + window;
  } else {
    const u32a* a = w.reg<u32a>(op.a);
    for (u32 l = 0; l < kLanes; ++l) out[l] = To ? a[l] - window : a[l] + window;
  }
  if (op.width[0] == 2) {
    commit(w, op.d, out);
  } else {
    alignas(64) u32 narrow[kLanes];
    for (u32 l = 0; l < kLanes; ++l) narrow[l] = static_cast<u32>(out[l]);
    commit(w, op.d, narrow);
  }
}

Handler select_mov(const ptx::Instruction& in, Op& op) {
  if (in.src[0].kind == OperandKind::special) {
    op.mode = static_cast<std::uint8_t>(in.src[0].special());
    op.taint = Taint::strict;
    op.width[1] = 0;
    const auto special = static_cast<Special>(op.mode);
    const bool wide = special == Special::clock64 || special == Special::globaltimer ||
                      special == Special::gridid;
    return op.width[0] == 2 && !wide ? mov_special_wide : mov_special;
  }
  if (in.type == Type::pred) {
    op.taint = Taint::predicate;
    return mov_pred;
  }
  if (in.src[0].kind == OperandKind::vector) {
    op.taint = Taint::copy;
    const int part = ptx::bits_of(in.type) / op.count;
    if (ptx::bits_of(in.type) == 64)
      return part == 32 ? pack<32, u64> : part == 16 ? pack<16, u64> : pack<8, u64>;
    return part == 16 ? pack<16, u32> : pack<8, u32>;
  }
  if (in.dst.kind == OperandKind::vector) {
    op.taint = Taint::copy;
    const int part = ptx::bits_of(in.type) / op.count;
    if (ptx::bits_of(in.type) == 64)
      return part == 32 ? unpack<32, u64> : part == 16 ? unpack<16, u64> : unpack<8, u64>;
    return part == 16 ? unpack<16, u32> : unpack<8, u32>;
  }
  if (op.mode == 1 && op.width[0] == 2) {
    op.taint = Taint::strict;
    return mov_local;
  }
  op.taint = Taint::copy;
  return op.width[0] == 2 && ptx::bits_of(in.type) == 64 ? mov64 : mov32;
}

}  // namespace

Handler select_move(const ptx::Instruction& in, Op& op) {
  op.cls = OpClass::move;
  switch (in.op) {
    case Opcode::mov:
      return select_mov(in, op);
    case Opcode::cvta:
    case Opcode::cvta_to:
      op.taint = Taint::strict;
      op.imm = 0;
      if (in.space == Space::shared) op.imm = static_cast<std::int64_t>(kSharedWindow);
      if (in.space == Space::local) op.imm = static_cast<std::int64_t>(kLocalWindow);
      return in.op == Opcode::cvta ? cvta_op<false> : cvta_op<true>;
    case Opcode::createpolicy:
      op.taint = Taint::strict;
      for (int i = 1; i < 5; ++i) op.width[i] = 0;
      return [](Warp& w, const Op& o) {
        alignas(64) u64 out[kLanes] = {};
        commit(w, o.d, out);
      };
    default:
      return nullptr;
  }
}

}  // namespace softgpu
