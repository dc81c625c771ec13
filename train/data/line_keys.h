#pragma once

#include <string>

#include "model/io/json.h"

// Keys of a data set's lines that a known trainer reads and that change what a line means.
namespace qgrpo::train {

// Refuses, by name, the keys of a question's line (train, eval) that would be passed over: images,
// videos and audio, as TRL's GRPOTrainer reads them.
void check_question_keys(const io::JsonValue& line);

// The same of an example for supervised training: also masks and ids that are made already
// (TRL's SFTTrainer), a weight other than 1, a system prompt or functions beside the messages (OpenAI,
// axolotl, LLaMA-Factory).
void check_sft_keys(const io::JsonValue& line);

// Whether an assistant's message is learned: not where it says "weight": 0 (OpenAI, Mistral),
// "train": false (axolotl) or "loss": false (ms-swift). `json`: the whole message; empty: it has
// none of these. Throws Error, naming `where` and the key, on a value between 0 and 1.
bool is_learned(const std::string& json, const std::string& where);

}  // namespace qgrpo::train
