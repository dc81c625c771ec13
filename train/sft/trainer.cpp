#include "train/sft/trainer.h"

#include <algorithm>
#include <cmath>

#include "model/arena.h"
#include "model/ops/error.h"
#include "train/optim/lr_schedule.h"
#include "train/optim/update.h"

namespace qgrpo::train {

std::int64_t SftExample::learned_tokens() const {
  if (learned.empty()) return static_cast<std::int64_t>(completion.size());
  return std::count_if(learned.begin(), learned.end(), [](std::uint8_t l) { return l != 0; });
}

double sft_learning_rate(const SftOptions& options, std::int64_t step) {
  const double rate = learning_rate(LrSchedule::cosine, options.learning_rate, step,
                                    options.warmup_steps, options.max_steps);
  if (step - 1 < options.warmup_steps) return rate;
  return options.final_lr_ratio * options.learning_rate + (1.0 - options.final_lr_ratio) * rate;
}

namespace {

// Of a micro-batch, as the options ask for.
model::PassCapacity pass_capacity(const model::Config& config, const SftOptions& options) {
  model::PassCapacity pass;
  pass.tokens = options.micro_batch_tokens;
  pass.head_rows = options.micro_batch_tokens;
  pass.kept_layers = options.gradient_checkpointing ? 0 : config.num_layers;
  pass.reference = false;
  return pass;
}

}  // namespace

SftTrainer::SftTrainer(model::Model& model, model::TrainableParameters& parameters,
                       std::int32_t adapter, const SftOptions& options,
                       std::optional<model::PassCapacity> pass)
    : model_(&model),
      parameters_(&parameters),
      adapter_(adapter),
      options_(options),
      optimizer_(model.backend(), parameters, options.optim, options.adamw) {
  require(options.micro_batch_tokens >= 2, "micro_batch_tokens is {}, expected at least 2",
          options.micro_batch_tokens);
  const model::PassCapacity capacity = pass ? *pass : pass_capacity(model.config(), options);
  model::Arena count;
  model::PassBuffers::place(count, model.config(), model.backend().activation_dtype(), capacity);
  buffer_ = model.backend().allocate(count.used());
  model::Arena arena(buffer_->data(), buffer_->bytes());
  pass_.emplace(model, arena, capacity);
}

void SftTrainer::check(std::span<const SftExample> examples) const {
  require(!examples.empty(), "supervised step: no examples, expected at least one");
  const model::Config& config = model_->config();
  const std::int64_t longest = std::min(options_.micro_batch_tokens, config.context_length());
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const SftExample& e = examples[i];
    require(!e.prompt.empty() && !e.completion.empty(),
            "supervised example {}: {} prompt and {} completion tokens, expected at least one each",
            i, e.prompt.size(), e.completion.size());
    require(e.learned.empty() || e.learned.size() == e.completion.size(),
            "supervised example {}: {} marks for {} completion tokens", i, e.learned.size(),
            e.completion.size());
    require(e.learned_tokens() > 0, "supervised example {}: no token is to be learned", i);
    require(e.length() <= longest,
            "supervised example {}: {} tokens, expected at most {} (micro_batch_tokens, and the "
            "model's positions)",
            i, e.length(), longest);
    for (const auto* ids : {&e.prompt, &e.completion}) {
      for (const std::int32_t id : *ids) {
        require(id >= 0 && id < config.vocab_size,
                "supervised example {}: the id {} is outside the vocabulary of {}", i, id,
                config.vocab_size);
      }
    }
  }
}

template <typename Run>
void SftTrainer::for_micro_batches(std::span<const SftExample> examples, Run&& run) const {
  for (std::size_t begin = 0; begin < examples.size();) {
    std::size_t end = begin;
    for (std::int64_t tokens = 0; end < examples.size(); ++end) {
      tokens += examples[end].length();
      if (tokens > options_.micro_batch_tokens) break;
    }
    run(examples.subspan(begin, end - begin));
    begin = end;
  }
}

SftTrainer::Predictions SftTrainer::forward(std::span<const SftExample> examples, bool gradient) {
  Batch batch;
  Predictions out;
  std::vector<std::int32_t> ids;
  for (const SftExample& e : examples) {
    // The prompt's last row predicts the completion's first token, and so on.
    auto row =
        static_cast<std::int32_t>(batch.size() + static_cast<std::int64_t>(e.prompt.size()) - 1);
    for (std::size_t i = 0; i < e.completion.size(); ++i, ++row) {
      if (!e.learned.empty() && e.learned[i] == 0) continue;
      out.entries.push_back({static_cast<std::int32_t>(out.rows.size()), e.completion[i]});
      out.rows.push_back(row);
    }
    ids = e.prompt;
    // The last token has nothing to predict.
    ids.insert(ids.end(), e.completion.begin(), e.completion.end() - 1);
    batch.add(ids, adapter_);
  }
  pass_->forward(batch, gradient);
  return out;
}

SftTrainer::Sums SftTrainer::learn(std::span<const SftExample> examples, float weight) {
  const Predictions p = forward(examples, true);
  const TensorView hidden = pass_->hidden(p.rows);
  std::vector<HeadResult> results(p.entries.size());
  std::vector<TokenObjective<float>> tokens(p.entries.size());
  const std::vector<ObjectiveEntry> terms(p.entries.size(), {.weight = weight});
  ObjectiveParams params;
  params.kind = ObjectiveKind::negative_log_likelihood;
  model_->backend().train().head_objective(results, tokens, pass_->dhidden(),
                                           parameters_->gradients().dlm_head, hidden,
                                           model_->head_linear(), p.entries, terms, params, 1.0f);
  pass_->backward(parameters_->gradients());
  Sums sums;
  for (const auto& token : tokens) sums.loss += static_cast<double>(token.loss);
  for (const auto& result : results) sums.entropy += static_cast<double>(result.entropy);
  return sums;
}

SftEvaluation SftTrainer::evaluate(std::span<const SftExample> examples) {
  check(examples);
  SftEvaluation out;
  for_micro_batches(examples, [&](std::span<const SftExample> part) {
    const Predictions p = forward(part, false);
    std::vector<HeadResult> results(p.entries.size());
    model_->backend().train().head_logprob(results, pass_->hidden(p.rows), model_->head_linear(),
                                           p.entries, 1.0f);
    for (const auto& result : results) {
      out.loss -= static_cast<double>(result.logprob);
      out.entropy += static_cast<double>(result.entropy);
    }
    out.learned_tokens += static_cast<std::int64_t>(results.size());
  });
  out.loss /= static_cast<double>(out.learned_tokens);
  out.entropy /= static_cast<double>(out.learned_tokens);
  return out;
}

SftStep SftTrainer::step(std::span<const SftExample> examples, std::optional<double> rate) {
  check(examples);
  SftStep out;
  for (const SftExample& e : examples) {
    out.tokens += e.length();
    out.learned_tokens += e.learned_tokens();
    out.work.add_sequence(e.length() - 1, e.learned_tokens());
  }
  parameters_->zero_gradients();
  const auto learned = static_cast<double>(out.learned_tokens);
  for_micro_batches(examples, [&](std::span<const SftExample> part) {
    const Sums sums = learn(part, static_cast<float>(1.0 / learned));
    out.loss += sums.loss;
    out.entropy += sums.entropy;
  });
  out.step = optimizer_.step_count() + 1;
  out.loss /= learned;
  out.entropy /= learned;
  out.learning_rate = rate ? *rate : sft_learning_rate(options_, out.step);
  out.update = update_parameters(optimizer_, *parameters_, out.loss, out.learning_rate,
                                 options_.max_grad_norm);
  out.gradient_norm = out.update.grad_norm;
  return out;
}

std::vector<SftStep> run_sft(model::Model& model, model::TrainableParameters& parameters,
                             std::int32_t adapter, const SftOptions& options,
                             const SftSource& source, const SftProgress& progress) {
  SftTrainer trainer(model, parameters, adapter, options);
  std::vector<SftStep> curve;
  for (std::int64_t step = 1; step <= options.max_steps; ++step) {
    curve.push_back(trainer.step(source(step)));
    require(std::isfinite(curve.back().loss),
            "supervised step {}: the loss is {}: the weights of the model or the adapter have "
            "diverged; try a lower learning rate",
            curve.back().step, curve.back().loss);
    if (progress && !progress(curve.back())) break;
  }
  return curve;
}

}  // namespace qgrpo::train
