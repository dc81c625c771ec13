#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "softgpu/ptx/builder.h"
#include "softgpu/ptx/liveness.h"
#include "softgpu/ptx/parser.h"

using namespace softgpu::ptx;

namespace {

// Virtual registers of the random programs: 32-bit, 64-bit, predicates.
constexpr std::uint32_t kWords = 40, kLongs = 12, kPredicates = 6;

std::vector<std::uint8_t> widths() {
  std::vector<std::uint8_t> bits(kWords + kLongs + kPredicates, 32);
  std::fill_n(bits.begin() + kWords, kLongs, 64);
  std::fill_n(bits.begin() + kWords + kLongs, kPredicates, 1);
  return bits;
}

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  Function make(std::uint32_t length) {
    Function function;
    function.name = "random";
    for (std::uint32_t i = 0; i < length; ++i) function.instructions.push_back(step(length));
    Instruction ret;
    ret.op = Opcode::ret;
    function.instructions.push_back(ret);
    return function;
  }

 private:
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }
  Operand word() { return make_register(below(kWords), 32); }
  Operand wide() { return make_register(kWords + below(kLongs), 64); }
  Operand predicate() {
    Operand p = make_register(kWords + kLongs + below(kPredicates), 1);
    p.kind = OperandKind::pred;
    return p;
  }
  static Operand make_register(std::uint32_t index, int bits) {
    Operand r;
    r.kind = OperandKind::reg;
    r.index = index;
    r.bits = static_cast<std::uint8_t>(bits);
    return r;
  }

  Instruction step(std::uint32_t length) {
    Instruction i;
    if (below(4) == 0) {
      i.guard = predicate().index;
      i.guard_negated = below(2) == 0;
    }
    switch (below(6)) {
      case 0:
        i.op = Opcode::setp;
        i.dst = predicate();
        i.dst2 = predicate();
        i.src[0] = word();
        i.src[1] = word();
        break;
      case 1:
        i.op = Opcode::cvt;
        i.dst = wide();
        i.src[0] = word();
        break;
      case 2:
        i.op = Opcode::mov;  // the upper half
        i.dst = word();
        i.src[0] = wide();
        break;
      case 3:
        i.op = Opcode::bra;
        i.target = below(length);
        break;
      default:
        i.op = Opcode::add;
        i.dst = word();
        i.src[0] = word();
        i.src[1] = word();
        break;
    }
    return i;
  }

  std::mt19937 random_;
};

// One thread; every register starts as zero. `slot` maps a register index to its place.
template <typename SlotOf, typename PredicateOf>
std::vector<std::uint32_t> trace(const Function& f, SlotOf slot, PredicateOf predicate) {
  std::vector<std::uint32_t> slots(4096), written;
  std::vector<char> predicates(4096);
  std::uint32_t pc = 0;
  for (int steps = 0; steps < 3000; ++steps) {
    const Instruction& i = f.instructions[pc++];
    if (i.op == Opcode::ret) break;
    if (i.guard != kNone && (predicates[predicate(i.guard)] != 0) == i.guard_negated) continue;
    const auto value = [&](int s) { return slots[slot(i.src[s].index)]; };
    if (i.op == Opcode::bra) {
      pc = i.target;
    } else if (i.op == Opcode::setp) {
      const bool less = value(0) < value(1);
      predicates[predicate(i.dst.index)] = less;
      predicates[predicate(i.dst2.index)] = !less;
      written.push_back(less);
    } else if (i.op == Opcode::cvt) {
      const std::uint32_t low = value(0);
      slots[slot(i.dst.index)] = low;
      slots[slot(i.dst.index) + 1] = low * 2654435761u + 1;
      written.push_back(low);
    } else {
      const std::uint32_t result =
          i.op == Opcode::add ? value(0) + value(1) + pc : slots[slot(i.src[0].index) + 1];
      slots[slot(i.dst.index)] = result;
      written.push_back(result);
    }
  }
  return written;
}

}  // namespace

TEST_CASE("random programs compute the same in slots as in virtual registers") {
  for (unsigned seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    Function function = Generator(seed).make(10 + seed % 80);
    find_blocks(function);
    const Function original = function;
    allocate_registers(function, widths());
    const auto virtual_slot = [](std::uint32_t r) { return 2 * r; };
    const auto same = [](std::uint32_t r) { return r; };
    CHECK(trace(original, virtual_slot, same) == trace(function, same, same));
    CHECK(function.slots <= kWords + 2 * kLongs);
    CHECK(function.predicates <= kPredicates);
  }
}

TEST_CASE("destinations keep off the sources' slots; wide registers are aligned") {
  for (unsigned seed = 0; seed < 100; ++seed) {
    Function function = Generator(seed).make(100);
    find_blocks(function);
    const Function original = function;
    allocate_registers(function, widths());
    for (std::size_t n = 0; n < function.instructions.size(); ++n) {
      const Instruction& i = function.instructions[n];
      if (i.dst.kind != OperandKind::reg) continue;
      const std::uint32_t dst_end = i.dst.index + i.dst.bits / 32u;
      if (i.dst.bits == 64) CHECK(i.dst.index % 2 == 0);
      for (int s = 0; s < 2; ++s) {
        if (i.src[s].kind != OperandKind::reg) continue;
        if (original.instructions[n].src[s].index == original.instructions[n].dst.index) continue;
        const bool apart =
            i.src[s].index + i.src[s].bits / 32u <= i.dst.index || dst_end <= i.src[s].index;
        CHECK(apart);
      }
    }
  }
}

TEST_CASE("slots are shared by registers that are not needed together") {
  std::string body;
  for (int i = 0; i < 1000; ++i) {
    const std::string a = std::to_string(i), b = std::to_string(i + 1);
    body += "add.u32 %r" + b + ", %r" + a + ", 1;\n";
  }
  const Module module =
      parse_module(".entry k() { .reg .b32 %r<1001>; mov.u32 %r0, 0;" + body + " ret; }", "test");
  CHECK(module.functions[0].slots == 2);
  CHECK(module.functions[0].virtual_registers == 1001);
}

TEST_CASE("a register that may be read unwritten keeps its slot from the entry on") {
  // %r9 is read in the first turn of the loop before any write: no other register may have left its
  // value there.
  const Module module = parse_module(R"(
    .entry k(.param .u64 p) {
      .reg .b32 %r<10>; .reg .b64 %rd<2>; .reg .pred %p<2>;
      mov.u32 %r1, 1; mov.u32 %r2, 2; add.u32 %r3, %r1, %r2;
      ld.param.u64 %rd1, [p];
    LOOP:
      st.global.u32 [%rd1], %r9;
      mov.u32 %r9, 4;
      add.u32 %r3, %r3, -1;
      setp.ne.u32 %p1, %r3, 0;
      @%p1 bra LOOP;
      ret;
    })",
                                     "test");
  const Function& f = module.functions[0];
  const std::uint32_t slot = f.instructions[4].src[1].index;
  for (int i = 0; i < 4; ++i) {
    const Operand& dst = f.instructions[i].dst;
    CHECK((dst.index + dst.bits / 32u <= slot || slot < dst.index));
  }
}

TEST_CASE("live segments have holes") {
  Module module = parse_module(R"(
    .entry k() {
      .reg .b32 %r<3>;
      mov.u32 %r1, 1;
      mov.u32 %r2, %r1;
      mov.u32 %r1, 2;
      mov.u32 %r2, %r1;
      ret;
    })",
                               "test");
  Function& f = module.functions[0];  // allocation kept two registers in two slots
  REQUIRE(f.slots == 2);
  const auto segments = live_segments(f, 2);
  const auto& first = segments[f.instructions[0].dst.index];
  REQUIRE(first.size() == 2);
  CHECK(first[0].start == 1);
  CHECK(first[0].end == 4);
  CHECK(first[1].start == 5);
  CHECK(first[1].end == 8);
}

TEST_CASE("paths meet at the immediate post-dominator") {
  // 0 -> 1, 2; 1 -> 3; 2 -> 3; 3 -> 0 (loop), 4; and a block that never ends.
  const Module module = parse_module(R"(
    .entry k() {
      .reg .pred %p<3>;
    TOP:
      @%p1 bra B;
      bra C;
    B:
      @%p2 exit;
    C:
      @%p1 bra TOP;
      @%p2 bra FOREVER;
      ret;
    FOREVER:
      bra FOREVER;
    })",
                                     "test");
  const auto& blocks = module.functions[0].blocks;
  REQUIRE(blocks.size() == 7);
  CHECK(blocks[0].successors == std::vector<std::uint32_t>{1, 2});
  CHECK(blocks[0].reconvergence == kNone);  // block 2 may exit
  CHECK(blocks[1].reconvergence == 3);
  CHECK(blocks[2].reconvergence == kNone);
  CHECK(blocks[3].reconvergence == kNone);  // it may go back to where threads exit
  CHECK(blocks[6].successors == std::vector<std::uint32_t>{6});
  CHECK(blocks[6].reconvergence == kNone);
}
