#include "tokenizer/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>

#include "model/ops/error.h"

namespace qgrpo::tokenizer {

const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// The members of Unicode's White_Space, for use inside [...].
constexpr const char* kWhiteSpace =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Letters and numbers of Unicode 15 and 16, which Hugging Face's regular expressions know and PCRE2
// 10.42 (Unicode 14) does not.
constexpr const char* kNewLetters =
    R"(\x{1c89}-\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3})"
    R"(\x{10d4a}-\x{10d65}\x{10d6f}-\x{10d85}\x{10ec2}-\x{10ec4}\x{1123f}-\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1})"
    R"(\x{113d3}\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10}\x{11f12}-\x{11f33})"
    R"(\x{1342f}\x{13441}-\x{13446}\x{13460}-\x{143fa}\x{16100}-\x{1611d})"
    R"(\x{16d40}-\x{16d6c}\x{18cff}\x{1b132}\x{1b155}\x{1df25}-\x{1df2a})"
    R"(\x{1e030}-\x{1e06d}\x{1e4d0}-\x{1e4eb}\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739})"
    R"(\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})";
constexpr const char* kNewNumbers =
    R"(\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
    R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3})"
    R"(\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})";

// What stands for an escape sequence at the front of `rest`, inside [...]; nothing for all others.
std::string_view expansion(std::string_view rest, std::string& members) {
  if (rest.starts_with("\\s")) {
    members = kWhiteSpace;
    return rest.substr(0, 2);
  }
  for (const char* letters : {"\\p{L}", "\\p{N}"}) {
    if (!rest.starts_with(letters)) continue;
    members = std::string(letters) + (letters[3] == 'L' ? kNewLetters : kNewNumbers);
    return rest.substr(0, 5);
  }
  return {};
}

// Writes \s, \S, \p{L} and \p{N} out.
std::string expand_classes(const std::string& pattern, const std::string& where) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      std::string members;
      const auto escaped = expansion(std::string_view(pattern).substr(i), members);
      if (!escaped.empty()) {
        out += in_class ? members : fmt::format("[{}]", members);
        i += escaped.size() - 1;
        continue;
      }
      const char escape = pattern[++i];
      if (escape == 'S') {
        require(!in_class, "{}: the pattern has \\S inside [...], which is not supported", where);
        out += fmt::format("[^{}]", kWhiteSpace);
      } else {
        out += c;
        out += escape;
      }
      continue;
    }
    if (c == '[') {
      // Oniguruma reads a bare '[' inside [...] as a nested set, PCRE2 as the character.
      require(!in_class, "{}: the pattern has a nested set [..[..]..], which is not supported",
              where);
      in_class = true;
    } else if (c == ']') {
      in_class = false;
    }
    out += c;
  }
  return out;
}

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  // A text that does not fit is cut and still ends in a zero; a code without a text writes nothing.
  const int length = pcre2_get_error_message(code, buffer, sizeof buffer);
  if (length < 0 && length != PCRE2_ERROR_NOMEMORY) return fmt::format("PCRE2's error {}", code);
  return reinterpret_cast<const char*>(buffer);
}

// Steps of one search before it is stopped: enough for some backtracking, and for the linear one of
// the known patterns in many megabytes of white space.
constexpr std::uint64_t kStartSteps = 10'000'000;
constexpr std::uint64_t kStepsPerByte = 16;
constexpr std::uint32_t kMostHeap = 1 << 20;  // KiB, of the interpreter

std::uint32_t most_steps(std::size_t bytes) {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kStartSteps + kStepsPerByte * bytes, UINT32_MAX));
}

constexpr std::size_t kJitStackStart = 32 * 1024;
constexpr std::size_t kJitStackMost = 16 * 1024 * 1024;

}  // namespace

struct PreTokenizer::Program {
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Program() { pcre2_code_free(code); }
};

struct PreTokenizer::Match::State {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

PreTokenizer::PreTokenizer(const std::string& pattern, const std::string& where)
    : program_(std::make_unique<Program>()), where_(where) {
  const std::string expanded = expand_classes(pattern, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  program_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (program_->code == nullptr)
    fail("{}: the pre-tokenizer's pattern is not supported: {}", where, message_of(error));
  // Where the JIT compiler does not know the processor, the interpreter does the same, slower.
  program_->jit = pcre2_jit_compile(program_->code, PCRE2_JIT_COMPLETE) == 0;
}

PreTokenizer::~PreTokenizer() = default;

PreTokenizer::Match::Match(const PreTokenizer& owner) : state_(std::make_unique<State>()) {
  state_->data = pcre2_match_data_create_from_pattern(owner.program_->code, nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  require(state_->data != nullptr && state_->context != nullptr, "out of memory in PCRE2");
  pcre2_set_heap_limit(state_->context, kMostHeap);
  if (owner.program_->jit) {
    state_->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr);
    pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
  }
}

PreTokenizer::Match::~Match() = default;

bool PreTokenizer::find(std::string_view text, std::size_t from, Match& match, std::size_t& begin,
                        std::size_t& end) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  auto* data = match.state_->data;
  pcre2_set_match_limit(match.state_->context, most_steps(text.size()));
  pcre2_set_depth_limit(match.state_->context, most_steps(text.size()));
  while (from < text.size()) {
    // The text was checked to be UTF-8, and pcre2_jit_match checks nothing again.
    const int found = program_->jit ? pcre2_jit_match(program_->code, subject, text.size(), from, 0,
                                                      data, match.state_->context)
                                    : pcre2_match(program_->code, subject, text.size(), from,
                                                  PCRE2_NO_UTF_CHECK, data, match.state_->context);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found == PCRE2_ERROR_MATCHLIMIT || found == PCRE2_ERROR_DEPTHLIMIT ||
        found == PCRE2_ERROR_HEAPLIMIT) {
      fail(
          "{}: the pre-tokenizer's pattern does not come to an end at byte {} of a text of {} "
          "bytes "
          "(more than {} steps): it tries the same characters in ever new ways",
          where_, from, text.size(), most_steps(text.size()));
    }
    if (found <= 0)
      fail("{}: the pre-tokenizer's pattern failed at byte {}: {}", where_, from,
           message_of(found));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
    begin = offsets[0];
    end = offsets[1];
    if (end > begin) return true;
    // An empty match makes no word: look on from the next character.
    from = begin + 1;
    while (from < text.size() && (text[from] & 0xC0) == 0x80) ++from;
  }
  return false;
}

}  // namespace qgrpo::tokenizer
