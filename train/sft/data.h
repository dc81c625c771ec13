#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/sft/trainer.h"

// Conversations in files, as the token ids that supervised fine-tuning learns.
namespace qgrpo::train {

struct SftTextOptions {
  std::int64_t max_length = 1024;  // tokens; longer examples are cut at the end, as by TRL
  std::int32_t eos_token_id = 0;   // ends a completion that is plain text
  bool skip_bad_examples = false;  // counted, instead of refused
  // Asked for when the first conversation needs it: plain text can do without a chat template.
  std::function<const tokenizer::ChatTemplate&()> chat_template;
};

struct SftData {
  std::vector<SftExample> examples;
  std::int64_t truncated = 0;      // examples that were cut
  std::int64_t dropped = 0;        // cut so far that nothing was left to learn
  std::int64_t skipped = 0;        // bad ones, where these may be skipped
  std::string first_skipped = {};  // what was wrong with the first of them
};

// Reads files (train/data/data_file.h), one example an object, each with exactly one of
//   "messages": [{"role":..,"content":..},..]   every turn of the assistant is learned
//   "prompt" and "completion", both such lists  the completion's turns of the assistant are learned
//   "prompt" and "completion", both strings     the completion is learned, with the eos token
//   "text": a string                            all of it but its first token, with the eos token
// or a conversation in another program's keys (train/data/shapes.h).
// Conversations are rendered with the line's "tools" and "chat_template_kwargs". Text that is plain
// is encoded as one, with the tokenizer's begin-of-text token where it adds one.
// Other keys are ignored. Throws Error that names file and line on anything
// else, on a conversation in which no turn is the assistant's, and where nothing at all is left.
SftData read_sft_data(std::span<const std::string> paths, const tokenizer::Tokenizer& tokenizer,
                      const SftTextOptions& options);

// The ids of a conversation. A turn of the assistant is what the template renders behind the prefix
//   render(the messages before it, with the generation prompt)
// up to render(up to and with it), which includes the token that ends the turn. The whole is
// encoded once, as apply_chat_template(tokenize=True) does, and a token across the beginning of a
// turn is learned (TRL's rule). Turns before `first_learned` are only read, and what follows the
// last turn that is learned is left out. `variables`: of the template. Throws Error, which begins
// with `where`, where no turn is the assistant's, one is empty, or the template does not render a
// conversation's beginning as the beginning of its rendering.
SftExample chat_example(std::span<const tokenizer::Message> messages, std::size_t first_learned,
                        const tokenizer::Tokenizer& tokenizer,
                        const tokenizer::ChatTemplate& chat_template,
                        tokenizer::RenderOptions variables, const std::string& where);

// Cuts an example to max_length ids; whether anything is left to learn.
bool truncate_example(SftExample& example, std::int64_t max_length);

// Rows of examples that are trained together: best fit, the longest first (TRL's packing_strategy
// "bfd"), each of at most max_length tokens, their examples in the order of the file. A row is as
// one sample to the batch sizes.
std::vector<std::vector<std::uint32_t>> pack_examples(std::span<const SftExample> examples,
                                                      std::int64_t max_length);

}  // namespace qgrpo::train
