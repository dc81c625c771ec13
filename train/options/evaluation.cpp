#include "train/options/evaluation.h"

namespace qgrpo::train {

void describe(EvaluationOptions& o, OptionSet& set) {
  set.group("Evaluation");
  set.whole("eval_every", o.eval_every, "N",
            "Answer held-out questions every N steps and keep the best checkpoint; 0 = never")
      .within(0, 1 << 30, "0 = never");
  set.list("eval_dataset", o.eval_dataset, "FILE",
           "Questions of the evaluation (default: those that --train-split holds out)");
  set.whole("eval_limit", o.eval_limit, "N", "The first N of them; 0 = all")
      .within(0, 1 << 30, "questions; 0 = all");
  set.choice("eval_match", o.eval_match, kAnswerMatchNames,
             "When an answer is right: exact, numeric or math (see qgrpo eval)");
  set.choice("metric_for_best_model", o.metric_for_best_model, kBestMetricNames,
             "accuracy, or reward: the sum of the built-in rewards");
  set.flag("load_best_model_at_end", o.load_best_model_at_end,
           "The run's result is the best checkpoint, not the last one");
}

}  // namespace qgrpo::train
