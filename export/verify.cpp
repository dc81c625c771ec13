#include "export/verify.h"

#include <algorithm>
#include <cmath>

#include "engine/generator.h"
#include "model/training_pass.h"

namespace qgrpo::exporting {
namespace {

constexpr std::int64_t kHeadRows = 16;  // positions whose logits are there at once

// The greedy continuation of each prompt, without the end-of-text token.
std::vector<std::vector<std::int32_t>> continued(
    const model::Model& model, std::int32_t adapter,
    const std::vector<std::vector<std::int32_t>>& prompts, std::int32_t new_tokens) {
  std::int64_t longest = 1;
  for (const auto& prompt : prompts) longest = std::max(longest, std::ssize(prompt));
  engine::GeneratorLoad load;
  load.sequences = std::ssize(prompts);
  load.group_blocks = engine::most_blocks_of_group(longest, new_tokens, 1, engine::kBlockSize);
  const engine::GeneratorCapacity capacity = engine::generator_capacity(model.backend(), load);
  const DType dtype = model.backend().activation_dtype();
  model::Arena count;
  engine::GeneratorBuffers::place(count, model.config(), dtype, capacity);
  const auto buffer = model.backend().allocate(count.used());
  model::Arena arena(buffer->data(), buffer->bytes());
  engine::Generator generator(model, arena, capacity);
  std::vector<engine::GroupId> groups;
  for (const auto& prompt : prompts) {
    engine::GroupRequest request;
    request.prompt = prompt;
    request.max_new_tokens = new_tokens;
    request.sampling.temperature = 0.0f;
    request.eos_ids = model.config().eos_token_ids;
    request.adapter = adapter;
    groups.push_back(generator.add(std::move(request)));
  }
  const auto completions = generator.run();
  auto out = prompts;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto& ids = completions.at(groups[i]).at(0).ids;
    out[i].insert(out[i].end(), ids.begin(), ids.end());
  }
  return out;
}

// Calls visit(row, logits) for every position of the sequences, in order: (V) f32 on the host.
void each_position(const model::Model& model, std::int32_t adapter,
                   const std::vector<std::vector<std::int32_t>>& sequences,
                   const std::function<void(std::span<const float>)>& visit) {
  Backend& backend = model.backend();
  const std::int64_t vocab = model.config().vocab_size;
  Batch batch;
  for (const auto& ids : sequences) batch.add(ids, adapter);
  const model::PassCapacity capacity{batch.size(), kHeadRows, 0, 0, false};
  const DType dtype = backend.activation_dtype();
  model::Arena count;
  model::PassBuffers::place(count, model.config(), dtype, capacity);
  const auto buffer = backend.allocate(count.used());
  model::Arena arena(buffer->data(), buffer->bytes());
  model::TrainingPass pass(model, arena, capacity);
  pass.forward(batch, /*gradient=*/false);

  const auto logits_memory =
      backend.allocate(static_cast<std::size_t>(kHeadRows * vocab) * sizeof(float));
  std::vector<float> host;
  for (std::int64_t begin = 0; begin < batch.size(); begin += kHeadRows) {
    const std::int64_t rows = std::min(kHeadRows, batch.size() - begin);
    std::vector<std::int32_t> which;
    for (std::int64_t i = 0; i < rows; ++i) which.push_back(static_cast<std::int32_t>(begin + i));
    const TensorView hidden = pass.hidden(which);
    const TensorView logits{logits_memory->data(), DType::f32, {rows, vocab}};
    const std::vector<AdapterRun> runs = {{0, static_cast<std::int32_t>(rows), -1}};
    backend.layer().linear_forward(logits, hidden, model.head_linear(), runs);
    host.resize(rows * vocab);
    backend.download(host.data(), logits);
    backend.synchronize();
    for (std::int64_t i = 0; i < rows; ++i) {
      visit(std::span(host).subspan(i * vocab, vocab));
    }
  }
}

// log sum exp, in double.
double log_sum(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  require(std::isfinite(largest), "a logit is {}: the weights are damaged", largest);
  double sum = 0.0;
  for (const float x : logits)
    sum += std::exp(static_cast<double>(x) - static_cast<double>(largest));
  require(std::isfinite(sum), "the logits' sum is {}: the weights are damaged", sum);
  return static_cast<double>(largest) + std::log(sum);
}

}  // namespace

Recording record(const model::Model& model, std::int32_t adapter,
                 const std::vector<std::vector<std::int32_t>>& prompts, std::int32_t new_tokens) {
  Recording out;
  out.vocab = model.config().vocab_size;
  out.sequences = continued(model, adapter, prompts, new_tokens);
  each_position(model, adapter, out.sequences, [&](std::span<const float> logits) {
    const double total = log_sum(logits);
    for (const float x : logits) {
      out.logprobs.push_back(static_cast<float>(static_cast<double>(x) - total));
    }
  });
  return out;
}

Comparison compare(const Recording& recording, const model::Model& exported) {
  require(exported.config().vocab_size == recording.vocab,
          "the exported model has {} tokens, what it was made from {}",
          exported.config().vocab_size, recording.vocab);
  Comparison out;
  std::int64_t agreeing = 0;
  each_position(exported, -1, recording.sequences, [&](std::span<const float> logits) {
    const auto before =
        std::span(recording.logprobs).subspan(out.tokens * recording.vocab, recording.vocab);
    const double total = log_sum(logits);
    double kl = 0.0;
    for (std::size_t v = 0; v < before.size(); ++v) {
      const auto p = static_cast<double>(before[v]);
      kl += std::exp(p) * (p - (static_cast<double>(logits[v]) - total));
    }
    kl = std::max(kl, 0.0);  // rounding of the recorded float32
    out.mean_kl += kl;
    out.max_kl = std::max(out.max_kl, kl);
    const auto best = std::max_element(before.begin(), before.end()) - before.begin();
    const auto now = std::max_element(logits.begin(), logits.end()) - logits.begin();
    agreeing += best == now ? 1 : 0;
    ++out.tokens;
  });
  out.mean_kl /= static_cast<double>(out.tokens);
  out.greedy_agreement = static_cast<double>(agreeing) / static_cast<double>(out.tokens);
  return out;
}

}  // namespace qgrpo::exporting
