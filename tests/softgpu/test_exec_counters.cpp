#include <doctest/doctest.h>
#include <fmt/format.h>

#include "exec_harness.h"

// Counters of kernels so small that every figure can be written down by hand.

using softgpu::Counters;
using softgpu::GlobalKind;
using softgpu::OpClass;
using softgpu::SharedKind;
using softgpu::test::Arguments;
using softgpu::test::Kernel;
using softgpu::test::kernel_text;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

namespace {

constexpr u64 kBytes = 65536;  // of the input, all written, and of the output

// %rd1: input, %rd2: output; %r1: thread; %r3: 16 KB of shared memory.
const std::string kPrologue = R"(
ld.param.u64 %rd1, [p0];
ld.param.u64 %rd2, [p1];
mov.u32 %r1, %tid.x;
mov.u32 %r3, buffer;
)";
const std::string kShared = ".shared .align 128 .b8 buffer[16384];";
constexpr u32 kFixed = 5;  // warp instructions of the prologue and of ret

Counters count(const std::string& body, u32 threads = 32, u32 blocks = 1, int host_threads = 1) {
  Kernel kernel(kernel_text(kPrologue + body, kShared));
  auto& memory = kernel.memory();
  const u64 in = memory.allocate(kBytes), out = memory.allocate(kBytes);
  memory.fill(in, 0, kBytes);
  Arguments arguments;
  arguments << in << out << u64{0} << u64{0};
  kernel.options.threads = host_threads;
  const auto fault = kernel.run({blocks, 1, 1}, {threads, 1, 1}, arguments);
  INFO(body);
  INFO((fault ? fault->message : std::string()));
  CHECK(!fault.has_value());
  return kernel.counters;
}

// `instruction` with the address %rd5 = %rd1 + base + thread * stride.
Counters count_global(const std::string& instruction, u32 stride, u32 base = 0) {
  return count(
      fmt::format("mul.wide.u32 %rd3, %r1, {};\nadd.u64 %rd4, %rd1, %rd3;\n"
                  "add.u64 %rd5, %rd4, {};\n{}",
                  stride, base, instruction));
}

// `instruction` with the shared address %r5 = buffer + thread * stride.
Counters count_shared(const std::string& instruction, u32 stride) {
  return count(fmt::format("mad.lo.u32 %r5, %r1, {}, %r3;\n{}", stride, instruction));
}

struct Sectors {
  u32 stride, base;
  u64 sectors, unique_bytes;
};

}  // namespace

TEST_CASE("counters: bytes and sectors of strided loads") {
  // 32 lanes of 4 bytes: side by side they fill 4 sectors; from 32 bytes on each has its own.
  for (const Sectors& s : {Sectors{4, 0, 4, 128}, Sectors{4, 4, 5, 128}, Sectors{8, 0, 8, 128},
                           Sectors{32, 0, 32, 128}, Sectors{64, 0, 32, 128}, Sectors{0, 0, 1, 4}}) {
    CAPTURE(s.stride);
    const Counters c = count_global("ld.global.u32 %r6, [%rd5];", s.stride, s.base);
    CHECK(c[GlobalKind::load].requests == 1);
    CHECK(c[GlobalKind::load].bytes == 128);
    CHECK(c[GlobalKind::load].sectors == s.sectors);
    CHECK(c.unique_read == s.unique_bytes);
    CHECK(c.unique_read_sectors == s.sectors);
    CHECK(c.unique_written == 0);
    CHECK(c.global_bytes() == 128);
    CHECK(c.global_sectors() == s.sectors);
  }
  // 16 bytes a lane: 512 bytes in 16 sectors; with gaps of 16 bytes, 32 half-used ones.
  for (const auto& [stride, sectors] : {std::pair{16u, u64{16}}, std::pair{32u, u64{32}}}) {
    const Counters c = count_global("ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%rd5];", stride);
    CHECK(c[GlobalKind::load].bytes == 512);
    CHECK(c[GlobalKind::load].sectors == sectors);
    CHECK(c.unique_read == 512);
    CHECK(c.unique_read_sectors == sectors);
  }
  const Counters bytes = count_global("ld.global.u8 %h1, [%rd5];", 1, 3);
  CHECK(bytes[GlobalKind::load].sectors == 2);  // bytes 3 to 34
  CHECK(bytes.unique_read == 32);
}

TEST_CASE("counters: stores and atomics") {
  const Counters store =
      count("mul.wide.u32 %rd3, %r1, 8;\nadd.u64 %rd5, %rd2, %rd3;\nst.global.u32 [%rd5], %r1;");
  CHECK(store[GlobalKind::store].requests == 1);
  CHECK(store[GlobalKind::store].bytes == 128);
  CHECK(store[GlobalKind::store].sectors == 8);
  CHECK(store.unique_written == 128);
  CHECK(store.unique_written_sectors == 8);
  CHECK(store.unique_read == 0);
  CHECK(store[OpClass::global_store] == 1);

  const Counters atomic = count("red.global.add.u32 [%rd1], %r1;");
  CHECK(atomic[GlobalKind::atomic].requests == 1);
  CHECK(atomic[GlobalKind::atomic].bytes == 128);
  CHECK(atomic[GlobalKind::atomic].sectors == 1);
  CHECK(atomic.unique_read == 4);
  CHECK(atomic.unique_written == 4);
  CHECK(atomic[OpClass::atomic] == 1);
}

TEST_CASE("counters: bytes that several warps, blocks and host threads touch are unique once") {
  // 8 blocks of 64 threads all read the same 256 bytes, and write their own 256.
  const std::string body = R"(
mul.wide.u32 %rd3, %r1, 4;
add.u64 %rd5, %rd1, %rd3;
ld.global.u32 %r6, [%rd5];
mov.u32 %r7, %ctaid.x;
mul.wide.u32 %rd6, %r7, 256;
add.u64 %rd7, %rd2, %rd6;
add.u64 %rd8, %rd7, %rd3;
st.global.u32 [%rd8], %r6;)";
  for (const int host_threads : {1, 3}) {
    const Counters c = count(body, 64, 8, host_threads);
    CHECK(c.blocks == 8);
    CHECK(c[GlobalKind::load].requests == 16);
    CHECK(c[GlobalKind::load].bytes == 8 * 256);
    CHECK(c[GlobalKind::load].sectors == 16 * 4);
    CHECK(c.unique_read == 256);
    CHECK(c.unique_read_sectors == 8);
    CHECK(c.unique_written == 8 * 256);
    CHECK(c.unique_written_sectors == 64);
    CHECK(c.warp_instructions == 16 * (kFixed + 8));
  }
}

TEST_CASE("counters: shared-memory conflicts of 4-byte accesses") {
  struct Case {
    u32 stride;  // bytes
    u64 wavefronts;
  };
  // A stride of n words (n a power of two) puts n lanes on a bank. 33 words: padding, no conflict.
  for (const Case& s : {Case{4, 1}, Case{8, 2}, Case{16, 4}, Case{32, 8}, Case{128, 32},
                        Case{132, 1}, Case{12, 1}, Case{0, 1}}) {
    CAPTURE(s.stride);
    const Counters load = count_shared("ld.shared.u32 %r6, [%r5];", s.stride);
    CHECK(load[SharedKind::load].requests == 1);
    CHECK(load[SharedKind::load].wavefronts == s.wavefronts);
    CHECK(load[SharedKind::load].conflicts == s.wavefronts - 1);
    CHECK(load[SharedKind::store].requests == 0);
    CHECK(load.shared_conflicts() == s.wavefronts - 1);
    if (s.stride == 0) continue;  // 32 different values to one word are a race
    const Counters store = count_shared("st.shared.u32 [%r5], %r1;", s.stride);
    CHECK(store[SharedKind::store].requests == 1);
    CHECK(store[SharedKind::store].wavefronts == s.wavefronts);
    CHECK(store[SharedKind::store].conflicts == s.wavefronts - 1);
  }
  // Halves of one word are one bank's and one word: no conflict.
  CHECK(count_shared("ld.shared.u16 %h1, [%r5];", 2)[SharedKind::load].wavefronts == 1);
}

TEST_CASE("counters: shared-memory conflicts of 8- and 16-byte accesses") {
  struct Case {
    u32 stride;
    u64 wavefronts, conflicts;
  };
  // 8 bytes: two halves of the warp. 16 lanes in steps of 16 bytes: lanes l and l + 8 share banks.
  for (const Case& s : {Case{8, 2, 0}, Case{16, 4, 2}, Case{128, 32, 30}, Case{136, 2, 0}}) {
    CAPTURE(s.stride);
    const auto load = count_shared("ld.shared.v2.u32 {%r6, %r7}, [%r5];", s.stride);
    CHECK(load[SharedKind::load].wavefronts == s.wavefronts);
    CHECK(load[SharedKind::load].conflicts == s.conflicts);
    const auto wide = count_shared("ld.shared.u64 %rd6, [%r5];", s.stride);
    CHECK(wide[SharedKind::load].wavefronts == s.wavefronts);
  }
  // 16 bytes: four quarters. 8 lanes in steps of 32 bytes: lanes l and l + 4 share banks.
  for (const Case& s : {Case{16, 4, 0}, Case{32, 8, 4}, Case{128, 32, 28}, Case{144, 4, 0}}) {
    CAPTURE(s.stride);
    const auto load = count_shared("ld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [%r5];", s.stride);
    CHECK(load[SharedKind::load].wavefronts == s.wavefronts);
    CHECK(load[SharedKind::load].conflicts == s.conflicts);
    const auto store = count_shared("st.shared.v4.u32 [%r5], {%r1, %r1, %r1, %r1};", s.stride);
    CHECK(store[SharedKind::store].wavefronts == s.wavefronts);
    CHECK(store[SharedKind::store].conflicts == s.conflicts);
  }
}

TEST_CASE("counters: an atomic operation on one word takes a pass a lane") {
  const Counters c = count(
      "st.shared.u32 [%r3], 0;\nbar.warp.sync 0xffffffff;\n"
      "red.shared.add.u32 [%r3], %r1;");
  CHECK(c[SharedKind::atomic].requests == 1);
  CHECK(c[SharedKind::atomic].wavefronts == 32);
  CHECK(c[SharedKind::atomic].conflicts == 31);
}

TEST_CASE("counters: ldmatrix from plain, padded and swizzled rows") {
  const std::string load =
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r5];";
  // Rows of 128 bytes: the 8 rows of each matrix begin in the same bank.
  const Counters plain = count_shared(load, 128);
  CHECK(plain[SharedKind::matrix_load].requests == 1);
  CHECK(plain[SharedKind::matrix_load].wavefronts == 32);
  CHECK(plain[SharedKind::matrix_load].conflicts == 28);
  CHECK(plain[OpClass::matrix_load] == 1);
  const Counters padded = count_shared(load, 128 + 16);
  CHECK(padded[SharedKind::matrix_load].wavefronts == 4);
  CHECK(padded[SharedKind::matrix_load].conflicts == 0);
  // The 16-byte chunk's index exclusive-or row % 8: lane l reads chunk 3 of row l.
  const Counters swizzled = count(R"(
and.b32 %r4, %r1, 7;
xor.b32 %r4, %r4, 3;
shl.b32 %r4, %r4, 4;
mad.lo.u32 %r5, %r1, 128, %r4;
add.u32 %r5, %r5, %r3;
)" + load);
  CHECK(swizzled[SharedKind::matrix_load].wavefronts == 4);
  CHECK(swizzled[SharedKind::matrix_load].conflicts == 0);
  // Two matrices: 16 rows.
  const Counters two =
      count_shared("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r10, %r11}, [%r5];", 64);
  CHECK(two[SharedKind::matrix_load].wavefronts == 2 * 4);  // rows r and r + 2 share banks
  CHECK(two[SharedKind::matrix_load].conflicts == 2 * 3);
}

TEST_CASE("counters: cp.async reads global and writes shared memory") {
  const auto copy = [](u32 shared_stride, const std::string& size) {
    return count_shared(
        "mul.wide.u32 %rd3, %r1, 16;\nadd.u64 %rd5, %rd1, %rd3;\n"
        "cp.async.cg.shared.global [%r5], [%rd5], 16" +
            size +
            ";\n"
            "cp.async.commit_group;\ncp.async.wait_group 0;",
        shared_stride);
  };
  const Counters rows = copy(16, "");
  CHECK(rows[OpClass::async_copy] == 1);
  CHECK(rows[GlobalKind::async_copy].requests == 1);
  CHECK(rows[GlobalKind::async_copy].bytes == 512);
  CHECK(rows[GlobalKind::async_copy].sectors == 16);
  CHECK(rows.unique_read == 512);
  CHECK(rows[SharedKind::async_copy].requests == 1);
  CHECK(rows[SharedKind::async_copy].wavefronts == 4);
  CHECK(rows[SharedKind::async_copy].conflicts == 0);
  const Counters columns = copy(128, "");
  CHECK(columns[SharedKind::async_copy].wavefronts == 32);
  CHECK(columns[SharedKind::async_copy].conflicts == 28);
  // Nothing is read where the source size is 0; the zeros are still written.
  const Counters none = copy(16, ", 0");
  CHECK(none[GlobalKind::async_copy].requests == 0);
  CHECK(none.unique_read == 0);
  CHECK(none[SharedKind::async_copy].wavefronts == 4);
}

TEST_CASE("counters: tensor-core operations") {
  const Counters c = count(R"(
mov.u32 %r10, 0;
mov.f32 %f4, 0f00000000;
mov.u32 %r20, 0;
LOOP:
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f5, %f6, %f7, %f8}, {%r10, %r10, %r10, %r10}, {%r10, %r10}, {%f4, %f4, %f4, %f4};
mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f5, %f6, %f7, %f8}, {%r10, %r10}, {%r10}, {%f4, %f4, %f4, %f4};
add.u32 %r20, %r20, 1;
setp.lt.u32 %p1, %r20, 3;
@%p1 bra LOOP;)",
                           64, 2);
  // 4 warps, 3 rounds.
  CHECK(c[OpClass::mma] == 4 * 3 * 2);
  CHECK(c.mma_flops == 4 * 3 * (2 * 16 * 8 * 16 + 2 * 16 * 8 * 8));
  CHECK(c[OpClass::integer] == 4 * 3 * 2);    // add, setp
  CHECK(c[OpClass::move] == 4 * (3 + 2));     // with the prologue's two
  CHECK(c[OpClass::parameter] == 4 * 2);      // the prologue's
  CHECK(c[OpClass::control] == 4 * (3 + 1));  // bra, ret
  CHECK(c.warp_instructions == 4 * (kFixed + 3 + 3 * 5));
  CHECK(c.partial_instructions == 0);
  CHECK(c.active_lanes == 32 * c.warp_instructions);
}

TEST_CASE("counters: lanes of half-masked warps") {
  // A branch that the upper half takes: the lower half runs two additions alone.
  const Counters branch = count(R"(
setp.ge.u32 %p1, %r1, 16;
@%p1 bra LEAVE;
add.u32 %r4, %r1, 1;
add.u32 %r5, %r1, 2;
LEAVE:
add.u32 %r6, %r1, 3;)");
  CHECK(branch.warp_instructions == kFixed + 5);
  CHECK(branch.partial_instructions == 2);
  CHECK(branch.active_lanes == 32 * (kFixed + 3) + 16 * 2);
  // The branch itself executes in the 16 lanes whose predicate holds.
  CHECK(branch.executing_lanes == 32 * (kFixed + 2) + 16 * 3);

  // A predicate keeps the warp together.
  const Counters predicated = count(R"(
setp.ge.u32 %p1, %r1, 24;
@%p1 add.u32 %r4, %r1, 1;)");
  CHECK(predicated.warp_instructions == kFixed + 2);
  CHECK(predicated.partial_instructions == 0);
  CHECK(predicated.active_lanes == 32 * (kFixed + 2));
  CHECK(predicated.executing_lanes == 32 * (kFixed + 1) + 8);

  // 40 threads: the second warp has 8 lanes, always.
  const Counters ragged = count("add.u32 %r4, %r1, 1;", 40);
  CHECK(ragged.warp_instructions == 2 * (kFixed + 1));
  CHECK(ragged.partial_instructions == kFixed + 1);
  CHECK(ragged.active_lanes == 40 * (kFixed + 1));

  // Bytes are those of the lanes that execute.
  const Counters loads = count(R"(
mul.wide.u32 %rd3, %r1, 4;
add.u64 %rd5, %rd1, %rd3;
setp.lt.u32 %p1, %r1, 10;
@%p1 ld.global.u32 %r6, [%rd5];
setp.gt.u32 %p2, %r1, 100;
@%p2 ld.global.u32 %r6, [%rd5];)");
  CHECK(loads[GlobalKind::load].requests == 1);  // the second load has no lane
  CHECK(loads[OpClass::global_load] == 2);       // but is issued
  CHECK(loads[GlobalKind::load].bytes == 40);
  CHECK(loads[GlobalKind::load].sectors == 2);
  CHECK(loads.unique_read == 40);
}

TEST_CASE("counters: a footprint counts bytes once and knows their sectors") {
  softgpu::Footprint a, b;
  a.add(32, 4);
  a.add(34, 2);
  a.add_range(60, 10);  // 60..69: sectors 1 and 2
  CHECK(a.bytes() == 14);
  CHECK(a.sectors() == 2);
  b.add_range(16384 - 32, 96);  // across pages
  b.add(32, 1);
  CHECK(b.bytes() == 97);
  CHECK(b.sectors() == 4);
  a.merge(b);
  CHECK(a.bytes() == 14 + 96);
  CHECK(a.sectors() == 5);
  a.clear();
  CHECK(a.bytes() == 0);
}
