#include "engine/scorer.h"

#include <cmath>

#include "engine/owned_generator.h"
#include "model/io/bytes.h"
#include "model/ops/error.h"

namespace qgrpo::engine {

std::vector<ScoredText> Scorer::score(std::span<const std::vector<std::int32_t>> texts,
                                      std::int32_t adapter, std::int32_t top) {
  Batch packed;
  std::vector<std::int32_t> rows;  // packed rows that predict a token
  std::vector<HeadEntry> entries;  // one each
  for (const auto& ids : texts) {
    const auto begin = static_cast<std::int32_t>(packed.tokens.size());
    packed.add(ids, adapter);
    for (std::size_t t = 1; t < ids.size(); ++t) {
      entries.push_back({static_cast<std::int32_t>(rows.size()), ids[t]});
      rows.push_back(begin + static_cast<std::int32_t>(t) - 1);
    }
  }
  std::vector<HeadResult> results(entries.size());
  std::vector<std::vector<TokenLogprob>> likeliest(entries.size());
  if (!entries.empty()) {
    reserve(packed.size());
    pass_->forward(packed, /*gradient=*/false);
    TrainOps& ops = model_->backend().train();
    const TensorView hidden = pass_->hidden(rows);
    ops.head_logprob(results, hidden, model_->head_linear(), entries, 1.0f);
    if (top > 0) {
      std::vector<std::int32_t> all(rows.size());
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
      const std::vector<std::int32_t> counts(rows.size(), top);
      likeliest = top_logprobs(ops, hidden, model_->head_linear(), all, counts);
    }
  }
  std::vector<ScoredText> out;
  std::size_t next = 0;
  for (const auto& ids : texts) {
    ScoredText& text = out.emplace_back();
    for (std::size_t t = 1; t < ids.size(); ++t, ++next) {
      const float logprob = results[next].logprob;
      require(std::isfinite(logprob),
              "the log-prob of token {} of a text is {}: the model's weights or its adapter have "
              "diverged",
              t, logprob);
      text.logprobs.push_back(logprob);
      if (top > 0) text.top.push_back(std::move(likeliest[next]));
    }
  }
  return out;
}

// Makes the pass anew where a batch is larger than all before.
void Scorer::reserve(std::int64_t tokens) {
  if (pass_ && tokens <= pass_->capacity().tokens) return;
  pass_.reset();
  buffer_.reset();
  const model::PassCapacity capacity{tokens, tokens, 0};
  model::Arena count;
  const Backend& backend = model_->backend();
  model::PassBuffers::place(count, model_->config(), backend.activation_dtype(), capacity);
  const std::size_t available = available_memory(backend);
  require(count.used() <= available,
          "scoring {} tokens at once needs {}, but only {} are free: shorten the text or lower "
          "--batch-tokens",
          tokens, io::format_bytes(count.used()), io::format_bytes(available));
  buffer_ = model_->backend().allocate(count.used());
  arena_ = model::Arena(buffer_->data(), buffer_->bytes());
  pass_.emplace(*model_, arena_, capacity);
}

}  // namespace qgrpo::engine
