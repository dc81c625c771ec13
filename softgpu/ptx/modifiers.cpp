#include "softgpu/ptx/modifiers.h"

#include <algorithm>
#include <unordered_map>

namespace softgpu::ptx {
namespace {

struct Meaning {
  Group group;
  int value = 0;
};

using Meanings = std::unordered_map<std::string_view, Meaning>;

template <typename E>
void add_all(Meanings& meanings, Group group,
             std::initializer_list<std::pair<std::string_view, E>> words) {
  for (const auto& [word, value] : words)
    meanings.emplace(word, Meaning{group, static_cast<int>(value)});
}

void add_all(Meanings& meanings, Group group, std::initializer_list<std::string_view> words,
             int value = 0) {
  for (const std::string_view word : words) meanings.emplace(word, Meaning{group, value});
}

Meanings make_meanings() {
  Meanings m;
  for (int t = 1; t <= static_cast<int>(Type::e5m2x2); ++t)
    m.emplace(name_of(static_cast<Type>(t)), Meaning{kType, t});
  add_all<Round>(m, kRound,
                 {{"rn", Round::rn},
                  {"rz", Round::rz},
                  {"rm", Round::rm},
                  {"rp", Round::rp},
                  {"rna", Round::rna},
                  {"rni", Round::rni},
                  {"rzi", Round::rzi},
                  {"rmi", Round::rmi},
                  {"rpi", Round::rpi},
                  {"approx", Round::approx},
                  {"full", Round::full}});
  add_all<Compare>(m, kCompare,
                   {{"eq", Compare::eq},
                    {"ne", Compare::ne},
                    {"lt", Compare::lt},
                    {"le", Compare::le},
                    {"gt", Compare::gt},
                    {"ge", Compare::ge},
                    {"ls", Compare::ls},
                    {"hs", Compare::hs},
                    {"equ", Compare::equ},
                    {"neu", Compare::neu},
                    {"ltu", Compare::ltu},
                    {"leu", Compare::leu},
                    {"gtu", Compare::gtu},
                    {"geu", Compare::geu},
                    {"num", Compare::num},
                    {"nan", Compare::nan}});
  add_all<Combine>(m, kLogic,
                   {{"and", Combine::and_}, {"or", Combine::or_}, {"xor", Combine::xor_}});
  add_all<AtomicOp>(m, kAtomic,
                    {{"cas", AtomicOp::cas},
                     {"exch", AtomicOp::exch},
                     {"add", AtomicOp::add},
                     {"inc", AtomicOp::inc},
                     {"dec", AtomicOp::dec},
                     {"min", AtomicOp::min},
                     {"max", AtomicOp::max}});
  // The space of a parameter depends on the function, which the parser knows: it corrects it.
  add_all<Space>(m, kSpace,
                 {{"global", Space::global},
                  {"const", Space::constant},
                  {"shared", Space::shared},
                  {"shared::cta", Space::shared},
                  {"local", Space::local},
                  {"param", Space::frame_param},
                  {"param::entry", Space::kernel_param},
                  {"param::func", Space::frame_param}});
  add_all<int>(m, kVector, {{"v2", 2}, {"v4", 4}, {"v8", 8}});
  add_all(m, kFtz, {"ftz"});
  add_all(m, kSat, {"sat", "satfinite"});
  add_all(m, kCarry, {"cc"});
  add_all(m, kCache, {"ca", "cs", "lu", "cv", "wb", "wt"});
  add_all(m, kCache, {"cg"}, 1);
  add_all(m, kHint, {"L2::cache_hint"});
  add_all(m, kOrder, {"weak"});
  add_all(m, kOrder, {"relaxed", "acquire", "release", "acq_rel", "sc", "volatile", "mmio"}, 1);
  add_all(m, kScope, {"cta", "cluster", "gpu", "gl", "sys"});
  add_all(m, kSync, {"sync"});
  add_all(m, kAligned, {"aligned"});
  add_all(m, kNan, {"NaN"});
  add_all(m, kXorsign, {"xorsign", "abs"});
  add_all(m, kRelu, {"relu"});
  add_all(m, kUniform, {"uni"});
  add_all(m, kReadOnly, {"nc"});
  add_all(m, kNoFtz, {"noftz"});
  add_all(m, kTrans, {"trans"});
  return m;
}

const Meanings& meanings() {
  static const Meanings table = make_meanings();
  return table;
}

}  // namespace

bool Modifiers::take(std::string_view keyword) {
  auto* const end = keywords + keyword_count;
  auto* const found = std::find(keywords, end, keyword);
  if (found == end) return false;
  std::copy(found + 1, end, found);
  --keyword_count;
  return true;
}

Type type_named(std::string_view word) {
  const auto found = meanings().find(word);
  if (found == meanings().end() || found->second.group != kType) return Type::none;
  return static_cast<Type>(found->second.value);
}

bool read_modifiers(std::span<const std::string_view> words, Modifiers& out) {
  for (const std::string_view word : words) {
    auto found = meanings().find(word);
    Meaning meaning{kCache};
    if (found != meanings().end()) {
      meaning = found->second;
    } else if (!word.starts_with("L1::") && !word.starts_with("L2::")) {
      if (out.keyword_count == Modifiers::kMaxKeywords) return false;
      out.keywords[out.keyword_count++] = word;
      continue;
    }
    out.seen |= meaning.group;
    switch (meaning.group) {
      case kType:
        if (out.type_count == Modifiers::kMaxTypes) return false;
        out.types[out.type_count++] = static_cast<Type>(meaning.value);
        break;
      case kRound:
        out.round = static_cast<Round>(meaning.value);
        break;
      case kCompare:
        out.compare = static_cast<Compare>(meaning.value);
        break;
      case kLogic:
        out.logic = static_cast<Combine>(meaning.value);
        break;
      case kAtomic:
        out.atomic = static_cast<AtomicOp>(meaning.value);
        break;
      case kSpace:  // cp.async names two, its destination first
        if (out.space == Space::generic) out.space = static_cast<Space>(meaning.value);
        break;
      case kVector:
        out.vector = static_cast<std::uint8_t>(meaning.value);
        break;
      case kCache:
        out.bypass_l1 |= meaning.value != 0;
        break;
      case kOrder:
        out.strong |= meaning.value != 0;
        break;
      default:
        break;
    }
  }
  return true;
}

}  // namespace softgpu::ptx
