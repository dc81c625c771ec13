#include "train/grpo/options.h"

#include "model/ops/error.h"
#include "tokenizer/chat_template.h"

namespace qgrpo::train {
namespace {

void check_sources(const TrainOptions& o) {
  require(o.data.dataset.empty() || o.data.replay.empty(),
          "--dataset and --replay: found both, expected one: a replay brings its own prompts");
  if (o.base.model.empty()) {
    const std::string data = o.data.dataset.empty() ? "" : o.data.dataset.front();
    for (const auto& [name, value] :
         {std::pair{"--dataset", &data}, std::pair{"--replay", &o.data.replay},
          std::pair{"--adapter", &o.base.adapter}}) {
      require(value->empty(),
              "{} {}: found no --model, expected the folder of the model to train (without either, "
              "the built-in demo runs)",
              name, *value);
    }
  } else {
    require(!o.data.dataset.empty() || !o.data.replay.empty(),
            "--dataset: not given, expected a file of JSON lines with \"question\" and \"answer\" "
            "(GSM8K's format), or --replay with recorded groups");
  }
  tokenizer::check_chat_template_options(o.base.chat_template, o.base.chat_template_kwargs);
}

void check_objective(const TrainOptions& options) {
  const ObjectiveOptions& o = options.objective;
  require(o.reference == Reference::base || !options.base.adapter.empty(),
          "--reference adapter: found no --adapter, expected the starting adapter that is the "
          "reference");
  require(o.loss_type != LossType::cispo || o.epsilon_high,
          "--loss-type cispo: found no --epsilon-high, expected the bound of the ratio itself (5.0 "
          "is usual)");
  require(!o.dynamic_sampling || options.data.replay.empty(),
          "--dynamic-sampling and --replay: found both; a replay samples nothing");
  require(o.loss_form == LossForm::now ||
              (o.num_iterations == 1 && o.loss_type != LossType::cispo &&
               o.loss_type != LossType::sapo && o.loss_type != LossType::vespo),
          "--loss-form then: the loss of 2025 knows no --num-iterations above 1 and no cispo, sapo "
          "or vespo; use --loss-form now");
}

void check_evaluation(const TrainOptions& options) {
  const EvaluationOptions& o = options.eval;
  require(o.eval_every == 0 || options.data.replay.empty(),
          "--eval-every and --replay: found both; a replay samples nothing, so it cannot evaluate");
  require(o.eval_every == 0 || !o.eval_dataset.empty() || options.base.model.empty() ||
              (options.data.train_split > 0 && options.data.train_split != 1),
          "--eval-every {}: found no questions for it, expected --eval-dataset FILE, or a "
          "--train-split that holds some out",
          o.eval_every);
  require(o.eval_every > 0 || o.eval_dataset.empty(),
          "--eval-dataset: found no --eval-every, expected the steps between evaluations");
  require(!o.load_best_model_at_end || o.eval_every > 0,
          "--load-best-model-at-end: found no --eval-every, so no checkpoint is known to be best");
}

}  // namespace

void describe(TrainOptions& o, OptionSet& set) {
  describe(o.base, set);
  set.at("model").help += "; without it, the built-in demo runs";
  set.at("adapter").help += " (see --reference)";
  describe(o.data, set);
  describe(o.prompt, set);
  describe(o.sampling, set);
  describe(o.reward, set);
  describe(o.objective, set);
  describe(o.batch, set);
  describe(o.optimizer, set);
  describe(o.lora, set, [] { return true; });
  describe(o.eval, set);
  describe(o.memory, set);
  describe(o.run, set);
  set.at("max_steps").help += "; 0 = 2000, or as many as a replay has groups for";
  set.whole("sample_steps", o.sample_steps, "N", "Show a completion every N steps; 0 = never")
      .within(0, 1 << 30, "0 = never");
  set.flag("log_token_logprobs", o.log_token_logprobs,
           "Each token with its log-prob in completions.jsonl");
}

void validate(const TrainOptions& options) {
  check_sources(options);
  TrainOptions copy = options;
  OptionSet set;
  describe(copy, set);
  if (options.data.replay.empty())
    set.at("temperature").expected += ": greedy completions of a prompt are all alike";
  set.check();
  check_objective(options);
  check_evaluation(options);
  check_together(options.run, options.optimizer);
}

RecordedOptions recorded_options(const TrainOptions& options) {
  TrainOptions copy = options;
  OptionSet set;
  describe(copy, set);
  return {set.decisive(), set.json()};
}

bool uses_reference_adapter(const TrainOptions& options) {
  return options.objective.reference == Reference::adapter && options.objective.beta != 0.0;
}

}  // namespace qgrpo::train
