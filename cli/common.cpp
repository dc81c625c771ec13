#include "cli/common.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <ostream>

#include "bench/device_counts.h"
#include "cli/text/line_reader.h"
#include "cpu/backend.h"
#include "cpu/machine/peak.h"
#include "cuda/plugin/load.h"
#include "model/config_files.h"
#include "model/io/bytes.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/io/standard_streams.h"
#include "model/ops/program.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"
#include "train/data/taught_prompt.h"
#include "train/grpo/plan.h"
#include "train/run/console.h"

namespace qgrpo::cli {

// ---------------------------------------------------------------- device

void add_device_options(OptionTable& table, DeviceOptions& options) {
  table.group("Options");
  table.value("--device", options.device, "NAME", "Where to compute: auto, cpu or cuda");
  table.value("--threads", options.threads, "N", "CPU threads; 0 = all cores");
}

void describe(DeviceOptions& options, train::OptionSet& set) {
  set.group("The run");
  set.text("device", options.device, "NAME", "auto, cpu or cuda");
}

int thread_count(std::int64_t threads) {
  require_usage(threads >= 0 && threads <= 1024,
                "--threads: found {}, expected 1 to 1024 (or 0 for all cores)", threads);
  if (threads > 0) return static_cast<int>(threads);
  cpu_set_t set;  // what the process may use, not what the machine has
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
}

namespace {

// Why --device auto computes on the CPU, or nothing where that goes without saying: where there is
// no GPU, only somebody at a terminal of a build that could use one is told.
void note_cpu(const cuda::FoundCuda& found) {
  const bool device = found.availability.device;
  if (!device && !(cuda::cuda_build().built && progress_wanted())) return;
  // What a plugin lacks does not matter to a machine without a GPU.
  const bool explained = device || found.plugin != nullptr;
  io::print_error("qgrpo: note: computing on the CPU: {}\n",
                  explained ? found.availability.problem : "no CUDA device");
}

// What find_cuda() finds, and the backend where there is one: it needs more of CUDA's libraries.
std::unique_ptr<Backend> open_cuda(cuda::FoundCuda& found) {
  found = cuda::find_cuda();
  if (!found.availability.problem.empty()) return nullptr;
  try {
    return found.plugin->make_backend();
  } catch (const Error& error) {
    found.availability = {true, error.what()};
    return nullptr;
  }
}

// The CUDA backend, or null where `auto` is to compute on the CPU.
std::unique_ptr<Backend> try_cuda(bool automatic, Workload workload) {
  if (workload == Workload::host) {
    require(automatic, "--device cuda: this command computes on the CPU; use --device cpu");
    return nullptr;
  }
  cuda::FoundCuda found;
  if (auto backend = open_cuda(found)) return backend;
  require(automatic, "--device cuda: {}; use --device cpu", found.availability.problem);
  note_cpu(found);
  return nullptr;
}

}  // namespace

std::unique_ptr<Backend> make_backend(const DeviceOptions& options, Workload workload) {
  const bool automatic = options.device == "auto";
  require_usage(automatic || options.device == "cpu" || options.device == "cuda",
                "--device: found \"{}\", expected auto, cpu or cuda", options.device);
  const int threads = thread_count(options.threads);
  if (options.device != "cpu") {
    if (auto backend = try_cuda(automatic, workload)) return backend;
  }
  return cpu::make_cpu_backend(threads);
}

FindPeak peak_finder(const DeviceOptions& options, const Backend& backend) {
  if (backend.name() != "cpu") {
    return []() -> DevicePeak {
      if (bench::software_gpu()) return {};
      const cuda::DeviceRates rates = cuda::load_plugin().device_rates();
      return {rates.tensor_tflops * 1e12, rates.dram_gb_per_s * 1e9,
              rates.name + ", by its clocks"};
    };
  }
  const int threads = thread_count(options.threads);
  return [threads] { return cpu::measure_peak(threads, cpu::PeakEffort::quick); };
}

// ---------------------------------------------------------------- model

void default_to_demo(ModelOptions& options, const std::string& output_dir) {
  if (!options.model.empty()) return;
  const auto demo = std::filesystem::path(output_dir) / "demo";
  require(io::exists(demo / "model"),
          "{}: the demo's model is not there; run `{} train` first, or name a model with --model",
          (demo / "model").string(), program_name);
  options.model = (demo / "model").string();
  if (options.adapter.empty() && io::exists(demo / "adapter"))
    options.adapter = (demo / "adapter").string();
}

void add_chat_template_options(OptionTable& table, std::string& name, std::string& variables) {
  table.value(
      "--chat-template", name, "NAME|FILE",
      "chatml (for folders whose own template is missing), or a file with a Jinja template");
  table.value(
      "--chat-template-kwargs", variables, "JSON",
      "JSON object of more variables for the chat template, e.g. {\"enable_thinking\": false}");
}

DeclaredOption add_model_options(OptionTable& table, ModelOptions& options, bool optional_model) {
  DeclaredOption model = table.value(
      "--model", options.model, "DIR",
      "Hugging Face folder (plain or bnb-4bit) or .gguf file of a Qwen2.5, Qwen3, Llama or "
      "Mistral model");
  if (!optional_model) model.required();
  table.value("--adapter", options.adapter, "DIR", "LoRA adapter: a peft folder");
  const DeclaredOption quantize =
      table
          .text("--quantize", "NAME",
                "Weights of the blocks: nf4 (4 bits) or none (as in the folder)",
                [&options](const std::string& text) {
                  model::parse_quantize(text);  // says what is wrong
                  options.quantize = text;
                })
          .default_text(options.quantize);
  add_chat_template_options(table, options.chat_template, options.chat_template_kwargs);
  return quantize;
}

LoadedModel load_model(const ModelOptions& options, std::unique_ptr<Backend> backend) {
  LoadedModel loaded;
  loaded.backend = std::move(backend);
  const model::Quantize quantize = model::parse_quantize(options.quantize);
  // The adapter is small and its mistakes are common: it is read first.
  if (!options.adapter.empty()) {
    loaded.adapter = std::make_unique<model::LoraAdapter>(model::LoraAdapter::load(
        *loaded.backend, model::load_config(options.model), options.adapter));
  }
  const bool show = progress_wanted();
  const auto progress = [&](std::size_t done, std::size_t total) {
    if (show) {
      show_progress(fmt::format("loading {}: {} of {}", options.model, io::format_bytes(done),
                                io::format_bytes(total)));
    }
  };
  loaded.model = std::make_unique<model::Model>(
      model::Model::load(*loaded.backend, options.model, quantize, progress));
  if (show) show_progress("");
  if (loaded.adapter) loaded.model->set_adapters({loaded.adapter.get()});
  return loaded;
}

bool LazyTokenizer::available() const {
  return tokenizer::has_tokenizer(folder_);
}

const tokenizer::Tokenizer& LazyTokenizer::get() {
  if (!tokenizer_) tokenizer_ = tokenizer::load_tokenizer(folder_);
  return *tokenizer_;
}

const tokenizer::ChatTemplate& LazyTokenizer::chat() {
  if (!chat_)
    chat_ = tokenizer::load_chat_template(folder_, get(), template_name_, template_variables_);
  return *chat_;
}

const std::vector<std::int32_t>& LazyTokenizer::eos_ids(const model::Config& config) {
  if (eos_ids_) return *eos_ids_;
  if (!available()) return eos_ids_.emplace(config.eos_token_ids);
  const tokenizer::ChatTemplate* used = nullptr;
  try {
    used = &chat();
  } catch (const Error&) {
    // Raw text and ids can do without a template; messages say what is wrong with it.
  }
  return eos_ids_.emplace(tokenizer::eos_ids(folder_, config.eos_token_ids, get(), used));
}

bool LazyTokenizer::has_token(std::int32_t id) {
  return get().id_to_token(id).has_value();
}

std::vector<std::int32_t> read_prompt(const io::JsonValue& line, const char* text_key,
                                      bool add_generation_prompt, std::int64_t vocab_size,
                                      LazyTokenizer& tokenizer) {
  const std::string& where = line.where();
  const auto expected =
      fmt::format("{{\"ids\":[..]}}, {{\"{}\":\"..\"}} or {{\"messages\":[..]}}", text_key);
  require(line.is_object(), "{}: expected an object: {}", where, expected);
  const auto ids = line.find("ids");
  auto text = line.find(text_key);
  auto messages = line.find("messages");
  // TRL's conversational "prompt".
  if (text && text->is_array() && !messages) std::swap(text, messages);
  const int given = (ids ? 1 : 0) + (text ? 1 : 0) + (messages ? 1 : 0);
  require(given == 1, "{}: found {}, expected exactly one of {}", where,
          given == 0 ? "none of the keys" : "several of the keys", expected);

  std::vector<std::int32_t> out;
  if (ids) {
    out = ids->as_ids();
  } else {
    std::string rendered;
    if (messages) {
      const tokenizer::RenderOptions options =
          tokenizer::read_render_options(line, add_generation_prompt);
      const std::vector<tokenizer::Message> conversation = tokenizer::read_messages(*messages);
      const tokenizer::ChatTemplate& chat = tokenizer.chat();
      try {
        rendered = chat.render(conversation, options).text;
      } catch (const Error& error) {
        fail("{}: {}", where, error.what());
      }
    } else {
      rendered = text->as_string();
    }
    const tokenizer::Tokenizer& encoder = tokenizer.get();
    try {
      out = messages ? encoder.encode_rendered(rendered) : encoder.encode(rendered);
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
  }
  require(!out.empty(), "{}: no token ids, expected at least one", where);
  for (std::size_t i = 0; i < out.size(); ++i) {
    require(out[i] < vocab_size, "{}: token id {} (at {}) is outside the model's vocabulary of {}",
            where, out[i], i, vocab_size);
  }
  return out;
}

void limit_prompt_lines(LineReader& lines, const model::Config& config) {
  constexpr std::size_t kLeast = std::size_t{16} << 20;
  constexpr std::size_t kBytesOfPosition = 64;
  const auto positions = static_cast<std::size_t>(config.context_length());
  lines.limit_lines(std::min(std::max(kLeast, kBytesOfPosition * positions), kMostLineBytes),
                    fmt::format("; the model has {} positions: shorten the text", positions));
}

train::PromptOptions asked_prompt(const ModelOptions& model,
                                  const std::optional<std::string>& system_prompt,
                                  std::optional<bool> one_shot, std::ostream& told) {
  train::PromptOptions prompt;
  const bool chosen = system_prompt && one_shot;
  if (const auto taught =
          chosen ? std::nullopt : train::read_taught_prompt({model.adapter, model.model})) {
    prompt = taught->prompt;
    if (!system_prompt) told << taught->text() << '\n';
  }
  if (system_prompt) prompt.system_prompt = *system_prompt;
  prompt.system_prompt_given = system_prompt.has_value();
  if (one_shot) prompt.one_shot = *one_shot;
  return prompt;
}

// ---------------------------------------------------------------- sampling

SamplingParams SamplingOptions::resolve(SamplingParams defaults) const {
  SamplingParams params = defaults;
  // Comparisons are written so that NaN fails them.
  if (temperature) {
    require_usage(*temperature >= 0.0 && *temperature <= 1e6,
                  "--temperature: found {}, expected a number >= 0 (0 is greedy)", *temperature);
    params.temperature = static_cast<float>(*temperature);
  }
  if (top_p) {
    require_usage(*top_p > 0.0 && *top_p <= 1.0,
                  "--top-p: found {}, expected 0 < top_p <= 1 (1 is off)", *top_p);
    params.top_p = static_cast<float>(*top_p);
  }
  if (top_k) {
    require_usage(*top_k >= 0 && *top_k <= std::numeric_limits<std::int32_t>::max(),
                  "--top-k: found {}, expected a whole number >= 0 (0 is off)", *top_k);
    params.top_k = static_cast<std::int32_t>(*top_k);
  }
  if (min_p) {
    require_usage(*min_p >= 0.0 && *min_p <= 1.0,
                  "--min-p: found {}, expected 0 <= min_p <= 1 (0 is off)", *min_p);
    params.min_p = static_cast<float>(*min_p);
  }
  if (repetition_penalty) {
    require_usage(*repetition_penalty > 0.0 && *repetition_penalty <= 1e6,
                  "--repetition-penalty: found {}, expected a number > 0 (1 is off)",
                  *repetition_penalty);
    params.repetition_penalty = static_cast<float>(*repetition_penalty);
  }
  engine::validate(params);  // what a generation_config.json said
  return params;
}

void add_sampling_options(OptionTable& table, SamplingOptions& options,
                          const std::string& defaults) {
  table.group("Sampling (defaults: " + defaults + ")");
  table.value("--temperature", options.temperature, "X", "0 = greedy");
  table.value("--top-p", options.top_p, "P",
              "Keep the most likely tokens that together have this probability; 1 = off");
  table.value("--top-k", options.top_k, "K", "Keep the K most likely tokens; 0 = off");
  table.value("--min-p", options.min_p, "P",
              "Drop tokens below this fraction of the most likely one; 0 = off");
  table.value("--repetition-penalty", options.repetition_penalty, "X",
              "Lower the logits of tokens already there; 1 = off");
}

// ---------------------------------------------------------------- small things

bool progress_wanted() {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

namespace {
bool progress_shown = false;
}

void show_progress(const std::string& text) {
  const std::size_t columns = train::terminal_columns(STDERR_FILENO);
  io::print_error("\r\x1b[2K{}", columns > 1 ? train::cut_to(text, columns - 1) : text);
  progress_shown = !text.empty();
}

void end_progress() {
  if (progress_shown) show_progress("");
}

}  // namespace qgrpo::cli
