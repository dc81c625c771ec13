#include "train/options/data.h"

#include <algorithm>

namespace qgrpo::train {

void describe(HubDatasetOptions& o, OptionSet& set) {
  set.text("dataset_config", o.dataset_config, "NAME",
           "Configuration of a data set of the Hub (default: what its card says)");
  set.text("dataset_split", o.dataset_split, "NAME",
           "Split of a data set of the Hub; several: train+test")
      .test([&o] {
        require(!o.dataset_split.empty(), "found an empty name, expected a split such as train");
      });
}

void describe(DataOptions& o, OptionSet& set) {
  set.group("What is trained, and on what");
  set.list(
         "dataset", o.dataset, "FILE",
         "A file, or OWNER/NAME of the Hub: JSON lines or an array, CSV, TSV or Parquet, also .gz "
         "and .zst; GSM8K's \"question\" and \"answer\", or \"prompt\", \"messages\", open-r1's, "
         "verl's, ShareGPT's or alpaca's keys; repeatable")
      .test([&o] {
        require(std::count(o.dataset.begin(), o.dataset.end(), "") == 0,
                "found an empty name, expected a file of JSON lines");
      });
  describe(o.hub, set);
  set.text("prompt_column", o.prompt_column, "NAME",
           "Key of the question, or of the conversation (default: prompt, messages, question, "
           "problem, conversations or instruction)")
      .decides();
  set.text("answer_column", o.answer_column, "NAME",
           "Key of the answer, also of an inner object: reward_model.ground_truth (default: "
           "answer, or what "
           "belongs to the prompt's key)")
      .decides();
  set.choice("answer_format", o.answer_format, kAnswerFormatNames,
             "gsm8k: the answer stands behind ####; plain: it is all of it; auto")
      .decides();
  set.number("train_split", o.train_split, "X",
             "Train on this part (or number) of the examples, chosen by --seed; the rest is held "
             "out in OUTPUT_DIR/held_out.jsonl")
      .above(0, 1e9, "a part such as 0.9, or the number of examples to train on (1 is all)")
      .decides();
  set.flag("shuffle_dataset", o.shuffle_dataset, "A new order in each epoch").decides();
  set.text("replay", o.replay, "FILE",
           "Train on recorded groups instead of sampling: JSON lines of \"prompt_ids\", "
           "\"completions\", \"rewards\"");
}

}  // namespace qgrpo::train
