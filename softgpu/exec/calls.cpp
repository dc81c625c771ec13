// Calls of device functions. Each function has its own part of the register file; what a function
// that calls itself would overwrite is kept in the call's frame.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>

#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Memory at a generic address as a thread sees it; null where it may not be read.
const std::byte* readable(const Warp& w, u32 lane, u64 address, u64 bytes) {
  if (address - kLocalWindow < kWindowBytes) {
    const u64 offset = address - kLocalWindow, size = w.worker->program->local_bytes;
    return offset < size && bytes <= size - offset ? w.local + lane * size + offset : nullptr;
  }
  if (address - kSharedWindow < kWindowBytes) {
    const u64 offset = address - kSharedWindow, size = w.block->shared_bytes;
    return offset < size && bytes <= size - offset ? w.block->shared + offset : nullptr;
  }
  const Allocation* allocation = w.worker->memory->find(address);
  if (allocation == nullptr || !allocation->contains(address, bytes)) return nullptr;
  return allocation->translate(address);
}

std::string text_at(const Warp& w, u32 lane, u64 address) {
  std::string out;
  while (out.size() < 4096) {
    const std::byte* c = readable(w, lane, address++, 1);
    if (c == nullptr || *c == std::byte{0}) break;
    out += static_cast<char>(*c);
  }
  return out;
}

// Argument `i` of a call, in the caller's frame.
template <typename T>
T argument(const Warp& w, const ptx::CallSite& site, u32 lane, std::size_t i) {
  const Program& program = *w.worker->program;
  T value{};
  std::memcpy(&value,
              w.local + std::size_t{lane} * program.local_bytes + w.local_base +
                  program.functions[w.function].frame_offset + site.arguments.at(i).offset,
              sizeof value);
  return value;
}

std::string assertion_text(const Warp& w, const ptx::CallSite& site, u32 lane) {
  if (site.arguments.size() < 4) return "device-side assertion failed";
  const auto text = [&](std::size_t i) {
    return text_at(w, lane, argument<u64>(w, site, lane, i));
  };
  return fmt::format("device-side assertion `{}` failed at {}:{} in {}", text(0), text(1),
                     argument<u32>(w, site, lane, 2), text(3));
}

// printf: the format's conversions with the values of the buffer that nvcc packs, each aligned to
// its size.
void print(const Warp& w, const ptx::CallSite& site, u32 lane) {
  const std::string format = text_at(w, lane, argument<u64>(w, site, lane, 0));
  const u64 buffer = argument<u64>(w, site, lane, 1);
  u64 used = 0;
  const auto next = [&](u64 bytes) {
    used = (used + bytes - 1) / bytes * bytes;
    u64 value = 0;
    const std::byte* from = readable(w, lane, buffer + used, bytes);
    if (from != nullptr) std::memcpy(&value, from, bytes);
    used += bytes;
    return value;
  };
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    if (format[i + 1] == '%') {
      out += format[++i];
      continue;
    }
    const std::size_t end = format.find_first_of("diouxXcsfFeEgGaAp", i + 1);
    if (end == std::string::npos) break;
    // The host's printf does the work, one conversion at a time.
    std::string one = format.substr(i, end - i + 1);
    const char kind = format[end];
    const bool wide = one.find('l') != std::string::npos;
    char text[512];
    if (kind == 's') {
      std::snprintf(text, sizeof text, one.c_str(), text_at(w, lane, next(8)).c_str());
    } else if (kind == 'p') {
      std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(next(8)));
    } else if (std::strchr("fFeEgGaA", kind) != nullptr) {
      std::snprintf(text, sizeof text, one.c_str(), std::bit_cast<double>(next(8)));
    } else {
      std::erase_if(one, [](char c) { return c == 'l' || c == 'h' || c == 'z'; });
      one.insert(one.size() - 1, "ll");
      const u64 value = next(wide ? 8 : 4);
      const bool is_signed = kind == 'd' || kind == 'i';
      const auto extended = !wide && is_signed
                                ? static_cast<long long>(static_cast<std::int32_t>(value))
                                : static_cast<long long>(value);
      if (kind == 'c') {
        std::snprintf(text, sizeof text, "%c", static_cast<int>(value));
      } else {
        std::snprintf(text, sizeof text, one.c_str(), extended);
      }
    }
    out += text;
    i = end;
  }
  std::fputs(out.c_str(), stdout);
}

// The function at the address that the first of the lanes calls. Those that call another one stay
// here and call it afterwards: `lanes` are the rest.
u32 indirect_callee(Warp& w, const Op& op, u32& lanes) {
  const Program& program = *w.worker->program;
  const u64a* addresses = w.reg<u64a>(op.a);
  const u64 address = addresses[first_lane(lanes)];
  u32 same = 0;
  for_lanes(lanes, [&](u32 l) { same |= static_cast<u32>(addresses[l] == address) << l; });
  u32 callee = kNoFunction;
  for (u32 f = 0; f < program.functions.size(); ++f) {
    const auto index =
        static_cast<u32>(program.functions[f].source - program.module->functions.data());
    if (ptx::function_address(index) == address) callee = f;
  }
  if (callee == kNoFunction) {
    fault(w, op, first_lane(lanes), FaultCode::illegal_instruction, "trap",
          fmt::format("call of 0x{:x}, which is no function", address));
  }
  if (same != lanes) split_off(w, lanes & ~same, w.pc);
  lanes = same;
  return callee;
}

// A function of the device's library, which has no PTX.
void call_builtin(Warp& w, const Op& op, const ptx::CallSite& site, const ptx::Function& function,
                  u32 lanes) {
  if (function.builtin == ptx::Builtin::assertfail) {
    fault(w, op, first_lane(lanes), FaultCode::assertion, "assertion",
          assertion_text(w, site, first_lane(lanes)));
  }
  if (function.builtin == ptx::Builtin::vprintf && site.arguments.size() >= 2) {
    for_lanes(lanes, [&](u32 l) { print(w, site, l); });
    ++w.pc;
    return;
  }
  fault(w, op, first_lane(lanes), FaultCode::invalid_device_function, "unsupported",
        fmt::format("call of {}, which softgpu does not have", function.name));
}

// One side of a call: where its parameters lie in a lane's local memory.
struct Side {
  std::span<const ptx::Parameter> parameters;
  u32 base;
};

// Copies a call's arguments or results with their shadows. The sizes are the callee's.
void copy_parameters(const Warp& w, u32 lane, const Side& from, const Side& to,
                     std::span<const ptx::Parameter> callee) {
  const std::size_t local_bytes = w.worker->program->local_bytes;
  std::byte* memory = w.local + lane * local_bytes;
  std::uint8_t* shadow = w.local_shadow + lane * local_bytes;
  const std::size_t count = std::min(from.parameters.size(), to.parameters.size());
  for (std::size_t i = 0; i < count; ++i) {
    const u32 source = from.base + from.parameters[i].offset;
    const u32 target = to.base + to.parameters[i].offset;
    std::memcpy(memory + target, memory + source, callee[i].size);
    std::memcpy(shadow + target, shadow + source, callee[i].size);
  }
}

}  // namespace

void enter_call(Warp& w, const Op& op) {
  const Program& program = *w.worker->program;
  const ProgramCall& call = program.calls[op.target];
  const u32 stay = w.active & ~w.exec;
  u32 lanes = w.exec;
  const u32 callee = call.callee != kNoFunction ? call.callee : indirect_callee(w, op, lanes);
  const ProgramFunction& target = program.functions[callee];
  if (target.source->instructions.empty())
    return call_builtin(w, op, *call.site, *target.source, lanes);
  const ProgramFunction& caller = program.functions[w.function];
  auto frame = std::make_shared<CallFrame>();
  frame->return_pc = w.pc + 1;
  frame->caller = w.function;
  frame->callee = callee;
  frame->local_base = w.local_base;
  frame->site = call.site;
  frame->previous = w.stack;
  bool again = callee == 0;
  for (const CallFrame* f = w.stack.get(); f != nullptr && !again; f = f->previous.get()) {
    again = f->callee == callee;
  }
  if (again) {
    const auto* registers = w.registers + std::size_t{target.first_slot} * kSlotBytes;
    frame->saved_registers.assign(registers,
                                  registers + std::size_t{target.slots} * 2 * kSlotBytes);
    frame->saved_predicates.assign(w.predicates + target.first_predicate,
                                   w.predicates + target.first_predicate + target.predicates);
  }
  const u32 base = w.local_base + caller.frame_bytes;
  if (base + target.frame_bytes > program.local_bytes) {
    fault(w, op, first_lane(lanes), FaultCode::illegal_address, "out-of-bounds",
          fmt::format("call stack of {} bytes overflows", program.local_bytes));
  }
  const Side arguments{call.site->arguments, w.local_base + caller.frame_offset};
  const Side parameters{target.source->params, base + target.frame_offset};
  for_lanes(lanes, [&](u32 l) {
    std::uint8_t* shadow = w.local_shadow + std::size_t{l} * program.local_bytes;
    std::memset(shadow + base, 0xff, target.frame_bytes);
    copy_parameters(w, l, arguments, parameters, target.source->params);
  });
  if (stay != 0) split_off(w, stay, w.pc + 1);
  w.active = lanes;
  w.stack = std::move(frame);
  w.function = callee;
  w.local_base = base;
  w.pc = target.entry;
}

void leave_call(Warp& w) {
  const Program& program = *w.worker->program;
  const u32 stay = w.active & ~w.exec;
  if (stay != 0) split_off(w, stay, w.pc + 1);
  w.active = w.exec;
  const std::shared_ptr<CallFrame> frame = w.stack;
  const ProgramFunction& callee = program.functions[frame->callee];
  const ProgramFunction& caller = program.functions[frame->caller];
  const Side from{callee.source->results, w.local_base + callee.frame_offset};
  const Side to{frame->site->results, frame->local_base + caller.frame_offset};
  for_lanes(w.exec, [&](u32 l) {
    copy_parameters(w, l, from, to, callee.source->results);
    if (frame->saved_registers.empty()) return;
    std::byte* file = w.registers + std::size_t{callee.first_slot} * kSlotBytes;
    const std::byte* saved = frame->saved_registers.data();
    for (u32 slot = 0; slot < callee.slots; ++slot) {
      const std::size_t at = std::size_t{slot} * kSlotBytes + l * 4;
      std::memcpy(file + at, saved + at, 4);
    }
    for (u32 slot = callee.slots; slot < 2 * callee.slots; slot += 2) {
      const std::size_t at = std::size_t{slot} * kSlotBytes + l * 8;
      std::memcpy(file + at, saved + at, 8);
    }
  });
  for (std::size_t p = 0; p < frame->saved_predicates.size(); ++p) {
    u32& value = w.predicates[callee.first_predicate + p];
    value = (value & ~w.exec) | (frame->saved_predicates[p] & w.exec);
  }
  w.pc = frame->return_pc;
  w.function = frame->caller;
  w.local_base = frame->local_base;
  w.stack = frame->previous;
}

}  // namespace softgpu
