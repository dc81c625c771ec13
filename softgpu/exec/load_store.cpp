// ld and st in all spaces.

#include <fmt/format.h>

#include "softgpu/exec/memory.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Space;
using ptx::Type;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

template <typename T>
using Slot = std::conditional_t<sizeof(T) == 8, u64, u32>;

template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Whether lane l's offset is that of lane 0 plus l * sizeof(T): the coalesced pattern.
template <typename T>
bool is_run(const u64* offset) {
  u64 different = 0;
  for (u32 l = 0; l < kLanes; ++l) different |= offset[l] ^ (offset[0] + l * sizeof(T));
  return different == 0;
}

// Loads one element of each lane. Lanes that do not load have the offset of one that does.
template <typename T>
void gather(const std::byte* data, const u64* offset, Slot<T>* out) {
  if (is_run<T>(offset)) {
    T run[kLanes];
    std::memcpy(run, data + offset[0], sizeof run);
    for (u32 l = 0; l < kLanes; ++l) out[l] = static_cast<Slot<T>>(run[l]);
    return;
  }
  for (u32 l = 0; l < kLanes; ++l) out[l] = static_cast<Slot<T>>(read<T>(data + offset[l]));
}

// Shadow bits of one element: set where nothing has been written.
template <typename T>
u64 shadow_bits(const Region& region, u64 offset) {
  using U = std::make_unsigned_t<T>;
  if (region.shadow == nullptr) return 0;
  if (region.kind != RegionKind::device) {
    return read<U>(reinterpret_cast<const std::byte*>(region.shadow) + offset);
  }
  u64 bits = 0;
  for (u32 i = 0; i < sizeof(T); ++i) {
    if (region.shadow[offset + i] == kUninitialised) bits |= u64{0xff} << (8 * i);
  }
  return bits;
}

// Whether all bytes of all lanes' accesses have been written.
template <typename T>
bool all_written(const Region& region, const u64* offset, u32 bytes) {
  if (region.shadow == nullptr) return true;
  const auto* shadow = reinterpret_cast<const std::byte*>(region.shadow);
  if (region.kind == RegionKind::device) {
    if (bytes == sizeof(T) && is_run<T>(offset)) {
      const std::uint8_t* run = region.shadow + offset[0];
      std::uint8_t all = 1;
      for (u32 i = 0; i < kLanes * sizeof(T); ++i) all &= run[i];
      return all != 0;
    }
    if (bytes == 16) {
      u64 all = 0x0101010101010101ull;
      for (u32 l = 0; l < kLanes; ++l) {
        all &= read<u64>(shadow + offset[l]) & read<u64>(shadow + offset[l] + 8);
      }
      return all == 0x0101010101010101ull;
    }
    using U = std::make_unsigned_t<T>;
    constexpr U kOnes = static_cast<U>(0x0101010101010101ull);
    U all = kOnes;
    for (u32 l = 0; l < kLanes; ++l) {
      for (u32 i = 0; i < bytes; i += sizeof(T)) all &= read<U>(shadow + offset[l] + i);
    }
    return all == kOnes;
  }
  using U = std::make_unsigned_t<T>;
  U any = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    for (u32 i = 0; i < bytes; i += sizeof(T)) any |= read<U>(shadow + offset[l] + i);
  }
  return any == 0;
}

// Writes `lanes` of an element's register, extended to 64 bits where the register is that wide.
template <typename T>
void write_element(Warp& w, const Element& element, u32 lanes, const Slot<T>* values,
                   std::byte* file, bool sign_extend) {
  if constexpr (sizeof(T) < 8) {
    if (element.width == 2) {
      u64* d = reinterpret_cast<u64*>(file + element.offset);
      for_lanes(lanes, [&](u32 l) {
        d[l] =
            sign_extend && std::is_signed_v<T>
                ? static_cast<u64>(static_cast<std::int64_t>(static_cast<std::int32_t>(values[l])))
                : values[l];
      });
      return;
    }
  }
  auto* d = reinterpret_cast<Slot<T>*>(file + element.offset);
  if (lanes == kAllLanes) {
    std::memcpy(d, values, sizeof(Slot<T>) * kLanes);
  } else {
    for (u32 l = 0; l < kLanes; ++l) d[l] = (lanes >> l & 1) != 0 ? values[l] : d[l];
  }
  static_cast<void>(w);
}

template <typename T>
void load_shadow(Warp& w, const Op& op, const Region& region, const Access& access, u32 lanes) {
  const Element* elements = w.worker->program->elements.data() + op.elements;
  for (u32 i = 0; i < op.count; ++i) {
    Slot<T> bits[kLanes] = {};
    for_lanes(lanes, [&](u32 l) {
      const u64 unset = shadow_bits<T>(region, access.offset[l] + i * sizeof(T));
      if (unset != 0 && region.kind == RegionKind::shared && w.block->pending_copies != 0) {
        check_pending_copy(w, op, l, access.offset[l] + i * sizeof(T), sizeof(T));
      }
      // An extended value's upper bits are as uncertain as what they copy.
      bits[l] = std::is_signed_v<T> ? static_cast<Slot<T>>(static_cast<T>(unset))
                                    : static_cast<Slot<T>>(unset);
    });
    write_element<T>(w, elements[i], lanes, bits, w.shadow, true);
  }
}

template <typename T>
void load_op(Warp& w, const Op& op) {
  const u32 bytes = static_cast<u32>(sizeof(T)) * op.count;
  Access access;
  compute_addresses(w, op, bytes, access);
  const Element* elements = w.worker->program->elements.data() + op.elements;
  if (op.source->volatile_or_atomic) ++w.spins;
  // All lanes' values first: a register may be address and destination at once.
  u32 left = w.exec;
  while (left != 0) {
    Region region;
    const u32 lanes = resolve(w, op, op.source->space, left, bytes, false, access, region);
    if (lanes != left) {
      const u64 spare = access.offset[first_lane(lanes)];
      for (u32 l = 0; l < kLanes; ++l) {
        if ((lanes >> l & 1) == 0) access.offset[l] = spare;
      }
    }
    if (region.shadow != nullptr && w.worker->options->check_uninitialised) {
      if (!w.tainted && !all_written<T>(region, access.offset, bytes)) start_taint(w);
      if (w.tainted) load_shadow<T>(w, op, region, access, lanes);
    } else if (w.tainted) {
      const Slot<T> clean[kLanes] = {};
      for (u32 i = 0; i < op.count; ++i) {
        write_element<T>(w, elements[i], lanes, clean, w.shadow, false);
      }
    }
    if (region.kind == RegionKind::shared && w.worker->options->check_races) {
      check_read_race(w, op, lanes, access.offset, bytes);
    }
    if (w.worker->counting) count_access(w, region, AccessRole::load, lanes, access, bytes);
    alignas(64) Slot<T> values[8][kLanes];
    for (u32 i = 0; i < op.count; ++i) {
      gather<T>(region.data + i * sizeof(T), access.offset, values[i]);
    }
    for (u32 i = 0; i < op.count; ++i) {
      write_element<T>(w, elements[i], lanes, values[i], w.registers, true);
    }
    left &= ~lanes;
  }
}

template <typename T>
T stored_value(const Element& element, const std::byte* file, u32 lane) {
  if (element.width == 2)
    return static_cast<T>(reinterpret_cast<const u64*>(file + element.offset)[lane]);
  return static_cast<T>(reinterpret_cast<const u32*>(file + element.offset)[lane]);
}

// A value that no computation has a say in is stored to global memory: an error, unless a part of
// what the thread stores at once is good (padding of a struct goes along with its fields).
template <typename T>
void store_shadow(Warp& w, const Op& op, const Region& region, const Access& access, u32 lanes) {
  const Element* elements = w.worker->program->elements.data() + op.elements;
  for_lanes(lanes, [&](u32 l) {
    u32 bad = 0;
    for (u32 i = 0; i < op.count; ++i) {
      const T unset = w.tainted ? stored_value<T>(elements[i], w.shadow, l) : T(0);
      const u64 at = access.offset[l] + i * sizeof(T);
      if (static_cast<T>(~unset) == 0) ++bad;
      if (region.kind != RegionKind::device) {
        std::memcpy(region.shadow + at, &unset, sizeof(T));
      } else {
        for (u32 k = 0; k < sizeof(T); ++k) {
          const bool set = (static_cast<u64>(unset) >> (8 * k) & 0xff) == 0;
          region.shadow[at + k] = set ? kInitialised : kUninitialised;
        }
      }
    }
    if (bad == op.count && region.kind == RegionKind::device) {
      fault(
          w, op, l, FaultCode::launch_failure, "uninitialised",
          fmt::format("uninitialised value stored to global memory at 0x{:x}", access.address[l]));
    }
  });
}

template <typename T>
void mark_written(const Region& region, const Access& access, u32 lanes, u32 bytes) {
  if (region.kind != RegionKind::device) {
    for_lanes(lanes, [&](u32 l) { std::memset(region.shadow + access.offset[l], 0, bytes); });
    return;
  }
  if (lanes == kAllLanes && bytes == sizeof(T) && is_run<T>(access.offset)) {
    std::memset(region.shadow + access.offset[0], kInitialised, kLanes * sizeof(T));
    return;
  }
  for_lanes(lanes,
            [&](u32 l) { std::memset(region.shadow + access.offset[l], kInitialised, bytes); });
}

template <typename T>
void store_op(Warp& w, const Op& op) {
  const u32 bytes = static_cast<u32>(sizeof(T)) * op.count;
  Access access;
  compute_addresses(w, op, bytes, access);
  const Element* elements = w.worker->program->elements.data() + op.elements;
  u32 left = w.exec;
  while (left != 0) {
    Region region;
    const u32 lanes = resolve(w, op, op.source->space, left, bytes, true, access, region);
    if (region.shadow != nullptr && w.worker->options->check_uninitialised) {
      if (w.tainted) {
        store_shadow<T>(w, op, region, access, lanes);
      } else {
        mark_written<T>(region, access, lanes, bytes);
      }
    }
    if (region.kind == RegionKind::shared && w.worker->options->check_races) {
      u32 same = 0;
      for_lanes(lanes, [&](u32 l) {
        bool equal = true;
        for (u32 i = 0; i < op.count; ++i) {
          const T value = stored_value<T>(elements[i], w.registers, l);
          equal &= value == read<T>(region.data + access.offset[l] + i * sizeof(T));
        }
        same |= static_cast<u32>(equal) << l;
      });
      check_write_race(w, op, lanes, access.offset, bytes, same);
    }
    if (w.worker->counting) count_access(w, region, AccessRole::store, lanes, access, bytes);
    for (u32 i = 0; i < op.count; ++i) {
      const Element& element = elements[i];
      std::byte* data = region.data + i * sizeof(T);
      if (lanes == kAllLanes && element.width == sizeof(Slot<T>) / 4 && is_run<T>(access.offset)) {
        const auto* values = reinterpret_cast<const Slot<T>*>(w.registers + element.offset);
        T run[kLanes];
        for (u32 l = 0; l < kLanes; ++l) run[l] = static_cast<T>(values[l]);
        std::memcpy(data + access.offset[0], run, sizeof run);
      } else {
        for_lanes(lanes, [&](u32 l) {
          const T value = stored_value<T>(element, w.registers, l);
          std::memcpy(data + access.offset[l], &value, sizeof value);
        });
      }
    }
    left &= ~lanes;
  }
}

// ld.param of a kernel: the same bytes for all lanes.
template <typename T>
void load_param(Warp& w, const Op& op) {
  const Element* elements = w.worker->program->elements.data() + op.elements;
  for (u32 i = 0; i < op.count; ++i) {
    const u64 at = static_cast<u64>(op.imm) + i * sizeof(T);
    if (at + sizeof(T) > w.worker->param_bytes) {
      fault(w, op, first_lane(w.exec), FaultCode::illegal_address, "out-of-bounds",
            fmt::format("load at offset {} of the {} bytes of kernel parameters", at,
                        w.worker->param_bytes));
    }
    const T value = read<T>(w.worker->params + at);
    alignas(64) Slot<T> values[kLanes];
    for (Slot<T>& x : values) x = static_cast<Slot<T>>(value);
    write_element<T>(w, elements[i], w.exec, values, w.registers, true);
    if (w.tainted) {
      const Slot<T> clean[kLanes] = {};
      write_element<T>(w, elements[i], w.exec, clean, w.shadow, false);
    }
  }
}

OpClass class_of(Space space, bool is_store) {
  switch (space) {
    case Space::shared:
      return is_store ? OpClass::shared_store : OpClass::shared_load;
    case Space::local:
    case Space::frame_param:
      return OpClass::local;
    case Space::kernel_param:
      return OpClass::parameter;
    default:
      return is_store ? OpClass::global_store : OpClass::global_load;
  }
}

#define SOFTGPU_BY_TYPE(handler)     \
  switch (in.type) {                 \
    case Type::b8:                   \
    case Type::u8:                   \
      return handler<std::uint8_t>;  \
    case Type::s8:                   \
      return handler<std::int8_t>;   \
    case Type::b16:                  \
    case Type::u16:                  \
    case Type::f16:                  \
    case Type::bf16:                 \
      return handler<std::uint16_t>; \
    case Type::s16:                  \
      return handler<std::int16_t>;  \
    case Type::b32:                  \
    case Type::u32:                  \
    case Type::f32:                  \
    case Type::f16x2:                \
    case Type::bf16x2:               \
      return handler<std::uint32_t>; \
    case Type::s32:                  \
      return handler<std::int32_t>;  \
    case Type::b64:                  \
    case Type::u64:                  \
    case Type::s64:                  \
    case Type::f64:                  \
    case Type::f32x2:                \
      return handler<std::uint64_t>; \
    default:                         \
      return nullptr;                \
  }

}  // namespace

Handler select_load(const ptx::Instruction& in, Op& op) {
  if (in.op != Opcode::ld && in.op != Opcode::ldu) return nullptr;
  op.cls = class_of(in.space, false);
  if (op.count > 8) return nullptr;
  if (in.space == Space::kernel_param && op.width[1] == 0) SOFTGPU_BY_TYPE(load_param)
  SOFTGPU_BY_TYPE(load_op)
}

Handler select_store(const ptx::Instruction& in, Op& op) {
  if (in.op != Opcode::st) return nullptr;
  op.cls = class_of(in.space, true);
  SOFTGPU_BY_TYPE(store_op)
}

}  // namespace softgpu
