#include "train/reward/math_names.h"

#include <algorithm>
#include <array>

namespace qgrpo::train {
namespace {

// LaTeX commands of letters. What is not here is a Greek letter or unknown.
constexpr auto kCommands = std::to_array<MathName>({
    {"times", Tok::times},
    {"cdot", Tok::times},
    {"ast", Tok::times},
    {"div", Tok::divide},
    {"pm", Tok::plus_minus},
    {"mp", Tok::minus_plus},
    {"le", Tok::less_equal},
    {"leq", Tok::less_equal},
    {"leqslant", Tok::less_equal},
    {"ge", Tok::greater_equal},
    {"geq", Tok::greater_equal},
    {"geqslant", Tok::greater_equal},
    {"lt", Tok::less},
    {"gt", Tok::greater},
    {"ne", Tok::not_equal},
    {"neq", Tok::not_equal},
    {"approx", Tok::equal},
    {"in", Tok::member},
    {"cup", Tok::unite},
    {"cap", Tok::intersect},
    {"infty", Tok::infinity},
    {"emptyset", Tok::empty_set},
    {"varnothing", Tok::empty_set},
    {"circ", Tok::degree},
    {"degree", Tok::degree},
    {"lfloor", Tok::floor_open},
    {"rfloor", Tok::floor_close},
    {"lceil", Tok::ceil_open},
    {"rceil", Tok::ceil_close},
    {"lvert", Tok::bar},
    {"rvert", Tok::bar},
    {"vert", Tok::bar},
    {"langle", Tok::open, "("},
    {"rangle", Tok::close, ")"},
    {"lbrace", Tok::set_open},
    {"rbrace", Tok::set_close},
    {"lbrack", Tok::open, "["},
    {"rbrack", Tok::close, "]"},
    {"frac", Tok::function},
    {"dfrac", Tok::function, "frac"},
    {"tfrac", Tok::function, "frac"},
    {"cfrac", Tok::function, "frac"},
    {"binom", Tok::function},
    {"dbinom", Tok::function, "binom"},
    {"tbinom", Tok::function, "binom"},
    {"sqrt", Tok::function},
    {"euro", Tok::currency},
    {"pounds", Tok::currency},
});

// Functions under the same name in LaTeX and ASCII.
constexpr auto kFunctions =
    std::to_array<std::string_view>({"sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos",
                                     "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg", "exp"});

constexpr auto kWords = std::to_array<MathName>({
    {"sqrt", Tok::function, "root"},
    {"pi", Tok::letter},
    {"infinity", Tok::infinity},
    {"infty", Tok::infinity},
    {"inf", Tok::infinity},
    {"percent", Tok::percent},
    {"percentage", Tok::percent},
    {"pct", Tok::percent},
    {"degree", Tok::degree},
    {"degrees", Tok::degree},
});

// Commands that change how something looks. \hat and \vec stand before a group, which stays.
constexpr auto kIgnored = std::to_array<std::string_view>(
    {"left", "right",  "big",        "Big",          "bigl",      "bigr",      "Bigl",
     "Bigr", "bigg",   "Bigg",       "biggl",        "biggr",     "Biggl",     "Biggr",
     "quad", "qquad",  "limits",     "displaystyle", "textstyle", "thinspace", "boxed",
     "fbox", "mathbf", "boldsymbol", "bold",         "bf",        "rm",        "it",
     "vec",  "hat",    "mathbb",     "mathcal",      "nolimits",  "space",     "ensuremath"});

constexpr auto kTextCommands =
    std::to_array<std::string_view>({"text", "textbf", "textit", "textrm", "textnormal", "mathrm",
                                     "mathit", "mbox", "hbox", "operatorname", "mathsf"});

constexpr auto kGreek = std::to_array<std::string_view>(
    {"alpha",  "beta",  "gamma",  "delta", "epsilon", "varepsilon", "zeta",  "eta",   "theta",
     "iota",   "kappa", "lambda", "mu",    "nu",      "xi",         "pi",    "rho",   "sigma",
     "tau",    "phi",   "varphi", "chi",   "psi",     "omega",      "Gamma", "Delta", "Theta",
     "Lambda", "Sigma", "Phi",    "Psi",   "Omega",   "ell"});

// Characters of one byte and of several. "" in `text`: none.
constexpr auto kCharacters = std::to_array<MathName>({
    {"+", Tok::plus},
    {"-", Tok::minus},
    {"*", Tok::times},
    {"/", Tok::divide},
    {"^", Tok::power},
    {"_", Tok::sub},
    {"!", Tok::factorial},
    {"%", Tok::percent},
    {"(", Tok::open, "("},
    {")", Tok::close, ")"},
    {"[", Tok::open, "["},
    {"]", Tok::close, "]"},
    {"{", Tok::group_open},
    {"}", Tok::group_close},
    {"|", Tok::bar},
    {",", Tok::comma},
    {";", Tok::comma},
    {":", Tok::colon},
    {"=", Tok::equal},
    {"<", Tok::less},
    {">", Tok::greater},
    {"&", Tok::ampersand},
    {"$", Tok::currency},
    {".", Tok::stop},
    {"\n", Tok::line},
    {"\xe2\x88\x92", Tok::minus},             // U+2212
    {"\xe2\x80\x93", Tok::minus},             // en dash
    {"\xc3\x97", Tok::times},                 // ×
    {"\xc2\xb7", Tok::times},                 // ·
    {"\xe2\x8b\x85", Tok::times},             // ⋅
    {"\xc3\xb7", Tok::divide},                // ÷
    {"\xc2\xb1", Tok::plus_minus},            // ±
    {"\xe2\x89\xa4", Tok::less_equal},        // ≤
    {"\xe2\x89\xa5", Tok::greater_equal},     // ≥
    {"\xe2\x89\xa0", Tok::not_equal},         // ≠
    {"\xe2\x89\x88", Tok::equal},             // ≈
    {"\xe2\x88\x88", Tok::member},            // ∈
    {"\xe2\x88\xaa", Tok::unite},             // ∪
    {"\xe2\x88\xa9", Tok::intersect},         // ∩
    {"\xe2\x88\x9e", Tok::infinity},          // ∞
    {"\xe2\x88\x85", Tok::empty_set},         // ∅
    {"\xc2\xb0", Tok::degree},                // °
    {"\xcf\x80", Tok::letter, "pi"},          // π
    {"\xce\xb8", Tok::letter, "theta"},       // θ
    {"\xe2\x88\x9a", Tok::function, "root"},  // √
    {"\xc2\xa3", Tok::currency},              // £
    {"\xe2\x82\xac", Tok::currency},          // €
    {"\xc2\xa5", Tok::currency},              // ¥
    {"\xe2\x82\xb9", Tok::currency},          // ₹
    {"\xc2\xa2", Tok::currency},              // ¢
});

constexpr auto kComposites = std::to_array<MathName>({{"\xe2\x81\xb0", Tok::other, "^0"},
                                                      {"\xc2\xb9", Tok::other, "^1"},
                                                      {"\xc2\xb2", Tok::other, "^2"},
                                                      {"\xc2\xb3", Tok::other, "^3"},
                                                      {"\xe2\x81\xb4", Tok::other, "^4"},
                                                      {"\xe2\x81\xb5", Tok::other, "^5"},
                                                      {"\xe2\x81\xb6", Tok::other, "^6"},
                                                      {"\xe2\x81\xb7", Tok::other, "^7"},
                                                      {"\xe2\x81\xb8", Tok::other, "^8"},
                                                      {"\xe2\x81\xb9", Tok::other, "^9"},
                                                      {"\xc2\xbd", Tok::other, "\\frac12"},
                                                      {"\xc2\xbc", Tok::other, "\\frac14"},
                                                      {"\xc2\xbe", Tok::other, "\\frac34"},
                                                      {"\xe2\x85\x93", Tok::other, "\\frac13"},
                                                      {"\xe2\x85\x94", Tok::other, "\\frac23"}});

template <typename Table>
std::optional<MathName> find(const Table& table, std::string_view name) {
  const auto* at =
      std::find_if(table.begin(), table.end(), [&](const MathName& n) { return n.name == name; });
  if (at == table.end()) return std::nullopt;
  return *at;
}

template <typename Table>
std::optional<MathName> find_prefix(const Table& table, std::string_view text) {
  const auto* at = std::find_if(table.begin(), table.end(),
                                [&](const MathName& n) { return text.starts_with(n.name); });
  if (at == table.end()) return std::nullopt;
  return *at;
}

}  // namespace

std::optional<MathName> math_command(std::string_view name) {
  if (auto found = find(kCommands, name)) {
    if (found->text.empty() && found->kind == Tok::function) found->text = found->name;
    return found;
  }
  if (one_of(kFunctions, name)) return MathName{name, Tok::function, name};
  if (one_of(kGreek, name)) return MathName{name, Tok::letter, name};
  return std::nullopt;
}

bool is_ignored_command(std::string_view name) {
  return one_of(kIgnored, name);
}

bool is_text_command(std::string_view name) {
  return one_of(kTextCommands, name);
}

std::optional<MathName> math_word(std::string_view word) {
  if (auto found = find(kWords, word)) {
    if (found->text.empty()) found->text = found->name;
    return found;
  }
  if (one_of(kFunctions, word)) return MathName{word, Tok::function, word};
  return std::nullopt;
}

std::optional<MathName> math_character(std::string_view text) {
  return find_prefix(kCharacters, text);
}

std::optional<MathName> math_composite(std::string_view text) {
  return find_prefix(kComposites, text);
}

}  // namespace qgrpo::train
