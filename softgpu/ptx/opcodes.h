#pragma once

#include <cstdint>
#include <string_view>

// The closed sets of PTX that an interpreter switches on. No strings after parsing.
namespace softgpu::ptx {

// One opcode for each operation whose inner loop differs; what only parametrises a loop (types,
// rounding, comparison, state space, atomic operation) is a field of Instruction.
// X(enumerator, name in diagnostics)
// clang-format off
#define SOFTGPU_PTX_OPCODES(X) \
  X(unsupported, "unsupported") \
  /* arithmetic */ \
  X(abs, "abs") X(add, "add") X(addc, "addc") X(sub, "sub") X(subc, "subc") X(mul, "mul") \
  X(mul_lo, "mul.lo") X(mul_hi, "mul.hi") X(mul_wide, "mul.wide") X(mul24_lo, "mul24.lo") \
  X(mul24_hi, "mul24.hi") X(mad24_lo, "mad24.lo") X(mad24_hi, "mad24.hi") X(mad, "mad") \
  X(mad_lo, "mad.lo") X(mad_hi, "mad.hi") X(mad_wide, "mad.wide") X(madc_lo, "madc.lo") \
  X(madc_hi, "madc.hi") X(fma, "fma") X(div, "div") X(rem, "rem") X(neg, "neg") X(min, "min") \
  X(max, "max") X(sad, "sad") X(dp4a, "dp4a") X(dp2a_lo, "dp2a.lo") X(dp2a_hi, "dp2a.hi") \
  X(copysign, "copysign") X(rcp, "rcp") X(sqrt, "sqrt") X(rsqrt, "rsqrt") X(sin, "sin") \
  X(cos, "cos") X(lg2, "lg2") X(ex2, "ex2") X(tanh, "tanh") X(testp, "testp") \
  /* bits */ \
  X(and_, "and") X(or_, "or") X(xor_, "xor") X(not_, "not") X(cnot, "cnot") X(lop3, "lop3") \
  X(shl, "shl") X(shr, "shr") X(shf_l_wrap, "shf.l.wrap") X(shf_l_clamp, "shf.l.clamp") \
  X(shf_r_wrap, "shf.r.wrap") X(shf_r_clamp, "shf.r.clamp") X(prmt, "prmt") X(bfe, "bfe") \
  X(bfi, "bfi") X(bfind, "bfind") X(bfind_shiftamt, "bfind.shiftamt") X(popc, "popc") \
  X(clz, "clz") X(brev, "brev") X(fns, "fns") X(bmsk_clamp, "bmsk.clamp") \
  X(bmsk_wrap, "bmsk.wrap") X(szext_clamp, "szext.clamp") X(szext_wrap, "szext.wrap") \
  /* comparison, selection, data movement */ \
  X(setp, "setp") X(set, "set") X(selp, "selp") X(slct, "slct") X(mov, "mov") X(cvt, "cvt") \
  X(cvta, "cvta") X(cvta_to, "cvta.to") X(isspacep, "isspacep") \
  /* memory */ \
  X(ld, "ld") X(st, "st") X(ldu, "ldu") X(atom, "atom") X(red, "red") X(prefetch, "prefetch") \
  X(discard, "discard") X(applypriority, "applypriority") X(createpolicy, "createpolicy") \
  X(fence, "fence") X(cp_async, "cp.async") X(cp_async_commit_group, "cp.async.commit_group") \
  X(cp_async_wait_group, "cp.async.wait_group") X(cp_async_wait_all, "cp.async.wait_all") \
  X(ldmatrix, "ldmatrix") X(movmatrix, "movmatrix") X(mma, "mma") \
  /* warp and block */ \
  X(shfl_up, "shfl.up") X(shfl_down, "shfl.down") X(shfl_bfly, "shfl.bfly") \
  X(shfl_idx, "shfl.idx") X(vote_all, "vote.all") X(vote_any, "vote.any") \
  X(vote_uni, "vote.uni") X(vote_ballot, "vote.ballot") X(match_any, "match.any") \
  X(match_all, "match.all") X(activemask, "activemask") X(redux, "redux") X(elect, "elect") \
  X(bar_sync, "bar.sync") X(bar_arrive, "bar.arrive") X(bar_red_popc, "bar.red.popc") \
  X(bar_red_and, "bar.red.and") X(bar_red_or, "bar.red.or") X(bar_warp_sync, "bar.warp.sync") \
  X(griddepcontrol, "griddepcontrol") X(nanosleep, "nanosleep") \
  /* control */ \
  X(bra, "bra") X(brx_idx, "brx.idx") X(call, "call") X(ret, "ret") X(exit, "exit") \
  X(trap, "trap") X(brkpt, "brkpt") X(nop, "nop")
// clang-format on

enum class Opcode : std::uint16_t {
#define SOFTGPU_X(id, name) id,
  SOFTGPU_PTX_OPCODES(SOFTGPU_X)
#undef SOFTGPU_X
      count
};
std::string_view name_of(Opcode op);

// clang-format off
enum class Type : std::uint8_t {
  none, pred, b1, b8, b16, b32, b64, b128, u4, u8, u16, u32, u64, s4, s8, s16, s32, s64, u16x2, s16x2,
  f16, f16x2, bf16, bf16x2, f32, f32x2, tf32, f64, e4m3, e5m2, e4m3x2, e5m2x2
};
// clang-format on
int bits_of(Type type);     // 1 for pred and b1, 0 for none
bool is_float(Type type);   // f16 ... e5m2x2
bool is_signed(Type type);  // s4 ... s64, s16x2
std::string_view name_of(Type type);

// kernel_param: the launch's parameter buffer, uniform, read only. frame_param: parameters and
// results of device functions, in the calling thread's frame.
enum class Space : std::uint8_t {
  generic,
  global,
  constant,
  shared,
  local,
  kernel_param,
  frame_param
};
std::string_view name_of(Space space);

// approx and full are not roundings, but they exclude one and choose the algorithm in its place.
// rni..rpi round to an integral value (cvt); rna is to nearest, ties away (cvt to tf32).
enum class Round : std::uint8_t { none, rn, rz, rm, rp, rna, rni, rzi, rmi, rpi, approx, full };

// lt..ge on floats are false for NaN, ltu..geu true; lo..hs are unsigned; num: both are numbers,
// nan: one is NaN.
// clang-format off
enum class Compare : std::uint8_t {
  none, eq, ne, lt, le, gt, ge, lo, ls, hi, hs, equ, neu, ltu, leu, gtu, geu, num, nan
};
// clang-format on

// setp.CMP.BOOL: combines the comparison with a third operand.
enum class Combine : std::uint8_t { none, and_, or_, xor_ };

// atom, red, redux. inc: old >= b ? 0 : old + 1. dec: old == 0 || old > b ? b : old - 1.
enum class AtomicOp : std::uint8_t { none, and_, or_, xor_, cas, exch, add, inc, dec, min, max };

enum class PrmtMode : std::uint8_t { none, f4e, b4e, rc8, ecl, ecr, rc16 };
enum class TestMode : std::uint8_t {
  none,
  finite,
  infinite,
  number,
  notanumber,
  normal,
  subnormal
};

// clang-format off
enum class Special : std::uint8_t {
  tid_x, tid_y, tid_z, ntid_x, ntid_y, ntid_z, ctaid_x, ctaid_y, ctaid_z, nctaid_x, nctaid_y, nctaid_z,
  laneid, warpid, nwarpid, smid, nsmid, gridid,
  lanemask_eq, lanemask_le, lanemask_lt, lanemask_ge, lanemask_gt,
  clock, clock_hi, clock64, globaltimer, globaltimer_lo, globaltimer_hi,
  dynamic_smem_size, total_smem_size
};
// clang-format on

}  // namespace softgpu::ptx
