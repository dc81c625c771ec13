#include <algorithm>

#include "model/ops/cases/cases.h"
#include "model/ops/rng.h"

namespace qgrpo::cases {

const std::vector<SamplingCase>& sampling() {
  // temperature, top_p, top_k, min_p, repetition_penalty
  static const std::vector<SamplingCase> cases = {
      {"plain", {}},
      {"warm", {1.7f}},
      {"cool", {0.6f}},
      {"penalty", {1.0f, 1.0f, 0, 0.0f, 1.8f}},
      {"penalty below 1", {0.9f, 1.0f, 0, 0.0f, 0.7f}},
      {"top-k", {1.0f, 1.0f, 5}},
      {"top-k of one", {1.0f, 1.0f, 1}},
      {"top-k beyond the vocabulary", {1.0f, 1.0f, 100000}},
      {"top-k beyond any vocabulary", {1.0f, 1.0f, 1000000}},
      {"top-p", {1.0f, 0.7f}},
      {"top-p tiny", {1.0f, 1e-6f}},
      {"top-p nearly all", {1.3f, 0.999f}},
      {"min-p", {1.0f, 1.0f, 0, 0.1f}},
      {"min-p of one", {1.0f, 1.0f, 0, 1.0f}},
      {"top-k and top-p", {0.7f, 0.8f, 20}},
      {"everything", {0.8f, 0.9f, 12, 0.02f, 1.3f}},
      {"hot nucleus", {8.0f, 0.95f}},
      {"raised to the top", {1.0f, 0.9f, 2, 0.0f, 0.3f}},
      {"min-p below the nucleus", {1.0f, 0.6f, 0, 1e-4f}},
      {"min-p above the nucleus", {1.5f, 0.99f, 100, 0.2f}},
      {"greedy", {0.0f, 0.5f, 3, 0.1f, 1.0f}},
      {"greedy, penalty", {0.0f, 1.0f, 0, 0.0f, 1.5f}},
  };
  return cases;
}

const std::vector<LogitsCase>& sampling_logits() {
  using Shape = LogitsCase::Shape;
  static const std::vector<LogitsCase> cases = {
      {"one token", Kind::tiny, 1, 1, 2.0f, 2, Shape::normal, false},
      {"seven", Kind::tiny, 7, 1, 2.0f, 40},
      {"320", Kind::edge, 320, 2, 3.0f, 40},
      {"ties at the top", Kind::edge, 50, 3, 2.0f, 40, Shape::ties},
      {"nothing but ties", Kind::edge, 777, 0, 1.5f, 20, Shape::equal},
      {"several parts, not a multiple of 4", Kind::odd, 4099, 4, 1.0f, 20},
      {"nearly all mass far from the top", Kind::edge, 5000, 5, 30.0f, 10},
      {"the penalty raises an id to the top", Kind::edge, 3000, 0, -20.0f, 6, Shape::raised},
      {"too many near the top to be listed", Kind::edge, 6000, 11, 0.5f, 8},
      {"more ties than are listed", Kind::edge, 8000, 0, -2.0f, 4, Shape::equal},
      // Below, at and above the CPU's blocks of 1024 and a GPU's parts of 2048 logits.
      {"1023", Kind::edge, 1023, 13, 2.0f, 2},
      {"1024", Kind::edge, 1024, 14, 2.0f, 2},
      {"1025", Kind::edge, 1025, 15, 2.0f, 2},
      {"2047", Kind::edge, 2047, 16, 2.0f, 2},
      {"2048", Kind::edge, 2048, 17, 2.0f, 2},
      {"2049", Kind::edge, 2049, 18, 2.0f, 2},
      // As many ids as are listed.
      {"3071 ties", Kind::edge, 3071, 0, 1.0f, 2, Shape::equal},
      {"3072 ties", Kind::edge, 3072, 0, 1.0f, 2, Shape::equal},
      {"3073 ties", Kind::edge, 3073, 0, 1.0f, 2, Shape::equal},
      {"2500", Kind::edge, 2500, 3, 2.0f, 2},
      {"3001", Kind::odd, 3001, 8, 3.0f, 2},
      {"5003", Kind::odd, 5003, 9, 2.5f, 2},
      {"Qwen2.5's vocabulary", Kind::real, 151936, 6, 2.5f, 2, Shape::peaks},
      {"as many as lists go by", Kind::edge, 262144, 19, 2.5f, 1},
      {"one more than lists go by", Kind::edge, 262145, 20, 2.5f, 1},
      {"more than lists go by", Kind::edge, 270001, 12, 2.5f, 1},
  };
  return cases;
}

std::vector<float> make_logits(const LogitsCase& c) {
  using Shape = LogitsCase::Shape;
  std::vector<float> out(static_cast<std::size_t>(c.vocab), c.scale);
  if (c.shape == Shape::equal) return out;
  if (c.shape == Shape::raised) {
    out[5] = 6.0f;
    out[2000] = 9.0f;
    out[2001] = 8.5f;
    return out;
  }
  Rng rng(c.seed, RngStream::test);
  for (float& x : out) x = c.scale * rng.normal();
  if (c.shape == Shape::ties) {
    out[11] = out[12] = out[13] = out[40] = *std::max_element(out.begin(), out.end());
    out[20] = 0.0f;
    out[21] = -0.0f;
  }
  if (c.shape == Shape::peaks) {
    for (std::size_t i = 0; i < out.size(); i += 1000) out[i] += 9.0f;
  }
  return out;
}

}  // namespace qgrpo::cases
