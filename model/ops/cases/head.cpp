#include <fmt/format.h>

#include <cmath>

#include "model/ops/cases/cases.h"
#include "model/ops/rng.h"

namespace qgrpo::cases {
namespace {

ObjectiveParams clipped() {
  ObjectiveParams params;
  params.kind = ObjectiveKind::grpo_clip;
  params.on_policy = false;
  params.beta = 0.04f;
  params.has_delta = true;
  params.delta = 1.5f;
  params.kl_bias_correction = true;
  return params;
}

ObjectiveParams on_policy(ObjectiveKind kind, float beta) {
  ObjectiveParams params;
  params.kind = kind;
  params.beta = beta;
  return params;
}

HeadCase make(std::string name, Kind kind, std::int64_t rows, std::int64_t width,
              std::int64_t vocab, std::int64_t entries, float temperature) {
  HeadCase c{std::move(name), kind, rows, width, vocab, temperature};
  c.entries = entries;
  return c;
}

HeadCase objective(std::string name, Kind kind, std::int64_t rows, std::int64_t width,
                   std::int64_t vocab, float temperature, const ObjectiveParams& params,
                   bool train_head, int several = 5) {
  HeadCase c{std::move(name), kind, rows, width, vocab, temperature};
  c.params = params;
  c.train_head = train_head;
  c.several = several;
  return c;
}

}  // namespace

const std::vector<HeadCase>& head_logprob() {
  static const std::vector<HeadCase> cases = [] {
    std::vector<HeadCase> out = {
        make("five entries of three rows", Kind::edge, 3, 64, 320, 5, 1.0f),
        make("one entry", Kind::edge, 1, 128, 1000, 1, 0.5f),
        make("a vocabulary of seven", Kind::tiny, 2, 16, 7, 9, 1.0f),
        make("a vocabulary that is no multiple of 4", Kind::odd, 4, 32, 5001, 6, 1.3f),
        make("more entries than a block has threads", Kind::edge, 1, 32, 20, 1100, 0.8f),
        make("more rows than a chunk has", Kind::edge, 1100, 8, 24, 1500, 2.0f),
        make("no entries", Kind::tiny, 5, 8, 24, 0, 1.0f),
        // The CPU's chunks have 128 rows.
        make("three chunks of the CPU", Kind::edge, 300, 24, 517, -1, 0.9f),
        make("40 rows", Kind::odd, 40, 24, 33, -1, 1.0f),
    };
    for (const float temperature : {1.0f, 0.6f, 1.7f}) {
      // Around a vector of the CPU and its blocks of 1024 logits.
      for (const auto& [kind, vocab] : {std::pair<Kind, std::int64_t>{Kind::tiny, 1},
                                        {Kind::odd, 15},
                                        {Kind::odd, 33},
                                        {Kind::edge, 64},
                                        {Kind::odd, 1000},
                                        {Kind::edge, 1024},
                                        {Kind::odd, 2111}}) {
        HeadCase c = make("a vocabulary of " + std::to_string(vocab) + " at temperature " +
                              std::to_string(temperature),
                          kind, 9, 24, vocab, -1, temperature);
        out.push_back(c);
      }
    }
    // Around the CPU's blocks of 1024 logits and a GPU's steps of 4096.
    for (const std::int64_t vocab : {1023, 1025, 4092, 4095, 4096, 4097, 4100})
      out.push_back(
          make(fmt::format("a vocabulary of {}", vocab), Kind::edge, 3, 8, vocab, 5, 1.0f));
    // Around a GPU's threads: the entries of one row.
    for (const std::int64_t entries : {1023, 1024, 1025})
      out.push_back(
          make(fmt::format("{} entries of a row", entries), Kind::edge, 1, 8, 20, entries, 1.0f));
    // Around the CPU's chunks of 128 rows and a GPU's of 1024.
    for (const std::int64_t rows : {127, 128, 129, 256, 257, 1023, 1024, 1025, 2049})
      out.push_back(make(fmt::format("{} rows", rows), Kind::edge, rows, 8, 24, rows, 1.0f));
    return out;
  }();
  return cases;
}

const std::vector<HeadCase>& head_objective() {
  static const std::vector<HeadCase> cases = [] {
    const ObjectiveParams plain = on_policy(ObjectiveKind::grpo_clip, 0.1f);
    const ObjectiveParams nll = on_policy(ObjectiveKind::negative_log_likelihood, 0.0f);
    ObjectiveParams off = on_policy(ObjectiveKind::grpo_clip, 0.2f);
    off.on_policy = false;
    std::vector<HeadCase> out = {
        objective("on-policy", Kind::edge, 8, 64, 320, 1.0f, plain, true),
        objective("negative log-likelihood of seven", Kind::tiny, 1, 64, 7, 1.0f, nll, true),
        objective("no multiple of 4", Kind::odd, 15, 40, 1001, 0.7f, clipped(), true),
        objective("two steps of a block", Kind::edge, 9, 128, 4100, 1.3f, clipped(), false),
        objective("Qwen2.5-0.5B's width", Kind::real, 3, 896, 5000, 1.0f, plain, false),
        objective("more entries of a row than a block has threads", Kind::edge, 2, 8, 3000, 1.0f,
                  plain, true, 1100),
        objective("more rows than a chunk has", Kind::edge, 1500, 8, 24, 1.0f, clipped(), true),
        objective("two chunks of the CPU, on-policy", Kind::odd, 150, 24, 70, 1.0f,
                  on_policy(ObjectiveKind::grpo_clip, 0.2f), true, 3),
        objective("two chunks of the CPU, off-policy", Kind::odd, 150, 24, 70, 0.7f, off, true, 3),
    };
    for (const std::int64_t rows : {127, 128, 129, 1023, 1024, 1025, 2049}) {
      HeadCase c =
          objective(fmt::format("{} rows", rows), Kind::edge, rows, 8, 24, 1.0f, clipped(), true);
      c.entries = rows;
      out.push_back(c);
    }
    return out;
  }();
  return cases;
}

std::vector<HeadEntry> head_entries(const HeadCase& c) {
  std::vector<HeadEntry> out;
  for (std::int64_t i = 0; i < c.entries; ++i) {
    out.push_back({static_cast<std::int32_t>(i * c.rows / c.entries),
                   static_cast<std::int32_t>(i * 7 % c.vocab)});
  }
  if (c.entries >= 0) return out;
  Rng rng(72, RngStream::test);
  for (std::int32_t r = 0; r < c.rows; ++r) {
    const int count = r % 7 == 0 ? c.several : r % 7 == 3 || r % 7 == 4 ? 0 : 1;
    for (int i = 0; i < count; ++i) {
      const auto target = static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(c.vocab)));
      out.push_back({r, i == 3 ? out.back().target : target});
    }
  }
  return out;
}

std::vector<ObjectiveEntry> head_terms(const HeadCase& c, std::size_t entries) {
  Rng rng(74, RngStream::test);
  // Old and reference log-probs lie near those of logits with a deviation of 1.
  const float level = -std::log(static_cast<float>(c.vocab)) - 0.5f;
  std::vector<ObjectiveEntry> out(entries);
  for (ObjectiveEntry& term : out) {
    term = {0.1f + rng.uniform(), rng.normal(), level + rng.normal(), level + rng.normal()};
  }
  return out;
}

Work head_work(std::int64_t rows, std::int64_t vocab, std::int64_t width, int activation) {
  return {2.0 * static_cast<double>(rows) * static_cast<double>(vocab * width),
          static_cast<double>(2 * vocab * width + activation * rows * width)};
}

}  // namespace qgrpo::cases
