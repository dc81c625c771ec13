#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

const std::vector<EmbeddingCase>& embedding() {
  static const std::vector<EmbeddingCase> cases = [] {
    struct Tokens {
      const char* name;
      std::int64_t vocab;
      std::vector<std::int32_t> ids;
    };
    const Tokens lists[] = {
        {"six tokens of 7", 7, {3, 0, 3, 6, 3, 0}},
        {"six tokens of 10", 10, {4, 0, 4, 9, 1, 4}},
        {"ten tokens, one of them five times", 10, {4, 0, 4, 9, 1, 4, 4, 0, 7, 4}},
    };
    std::vector<EmbeddingCase> out;
    for (const Tokens& tokens : lists) {
      for (const auto& [kind, width] : {std::pair<Kind, std::int64_t>{Kind::tiny, 1},
                                        {Kind::edge, 8},
                                        {Kind::odd, 13},
                                        {Kind::odd, 17},
                                        {Kind::edge, 64},
                                        {Kind::odd, 300},
                                        {Kind::edge, 1016},  // a row of a block's threads
                                        {Kind::edge, 1024},
                                        {Kind::edge, 1032},
                                        {Kind::real, 896}}) {
        out.push_back({std::string(tokens.name) + ", rows of " + std::to_string(width), kind,
                       tokens.vocab, width, tokens.ids});
      }
    }
    out.push_back({"no tokens", Kind::tiny, 10, 8, {}});
    return out;
  }();
  return cases;
}

}  // namespace qgrpo::cases
