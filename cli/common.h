#pragma once

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "engine/generator.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/ops/device_peak.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/data/prompt.h"
#include "train/options/option_set.h"

// What the commands share: where they run, which model they load, how they sample.
namespace qgrpo::cli {

class LineReader;

// ---------------------------------------------------------------- device

struct DeviceOptions {
  std::string device = "auto";  // auto | cpu | cuda
  std::int64_t threads = 0;     // 0 = all cores
};

void add_device_options(OptionTable& table, DeviceOptions& options);
// --device alone: a training run has --threads among its options.
void describe(DeviceOptions& options, train::OptionSet& set);
// What a command computes: `host` has parts that know the CPU alone.
enum class Workload { inference, training, host };
// auto: CUDA where a device is there that can serve the workload, or else the CPU,
// with a note on standard error where the device cannot be used (and, on a terminal, where there is
// none). Throws Error for an unknown device, one that this build, machine or backend cannot serve,
// or a thread count out of range.
std::unique_ptr<Backend> make_backend(const DeviceOptions& options,
                                      Workload workload = Workload::training);
// The number of threads that the backend gets: `threads`, or all cores the process may use.
int thread_count(std::int64_t threads);

// How the peaks of a backend's device are found: a CPU's are measured, a GPU's follow from its clocks
// and widths (of a GPU that is not known here, and of the software GPU, they are not known).
FindPeak peak_finder(const DeviceOptions& options, const Backend& backend);

// ---------------------------------------------------------------- model

struct ModelOptions {
  std::string model;    // a Hugging Face folder
  std::string adapter;  // a peft folder, or empty
  std::string quantize = "nf4";
  std::string chat_template;         // empty: the folder's own; "chatml"; a file
  std::string chat_template_kwargs;  // a JSON object: more variables for the template
};

// Where no model is named: the demo's, which `qgrpo train` has left in `output_dir`, and its adapter unless one is
// named. Throws Error where it is not there.
void default_to_demo(ModelOptions& options, const std::string& output_dir);

void add_chat_template_options(OptionTable& table, std::string& name, std::string& variables);
// --model (required unless `optional_model`), --adapter, --quantize (which is returned),
// --chat-template, --chat-template-kwargs.
DeclaredOption add_model_options(OptionTable& table, ModelOptions& options,
                                 bool optional_model = false);

// A model with its backend and its adapter, in the order in which they depend on each other.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<model::LoraAdapter> adapter;  // null: none
  std::unique_ptr<model::Model> model;

  const model::Config& config() const { return model->config(); }
  std::int32_t adapter_index() const { return adapter ? 0 : -1; }
};

// Loads model and adapter. On a terminal, standard error shows the progress.
LoadedModel load_model(const ModelOptions& options, std::unique_ptr<Backend> backend);

// The tokenizer and chat template of a folder, each loaded when it is first needed: token ids need
// neither.
class LazyTokenizer {
 public:
  explicit LazyTokenizer(const ModelOptions& options)
      : folder_(options.model),
        template_name_(options.chat_template),
        template_variables_(options.chat_template_kwargs) {
    tokenizer::check_chat_template_options(template_name_, template_variables_);
  }

  // Whether the folder has tokenizer files at all.
  bool available() const;
  const tokenizer::Tokenizer& get();
  const tokenizer::ChatTemplate& chat();
  // When a completion ends (tokenizer/special_tokens.h); without tokenizer files as `config` says.
  const std::vector<std::int32_t>& eos_ids(const model::Config& config);
  // The text of a token, or nothing where the vocabulary has no such id (a model's embedding may
  // have more rows than its tokenizer has tokens).
  bool has_token(std::int32_t id);

 private:
  std::string folder_;
  std::string template_name_;
  std::string template_variables_;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::optional<tokenizer::ChatTemplate> chat_;
  std::optional<std::vector<std::int32_t>> eos_ids_;
};

// The ids of one input object: {"ids":[..]}, {text_key: ".."} or {"messages":[..]}, of which it
// must have exactly one; other keys are ignored. Messages honour "add_generation_prompt". Throws
// Error that names the line on anything else, on no ids at all and on ids outside the vocabulary.
std::vector<std::int32_t> read_prompt(const io::JsonValue& line, const char* text_key,
                                      bool add_generation_prompt, std::int64_t vocab_size,
                                      LazyTokenizer& tokenizer);

// Holds lines with prompts to what can be one of this model: 16 MiB, or 64 bytes a position where that is more.
void limit_prompt_lines(LineReader& lines, const model::Config& config);

// What a question becomes: with the system prompt and the solved question that the user has chosen, or that the
// model was trained with (train/data/taught_prompt.h; said on `told`), or the notebook's and none.
train::PromptOptions asked_prompt(const ModelOptions& model,
                                  const std::optional<std::string>& system_prompt,
                                  std::optional<bool> one_shot, std::ostream& told);

// ---------------------------------------------------------------- sampling

// Sampling options as given; `defaults` says what an absent one means.
struct SamplingOptions {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;

  // Throws Error naming the option that is out of range.
  SamplingParams resolve(SamplingParams defaults = {}) const;
};

void add_sampling_options(OptionTable& table, SamplingOptions& options,
                          const std::string& defaults);

// ---------------------------------------------------------------- small things

// Whether standard error is a terminal: only then is progress shown.
bool progress_wanted();
// Overwrites the terminal's current line on standard error ("" erases it).
void show_progress(const std::string& text);
// Erases what show_progress() has left, before something else is said.
void end_progress();

}  // namespace qgrpo::cli
