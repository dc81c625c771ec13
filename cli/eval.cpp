#include "cli/eval.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <limits>

#include "cli/commands.h"
#include "cli/named_models.h"
#include "cli/stop_signals.h"
#include "engine/owned_generator.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "train/eval/evaluate.h"
#include "train/eval/statistics.h"
#include "train/run/console.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

constexpr float kVotingTemperature = 0.7f;

// One way of answering all questions.
struct Pass {
  std::string policy;  // "base" or "adapter"
  std::string mode;    // "greedy" or "maj"
  train::Evaluation result;

  std::vector<std::uint8_t> right() const {
    std::vector<std::uint8_t> out;
    for (const auto& q : result.questions)
      out.push_back(mode == "maj" ? q.majority_correct : q.answers.front().correct);
    return out;
  }
  double accuracy() const { return mode == "maj" ? result.majority_accuracy : result.accuracy; }
};

std::int64_t count(const std::vector<std::uint8_t>& right) {
  return std::count(right.begin(), right.end(), std::uint8_t{1});
}

class EvalRun {
 public:
  explicit EvalRun(const EvalOptions& options) : options_(options), tokenizer_(options.model) {
    check();
    train::DatasetOptions columns = options.columns;
    columns.answer_required = true;
    examples_ = train::read_dataset(local_datasets(options.dataset, options.hub), columns);
    if (options.limit > 0 && static_cast<std::size_t>(options.limit) < examples_.size())
      examples_.resize(static_cast<std::size_t>(options.limit));
    loaded_ = load_model(options.model, make_backend(options.device, Workload::inference));
    prepare();
  }

  int run() {
    const StopSignals signals;
    std::vector<std::pair<std::string, std::int32_t>> policies;
    if (!loaded_.adapter || options_.base) policies.emplace_back("base", -1);
    if (loaded_.adapter) policies.emplace_back("adapter", 0);
    std::cout << fmt::format("{} questions, {} match, up to {} tokens\n", examples_.size(),
                             train::kAnswerMatchNames.name(options_.match),
                             options_.max_completion_length);
    for (const auto& [policy, adapter] : policies) {
      settings_.adapter = adapter;
      if (options_.greedy) pass(policy, "greedy");
      if (options_.maj > 0) pass(policy, "maj");
    }
    compare();
    if (truncated_ > 0) {
      std::cout << fmt::format(
          "{} prompt(s) were longer than --max-prompt-length {} and were cut on the left\n",
          truncated_, options_.max_prompt_length);
    }
    if (!options_.output.empty()) {
      io::write_file_atomically(options_.output, report() + "\n");
      std::cout << fmt::format("every answer is in {}\n", options_.output);
    }
    return 0;
  }

 private:
  void check() {
    const auto number = [](const char* name, std::int64_t value, std::int64_t least,
                           std::int64_t most) {
      require_usage(value >= least && value <= most, "{}: found {}, expected {} to {}", name, value,
                    least, most);
    };
    number("--limit", options_.limit, 0, std::numeric_limits<std::int32_t>::max());
    number("--maj", options_.maj, 0, 1 << 12);
    number("--max-prompt-length", options_.max_prompt_length, 0, 1 << 20);
    number("--max-completion-length", options_.max_completion_length, 1, 1 << 20);
    number("--batch-size", options_.batch_size, 1, 1 << 16);
    require_usage(options_.greedy || options_.maj > 0,
                  "--no-greedy: leaves nothing to do; add --maj K for the vote of K completions");
    settings_.match = options_.match;
    if (!options_.rewards.empty()) rewards_ = train::parse_rewards(options_.rewards);
    for (const train::Reward& reward : rewards_) {
      require_usage(reward.kind == train::RewardKind::built_in,
                    "--rewards: {} is a reward of your own; eval reports built-in ones only, its "
                    "--output can be scored by grade",
                    reward.name);
    }
    SamplingParams defaults;
    defaults.temperature = kVotingTemperature;
    voting_ = options_.sampling.resolve(defaults);
    require_usage(
        options_.maj == 0 || voting_.temperature > 0,
        "--temperature 0: greedy completions are all alike, so there is nothing to vote on; "
        "expected a number > 0 with --maj");
    if (!options_.output.empty()) {
      const auto folder = std::filesystem::absolute(options_.output).parent_path();
      require(io::is_folder(folder), "--output {}: there is no folder {}", options_.output,
              folder.string());
    }
  }

  // Prompts, and a generator that serves all passes.
  void prepare() {
    settings_.prompt =
        asked_prompt(options_.model, options_.system_prompt, options_.one_shot, std::cout);
    settings_.max_prompt_length = options_.max_prompt_length;
    settings_.seed = options_.seed;
    settings_.eos_ids = tokenizer_.eos_ids(loaded_.config());
    prompts_ = train::question_groups(tokenizer_.get(), tokenizer_.chat(), examples_, settings_,
                                      truncated_);
    std::int64_t longest = 1;
    for (const auto& group : prompts_)
      longest = std::max(longest, static_cast<std::int64_t>(group.prompt_ids.size()));
    const model::Config& config = loaded_.config();
    require(longest < config.context_length(),
            "a prompt of {} tokens leaves no room for a completion, the model has {} positions; "
            "--max-prompt-length cuts prompts on the left",
            longest, config.context_length());
    settings_.max_completion_length =
        std::min(options_.max_completion_length, config.context_length() - longest);

    const std::int64_t samples = std::max<std::int64_t>(1, options_.maj);
    const std::int64_t at_once =
        std::min<std::int64_t>(std::max<std::int64_t>(1, options_.batch_size / samples),
                               static_cast<std::int64_t>(prompts_.size()));
    engine::GeneratorLoad load;
    load.sequences = std::max(samples, at_once * samples);
    load.samples = samples;
    load.group_blocks = engine::most_blocks_of_group(longest, settings_.max_completion_length,
                                                     samples, engine::kBlockSize);
    load.affordable_blocks = engine::affordable_blocks(*loaded_.model);
    require(load.num_blocks() <= engine::kMostBlocks,
            "{} completions of up to {} tokens: more than the cache can number; lower --batch-size",
            at_once * samples, settings_.max_completion_length);
    generator_ = std::make_unique<engine::OwnedGenerator>(
        *loaded_.model, engine::generator_capacity(*loaded_.backend, load));
  }

  void pass(const std::string& policy, const std::string& mode) {
    const bool vote = mode == "maj";
    settings_.samples = vote ? static_cast<std::int32_t>(options_.maj) : 1;
    settings_.sampling = vote ? voting_ : SamplingParams{};
    if (!vote) settings_.sampling.temperature = 0.0f;
    const auto start = std::chrono::steady_clock::now();
    std::vector<train::Group> groups = prompts_;
    const bool show = progress_wanted();
    std::size_t done = 0;
    const bool finished = train::answer_questions(
        **generator_, tokenizer_.get(), groups, settings_,
        [&](std::size_t questions, std::int64_t tokens) {
          done = questions;
          const std::chrono::duration<double> s = std::chrono::steady_clock::now() - start;
          if (show && s.count() > shown_ + 0.1) {
            shown_ = s.count();
            show_progress(fmt::format("{} {}: {} of {} questions, {:.0f} tokens/s", policy, mode,
                                      questions, groups.size(),
                                      static_cast<double>(tokens) / s.count()));
          }
          return !train::stop_requested.load();
        });
    shown_ = 0.0;
    if (show) show_progress("");
    if (!finished) {
      throw train::Interrupted(
          fmt::format("interrupted after {} of {} questions ({} {}); no report was written", done,
                      groups.size(), policy, mode));
    }
    for (auto& group : groups) {
      for (auto& c : group.completions) {
        if (!rewards_.empty()) c.reward = train::score(rewards_, c.text, group.answer).total;
      }
    }
    Pass& p = passes_.emplace_back();
    p.policy = policy;
    p.mode = mode;
    p.result = train::judge(groups, settings_.match);
    const auto right = p.right();
    const auto total = static_cast<std::int64_t>(right.size());
    const train::Interval interval = train::wilson_interval(count(right), total);
    std::string text =
        fmt::format("{:<8}{:<8}{:>5}/{:<5} = {:>5.1f} %   95 % interval {:.1f} to {:.1f} %", policy,
                    vote ? fmt::format("maj@{}", options_.maj) : mode, count(right), total,
                    100 * p.accuracy(), 100 * interval.low, 100 * interval.high);
    if (vote) {
      text += fmt::format("   pass@1 {:.1f} %, pass@{} {:.1f} %", 100 * p.result.accuracy,
                          options_.maj, 100 * p.result.any_accuracy);
    }
    if (!rewards_.empty()) text += fmt::format("   reward {:.3f}", p.result.mean_reward);
    text += fmt::format("   {:.0f} tokens", p.result.mean_length);
    if (p.result.clipped_ratio > 0)
      text += fmt::format(" ({:.0f} % cut)", 100 * p.result.clipped_ratio);
    std::cout << text << std::endl;
  }

  const Pass* find(const std::string& policy, const std::string& mode) const {
    for (const Pass& p : passes_) {
      if (p.policy == policy && p.mode == mode) return &p;
    }
    return nullptr;
  }

  void compare() {
    for (const char* mode : {"greedy", "maj"}) {
      const Pass* base = find("base", mode);
      const Pass* adapter = find("adapter", mode);
      if (base == nullptr || adapter == nullptr) continue;
      const auto c = train::compare_paired(base->right(), adapter->right());
      comparisons_.emplace_back(mode, c);
      std::cout << fmt::format(
          "{}: adapter - base = {:+.1f} points; only the base is right on {}, only the adapter on "
          "{}; McNemar's exact p = {:.3g}\n",
          mode, 100 * (adapter->accuracy() - base->accuracy()), c.only_first, c.only_second,
          c.p_value);
    }
  }

  std::string report() const {
    io::JsonWriter w;
    w.begin_object();
    w.member("model", options_.model.model);
    w.key("adapter");
    options_.model.adapter.empty() ? w.null() : w.value(options_.model.adapter);
    w.member("dataset", options_.dataset);
    w.member("questions", static_cast<std::int64_t>(examples_.size()));
    w.key("settings");
    write_settings(w);
    w.key("results");
    w.begin_object();
    for (const char* policy : {"base", "adapter"}) {
      if (find(policy, "greedy") == nullptr && find(policy, "maj") == nullptr) continue;
      w.key(policy);
      w.begin_object();
      for (const char* mode : {"greedy", "maj"}) {
        if (const Pass* p = find(policy, mode)) write_result(w, *p);
      }
      w.end_object();
    }
    w.end_object();
    w.key("comparison");
    w.begin_object();
    for (const auto& [mode, c] : comparisons_) {
      w.key(mode);
      w.begin_object();
      w.member("both", c.both);
      w.member("only_base", c.only_first);
      w.member("only_adapter", c.only_second);
      w.member("neither", c.neither);
      w.member("difference", find("adapter", mode)->accuracy() - find("base", mode)->accuracy());
      w.member("mcnemar_p", c.p_value);
      w.end_object();
    }
    w.end_object();
    w.key("answers");
    w.begin_array();
    for (std::size_t i = 0; i < examples_.size(); ++i) write_question(w, i);
    w.end_array();
    w.end_object();
    return w.str();
  }

  void write_settings(io::JsonWriter& w) const {
    w.begin_object();
    w.member("quantize", options_.model.quantize);
    w.member("match", train::kAnswerMatchNames.name(options_.match));
    w.member("system_prompt", settings_.prompt.system_prompt);
    w.member("one_shot", settings_.prompt.one_shot);
    w.member("max_prompt_length", options_.max_prompt_length);
    w.member("max_completion_length", settings_.max_completion_length);
    w.member("maj", options_.maj);
    if (options_.maj > 0) {
      w.member("temperature", static_cast<double>(voting_.temperature));
      w.member("top_p", static_cast<double>(voting_.top_p));
      w.member("top_k", static_cast<std::int64_t>(voting_.top_k));
      w.member("min_p", static_cast<double>(voting_.min_p));
      w.member("repetition_penalty", static_cast<double>(voting_.repetition_penalty));
    }
    w.member("seed", static_cast<std::int64_t>(options_.seed));
    w.end_object();
  }

  void write_result(io::JsonWriter& w, const Pass& p) const {
    const auto right = p.right();
    const auto interval =
        train::wilson_interval(count(right), static_cast<std::int64_t>(right.size()));
    w.key(p.mode);
    w.begin_object();
    if (p.mode == "maj") w.member("k", options_.maj);
    w.member("correct", count(right));
    w.member("accuracy", p.accuracy());
    w.member("confidence_interval", std::vector<double>{interval.low, interval.high});
    if (p.mode == "maj") {
      w.member("pass_at_1", p.result.accuracy);
      w.member("pass_at_k", p.result.any_accuracy);
    }
    if (!rewards_.empty()) w.member("mean_reward", p.result.mean_reward);
    w.member("mean_length", p.result.mean_length);
    w.member("clipped_ratio", p.result.clipped_ratio);
    w.end_object();
  }

  void write_question(io::JsonWriter& w, std::size_t i) const {
    w.begin_object();
    w.member("index", static_cast<std::int64_t>(i));
    w.member("question", examples_[i].question);
    w.member("answer", examples_[i].answer);
    for (const char* policy : {"base", "adapter"}) {
      const Pass* greedy = find(policy, "greedy");
      const Pass* maj = find(policy, "maj");
      if (greedy == nullptr && maj == nullptr) continue;
      w.key(policy);
      w.begin_object();
      if (greedy != nullptr) {
        w.key("greedy");
        write_answer(w, greedy->result.questions[i].answers.front());
      }
      if (maj != nullptr) {
        const train::JudgedQuestion& q = maj->result.questions[i];
        w.key("maj");
        w.begin_object();
        w.key("extracted");
        q.majority ? w.value(q.answers[*q.majority].extracted) : w.null();
        w.member("correct", q.majority_correct);
        w.key("samples");
        w.begin_array();
        for (const auto& answer : q.answers) write_answer(w, answer);
        w.end_array();
        w.end_object();
      }
      w.end_object();
    }
    w.end_object();
  }

  void write_answer(io::JsonWriter& w, const train::JudgedAnswer& answer) const {
    w.begin_object();
    w.member("text", answer.text);
    w.member("extracted", answer.extracted);
    w.member("correct", answer.correct);
    w.member("finish_reason", answer.terminated ? "stop" : "length");
    w.member("tokens", answer.tokens);
    if (!rewards_.empty()) w.member("reward", answer.reward);
    w.end_object();
  }

  const EvalOptions& options_;
  train::EvaluationSettings settings_;
  SamplingParams voting_;
  std::vector<train::Reward> rewards_;
  std::vector<train::Example> examples_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  std::vector<train::Group> prompts_;
  std::int64_t truncated_ = 0;
  std::unique_ptr<engine::OwnedGenerator> generator_;
  std::vector<Pass> passes_;
  std::vector<std::pair<std::string, train::PairedComparison>> comparisons_;
  double shown_ = 0.0;
};

}  // namespace

int run_eval(const EvalOptions& options) {
  return EvalRun(options).run();
}

void add_eval_command(CommandLine& line) {
  const auto options = std::make_shared<EvalOptions>();
  OptionTable table = line.command(
      "eval", "Accuracy on questions with known answers: greedy, by vote, base against adapter",
      "With --adapter, the base model and the adapter answer the same questions and are compared\n"
      "on them. Data: GSM8K's JSON lines (\"question\", \"answer\" with ####), or other columns.",
      [options] { return run_eval(*options); });
  add_model_options(table, options->model);
  table.group("Questions");
  table
      .value("--dataset", options->dataset, "FILE",
             "JSON lines, CSV, .. as of qgrpo train (may be repeated)")
      .required();
  add_hub_dataset_options(table, options->hub);
  table.value("--limit", options->limit, "N", "The first N questions; 0 = all");
  table.value("--prompt-column", options->columns.prompt_column, "NAME",
              "Key of the question or conversation (default: prompt, messages or question)");
  table.value("--answer-column", options->columns.answer_column, "NAME",
              "Key of the answer (default: answer)");
  table.choice("--answer-format", options->columns.answer_format, train::kAnswerFormatNames,
               "gsm8k: behind ####; plain: all of it; auto");
  table.value(
      "--system-prompt", options->system_prompt, "TEXT",
      "Before each question (default: what the model was trained with, else the GSM8K notebook's)");
  table.flag("one-shot", options->one_shot, "A solved question before the real one");
  table.value("--max-prompt-length", options->max_prompt_length, "N",
              "Tokens; longer prompts are cut on the left; 0 = never");
  table.group("Answers");
  table.flag("base", options->base, "With --adapter: also the base model, to compare");
  table.flag("greedy", options->greedy, "Greedy answers");
  table.value("--maj", options->maj, "K", "Also the majority of K sampled answers (maj@K)");
  table.choice("--match", options->match, train::kAnswerMatchNames,
               "exact: the text of <answer>, as the correctness reward; numeric: the value of the "
               "last number; math: the same mathematics (docs/rewards.md)");
  table
      .value("--rewards", options->rewards, "NAME[:WEIGHT]",
             "Also report the mean of these built-in rewards")
      .separated_by(',');
  table.value("--max-completion-length,--max-tokens", options->max_completion_length, "N",
              "Tokens of an answer");
  table.value("--seed", options->seed, "N", "Of the sampled answers").not_negative();
  table.value("--batch-size", options->batch_size, "N", "Completions computed at once");
  table.value("--output", options->output, "FILE", "JSON report with every answer");
  add_sampling_options(table, options->sampling, "of --maj's answers: temperature 0.7");
  add_device_options(table, options->device);
}

}  // namespace qgrpo::cli
