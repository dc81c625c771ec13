#include "train/sft.h"

#include <algorithm>
#include <cmath>

#include "model/arena.h"
#include "model/ops/error.h"
#include "train/lr_schedule.h"

namespace qgrpo::train {
namespace {

std::int64_t length(const SftExample& example) {
  return static_cast<std::int64_t>(example.prompt.size() + example.completion.size());
}

}  // namespace

double sft_learning_rate(const SftOptions& options, std::int64_t step) {
  const double rate = learning_rate(LrSchedule::cosine, options.learning_rate, step,
                                    options.warmup_steps, options.max_steps);
  if (step - 1 < options.warmup_steps) return rate;
  return options.final_lr_ratio * options.learning_rate + (1.0 - options.final_lr_ratio) * rate;
}

SftTrainer::SftTrainer(model::Model& model, model::TrainableParameters& parameters,
                       std::int32_t adapter, const SftOptions& options)
    : model_(&model),
      parameters_(&parameters),
      adapter_(adapter),
      options_(options),
      optimizer_(model.backend(), parameters, options.optim, options.adamw) {
  require(options.micro_batch_tokens >= 2, "micro_batch_tokens is {}, expected at least 2",
          options.micro_batch_tokens);
  model::PassCapacity capacity;
  capacity.tokens = options.micro_batch_tokens;
  capacity.head_rows = options.micro_batch_tokens;
  capacity.kept_layers = options.gradient_checkpointing ? 0 : model.config().num_layers;
  model::Arena count;
  const model::TrainingPass planned(model, count, capacity);
  buffer_ = model.backend().allocate(count.used());
  model::Arena arena(buffer_->data(), buffer_->bytes());
  pass_.emplace(model, arena, capacity);
}

void SftTrainer::check(std::span<const SftExample> examples) const {
  require(!examples.empty(), "supervised step: no examples, expected at least one");
  const model::Config& config = model_->config();
  const std::int64_t longest =
      std::min(options_.micro_batch_tokens, config.max_position_embeddings);
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const SftExample& e = examples[i];
    require(!e.prompt.empty() && !e.completion.empty(),
            "supervised example {}: {} prompt and {} completion tokens, expected at least one each",
            i, e.prompt.size(), e.completion.size());
    require(length(e) <= longest,
            "supervised example {}: {} tokens, expected at most {} (micro_batch_tokens, and the "
            "model's positions)",
            i, length(e), longest);
    for (const auto* ids : {&e.prompt, &e.completion}) {
      for (const std::int32_t id : *ids) {
        require(id >= 0 && id < config.vocab_size,
                "supervised example {}: the id {} is outside the vocabulary of {}", i, id,
                config.vocab_size);
      }
    }
  }
}

double SftTrainer::run(std::span<const SftExample> examples, float weight) {
  Batch batch;
  std::vector<std::int32_t> rows;  // of the batch, each predicting the next token
  std::vector<HeadEntry> entries;
  std::vector<std::int32_t> ids;
  for (const SftExample& e : examples) {
    // The prompt's last row predicts the completion's first token, and so on.
    auto row =
        static_cast<std::int32_t>(batch.size() + static_cast<std::int64_t>(e.prompt.size()) - 1);
    for (const std::int32_t target : e.completion) {
      entries.push_back({static_cast<std::int32_t>(rows.size()), target});
      rows.push_back(row++);
    }
    ids = e.prompt;
    // The last token has nothing to predict.
    ids.insert(ids.end(), e.completion.begin(), e.completion.end() - 1);
    batch.add(ids, adapter_);
  }
  pass_->forward(batch, true);
  const TensorView hidden = pass_->hidden(rows);

  std::vector<HeadResult> results(entries.size());
  std::vector<TokenObjective<float>> tokens(entries.size());
  const std::vector<ObjectiveEntry> terms(entries.size(), {.weight = weight});
  ObjectiveParams params;
  params.kind = ObjectiveKind::negative_log_likelihood;
  model_->backend().train().head_objective(results, tokens, pass_->dhidden(),
                                           parameters_->gradients().dlm_head, hidden,
                                           model_->head_linear(), entries, terms, params, 1.0f);
  pass_->backward(parameters_->gradients());
  double sum = 0.0;
  for (const auto& token : tokens) sum += static_cast<double>(token.loss);
  return sum;
}

SftStep SftTrainer::step(std::span<const SftExample> examples) {
  check(examples);
  SftStep out;
  for (const SftExample& e : examples) {
    out.tokens += length(e);
    out.learned_tokens += static_cast<std::int64_t>(e.completion.size());
  }
  parameters_->zero_gradients();
  const auto weight = static_cast<float>(1.0 / static_cast<double>(out.learned_tokens));
  double sum = 0.0;
  for (std::size_t begin = 0; begin < examples.size();) {
    std::size_t end = begin;
    for (std::int64_t tokens = 0; end < examples.size(); ++end) {
      tokens += length(examples[end]);
      if (tokens > options_.micro_batch_tokens) break;
    }
    sum += run(examples.subspan(begin, end - begin), weight);
    begin = end;
  }
  out.step = optimizer_.step_count() + 1;
  out.loss = sum / static_cast<double>(out.learned_tokens);
  out.gradient_norm = optimizer_.gradient_norm();
  require(
      std::isfinite(out.loss) && std::isfinite(out.gradient_norm),
      "supervised step {}: the loss is {} and the gradient's norm {}; try a lower learning rate",
      out.step, out.loss, out.gradient_norm);
  out.learning_rate = sft_learning_rate(options_, out.step);
  optimizer_.step(out.learning_rate, clip_coefficient(out.gradient_norm, options_.max_grad_norm));
  parameters_->publish();
  return out;
}

std::vector<SftStep> run_sft(model::Model& model, model::TrainableParameters& parameters,
                             std::int32_t adapter, const SftOptions& options,
                             const SftSource& source, const SftProgress& progress) {
  SftTrainer trainer(model, parameters, adapter, options);
  std::vector<SftStep> curve;
  for (std::int64_t step = 1; step <= options.max_steps; ++step) {
    curve.push_back(trainer.step(source(step)));
    if (progress && !progress(curve.back())) break;
  }
  return curve;
}

}  // namespace qgrpo::train
