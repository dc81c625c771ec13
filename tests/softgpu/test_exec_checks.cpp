#include <doctest/doctest.h>

#include <bit>
#include <cmath>

#include "exec_harness.h"

// The checks, each with a kernel that breaks the rule and one that keeps it, and what a warp does
// together: divergence, exchange, barriers, asynchronous copies, matrices.

using softgpu::Fault;
using softgpu::FaultCode;
using softgpu::test::Arguments;
using softgpu::test::Kernel;
using softgpu::test::kernel_text;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

namespace {

// %rd1 points to the input (256 words, the first 128 of them written), %rd2 to the output (256
// words); %r1 is the thread, %rd3 the offset of its word.
const std::string kPrologue = R"(
ld.param.u64 %rd1, [p0];
ld.param.u64 %rd2, [p1];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd3, %r1, 4;
add.u64 %rd4, %rd1, %rd3;
add.u64 %rd5, %rd2, %rd3;
shl.b32 %r2, %r1, 2;
mov.u32 %r3, buffer;
add.u32 %r4, %r3, %r2;
)";
const std::string kShared = ".shared .align 16 .b8 buffer[1024];";

struct Result {
  std::optional<Fault> fault;
  std::vector<u32> out;
  softgpu::Counters counters;
};

Result run(const std::string& body, u32 threads = 64) {
  Kernel kernel(kernel_text(kPrologue + body, kShared));
  auto& memory = kernel.memory();
  const u64 in = memory.allocate(1024), out = memory.allocate(1024);
  for (u32 i = 0; i < 128; ++i) memory.write(in + 4 * i, &i, 4);
  memory.fill(out, 0, 1024);
  Arguments arguments;
  arguments << in << out << u64{0} << u64{0};
  Result result;
  kernel.options.warp_instructions = 1'000'000;
  result.fault = kernel.run({1, 1, 1}, {threads, 1, 1}, arguments);
  result.out.resize(256);
  memory.read(result.out.data(), out, 1024);
  result.counters = kernel.counters;
  return result;
}

void caught(const std::string& body, FaultCode code, const std::string& kind, u32 threads = 64) {
  const Result result = run(body, threads);
  INFO(body);
  REQUIRE(result.fault.has_value());
  INFO(result.fault->message);
  CHECK(result.fault->code == code);
  CHECK(result.fault->kind == kind);
  CHECK(result.fault->message.find("kernel k") != std::string::npos);
  CHECK(result.fault->message.find("thread (") != std::string::npos);
}

Result silent(const std::string& body, u32 threads = 64) {
  Result result = run(body, threads);
  INFO(body);
  INFO((result.fault ? result.fault->message : std::string()));
  CHECK(!result.fault.has_value());
  return result;
}

}  // namespace

TEST_CASE("bounds and alignment") {
  caught("ld.global.u32 %r5, [%rd4+1024];", FaultCode::illegal_address, "out-of-bounds");
  caught("ld.global.u32 %r5, [%rd4+772];", FaultCode::illegal_address, "out-of-bounds");
  caught("st.global.u32 [%rd4+-4], %r1;", FaultCode::illegal_address, "out-of-bounds");
  caught("ld.shared.u32 %r5, [%r4+1000];", FaultCode::illegal_address, "out-of-bounds");
  caught("ld.global.u16 %h1, [%rd4+1];", FaultCode::misaligned_address, "misaligned");
  caught("ld.global.v2.u32 {%r5, %r6}, [%rd4];", FaultCode::misaligned_address, "misaligned");
  silent("ld.global.u32 %r5, [%rd4+256]; st.global.u32 [%rd5+768], %r5;");
  caught("mov.u64 %rd6, 0; ld.global.u32 %r5, [%rd6];", FaultCode::illegal_address,
         "out-of-bounds");
}

TEST_CASE("uninitialised values are followed to their use") {
  // Loading and copying is allowed, deciding, addressing and storing a result is not.
  silent("ld.global.u32 %r5, [%rd4+512]; add.u32 %r5, %r5, 1;");
  silent("ld.global.u32 %r5, [%rd4+512]; and.b32 %r5, %r5, 0; st.global.u32 [%rd5], %r5;");
  caught("ld.global.u32 %r5, [%rd4+512]; add.u32 %r5, %r5, 1; st.global.u32 [%rd5], %r5;",
         FaultCode::launch_failure, "uninitialised");
  caught("ld.global.u32 %r5, [%rd4+512]; setp.eq.u32 %p1, %r5, 3; @%p1 bra L; L:",
         FaultCode::launch_failure, "uninitialised");
  caught(
      "ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %rd6, %r5; add.u64 %rd6, %rd6, %rd1;"
      "ld.global.u32 %r5, [%rd6];",
      FaultCode::launch_failure, "uninitialised");
  // A padded tile: the part that was never written takes no part in the result.
  silent(R"(
ld.shared.u32 %r5, [%r4];
setp.lt.u32 %p1, %r1, 100;
selp.b32 %r6, %r1, %r5, %p1;
st.global.u32 [%rd5], %r6;)");
  // Written bytes of a word whose other bytes are not.
  silent(
      "st.shared.u8 [%r4], %r1; ld.shared.u32 %r5, [%r4]; and.b32 %r5, %r5, 255;"
      "st.global.u32 [%rd5], %r5;");
}

TEST_CASE("races between warps and inside one") {
  const std::string write = "st.shared.u32 [%r4], %r1;";
  const std::string other = "xor.b32 %r5, %r2, 128; add.u32 %r5, %r5, %r3;";
  const std::string near = "xor.b32 %r5, %r2, 4; add.u32 %r5, %r5, %r3;";
  const std::string read = "ld.shared.u32 %r6, [%r5]; st.global.u32 [%rd5], %r6;";
  caught(write + other + read, FaultCode::launch_failure, "shared-race");
  const Result good = silent(write + other + "bar.sync 0;" + read);
  for (u32 i = 0; i < 64; ++i) CHECK(good.out[i] == (i ^ 32));
  caught(write + near + read, FaultCode::launch_failure, "shared-race");
  silent(write + near + "bar.warp.sync -1;" + read);
  // A store after another warp's load.
  caught(write + "bar.sync 0;" + other + read + "add.u32 %r1, %r1, 1;" + write,
         FaultCode::launch_failure, "shared-race");
  // Neighbouring halves of a word belong to different threads.
  silent("shl.b32 %r5, %r1, 1; add.u32 %r5, %r5, %r3; st.shared.u16 [%r5+2], %h0;", 64);
  // Named barriers order only those who meet at them.
  caught(R"(
shr.u32 %r7, %r1, 6;
add.u32 %r7, %r7, 1;
st.shared.u32 [%r4], %r1;
bar.sync %r7, 64;
xor.b32 %r5, %r2, 256;
add.u32 %r5, %r5, %r3;
ld.shared.u32 %r6, [%r5];
st.global.u32 [%rd5], %r6;)",
         FaultCode::launch_failure, "shared-race", 128);
  silent(R"(
shr.u32 %r7, %r1, 6;
add.u32 %r7, %r7, 1;
st.shared.u32 [%r4], %r1;
bar.sync %r7, 64;
xor.b32 %r5, %r2, 128;
add.u32 %r5, %r5, %r3;
ld.shared.u32 %r6, [%r5];
st.global.u32 [%rd5], %r6;)",
         128);
}

TEST_CASE("barriers, warp synchronisation, budget") {
  caught("setp.lt.u32 %p1, %r1, 40; @!%p1 bra L; bar.sync 0; L:", FaultCode::launch_failure,
         "divergent-barrier");
  caught("setp.lt.u32 %p1, %r1, 32; @!%p1 bra L; bar.sync 0; L:", FaultCode::launch_failure,
         "divergent-barrier");
  silent("setp.lt.u32 %p1, %r1, 40; @!%p1 bra L; mov.u32 %r5, 1; L: bar.sync 0;");
  caught(
      "setp.lt.u32 %p1, %r1, 8; @%p1 bra L; shfl.sync.idx.b32 %r5, %r1, 0, 31, -1; L:"
      "shfl.sync.idx.b32 %r5, %r1, 0, 31, -1;",
      FaultCode::launch_failure, "warp-sync", 16);
  caught("L: bra L;", FaultCode::launch_timeout, "budget");
  caught("ld.shared.u32 %r5, [%r4]; trap;", FaultCode::launch_failure, "trap");
}

TEST_CASE("asynchronous copies arrive when they are waited for") {
  const std::string start =
      "cp.async.ca.shared.global [%r4], [%rd4], 4; cp.async.commit_group;"
      "cp.async.ca.shared.global [%r4+256], [%rd4], 4, 0; cp.async.commit_group;";
  const std::string read =
      "ld.shared.u32 %r5, [%r4]; ld.shared.u32 %r6, [%r4+256]; add.u32 %r5, %r5, %r6;"
      "st.global.u32 [%rd5], %r5;";
  caught(start + read, FaultCode::launch_failure, "async-copy");
  caught(start + "cp.async.wait_group 1;" + read, FaultCode::launch_failure, "async-copy");
  const Result good = silent(start + "cp.async.wait_group 0;" + read);
  for (u32 i = 0; i < 64; ++i) CHECK(good.out[i] == i);
}

TEST_CASE("shuffles, votes and matches") {
  const Result shuffled = silent(R"(
shfl.sync.up.b32 %r5|%p1, %r1, 3, 0, -1;
selp.b32 %r6, 1000, 0, %p1;
add.u32 %r5, %r5, %r6;
shfl.sync.down.b32 %r7, %r1, 5, 0x181f, -1;
mad.lo.u32 %r5, %r7, 10000, %r5;
st.global.u32 [%rd5], %r5;)",
                                 32);
  for (u32 i = 0; i < 32; ++i) {
    const u32 up = i >= 3 ? i - 3 + 1000 : i;
    const u32 down = i % 8 + 5 < 8 ? i + 5 : i;
    CHECK(shuffled.out[i] == down * 10000 + up);
  }
  caught(
      "setp.lt.u32 %p1, %r1, 16; @!%p1 bra L;"
      "shfl.sync.idx.b32 %r5, %r1, 20, 31, 0xffff; st.global.u32 [%rd5], %r5; L:",
      FaultCode::launch_failure, "uninitialised", 32);
  const Result votes = silent(R"(
setp.lt.u32 %p1, %r1, 5;
vote.sync.ballot.b32 %r5, %p1, -1;
and.b32 %r6, %r1, 3;
match.any.sync.b32 %r7, %r6, -1;
xor.b32 %r5, %r5, %r7;
st.global.u32 [%rd5], %r5;)",
                              32);
  for (u32 i = 0; i < 32; ++i) CHECK(votes.out[i] == (31u ^ (0x11111111u << (i & 3))));
  const Result sums = silent("redux.sync.add.s32 %r5, %r1, -1; st.global.u32 [%rd5], %r5;", 32);
  CHECK(sums.out[7] == 496);
}

TEST_CASE("divergent loops, locks") {
  // Trip counts differ by lane; the sum 0 + 1 + ... + lane tells that each went round its own
  // number.
  const Result loops = silent(R"(
mov.u32 %r5, 0;
mov.u32 %r6, 0;
L:
add.u32 %r5, %r5, %r6;
add.u32 %r6, %r6, 1;
setp.le.u32 %p1, %r6, %r1;
@%p1 bra L;
st.global.u32 [%rd5], %r5;)");
  for (u32 i = 0; i < 64; ++i) CHECK(loops.out[i] == i * (i + 1) / 2);
  // Each thread takes a lock of global memory, adds 1 without an atomic, and lets it go.
  const Result locked = silent(R"(
TRY:
atom.global.cas.b32 %r5, [%rd2], 0, 1;
setp.ne.u32 %p1, %r5, 0;
@%p1 bra TRY;
ld.volatile.global.u32 %r6, [%rd2+4];
add.u32 %r6, %r6, 1;
st.volatile.global.u32 [%rd2+4], %r6;
atom.global.exch.b32 %r5, [%rd2], 0;)");
  CHECK(locked.out[1] == 64);
}

TEST_CASE("ldmatrix and mma multiply as their fragments say") {
  // A (16 x 16) and B (8 columns of depth 16) in shared memory as bf16, each value a small integer
  // made from its place; C = A B.
  const Result result = silent(R"(
mov.u32 %r5, 0;
FILL:
mad.lo.u32 %r6, %r5, 32, %r1;
mul.lo.u32 %r7, %r6, 7;
rem.u32 %r7, %r7, 13;
cvt.rn.f32.u32 %f1, %r7;
cvt.rn.bf16.f32 %h1, %f1;
shl.b32 %r8, %r6, 1;
add.u32 %r8, %r8, %r3;
st.shared.b16 [%r8], %h1;
add.u32 %r5, %r5, 1;
setp.lt.u32 %p1, %r5, 12;
@%p1 bra FILL;
bar.sync 0;
and.b32 %r5, %r1, 15;
shr.u32 %r6, %r1, 4;
shl.b32 %r5, %r5, 5;
mad.lo.u32 %r5, %r6, 16, %r5;
add.u32 %r5, %r5, %r3;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r5];
and.b32 %r5, %r1, 7;
shr.u32 %r6, %r1, 3;
and.b32 %r6, %r6, 1;
shl.b32 %r5, %r5, 5;
mad.lo.u32 %r5, %r6, 16, %r5;
add.u32 %r5, %r5, %r3;
ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r14, %r15}, [%r5+512];
mov.f32 %f4, 0f00000000;
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f5, %f6, %f7, %f8}, {%r10, %r11, %r12, %r13}, {%r14, %r15}, {%f4, %f4, %f4, %f4};
shr.u32 %r5, %r1, 2;
and.b32 %r6, %r1, 3;
shl.b32 %r5, %r5, 5;
mad.lo.u32 %r5, %r6, 8, %r5;
cvt.u64.u32 %rd6, %r5;
add.u64 %rd6, %rd6, %rd2;
st.global.v2.f32 [%rd6], {%f5, %f6};
st.global.v2.f32 [%rd6+256], {%f7, %f8};)",
                               32);
  const auto value = [](u32 i) { return static_cast<float>(i * 7 % 13); };
  for (u32 row = 0; row < 16; ++row) {
    for (u32 column = 0; column < 8; ++column) {
      float sum = 0;
      for (u32 k = 0; k < 16; ++k) sum += value(row * 16 + k) * value(256 + column * 16 + k);
      CHECK(std::bit_cast<float>(result.out[row * 8 + column]) == sum);
    }
  }
  CHECK(result.counters[softgpu::OpClass::mma] == 1);
  CHECK(result.counters.mma_flops == 2 * 16 * 8 * 16);
}
