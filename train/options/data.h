#pragma once

#include <string>
#include <vector>

#include "train/data/dataset.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// Which part of a data set of the Hub is read.
struct HubDatasetOptions {
  std::string dataset_config;           // empty: the one that its card says is the default
  std::string dataset_split = "train";  // several with a plus
};
void describe(HubDatasetOptions& options, OptionSet& set);

// The questions of GRPO: their files, what the columns mean, and the part that is trained on.
struct DataOptions {
  std::vector<std::string> dataset;  // files, read one after the other (train/data/data_file.h)
  HubDatasetOptions hub;             // of those that are names on the Hub
  std::string replay;                // recorded groups to train on instead of sampling
  std::string prompt_column;         // train/data/dataset.h, DatasetOptions
  std::string answer_column;
  AnswerFormat answer_format = AnswerFormat::either;
  double train_split = 1.0;  // below 1 a part, from 2 on a number of examples; the rest is held out
  bool shuffle_dataset = true;
};

void describe(DataOptions& options, OptionSet& set);

}  // namespace qgrpo::train
