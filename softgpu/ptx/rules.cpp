#include "softgpu/ptx/rules.h"

#include <charconv>
#include <unordered_map>
#include <utility>

namespace softgpu::ptx {
namespace {

using Choice = std::pair<std::string_view, Opcode>;

// Takes the one keyword of `choices` that is there and sets its opcode.
bool choose(Modifiers& m, Instruction& i, std::initializer_list<Choice> choices) {
  for (const auto& [keyword, op] : choices) {
    if (m.take(keyword)) {
      i.op = op;
      return true;
    }
  }
  return false;
}

bool refine_mul(Modifiers& m, Instruction& i) {
  if (is_float(i.type)) return true;
  return choose(m, i, {{"lo", Opcode::mul_lo}, {"hi", Opcode::mul_hi}, {"wide", Opcode::mul_wide}});
}

bool refine_mad(Modifiers& m, Instruction& i) {
  if (is_float(i.type)) {
    i.op = i.type == Type::f32 && i.round == Round::none ? Opcode::mad : Opcode::fma;
    return true;
  }
  return choose(m, i, {{"lo", Opcode::mad_lo}, {"hi", Opcode::mad_hi}, {"wide", Opcode::mad_wide}});
}

bool refine_madc(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"lo", Opcode::madc_lo}, {"hi", Opcode::madc_hi}});
}

bool refine_mul24(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"lo", Opcode::mul24_lo}, {"hi", Opcode::mul24_hi}});
}

bool refine_mad24(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"lo", Opcode::mad24_lo}, {"hi", Opcode::mad24_hi}});
}

// dp4a.atype.btype: the result is signed if one of the factors is.
bool refine_dot(Modifiers& m, Instruction& i) {
  i.type_a = m.types[0];
  i.type_b = m.types[1];
  i.type = is_signed(i.type_a) || is_signed(i.type_b) ? Type::s32 : Type::u32;
  if (i.op == Opcode::dp4a) return true;
  return choose(m, i, {{"lo", Opcode::dp2a_lo}, {"hi", Opcode::dp2a_hi}});
}

bool refine_testp(Modifiers& m, Instruction& i) {
  constexpr std::pair<std::string_view, TestMode> modes[] = {
      {"finite", TestMode::finite}, {"infinite", TestMode::infinite},
      {"number", TestMode::number}, {"notanumber", TestMode::notanumber},
      {"normal", TestMode::normal}, {"subnormal", TestMode::subnormal}};
  for (const auto& [keyword, mode] : modes)
    if (m.take(keyword)) i.test = mode;
  return i.test != TestMode::none;
}

bool refine_shf(Modifiers& m, Instruction& i) {
  const bool left = m.take("l");
  if (!left && !m.take("r")) return false;
  if (left) return choose(m, i, {{"wrap", Opcode::shf_l_wrap}, {"clamp", Opcode::shf_l_clamp}});
  return choose(m, i, {{"wrap", Opcode::shf_r_wrap}, {"clamp", Opcode::shf_r_clamp}});
}

bool refine_prmt(Modifiers& m, Instruction& i) {
  constexpr std::pair<std::string_view, PrmtMode> modes[] = {
      {"f4e", PrmtMode::f4e}, {"b4e", PrmtMode::b4e}, {"rc8", PrmtMode::rc8},
      {"ecl", PrmtMode::ecl}, {"ecr", PrmtMode::ecr}, {"rc16", PrmtMode::rc16}};
  for (const auto& [keyword, mode] : modes)
    if (m.take(keyword)) i.prmt = mode;
  return true;
}

bool refine_bfind(Modifiers& m, Instruction& i) {
  if (m.take("shiftamt")) i.op = Opcode::bfind_shiftamt;
  return true;
}

bool refine_bmsk(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"clamp", Opcode::bmsk_clamp}, {"wrap", Opcode::bmsk_wrap}});
}

bool refine_szext(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"clamp", Opcode::szext_clamp}, {"wrap", Opcode::szext_wrap}});
}

bool refine_lop3(Modifiers& m, Instruction& i) {
  i.combine = m.logic;
  return true;
}

bool refine_compare(Modifiers& m, Instruction& i) {
  if (m.take("lo")) i.compare = Compare::lo;
  if (m.take("hi")) i.compare = Compare::hi;
  i.combine = m.logic;
  return i.compare != Compare::none;
}

bool refine_cvta(Modifiers& m, Instruction& i) {
  if (m.take("to")) i.op = Opcode::cvta_to;
  return true;
}

bool refine_atom(Modifiers& m, Instruction& i) {
  constexpr AtomicOp logic[] = {AtomicOp::none, AtomicOp::and_, AtomicOp::or_, AtomicOp::xor_};
  if (m.logic != Combine::none) i.atomic = logic[static_cast<int>(m.logic)];
  return i.atomic != AtomicOp::none;
}

bool refine_createpolicy(Modifiers& m, Instruction&) {
  return m.take("fractional") || m.take("range");
}

bool refine_fence(Modifiers& m, Instruction&) {
  // A proxy fence orders generic with asynchronous accesses; here all go through one memory.
  if (m.take("proxy")) {
    m.take("async");
    m.take("alias");
  }
  return true;
}

bool refine_cp_async(Modifiers& m, Instruction& i) {
  if (!m.take("async")) return false;
  if (choose(m, i,
             {{"commit_group", Opcode::cp_async_commit_group},
              {"wait_group", Opcode::cp_async_wait_group},
              {"wait_all", Opcode::cp_async_wait_all}}))
    return true;
  return i.space == Space::shared;
}

bool refine_ldmatrix(Modifiers& m, Instruction& i) {
  constexpr std::pair<std::string_view, int> counts[] = {{"x1", 1}, {"x2", 2}, {"x4", 4}};
  if (!m.take("m8n8") || i.type != Type::b16) return false;
  if (i.op == Opcode::movmatrix) return i.trans;
  i.vector = 0;
  for (const auto& [keyword, count] : counts)
    if (m.take(keyword)) i.vector = static_cast<std::uint8_t>(count);
  return i.vector != 0;
}

// mN1nN2kN3, as in m16n8k16.
bool read_shape(std::string_view word, Instruction& i) {
  std::uint16_t* const sizes[] = {&i.m, &i.n, &i.k};
  const char* at = word.data();
  const char* const end = at + word.size();
  for (int d = 0; d < 3; ++d) {
    if (at == end || *at != "mnk"[d]) return false;
    const auto [next, error] = std::from_chars(at + 1, end, *sizes[d]);
    if (error != std::errc{}) return false;
    at = next;
  }
  return at == end;
}

bool refine_mma(Modifiers& m, Instruction& i) {
  if (!m.take("row") || !m.take("col") || m.keyword_count != 1) return false;
  const std::string_view shape = m.keywords[0];
  m.keyword_count = 0;
  i.type_a = m.types[1];
  i.type_b = m.types[2];
  i.type_c = m.types[3];
  return read_shape(shape, i);
}

bool refine_shfl(Modifiers& m, Instruction& i) {
  return choose(m, i,
                {{"up", Opcode::shfl_up},
                 {"down", Opcode::shfl_down},
                 {"bfly", Opcode::shfl_bfly},
                 {"idx", Opcode::shfl_idx}});
}

bool refine_vote(Modifiers& m, Instruction& i) {
  if ((m.seen & kUniform) != 0) {
    i.op = Opcode::vote_uni;
    i.uniform = false;
    return true;
  }
  return choose(
      m, i,
      {{"all", Opcode::vote_all}, {"any", Opcode::vote_any}, {"ballot", Opcode::vote_ballot}});
}

bool refine_match(Modifiers& m, Instruction& i) {
  return choose(m, i, {{"any", Opcode::match_any}, {"all", Opcode::match_all}});
}

bool refine_bar(Modifiers& m, Instruction& i) {
  if (m.take("warp")) {
    i.op = Opcode::bar_warp_sync;
    return i.sync;
  }
  if (m.take("arrive")) {
    i.op = Opcode::bar_arrive;
    return true;
  }
  if (m.take("red")) {
    if (m.logic == Combine::and_) i.op = Opcode::bar_red_and;
    if (m.logic == Combine::or_) i.op = Opcode::bar_red_or;
    if (m.take("popc")) i.op = Opcode::bar_red_popc;
    return i.op != Opcode::bar_sync;
  }
  return i.sync;
}

bool refine_griddepcontrol(Modifiers& m, Instruction&) {
  return m.take("wait") || m.take("launch_dependents");
}

bool refine_brx(Modifiers& m, Instruction&) {
  return m.take("idx");
}

constexpr std::uint32_t kMemory = kSpace | kVector | kCache | kHint | kOrder | kScope;

using Rules = std::unordered_map<std::string_view, Rule>;

const Rules& rules() {
  static const Rules table = {
      {"abs", {Opcode::abs, 1, kFtz}},
      {"add", {Opcode::add, 1, kRound | kFtz | kSat | kCarry}},
      {"addc", {Opcode::addc, 1, kCarry}},
      {"sub", {Opcode::sub, 1, kRound | kFtz | kSat | kCarry}},
      {"subc", {Opcode::subc, 1, kCarry}},
      {"mul", {Opcode::mul, 1, kRound | kFtz | kSat, refine_mul}},
      {"mad", {Opcode::mad, 1, kRound | kFtz | kSat | kCarry, refine_mad}},
      {"madc", {Opcode::madc_lo, 1, kCarry, refine_madc}},
      {"mul24", {Opcode::mul24_lo, 1, 0, refine_mul24}},
      {"mad24", {Opcode::mad24_lo, 1, kSat, refine_mad24}},
      {"fma", {Opcode::fma, 1, kRound | kFtz | kSat | kRelu}},
      {"div", {Opcode::div, 1, kRound | kFtz}},
      {"rem", {Opcode::rem, 1, 0}},
      {"neg", {Opcode::neg, 1, kFtz}},
      {"min", {Opcode::min, 1, kFtz | kNan | kXorsign | kRelu}},
      {"max", {Opcode::max, 1, kFtz | kNan | kXorsign | kRelu}},
      {"sad", {Opcode::sad, 1, 0}},
      {"dp4a", {Opcode::dp4a, 2, 0, refine_dot}},
      {"dp2a", {Opcode::dp2a_lo, 2, 0, refine_dot}},
      {"copysign", {Opcode::copysign, 1, 0}},
      {"rcp", {Opcode::rcp, 1, kRound | kFtz}},
      {"sqrt", {Opcode::sqrt, 1, kRound | kFtz}},
      {"rsqrt", {Opcode::rsqrt, 1, kRound | kFtz}},
      {"sin", {Opcode::sin, 1, kRound | kFtz}},
      {"cos", {Opcode::cos, 1, kRound | kFtz}},
      {"lg2", {Opcode::lg2, 1, kRound | kFtz}},
      {"ex2", {Opcode::ex2, 1, kRound | kFtz}},
      {"tanh", {Opcode::tanh, 1, kRound}},
      {"testp", {Opcode::testp, 1, 0, refine_testp}},
      {"and", {Opcode::and_, 1, 0}},
      {"or", {Opcode::or_, 1, 0}},
      {"xor", {Opcode::xor_, 1, 0}},
      {"not", {Opcode::not_, 1, 0}},
      {"cnot", {Opcode::cnot, 1, 0}},
      {"lop3", {Opcode::lop3, 1, kLogic, refine_lop3}},
      {"shl", {Opcode::shl, 1, 0}},
      {"shr", {Opcode::shr, 1, 0}},
      {"shf", {Opcode::shf_l_wrap, 1, 0, refine_shf}},
      {"prmt", {Opcode::prmt, 1, 0, refine_prmt}},
      {"bfe", {Opcode::bfe, 1, 0}},
      {"bfi", {Opcode::bfi, 1, 0}},
      {"bfind", {Opcode::bfind, 1, 0, refine_bfind}},
      {"popc", {Opcode::popc, 1, 0}},
      {"clz", {Opcode::clz, 1, 0}},
      {"brev", {Opcode::brev, 1, 0}},
      {"fns", {Opcode::fns, 1, 0}},
      {"bmsk", {Opcode::bmsk_clamp, 1, 0, refine_bmsk}},
      {"szext", {Opcode::szext_clamp, 1, 0, refine_szext}},
      {"setp", {Opcode::setp, 1, kCompare | kLogic | kFtz, refine_compare}},
      {"set", {Opcode::set, 2, kCompare | kLogic | kFtz, refine_compare}},
      {"selp", {Opcode::selp, 1, 0}},
      {"slct", {Opcode::slct, 2, kFtz}},
      {"mov", {Opcode::mov, 1, 0}},
      {"cvt", {Opcode::cvt, 2, kRound | kFtz | kSat | kRelu}},
      {"cvta", {Opcode::cvta, 1, kSpace, refine_cvta}},
      {"isspacep", {Opcode::isspacep, 0, kSpace}},
      {"ld", {Opcode::ld, 1, kMemory | kReadOnly}},
      {"ldu", {Opcode::ldu, 1, kMemory}},
      {"st", {Opcode::st, 1, kMemory}},
      {"atom", {Opcode::atom, 1, kMemory | kAtomic | kLogic | kNoFtz, refine_atom}},
      {"red", {Opcode::red, 1, kMemory | kAtomic | kLogic | kNoFtz, refine_atom}},
      {"prefetch", {Opcode::prefetch, 0, kSpace | kCache}},
      {"prefetchu", {Opcode::prefetch, 0, kCache}},
      {"discard", {Opcode::discard, 0, kSpace | kCache}},
      {"applypriority", {Opcode::applypriority, 0, kSpace | kCache}},
      {"createpolicy", {Opcode::createpolicy, 1, kSpace | kCache, refine_createpolicy}},
      {"membar", {Opcode::fence, 0, kScope, refine_fence}},
      {"fence", {Opcode::fence, 0, kOrder | kScope | kSpace, refine_fence}},
      {"cp", {Opcode::cp_async, 0, kCache | kHint | kSpace, refine_cp_async}},
      {"ldmatrix", {Opcode::ldmatrix, 1, kSync | kAligned | kTrans | kSpace, refine_ldmatrix}},
      {"movmatrix", {Opcode::movmatrix, 1, kSync | kAligned | kTrans, refine_ldmatrix}},
      {"mma", {Opcode::mma, 4, kSync | kAligned | kSat, refine_mma}},
      {"shfl", {Opcode::shfl_idx, 1, kSync, refine_shfl}},
      {"vote", {Opcode::vote_all, 1, kSync | kUniform, refine_vote}},
      {"match", {Opcode::match_any, 1, kSync, refine_match}},
      {"activemask", {Opcode::activemask, 1, 0}},
      {"redux", {Opcode::redux, 1, kSync | kAtomic | kLogic, refine_atom}},
      {"elect", {Opcode::elect, 0, kSync}},
      {"bar", {Opcode::bar_sync, -1, kSync | kAligned | kLogic | kScope, refine_bar}},
      {"barrier", {Opcode::bar_sync, -1, kSync | kAligned | kLogic | kScope, refine_bar}},
      {"griddepcontrol", {Opcode::griddepcontrol, 0, 0, refine_griddepcontrol}},
      {"nanosleep", {Opcode::nanosleep, 1, 0}},
      {"bra", {Opcode::bra, 0, kUniform}},
      {"brx", {Opcode::brx_idx, 0, kUniform, refine_brx}},
      {"call", {Opcode::call, 0, kUniform}},
      {"ret", {Opcode::ret, 0, kUniform}},
      {"exit", {Opcode::exit, 0, 0}},
      {"trap", {Opcode::trap, 0, 0}},
      {"brkpt", {Opcode::brkpt, 0, 0}},
      {"pmevent", {Opcode::nop, 0, 0}},
  };
  return table;
}

}  // namespace

const Rule* find_rule(std::string_view name) {
  const auto found = rules().find(name);
  return found == rules().end() ? nullptr : &found->second;
}

}  // namespace softgpu::ptx
