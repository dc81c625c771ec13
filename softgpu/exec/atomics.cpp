// atom and red, in global and shared memory.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "softgpu/exec/memory.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {
namespace {

using ptx::AtomicOp;
using ptx::Opcode;
using ptx::Type;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// What an atomic operation makes of the old bits and its operands. T is the type it computes in.
template <typename T>
T combine(AtomicOp kind, T old, T b, T c) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    switch (kind) {
      case AtomicOp::and_:
        return static_cast<T>(old & b);
      case AtomicOp::or_:
        return static_cast<T>(old | b);
      case AtomicOp::xor_:
        return static_cast<T>(old ^ b);
      case AtomicOp::cas:
        return old == b ? c : old;
      case AtomicOp::exch:
        return b;
      case AtomicOp::add:
        return static_cast<T>(static_cast<U>(old) + static_cast<U>(b));
      case AtomicOp::inc:
        return old >= b ? T(0) : static_cast<T>(old + 1);
      case AtomicOp::dec:
        return old == 0 || old > b ? b : static_cast<T>(old - 1);
      case AtomicOp::min:
        return std::min(old, b);
      case AtomicOp::max:
        return std::max(old, b);
      default:
        return old;
    }
  } else {
    switch (kind) {
      case AtomicOp::add:
        return old + b;
      case AtomicOp::min:
        return b < old || old != old ? b : old;
      case AtomicOp::max:
        return b > old || old != old ? b : old;
      default:
        return b;
    }
  }
}

u32 combine_pair(Type type, AtomicOp kind, u32 old, u32 b) {
  const bool half = type == Type::f16x2 || type == Type::f16;
  u32 out = old;
  for (int shift = 0; shift < (type == Type::f16 || type == Type::bf16 ? 16 : 32); shift += 16) {
    const auto x = static_cast<u16>(old >> shift), y = static_cast<u16>(b >> shift);
    const float fx = half ? half_to_float(x) : bfloat_to_float(x);
    const float fy = half ? half_to_float(y) : bfloat_to_float(y);
    const float r = combine(kind, fx, fy, fy);
    const u32 bits = half ? float_to_half(r) : float_to_bfloat(r);
    out = (out & ~(0xffffu << shift)) | bits << shift;
  }
  return out;
}

template <typename U>
U new_value(Type type, AtomicOp kind, U old, U b, U c) {
  if constexpr (sizeof(U) == 8) {
    if (type == Type::s64) {
      return static_cast<U>(combine(kind, static_cast<std::int64_t>(old),
                                    static_cast<std::int64_t>(b), static_cast<std::int64_t>(c)));
    }
    if (type == Type::f64) {
      return std::bit_cast<U>(
          combine(kind, std::bit_cast<double>(old), std::bit_cast<double>(b), 0.0));
    }
    return combine(kind, old, b, c);
  } else if constexpr (sizeof(U) == 4) {
    switch (type) {
      case Type::s32:
        return static_cast<U>(combine(kind, static_cast<std::int32_t>(old),
                                      static_cast<std::int32_t>(b), static_cast<std::int32_t>(c)));
      case Type::f32:
        return std::bit_cast<U>(
            combine(kind, std::bit_cast<float>(old), std::bit_cast<float>(b), 0.0f));
      case Type::f16x2:
      case Type::bf16x2:
        return combine_pair(type, kind, old, b);
      default:
        return combine(kind, old, b, c);
    }
  } else {
    if (type == Type::f16 || type == Type::bf16)
      return static_cast<U>(combine_pair(type, kind, old, b));
    return combine(kind, old, b, c);
  }
}

template <typename U>
void atomic_op(Warp& w, const Op& op) {
  using S = std::conditional_t<sizeof(U) == 8, u64, u32>;
  Access access;
  compute_addresses(w, op, sizeof(U), access);
  const auto kind = static_cast<AtomicOp>(op.mode);
  const Type type = op.source->type;
  if (kind == AtomicOp::cas || kind == AtomicOp::exch) ++w.spins;
  const S* b = w.reg<S>(op.b);
  const S* c = w.reg<S>(op.width[3] != 0 ? op.c : op.b);
  S out[kLanes] = {}, spoiled[kLanes] = {};
  const bool shadows = w.worker->options->check_uninitialised;
  if (w.tainted) {
    require_initialised(w, op, op.b, op.width[2], "the operand of an atomic operation");
    require_initialised(w, op, op.c, op.width[3], "the operand of an atomic operation");
  }
  for (u32 left = w.exec; left != 0;) {
    Region region;
    const u32 lanes = resolve(w, op, op.source->space, left, sizeof(U), true, access, region);
    if (region.kind == RegionKind::shared && w.worker->options->check_races) {
      if (kind == AtomicOp::cas || kind == AtomicOp::exch) {
        // The operations of locks: whoever takes one has seen what its holders did before.
        Block& block = *w.block;
        for (std::size_t i = 0; i < w.seen.size(); ++i) {
          w.seen[i] = block.lock_clock[i] = std::max(w.seen[i], block.lock_clock[i]);
        }
        w.seen[w.id] = block.lock_clock[w.id] = w.clock = ++block.epoch;
      }
      check_atomic_race(w, op, lanes, access.offset, sizeof(U));
    }
    if (w.worker->counting) {
      count_access(w, region, AccessRole::atomic, lanes, access, sizeof(U));
    }
    for_lanes(lanes, [&](u32 l) {
      std::byte* at = region.data + access.offset[l];
      if (shadows && region.shadow != nullptr && kind != AtomicOp::exch) {
        std::uint8_t* shadow = region.shadow + access.offset[l];
        const std::uint8_t good = region.kind == RegionKind::device ? kInitialised : 0;
        for (u32 i = 0; i < sizeof(U); ++i) {
          if (shadow[i] == good) continue;
          fault(
              w, op, l, FaultCode::launch_failure, "uninitialised",
              fmt::format("atomic operation on uninitialised memory at 0x{:x}", access.address[l]));
        }
      } else if (shadows && region.shadow != nullptr) {
        std::memset(region.shadow + access.offset[l],
                    region.kind == RegionKind::device ? kInitialised : 0, sizeof(U));
      }
      const U operand = static_cast<U>(b[l]), third = static_cast<U>(c[l]);
      U old;
      if (region.kind == RegionKind::device) {
        std::atomic_ref<U> target(*reinterpret_cast<U*>(at));
        old = target.load();
        while (!target.compare_exchange_weak(old, new_value<U>(type, kind, old, operand, third))) {
        }
      } else {
        std::memcpy(&old, at, sizeof old);
        const U updated = new_value<U>(type, kind, old, operand, third);
        std::memcpy(at, &updated, sizeof updated);
      }
      out[l] = old;
    });
    left &= ~lanes;
  }
  if (op.width[0] == 0) return;
  if (w.tainted) {
    S* shadow = w.shadow_of<S>(op.d);
    for_lanes(w.exec, [&](u32 l) { shadow[l] = spoiled[l]; });
  }
  commit(w, op.d, out);
}

}  // namespace

Handler select_atomic(const ptx::Instruction& in, Op& op) {
  if (in.op != Opcode::atom && in.op != Opcode::red) return nullptr;
  op.cls = OpClass::atomic;
  op.taint = Taint::none;
  op.mode = static_cast<std::uint8_t>(in.atomic);
  switch (ptx::bits_of(in.type)) {
    case 16:
      return atomic_op<u16>;
    case 32:
      return atomic_op<u32>;
    case 64:
      return atomic_op<u64>;
    default:
      return nullptr;
  }
}

}  // namespace softgpu
