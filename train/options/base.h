#pragma once

#include <string>

#include "model/model.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// The model that is trained.
struct BaseOptions {
  std::string model;                 // a Hugging Face folder; empty: the built-in demo (GRPO)
  std::string adapter;               // starting adapter (peft folder); GRPO's reference is the base
  std::string chat_template;         // "" = the folder's, "chatml"
  std::string chat_template_kwargs;  // a JSON object: more variables for the template
  model::Quantize quantize = model::Quantize::nf4;
  // OWNER/NAME where `model` is a snapshot of the Hub: what the adapter names as its base.
  std::string model_id;
};

void describe(BaseOptions& options, OptionSet& set);

}  // namespace qgrpo::train
