#include "train/sft/run.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "model/io/bytes.h"
#include "model/io/file.h"
#include "model/io/hash.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "train/data/dataset.h"
#include "train/grpo/plan.h"
#include "train/grpo/trainer.h"
#include "train/optim/lr_schedule.h"
#include "train/run/checkpoint.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

// Examples are computed together up to so many tokens: rows enough for the matrix products.
constexpr std::int64_t kMicroBatchTokens = 2048;
constexpr std::int32_t kAdapter = 0;
// What a folder needs beside the weights to be a model.
constexpr std::array kTokenizerFiles = {
    "tokenizer.json",  "tokenizer_config.json",   "vocab.json",        "merges.txt",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"};

// Console is told of the lines that it counts by itself; here each is asked for.
Console plain_console() {
  return Console(TrainOptions{});
}

void copy_tokenizer(const std::string& from, const std::string& to) {
  for (const char* name : kTokenizerFiles) {
    if (fs::exists(fs::path(from) / name)) {
      io::write_file_atomically(to + "/" + name, io::read_file(from + "/" + name));
    }
  }
}

std::uint64_t parse_hex(const io::JsonValue& value) {
  const std::string_view text = value.as_string_view();
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  require(error == std::errc() && end == text.data() + text.size(),
          "{}: \"{}\" is not a hexadecimal number", value.where(), text);
  return out;
}

std::int64_t count_at(const io::JsonValue& root, const char* key) {
  const io::JsonValue value = root.at(key);
  const std::int64_t number = value.as_int();
  require(number >= 0, "{}: found {}, expected a count", value.where(), number);
  return number;
}

std::string state_json(const SftState& state) {
  io::JsonWriter w;
  w.begin_object();
  w.member("trainer", "sft");
  w.member("global_step", state.global_step);
  w.member("num_tokens", state.num_tokens);
  w.member("base_fingerprint", fmt::format("{:016x}", state.base_fingerprint));
  w.member("data_fingerprint", fmt::format("{:016x}", state.data_fingerprint));
  w.member("metrics_offset", static_cast<std::int64_t>(state.metrics_offset));
  if (state.eval_loss) w.member("eval_loss", *state.eval_loss);
  w.key("options");
  w.begin_object();
  for (const auto& [name, value] : state.options) w.member(name, value);
  w.end_object();
  w.end_object();
  return w.str() + "\n";
}

}  // namespace

SftState load_sft_state(const std::string& folder) {
  const std::string path = folder + "/trainer_state.json";
  require(fs::is_directory(folder), "{}: is not a folder; expected a checkpoint folder", folder);
  require(fs::exists(path),
          "{}: has no trainer_state.json; expected a checkpoint-N folder of an earlier run",
          folder);
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  const auto trainer = root.find("trainer");
  require(trainer && trainer->is_string() && trainer->as_string_view() == "sft",
          "{}: is no checkpoint of qgrpo sft; to learn from its adapter, give --adapter {}", path,
          folder);
  SftState s;
  s.global_step = count_at(root, "global_step");
  s.num_tokens = count_at(root, "num_tokens");
  s.base_fingerprint = parse_hex(root.at("base_fingerprint"));
  s.data_fingerprint = parse_hex(root.at("data_fingerprint"));
  s.metrics_offset = static_cast<std::uint64_t>(count_at(root, "metrics_offset"));
  if (const auto loss = root.find("eval_loss")) s.eval_loss = loss->as_double();
  for (const auto& [name, value] : root.at("options").as_object())
    s.options[name] = value.as_string();
  return s;
}

SftRun::SftRun(SftRunOptions options, Backend& backend)
    : options_(std::move(options)), backend_(&backend), console_(plain_console()) {
  validate(options_);
  load_data();
  if (options_.run.resume == "latest") {
    const auto all = list_checkpoints(options_.run.output_dir);
    require(!all.empty(), "{}: has no checkpoint to resume from", options_.run.output_dir);
    resume_folder_ = all.back().second;
  } else {
    resume_folder_ = options_.run.resume;
  }
  if (!resume_folder_.empty()) load_sft_state(resume_folder_);  // before anything large is loaded
  load_model();
  resume();
}

SftRun::~SftRun() = default;

void SftRun::load_data() {
  const model::Config config = model::load_config(options_.base.model);
  require(!config.eos_token_ids.empty(),
          "{}: neither generation_config.json nor config.json has an eos_token_id",
          options_.base.model);
  tokenizer_ = tokenizer::load_tokenizer(options_.base.model);
  options_.batch.max_length = std::min(options_.batch.max_length, config.max_position_embeddings);
  SftTextOptions text;
  text.max_length = options_.batch.max_length;
  text.eos_token_id = config.eos_token_ids.front();
  text.chat_template = [&]() -> const tokenizer::ChatTemplate& {
    if (!chat_template_) {
      chat_template_ = tokenizer::load_chat_template(options_.base.model, *tokenizer_,
                                                     options_.base.chat_template);
    }
    return *chat_template_;
  };
  data_ = read_sft_data(options_.data.dataset, *tokenizer_, text);
  if (!options_.eval.eval_dataset.empty()) {
    held_out_ = read_sft_data(options_.eval.eval_dataset, *tokenizer_, text);
  }
  state_.data_fingerprint = io::files_fingerprint(options_.data.dataset);
  if (options_.batch.packing) {
    rows_ = pack_examples(data_.examples, options_.batch.max_length);
  } else {
    for (std::uint32_t i = 0; i < data_.examples.size(); ++i) rows_.push_back({i});
  }
  if (options_.run.max_steps == 0) {
    const double steps = options_.batch.num_train_epochs * static_cast<double>(steps_per_epoch());
    require(steps < 1e9, "--num-train-epochs {}: that is {:.0f} steps, expected fewer than 1e9",
            options_.batch.num_train_epochs, steps);
    options_.run.max_steps = static_cast<std::int64_t>(std::ceil(steps));
  }
  std::int64_t longest = 2;
  for (const auto* part : {&data_, &held_out_}) {
    for (const SftExample& e : part->examples) longest = std::max(longest, e.length());
  }
  if (options_.memory.micro_batch_tokens == 0) {
    options_.memory.micro_batch_tokens = std::max(longest, kMicroBatchTokens);
  }
  require(options_.memory.micro_batch_tokens >= longest,
          "--micro-batch-tokens {}: the longest example has {} tokens; raise it or lower "
          "--max-length",
          options_.memory.micro_batch_tokens, longest);
  state_.options = result_options(options_);
}

// Refuses what does not fit, before it is loaded, and decides whether the blocks keep their
// activations. The result does not depend on it.
void SftRun::plan(const model::LoraConfig& lora) {
  const model::Config config = model::load_config(options_.base.model);
  const auto formats = options_.full
                           ? model::WeightFormats{WeightFormat::f32, WeightFormat::f32}
                           : model::checkpoint_formats(options_.base.model, options_.base.quantize);
  const auto weights = model::model_bytes(*backend_, config, formats.linears, formats.embedding);
  const DType activations = backend_->activation_dtype();

  WorkspaceShape shape;
  shape.tokens = options_.memory.micro_batch_tokens;
  shape.head_rows = options_.memory.micro_batch_tokens;
  shape.hidden = config.hidden_size;
  shape.ffn = config.intermediate_size;
  shape.vocab = config.vocab_size;
  shape.attention = config.attention();
  shape.linears = formats.linears;
  shape.training = true;
  std::vector<std::int64_t> sizes;  // of the trained tensors
  std::size_t fixed = weights.matrices + weights.small;
  if (options_.full) {
    const auto parameters =
        static_cast<std::int64_t>(weights.matrices / sizeof(float) + weights.small / sizeof(float));
    sizes.push_back(parameters);
    fixed += 2 * static_cast<std::size_t>(parameters) * sizeof(float);  // masters and gradients
    shape.trained_tensors = 2 + config.num_layers * 12 + 1;
  } else {
    shape.lora_rank = lora.max_rank();
    for (std::int64_t l = 0; l < config.num_layers; ++l) {
      for (int i = 0; i < model::kProjections; ++i) {
        const auto p = static_cast<model::Projection>(i);
        const std::int64_t rank = lora.module(l, p).r;
        if (rank == 0) continue;
        sizes.push_back(rank * model::projection_inputs(config, p));
        sizes.push_back(model::projection_outputs(config, p) * rank);
      }
    }
    shape.trained_tensors = static_cast<std::int64_t>(sizes.size());
    fixed += model::LoraAdapter::bytes(config, lora, activations) +
             model::TrainableParameters::lora_bytes(config, lora);
  }
  shape.trained_elements = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  fixed += Optimizer::state_bytes(sizes, parse_optimizer(options_.optimizer.optim)) +
           backend_->workspace_bytes(shape) + backend_->runtime_bytes();

  TrainOptions memory;
  memory.memory.device_memory_gb = options_.memory.device_memory_gb;
  memory.memory.gpu_memory_utilization = options_.memory.gpu_memory_utilization;
  const MemoryBudget budget =
      memory_budget(memory, backend_->free_bytes(), io::available_host_memory());
  SftOptions sizes_of = step_options();
  const auto total = [&](bool keep) {
    sizes_of.gradient_checkpointing = !keep;
    return fixed + SftTrainer::pass_bytes(config, activations, sizes_of);
  };
  keep_activations_ = !options_.memory.gradient_checkpointing || total(true) <= budget.bytes;
  const std::size_t need = total(keep_activations_);
  const std::size_t may = budget.soft ? budget.hard_bytes : budget.bytes;
  require(need <= may,
          "the run needs {} of memory, but {} may be used: lower --max-length ({}) or "
          "--micro-batch-tokens ({}){}{}, or raise --device-memory",
          io::format_bytes(need), io::format_bytes(may), options_.batch.max_length,
          options_.memory.micro_batch_tokens,
          options_.full ? ", train an adapter instead of --full" : "",
          options_.memory.gradient_checkpointing ? "" : ", use --gradient-checkpointing true");
  console_.line(fmt::format("qgrpo sft: {} on {}", options_.base.model, backend_->description()));
  std::int64_t learned = 0;
  std::int64_t tokens = 0;
  for (const SftExample& e : data_.examples) {
    learned += e.learned_tokens();
    tokens += e.length();
  }
  console_.line(fmt::format(
      "  {} examples, {} tokens, {} of them learned{}; {} steps of {} {}, {:.2f} epochs",
      data_.examples.size(), tokens, learned,
      options_.batch.packing ? fmt::format(", packed into {} rows", rows_.size()) : std::string(),
      options_.run.max_steps,
      options_.batch.per_device_train_batch_size * options_.batch.gradient_accumulation_steps,
      options_.batch.packing ? "rows" : "examples", epoch(options_.run.max_steps)));
  if (data_.truncated > 0) {
    console_.line(fmt::format(
        "  {} example(s) were longer than --max-length {} and were cut at the end; of {} nothing "
        "was left to learn",
        data_.truncated, options_.batch.max_length, data_.dropped));
  }
  console_.line(fmt::format("  {}, {} of memory, micro-batches of up to {} tokens{}",
                            options_.full ? "all parameters" : "a LoRA adapter",
                            io::format_bytes(need), options_.memory.micro_batch_tokens,
                            keep_activations_ ? "" : ", blocks are computed anew backwards"));
  backend_->reserve(weights.matrices, shape);
}

SftOptions SftRun::step_options() const {
  SftOptions o;
  o.max_steps = options_.run.max_steps;
  o.learning_rate = options_.rate();
  o.max_grad_norm = options_.optimizer.max_grad_norm;
  o.optim = parse_optimizer(options_.optimizer.optim);
  o.adamw.beta1 = options_.optimizer.adam_beta1;
  o.adamw.beta2 = options_.optimizer.adam_beta2;
  o.adamw.eps = options_.optimizer.adam_epsilon;
  o.adamw.weight_decay = options_.optimizer.weight_decay;
  o.micro_batch_tokens = options_.memory.micro_batch_tokens;
  o.gradient_checkpointing = !keep_activations_;
  return o;
}

void SftRun::load_model() {
  const model::Config config = model::load_config(options_.base.model);
  model::LoraConfig lora;
  lora.r = options_.lora.lora_r;
  lora.lora_alpha = options_.lora.lora_alpha;
  lora.use_rslora = options_.lora.use_rslora;
  lora.target_modules = model::parse_target_modules(options_.lora.lora_target_modules);
  lora.base_model_name_or_path = options_.base.model;
  // The adapter of a resumed run is the checkpoint's.
  const std::string adapter = resume_folder_.empty() ? options_.base.adapter : resume_folder_;
  if (!options_.full && !adapter.empty()) {
    adapter_ =
        std::make_unique<model::LoraAdapter>(model::LoraAdapter::load(*backend_, config, adapter));
    lora = adapter_->config();
  }
  plan(lora);

  const auto earlier = list_checkpoints(options_.run.output_dir);
  const bool logs = fs::exists(options_.run.output_dir + "/metrics.jsonl");
  if (resume_folder_.empty() && (!earlier.empty() || logs)) {
    require(options_.run.overwrite_output_dir,
            "{}: holds an earlier run; continue it with --resume, replace it with "
            "--overwrite-output-dir, or choose another --output-dir",
            options_.run.output_dir);
  }
  std::error_code error;
  fs::create_directories(options_.run.output_dir, error);
  if (error)
    fail("{}: the output folder cannot be made ({})", options_.run.output_dir, error.message());

  const bool whole_from_checkpoint = options_.full && !resume_folder_.empty();
  model_ = std::make_unique<model::Model>(
      model::Model::load(*backend_, whole_from_checkpoint ? resume_folder_ : options_.base.model,
                         options_.full ? model::Quantize::f32 : options_.base.quantize,
                         [&](std::size_t done, std::size_t total) {
                           console_.live(fmt::format("loading {} of {}", io::format_bytes(done),
                                                     io::format_bytes(total)));
                         }));
  state_.base_fingerprint = model_->fingerprint();
  if (options_.full) {
    parameters_ =
        std::make_unique<model::TrainableParameters>(model::TrainableParameters::full(*model_));
  } else {
    if (!adapter_) {
      adapter_ = std::make_unique<model::LoraAdapter>(
          model::LoraAdapter::create(*backend_, config, lora, options_.run.seed));
    }
    model_->set_adapters({adapter_.get()});
    parameters_ = std::make_unique<model::TrainableParameters>(
        model::TrainableParameters::lora(*model_, *adapter_, static_cast<std::size_t>(kAdapter)));
  }
  trainer_ = std::make_unique<SftTrainer>(*model_, *parameters_, options_.full ? -1 : kAdapter,
                                          step_options());
}

void SftRun::resume() {
  if (resume_folder_.empty()) {
    clear_output_dir(options_.run.output_dir);
  } else {
    const SftState saved = load_sft_state(resume_folder_);
    for (const auto& [name, value] : state_.options) {
      if (name == "max_steps") continue;
      const auto found = saved.options.find(name);
      const std::string before = found == saved.options.end() ? "(absent)" : found->second;
      require(before == value,
              "{}: was made with {} = {}, but this run has {}; resume with the same options, or "
              "start a new run",
              resume_folder_, name, before, value);
    }
    // A full run's checkpoint is the whole model.
    require(options_.full || saved.base_fingerprint == state_.base_fingerprint,
            "{}: was trained on another base model than {}", resume_folder_, options_.base.model);
    require(saved.data_fingerprint == state_.data_fingerprint,
            "{}: was trained on other data than {}", resume_folder_, options_.data.dataset.front());
    require(saved.global_step <= options_.run.max_steps,
            "{}: is at step {}, beyond the last step {}", resume_folder_, saved.global_step,
            options_.run.max_steps);
    const auto options = state_.options;
    const auto base = state_.base_fingerprint;
    state_ = saved;
    state_.options = options;
    if (!options_.full) state_.base_fingerprint = base;
    const std::string path = resume_folder_ + "/optimizer.safetensors";
    const io::SafetensorsFile file(path);
    Optimizer::NamedTensors tensors;
    for (const auto& name : file.names()) tensors.emplace_back(name, file.tensor(name));
    trainer_->optimizer().load_state(tensors, path);
    trainer_->optimizer().set_step_count(state_.global_step);
    console_.line(fmt::format("resumed from {} (step {})", resume_folder_, state_.global_step));
  }
  metrics_log_ =
      std::make_unique<LogFile>(options_.run.output_dir + "/metrics.jsonl", state_.metrics_offset);
}

std::int64_t SftRun::steps_per_epoch() const {
  const std::int64_t batch =
      options_.batch.per_device_train_batch_size * options_.batch.gradient_accumulation_steps;
  return (static_cast<std::int64_t>(rows_.size()) + batch - 1) / batch;
}

double SftRun::epoch(std::int64_t steps) const {
  return static_cast<double>(steps) / static_cast<double>(steps_per_epoch());
}

// The last step of an epoch takes what is left of it.
std::vector<SftExample> SftRun::examples_of(std::int64_t step) const {
  const auto batch = static_cast<std::size_t>(options_.batch.per_device_train_batch_size *
                                              options_.batch.gradient_accumulation_steps);
  const std::int64_t epoch = step / steps_per_epoch();
  const std::size_t begin = static_cast<std::size_t>(step % steps_per_epoch()) * batch;
  const std::size_t end = std::min(begin + batch, rows_.size());
  std::vector<std::uint32_t> order;
  if (options_.data.shuffle_dataset) {
    order = epoch_order(rows_.size(), options_.run.seed, static_cast<std::uint64_t>(epoch));
  }
  std::vector<SftExample> out;
  for (std::size_t i = begin; i < end; ++i) {
    for (const std::uint32_t index : rows_[order.empty() ? i : order[i]])
      out.push_back(data_.examples[index]);
  }
  return out;
}

void SftRun::run_step() {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t step = state_.global_step + 1;
  const std::int64_t warmup = resolve_warmup_steps(
      options_.optimizer.warmup_steps, options_.optimizer.warmup_ratio, options_.run.max_steps);
  const double rate = learning_rate(parse_lr_schedule(options_.optimizer.lr_scheduler_type),
                                    options_.rate(), step, warmup, options_.run.max_steps);
  const SftStep done = trainer_->step(examples_of(state_.global_step), rate);
  state_.global_step = step;
  state_.num_tokens += done.tokens;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  io::JsonWriter w;
  w.begin_object();
  w.member("step", step);
  w.member("epoch", epoch(step));
  w.member("loss", done.loss);
  w.member("entropy", done.entropy);
  w.member("grad_norm", done.gradient_norm);
  w.member("learning_rate", rate);
  w.member("num_tokens", state_.num_tokens);
  w.member("step_time", seconds.count());
  w.end_object();
  metrics_log_->append(w.str());
  state_.metrics_offset = metrics_log_->size();
  const std::string text =
      fmt::format("step {}/{}  loss {:.4f}  grad norm {:.3f}  lr {:.3g}  {:.0f} tokens/s", step,
                  options_.run.max_steps, done.loss, done.gradient_norm, rate,
                  static_cast<double>(done.tokens) / std::max(seconds.count(), 1e-9));
  if (step == 1 || step == options_.run.max_steps || step % options_.run.logging_steps == 0) {
    console_.line(text);
  } else {
    console_.live(text);
  }
}

bool SftRun::evaluation_due() const {
  if (held_out_.examples.empty()) return false;
  if (state_.global_step == options_.run.max_steps) return true;
  const std::int64_t every =
      options_.eval.eval_steps > 0 ? options_.eval.eval_steps : steps_per_epoch();
  return state_.global_step % every == 0;
}

void SftRun::evaluate() {
  const SftEvaluation found = trainer_->evaluate(held_out_.examples);
  state_.eval_loss = found.loss;
  io::JsonWriter w;
  w.begin_object();
  w.member("step", state_.global_step);
  w.member("epoch", epoch(state_.global_step));
  w.member("eval_loss", found.loss);
  w.member("eval_entropy", found.entropy);
  w.end_object();
  metrics_log_->append(w.str());
  state_.metrics_offset = metrics_log_->size();
  console_.line(fmt::format("  eval_loss {:.4f} on {} held-out examples ({} tokens)", found.loss,
                            held_out_.examples.size(), found.learned_tokens));
}

std::string SftRun::save() {
  const std::string path = checkpoint_path(options_.run.output_dir, state_.global_step);
  write_checkpoint(path, [&](const std::string& folder) {
    if (adapter_) {
      adapter_->save(folder, *backend_);
    } else {
      model_->save(folder);
      copy_tokenizer(options_.base.model, folder);
    }
    io::write_safetensors(folder + "/optimizer.safetensors", trainer_->optimizer().state_tensors());
    io::write_file_atomically(folder + "/trainer_state.json", state_json(state_));
  });
  prune_checkpoints(options_.run.output_dir, options_.run.save_total_limit);
  return path;
}

std::string SftRun::run() {
  std::string saved;
  const std::int64_t first_step = state_.global_step;
  while (state_.global_step < options_.run.max_steps && !stop_requested.load()) {
    try {
      run_step();
      if (evaluation_due()) evaluate();
    } catch (const Error& error) {
      // A step that fails has changed nothing: what was learned before it is kept.
      if (state_.global_step == first_step) throw;
      fail("{} (everything up to step {} is in {})", error.what(), state_.global_step, save());
    }
    const bool last = state_.global_step == options_.run.max_steps;
    if (last ||
        (options_.run.save_steps > 0 && state_.global_step % options_.run.save_steps == 0)) {
      saved = save();
      if (!last) console_.line("  saved " + saved);
    }
  }
  const bool interrupted = state_.global_step < options_.run.max_steps;
  if (interrupted || saved.empty()) saved = save();
  if (interrupted) {
    console_.line(fmt::format("interrupted after step {}: {} holds everything; go on with --resume",
                              state_.global_step, saved));
  } else {
    console_.line(fmt::format("done: the {} is in {}", options_.full ? "model" : "adapter", saved));
  }
  return saved;
}

}  // namespace qgrpo::train
