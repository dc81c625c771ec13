#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "softgpu/ptx/error.h"
#include "softgpu/ptx/parser.h"

using namespace softgpu::ptx;

namespace {

Module parse(const std::string& text) {
  return parse_module(".version 8.0\n.target sm_80\n.address_size 64\n" + text, "test");
}

// A kernel around the statements, with registers of every width.
Module parse_body(const std::string& body) {
  return parse(
      ".visible .entry k(.param .u64 k_param_0)\n{\n"
      ".reg .pred %p<9>; .reg.b16 %rs<9>; .reg .b32 %r<30>; .reg .f32 %f<30>; .reg .b64 %rd<9>;\n" +
      body + "\n}\n");
}

Instruction first(const std::string& statement) {
  return parse_body(statement).functions.at(0).instructions.at(0);
}

std::string message_of(const std::string& text) {
  try {
    parse(text);
  } catch (const softgpu::Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a kernel as nvcc writes it") {
  const Module module = parse(R"(
    // vector addition
    .visible .entry _Z3addPfi(
      .param .u64 .ptr .global .align 4 _Z3addPfi_param_0,
      .param .u32 _Z3addPfi_param_1
    )
    .maxntid 256, 1, 1
    .minnctapersm 2
    {
      .reg .pred 	%p<2>;
      .reg .f32 	%f<3>;
      .reg .b32 	%r<6>;
      .reg .b64 	%rd<5>;
      .loc	1 7 0
      ld.param.u64 	%rd1, [_Z3addPfi_param_0];
      ld.param.u32 	%r2, [_Z3addPfi_param_1];
      mov.u32 	%r3, %ctaid.x;
      mov.u32 	%r4, %ntid.x;
      mov.u32 	%r5, %tid.x;
      mad.lo.s32 	%r1, %r3, %r4, %r5;
      setp.ge.s32 	%p1, %r1, %r2;
      @%p1 bra 	$L__BB0_2;
      .loc	1 9 5
      cvta.to.global.u64 	%rd2, %rd1;
      mul.wide.s32 	%rd3, %r1, 4;
      add.s64 	%rd4, %rd2, %rd3;
      ld.global.f32 	%f1, [%rd4];
      add.f32 	%f2, %f1, 0f3F800000;
      st.global.f32 	[%rd4+-8], %f2;
    $L__BB0_2:
      ret;
    }
    .file	1 "add.cu"
  )");
  CHECK(module.version_major == 8);
  CHECK(module.architecture == 80);
  REQUIRE(module.functions.size() == 1);
  const Function& f = module.functions[0];
  CHECK(module.find_function("_Z3addPfi") == &f);
  CHECK(module.find_function("_Z3add") == nullptr);
  CHECK(f.is_kernel);
  CHECK(f.param_bytes == 12);
  CHECK(f.params[1].offset == 8);
  CHECK(f.max_threads[0] == 256);
  CHECK(f.min_blocks_per_sm == 2);
  REQUIRE(f.instructions.size() == 15);

  CHECK(f.instructions[0].op == Opcode::ld);
  CHECK(f.instructions[0].space == Space::kernel_param);
  CHECK(f.instructions[1].src[0].kind == OperandKind::address);
  CHECK(f.instructions[1].src[0].index == kNone);
  CHECK(f.instructions[1].src[0].imm == 8);
  CHECK(f.instructions[2].src[0].special() == Special::ctaid_x);
  CHECK(f.instructions[5].op == Opcode::mad_lo);
  CHECK(f.instructions[5].type == Type::s32);
  const Instruction& branch = f.instructions[7];
  CHECK(branch.op == Opcode::bra);
  CHECK(branch.guard == f.instructions[6].dst.index);
  CHECK_FALSE(branch.guard_negated);
  CHECK(branch.target == 14);
  CHECK(f.instructions[12].src[1].imm == 0x3F800000);
  CHECK(f.instructions[13].src[0].imm == -8);
  CHECK(f.instructions[13].src[0].bits == 64);
  CHECK(describe(module, f.instructions[13]) == "st.global.f32 (add.cu:9)");

  REQUIRE(f.blocks.size() == 3);
  CHECK(f.blocks[0].successors == std::vector<std::uint32_t>{1, 2});
  CHECK(f.blocks[0].reconvergence == 2);
  CHECK(f.blocks[2].reconvergence == kNone);
}

TEST_CASE("modifiers become fields") {
  Instruction i = first("cvt.rn.relu.bf16x2.f32 %r1, %f1, %f2;");
  CHECK(i.op == Opcode::cvt);
  CHECK(i.type == Type::bf16x2);
  CHECK(i.type_a == Type::f32);
  CHECK(i.round == Round::rn);
  CHECK(i.relu);

  i = first("setp.hi.and.u32 %p1|%p2, %r1, 7, !%p3;");
  CHECK(i.compare == Compare::hi);
  CHECK(i.combine == Combine::and_);
  CHECK(i.dst.kind == OperandKind::pred);
  CHECK(i.dst2.kind == OperandKind::pred);
  CHECK(i.dst.index != i.dst2.index);
  CHECK(i.src[2].negated);

  i = first("shfl.sync.down.b32 %r1|%p1, %r2, 16, 31, -1;");
  CHECK(i.op == Opcode::shfl_down);
  CHECK(i.sync);
  CHECK(i.src[3].imm == -1);

  i = first("atom.acq_rel.gpu.global.cas.b32 %r1, [%rd1+4], %r2, %r3;");
  CHECK(i.op == Opcode::atom);
  CHECK(i.atomic == AtomicOp::cas);
  CHECK(i.space == Space::global);
  CHECK(i.volatile_or_atomic);

  i = first("red.global.add.noftz.bf16x2 [%rd1], %r2;");
  CHECK(i.atomic == AtomicOp::add);
  CHECK(i.dst.kind == OperandKind::none);

  i = first("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%r1,_,%r3,%r4}, [%rd1], %rd2;");
  CHECK(i.vector == 4);
  CHECK(i.read_only);
  CHECK(i.dst.count == 4);
  CHECK(i.src[1].kind == OperandKind::none);

  i = first("bar.red.popc.u32 %r1, 0, %p1;");
  CHECK(i.op == Opcode::bar_red_popc);
  CHECK(i.src[1].kind == OperandKind::none);
  CHECK(i.src[2].kind == OperandKind::pred);
  CHECK(first("barrier.cta.sync.aligned 1, 64;").src[1].imm == 64);
  CHECK(first("bar.warp.sync -1;").op == Opcode::bar_warp_sync);
  CHECK(first("vote.sync.uni.pred %p1, %p2, -1;").op == Opcode::vote_uni);
  CHECK(first("shf.r.wrap.b32 %r1, %r2, %r3, 8;").op == Opcode::shf_r_wrap);
  CHECK(first("mul.hi.u64 %rd1, %rd2, %rd3;").op == Opcode::mul_hi);
  CHECK(first("redux.sync.or.b32 %r1, %r2, -1;").atomic == AtomicOp::or_);
  CHECK(first("lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 0x80, %p2;").src[4].kind == OperandKind::pred);
  CHECK(first("membar.gl;").op == Opcode::fence);
  CHECK(first("fence.acq_rel.gpu;").op == Opcode::fence);
}

TEST_CASE("tensor core instructions") {
  const Module module = parse_body(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};\n"
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%r1,%r2,%r3,%r4}, [%r5];\n"
      "cp.async.cg.shared.global.L2::128B [%r1], [%rd1], 16, %r2;\n"
      "cp.async.commit_group; cp.async.wait_group 1; cp.async.wait_all;");
  const auto& all = module.functions[0].instructions;
  CHECK(all[0].op == Opcode::mma);
  CHECK(all[0].m == 16);
  CHECK(all[0].n == 8);
  CHECK(all[0].k == 16);
  CHECK(all[0].type_b == Type::bf16);
  CHECK(all[0].type_c == Type::f32);
  CHECK(all[0].src[1].count == 2);
  CHECK(all[1].op == Opcode::ldmatrix);
  CHECK(all[1].vector == 4);
  CHECK(all[1].trans);
  CHECK(all[2].op == Opcode::cp_async);
  CHECK(all[2].bypass_l1);
  CHECK(all[2].src[1].kind == OperandKind::address);
  CHECK(all[2].src[3].kind == OperandKind::reg);
  CHECK(all[3].op == Opcode::cp_async_commit_group);
  CHECK(all[4].src[0].imm == 1);
  CHECK(all[5].op == Opcode::cp_async_wait_all);
}

TEST_CASE("literals") {
  CHECK(first("mov.f64 %rd1, 0d3FF0000000000000;").src[0].imm == 0x3FF0000000000000);
  CHECK(first("mul.f32 %f1, %f2, 0d3FF0000000000000;").src[1].imm == 0x3F800000);
  CHECK(first("mul.f32 %f1, %f2, 1.0;").src[1].imm == 0x3F800000);
  CHECK(first("mul.f32 %f1, %f2, -5e-1;").src[1].imm == 0xBF000000);
  CHECK(first("mov.u64 %rd1, 0xFFFFFFFFFFFFFFFF;").src[0].imm == -1);
  CHECK(first("mov.u32 %r1, 4294967295;").src[0].imm == 4294967295);
  CHECK(first("mov.u32 %r1, 0x1E;").src[0].imm == 30);
  CHECK(first("mov.u32 %r1, 017;").src[0].imm == 15);
  CHECK(first("mov.u32 %r1, WARP_SZ;").src[0].imm == 32);
}

TEST_CASE("inline assembly has its own registers and labels") {
  const Module module = parse_body(R"(
    mov.u32 %r1, 5;
    {
      .reg .pred p;
      .reg.b32 t;
      setp.ne.b32 p, %r1, 0;
      @!p bra DONE;
      mov.b32 t, %r1;
      st.global.b32 [%rd1], t;
    DONE:
    }
    {
      .reg .b64 t;
      bra DONE;
      mov.b64 t, %rd1;
    DONE:
      st.global.b64 [%rd1], t;
    })");
  const auto& all = module.functions[0].instructions;
  CHECK(all[2].target == 5);
  CHECK(all[2].guard_negated);
  CHECK(all[5].target == 7);
  CHECK(all[7].src[1].bits == 64);
  CHECK(all.back().op == Opcode::ret);  // nothing else ends the kernel
}

TEST_CASE("unknown instructions wait until they are executed") {
  const Module module = parse_body(R"(
    @%p1 wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2}, %rd1, %rd2, 1, 1, 1;
    add.bogus.u32 %r1, %r1, 1;
    mov.u32 %r1, %clusterid.x;
    mov.u32 %r1, 3;)");
  const Function& f = module.functions[0];
  REQUIRE(f.unsupported_text.size() == 3);
  CHECK(f.instructions[0].op == Opcode::unsupported);
  CHECK(f.instructions[0].guard != kNone);
  CHECK(f.unsupported_text[f.instructions[1].target] == "add.bogus.u32 %r1, %r1, 1");
  CHECK(f.instructions[2].op == Opcode::unsupported);
  CHECK(f.instructions[3].op == Opcode::mov);
}

TEST_CASE("variables and their initial values") {
  const Module module = parse(R"(
    .func f() { ret; }
    .const .align 4 .b8 table[16] = {0, 0, 128, 63, 0, 0, 0, 64};
    .global .align 4 .f32 one = 0f3F800000;
    .global .align 8 .u64 names[3] = {generic(str), str+1, f};
    .global .align 1 .b8 str[3] = {97, 98};
    .global .align 4 .s32 grid[2][2] = {{-1, 2}, {3}};
    .global .align 4 .b8 zero[64];
    .extern .shared .align 128 .b8 dyn[];
  )");
  const Variable* const table = module.find_variable("table");
  REQUIRE(table != nullptr);
  CHECK(table->space == Space::constant);
  CHECK(table->init.size() == 16);
  CHECK(table->init[3] == std::byte{63});
  float one = 0;
  std::memcpy(&one, module.find_variable("one")->init.data(), 4);
  CHECK(one == 1.0f);
  const Variable* const names = module.find_variable("names");
  REQUIRE(names->relocations.size() == 2);
  CHECK(names->relocations[0].generic);
  CHECK(&module.variables[names->relocations[0].variable] == module.find_variable("str"));
  CHECK(names->relocations[1].offset == 8);
  CHECK(names->relocations[1].addend == 1);
  std::uint64_t address = 0;
  std::memcpy(&address, names->init.data() + 16, 8);
  CHECK(address == function_address(0));
  int grid[4];
  std::memcpy(grid, module.find_variable("grid")->init.data(), 16);
  CHECK(grid[0] == -1);
  CHECK(grid[2] == 3);
  CHECK(grid[3] == 0);
  CHECK(module.find_variable("zero")->init.empty());
  CHECK(module.find_variable("zero")->size == 64);
  CHECK(module.find_variable("dyn")->is_extern);
}

TEST_CASE("shared memory: one place per variable, kernels pay for what they reach") {
  const Module module = parse(R"(
    .extern .shared .align 128 .b8 dyn[];
    .shared .align 8 .b8 common[24];
    .func helper() { .reg .b32 %r<2>; .shared .align 4 .b8 own[12]; mov.u32 %r1, own;
                     st.shared.u32 [common+8], %r1; ret; }
    .entry a() { .reg .b32 %r<3>; .shared .align 4 .b8 big[100]; call helper, ();
                 mov.u32 %r1, big; mov.u32 %r2, dyn; st.shared.v2.b32 [dyn+8], {%r1, %r2}; ret; }
    .entry b() { call helper, (); ret; }
    .entry c() { .reg .b32 %r<2>; .shared .align 4 .b8 alone[40]; mov.u32 %r1, alone; ret; }
  )");
  const Function& a = *module.find_function("a");
  CHECK(a.shared_bytes == 24 + 12 + 100);
  CHECK(a.uses_dynamic_shared);
  CHECK(a.dynamic_shared_offset() == 256);
  CHECK(module.find_function("b")->shared_bytes == 36);
  CHECK_FALSE(module.find_function("b")->uses_dynamic_shared);
  CHECK(module.find_function("c")->shared_bytes == 40);
  CHECK(module.find_function("helper")->instructions[0].src[0].imm == 24);
  CHECK(module.find_function("helper")->instructions[1].src[0].kind == OperandKind::address);
  CHECK(module.find_function("helper")->instructions[1].src[0].imm == 8);
  CHECK(a.instructions[1].src[0].kind == OperandKind::immediate);
  CHECK(a.instructions[1].src[0].imm == 36);
  CHECK(a.instructions[2].src[0].kind == OperandKind::dynamic_shared);
  CHECK(a.instructions[3].src[0].kind == OperandKind::dynamic_shared);
  CHECK(a.instructions[3].src[0].bracketed);
  CHECK(a.instructions[3].src[0].imm == 8);
}

TEST_CASE("calls") {
  const Module module = parse(R"(
    .extern .func (.param .b32 func_retval0) vprintf (.param .b64 p0, .param .b64 p1);
    .func (.param .b32 func_retval0) square(.param .b32 square_param_0)
    {
      .reg .b32 %r<3>;
      ld.param.u32 %r1, [square_param_0];
      mul.lo.s32 %r2, %r1, %r1;
      st.param.b32 [func_retval0+0], %r2;
      ret;
    }
    .visible .entry k(.param .u32 k_param_0)
    {
      .local .align 8 .b8 __local_depot0[24];
      .reg .b64 %SP; .reg .b64 %SPL; .reg .b32 %r<4>; .reg .b64 %rd<2>;
      mov.u64 %SPL, __local_depot0;
      cvta.local.u64 %SP, %SPL;
      { // callseq 0, 0
        .reg .b32 temp_param_reg;
        .param .b32 param0;
        st.param.b32 [param0+0], 7;
        .param .b32 retval0;
        call.uni (retval0),
        square,
        (
        param0
        );
        ld.param.b32 %r1, [retval0+0];
      }
      mov.u64 %rd1, square;
      {
        .param .b32 param0;
        .param .b32 retval0;
        st.param.b32 [param0+0], %r1;
        prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);
        call (retval0), %rd1, (param0), prototype_0;
        ld.param.b32 %r2, [retval0+0];
      }
      ret;
    })");
  CHECK(module.find_function("vprintf")->builtin == Builtin::vprintf);
  const Function& square = *module.find_function("square");
  CHECK(square.results.at(0).offset == 0);
  CHECK(square.params.at(0).offset == 4);
  CHECK(square.instructions[0].space == Space::frame_param);
  CHECK(square.instructions[0].src[0].imm == 4);
  const Function& k = *module.find_function("k");
  CHECK(k.local_bytes == 24);
  CHECK(k.frame_bytes == 8);
  CHECK(k.instructions[0].src[0].space == Space::local);
  CHECK(k.instructions[2].space == Space::frame_param);
  const CallSite& direct = k.calls.at(k.instructions[3].target);
  CHECK(&module.functions[direct.callee] == &square);
  CHECK(direct.arguments.at(0).offset == 0);
  CHECK(direct.results.at(0).offset == 4);
  CHECK(k.instructions[5].src[0].imm == static_cast<std::int64_t>(function_address(direct.callee)));
  const Instruction& indirect = k.instructions[7];
  CHECK(indirect.op == Opcode::call);
  CHECK(k.calls.at(indirect.target).callee == kNone);
  CHECK(indirect.src[0].kind == OperandKind::reg);
}

TEST_CASE("branch tables") {
  const Module module = parse_body(R"(
    bra.uni START;
    START:
    table: .branchtargets A, B, A;
    brx.idx %r1, table;
    A: mov.u32 %r2, 1; bra.uni END;
    B: mov.u32 %r2, 2;
    END: ret;)");
  const Function& f = module.functions[0];
  CHECK(f.branch_tables.at(0) == std::vector<std::uint32_t>{2, 4, 2});
  CHECK(f.instructions[0].uniform);
  REQUIRE(f.blocks.size() == 5);
  CHECK(f.blocks[1].successors == std::vector<std::uint32_t>{2, 3});
  CHECK(f.blocks[1].reconvergence == 4);
}

TEST_CASE("source lines of inlined code") {
  const Module module = parse_body(R"(
    .loc 1 11 3
    mov.u32 %r1, 1;
    .loc 2 60 5, function_name $L__info_string0, inlined_at 1 11 3
    mov.u32 %r2, 1;
    .loc 2 59 1, function_name $L__info_string1+2, inlined_at 2 60 5
    mov.u32 %r3, 1;
    }
    .file 1 "a.cu"
    .file 2 "b.h", 1700000000, 1234
    .section .debug_str
    {
    $L__info_string0:
    .b8 97,98
    .b8 99,0
    $L__info_string1:
    .b8 100,0
    )");
  const auto& all = module.functions[0].instructions;
  const Location& inner = module.locations.at(all[2].location);
  CHECK(inner.function == "d");
  const Location& middle = module.locations.at(inner.inlined_at);
  CHECK(middle.line == 60);
  CHECK(middle.function == "abc");
  const Location& outer = module.locations.at(middle.inlined_at);
  CHECK(outer.line == 11);
  CHECK(outer.inlined_at == kNone);
  CHECK(module.files.at(inner.file) == "b.h");
}

TEST_CASE("what cannot be read is refused with its line") {
  CHECK(message_of(".entry k() {\n bra NOWHERE;\n}") == "test:5: label 'NOWHERE' is not there");
  CHECK(message_of(".entry k() {\n mov.u32 %r1, x;\n}").starts_with("test:5: "));
  CHECK(message_of(".entry k() {\n ret;\n").find("ends inside its body") != std::string::npos);
  CHECK(message_of(".address_size 32").find("64-bit") != std::string::npos);
  CHECK(message_of(".global .u64 x = y;").find("unknown 'y'") != std::string::npos);
  CHECK(message_of(".global .u8 x[2] = {1, 2, 3};").find("2 bytes") != std::string::npos);
  CHECK(message_of(".texref t;").find("'.texref'") != std::string::npos);
  CHECK(message_of("/* open").find("comment") != std::string::npos);
}
