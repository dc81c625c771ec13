#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

const std::vector<RopeCase>& rope() {
  static const std::vector<RopeCase> cases = [] {
    const std::vector<std::int32_t> near = {0, 1, 2, 511, 40, 3};
    const std::vector<std::int32_t> far = {0, 1, 2, 700, 3, 32767, 5};
    std::vector<RopeCase> out;
    for (const auto& [kind, dim] : {std::pair{Kind::tiny, 2},
                                    {Kind::tiny, 4},
                                    {Kind::edge, 16},
                                    {Kind::odd, 24},
                                    {Kind::real, 64},
                                    {Kind::real, 128}}) {
      const std::string heads = "heads of " + std::to_string(dim);
      out.push_back({heads, kind, 3, dim, near});
      out.push_back({heads + ", far positions", kind, 3, dim, far});
    }
    return out;
  }();
  return cases;
}

bool cuda_takes(const RopeCase& c) {
  return c.dim % 4 == 0;
}

Work rope_work(const RopeCase& c, int activation) {
  const auto tokens = static_cast<std::int64_t>(c.positions.size());
  return {0.0, static_cast<double>(2 * activation * tokens * c.heads * c.dim)};
}

}  // namespace qgrpo::cases
