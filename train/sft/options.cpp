#include "train/sft/options.h"

#include "model/ops/error.h"
#include "tokenizer/chat_template.h"

namespace qgrpo::train {

void describe(SftDataOptions& o, OptionSet& set) {
  set.group("What is trained, and on what");
  set.list(
      "dataset", o.dataset, "FILE",
      "A file, or OWNER/NAME of the Hub: JSON lines or an array, CSV, TSV or Parquet, also .gz "
      "and .zst; \"messages\", \"prompt\" and \"completion\", \"text\", ShareGPT's "
      "\"conversations\", alpaca's \"instruction\" and \"output\"; repeatable");
  describe(o.hub, set);
  set.group("Examples");
  set.flag("skip_bad_examples", o.skip_bad_examples,
           "Leave out lines that are no example, and count them, instead of refusing the file")
      // Earlier checkpoints do not have it.
      .decides([&o]() -> std::optional<std::string> {
        if (!o.skip_bad_examples) return std::nullopt;
        return "true";
      });
  set.flag("shuffle_dataset", o.shuffle_dataset, "A new order in each epoch").decides();
}

void describe(SftBatchOptions& o, OptionSet& set) {
  set.group("Examples");
  set.whole("max_length", o.max_length, "N", "Tokens; longer examples are cut at the end")
      .within(2, 1 << 20, "tokens of an example")
      .decides();
  set.flag("packing", o.packing,
           "Samples are rows of several examples, best fit to --max-length; they do not see each "
           "other")
      .decides();
  set.group("Steps");
  set.number("num_train_epochs", o.num_train_epochs, "X", "Times through the data")
      .above(0, 1e6, "a number > 0");
  set.whole("per_device_train_batch_size", o.per_device_train_batch_size, "N",
            "Samples: examples, or rows with --packing")
      .within(1, 1 << 20, "samples")
      .decides();
  set.whole("gradient_accumulation_steps", o.gradient_accumulation_steps, "N",
            "Times --per-device-train-batch-size samples an optimizer step")
      .within(1, 1 << 16, "times --per-device-train-batch-size samples an optimizer step")
      .decides();
}

void describe(SftEvaluationOptions& o, OptionSet& set) {
  set.group("Evaluation");
  set.list("eval_dataset", o.eval_dataset, "FILE",
           "A hold-out of which the loss is reported (may be repeated)");
  set.whole("eval_steps", o.eval_steps, "N",
            "Steps between evaluations; 0 = at the end of each epoch")
      .within(0, 1 << 30, "0 = at the end of each epoch");
}

void describe(SftRunOptions& o, OptionSet& set) {
  describe(o.base, set);
  set.at("quantize").decides([&o] {
    return std::string(o.full ? "full" : model::kQuantizeNames.name(o.base.quantize));
  });
  set.flag("full", o.full, "Train every parameter in float32 instead of a LoRA adapter").decides();
  describe(o.data, set);
  describe(o.batch, set);
  set.group("Optimizer");
  set.number("learning_rate", o.optimizer.learning_rate, "X",
             "Peak rate (default: 2e-4, with --full 2e-5)")
      .within(0, 1e3, "a number >= 0")
      .decides([&o] { return fmt::format("{}", o.rate()); });
  describe(static_cast<AdamOptions&>(o.optimizer), set);
  set.at("optim").help = "adamw_torch (32 bits) or adamw_8bit";
  set.at("lr_scheduler_type").help = "linear, cosine or constant (no warm-up)";
  describe(o.lora, set, [&o] { return !o.full; });
  describe(o.eval, set);
  describe(o.memory, set);
  Option& tokens = set.at("micro_batch_tokens");
  tokens.help = "Computed at once; 0 = 2048, or the longest example";
  tokens.expected = "0 = chosen";
  tokens.decides();
  describe(o.run, set);
  Option& steps = set.at("max_steps");
  steps.help += "; 0 = by --num-train-epochs";
  steps.expected = "0 leaves it to --num-train-epochs";
  set.at("python").help = "Runs wandb (default: $QGRPO_PYTHON, else python3)";
}

void validate(const SftRunOptions& options) {
  require(!options.base.model.empty(),
          "--model: not given, expected the folder of the model to train");
  require(!options.data.dataset.empty(),
          "--dataset: not given, expected a file of JSON lines with \"messages\", or with "
          "\"prompt\" and \"completion\"");
  tokenizer::check_chat_template_options(options.base.chat_template,
                                         options.base.chat_template_kwargs);
  require(!options.full || options.base.adapter.empty(),
          "--full and --adapter: found both; a full-parameter run trains no adapter");
  SftRunOptions copy = options;
  OptionSet set;
  describe(copy, set);
  set.check();
  require(options.eval.eval_steps == 0 || !options.eval.eval_dataset.empty(),
          "--eval-steps {}: found no --eval-dataset, expected the hold-out to evaluate",
          options.eval.eval_steps);
  check_together(options.run, options.optimizer);
}

RecordedOptions recorded_options(const SftRunOptions& options) {
  SftRunOptions copy = options;
  OptionSet set;
  describe(copy, set);
  return {set.decisive(), set.json()};
}

}  // namespace qgrpo::train
