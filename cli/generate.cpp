#include "cli/generate.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <iostream>
#include <map>

#include "cli/commands.h"
#include "cli/named_models.h"
#include "cli/text/line_reader.h"
#include "engine/completion_text.h"
#include "engine/owned_generator.h"
#include "model/io/json.h"
#include "train/data/prompt.h"

namespace qgrpo::cli {
namespace {

// The text of one completion while it grows.
struct Sample {
  std::string text;
  std::optional<engine::CompletionText> decoder;  // none: there is no tokenizer
  engine::FinishReason finish = engine::FinishReason::none;
};

// One input line on its way.
struct Line {
  engine::GroupRequest request;
  std::vector<Sample> samples;
  std::size_t unfinished = 0;
  engine::GroupId group = 0;  // 0: not handed to the generator yet
  std::string copied;         // the input's members, without its braces; empty: not asked for
};

class GenerateRun {
 public:
  GenerateRun(const GenerateOptions& options, std::ostream& out)
      : options_(options),
        params_(options.sampling.resolve()),
        out_(out),
        reader_(options.dataset.empty() ? options.input : "/dev/null"),
        tokenizer_(options.model) {
    const auto count = [](std::int64_t value, const char* name, std::int64_t most) {
      require_usage(value >= 1 && value <= most, "{}: found {}, expected 1 to {}", name, value,
                    most);
    };
    count(options.n, "-n", 1 << 16);
    count(options.max_tokens, "--max-tokens", 1 << 30);
    count(options.batch_size, "--batch-size", 1 << 16);
    for (const auto& stop : options.stop) {
      require_usage(!stop.empty(),
                    "--stop: found an empty string, expected at least one character");
    }
    read_questions();
    loaded_ = load_model(options.model, make_backend(options.device, Workload::inference));
    limit_prompt_lines(reader_, loaded_.config());
    with_text_ = tokenizer_.available();
    require(with_text_ || options.stop.empty(),
            "--stop: {} has no tokenizer files, so there is no text to look for stop strings in",
            options.model.model);
    if (with_text_) stops_ = engine::StopWords::of(options_.stop, tokenizer_.get());
  }

  int run() {
    while (true) {
      read_lines();
      start_lines();
      if (generator_ && (*generator_)->has_work()) {
        step();
        write_finished();
      } else if (lines_.empty()) {
        break;
      }
    }
    if (progress_wanted()) show_progress("");
    if (error_) std::rethrow_exception(error_);
    return 0;
  }

 private:
  // Reads what is there, up to a bounded number of lines ahead; waits only when nothing runs. The
  // first error ends the input: the lines before it are still answered.
  void read_lines() {
    const auto ahead = static_cast<std::size_t>(2 * options_.batch_size);
    std::string text;
    while (!input_ended_ && lines_.size() < ahead) {
      try {
        if (next_question_ < questions_.size()) {
          const std::size_t number = next_question_++;
          lines_.push_back(
              parse(document_.parse(questions_[number], fmt::format("question {}", number + 1)),
                    questions_[number]));
          continue;
        }
        const auto status = reader_.next(text, /*wait=*/lines_.empty());
        if (status == LineReader::Status::not_ready) return;
        if (status == LineReader::Status::interrupted) continue;
        if (status == LineReader::Status::end) {
          input_ended_ = true;
          return;
        }
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        lines_.push_back(parse(document_.parse(text, reader_.where()), text));
      } catch (const Error&) {
        error_ = std::current_exception();
        input_ended_ = true;
      }
    }
  }

  // The data sets' questions as input lines.
  void read_questions() {
    if (options_.dataset.empty()) return;
    require_usage(options_.input.empty(), "--input and --dataset: found both, expected one");
    require_usage(options_.limit >= 0, "--limit: found {}, expected 0 (all) or more",
                  options_.limit);
    const train::PromptOptions prompt =
        asked_prompt(options_.model, options_.system_prompt, std::nullopt, std::cerr);
    for (const train::Example& example :
         train::read_dataset(local_datasets(options_.dataset, options_.hub), options_.columns)) {
      io::JsonWriter w;
      w.begin_object();
      w.key("messages");
      w.raw(train::prompt_json(example, prompt));
      w.member("answer", example.answer);
      for (const auto& [key, value] : {std::pair{"tools", &example.render.tools},
                                       {"chat_template_kwargs", &example.render.variables}}) {
        if (value->empty()) continue;
        w.key(key);
        w.raw(*value);
      }
      w.end_object();
      questions_.push_back(w.str());
      if (questions_.size() == static_cast<std::size_t>(options_.limit)) break;
    }
  }

  std::unique_ptr<Line> parse(const io::JsonValue& json, const std::string& text) {
    const model::Config& config = loaded_.config();
    auto line = std::make_unique<Line>();
    if (options_.copy_input || !options_.dataset.empty()) {
      require(json.is_object() && !json.find("completions"),
              "{}: expected an object without \"completions\", which --copy-input adds",
              json.where());
      const std::size_t begin = text.find('{') + 1;
      line->copied = text.substr(begin, text.rfind('}') - begin);
    }
    engine::GroupRequest& request = line->request;
    request.prompt = read_prompt(json, "prompt", true, config.vocab_size, tokenizer_);
    const auto length = static_cast<std::int64_t>(request.prompt.size());
    require(length < config.context_length(),
            "{}: a prompt of {} tokens leaves no room for a completion, the model has {} positions",
            json.where(), length, config.context_length());
    request.samples = static_cast<std::int32_t>(options_.n);
    request.max_new_tokens =
        static_cast<std::int32_t>(std::min(options_.max_tokens, config.context_length() - length));
    request.sampling = params_;
    request.eos_ids = tokenizer_.eos_ids(config);
    request.ignore_eos = options_.ignore_eos;
    request.adapter = loaded_.adapter_index();
    request.seed = options_.seed;
    request.prompt_key = next_key_++;
    line->unfinished = static_cast<std::size_t>(options_.n);
    line->samples.resize(line->unfinished);
    for (Sample& sample : line->samples) {
      if (with_text_) sample.decoder.emplace(tokenizer_.get(), stops_);
    }
    return line;
  }

  std::int64_t blocks_needed(const engine::GroupRequest& request) const {
    return engine::blocks_of_group(static_cast<std::int64_t>(request.prompt.size()),
                                   request.max_new_tokens, request.samples, engine::kBlockSize);
  }

  // Hands lines to the generator, which starts them as they fit. Where one is larger than any
  // before, the cache is made anew, once nothing runs.
  void start_lines() {
    for (auto& line : lines_) {
      if (line->group != 0) continue;
      const std::int64_t needed = blocks_needed(line->request);
      if (!generator_ || needed > generator_->capacity().num_blocks) {
        if (generator_ && (*generator_)->has_work()) return;
        make_generator();
      }
      line->group = (*generator_)->add(line->request);
      running_[line->group] = line.get();
    }
  }

  // Room for as many of the known lines at once as --batch-size says, each as large as the largest;
  // for fewer where that would take more than half of the free memory.
  void make_generator() {
    engine::GeneratorLoad load;
    load.sequences = std::max(options_.n, options_.batch_size);
    load.samples = options_.n;
    load.group_blocks = 1;
    for (const auto& line : lines_) {
      if (line->group != 0) continue;
      load.group_blocks = std::max(load.group_blocks, blocks_needed(line->request));
    }
    generator_.reset();
    load.affordable_blocks = engine::affordable_blocks(*loaded_.model);
    require(load.num_blocks() <= engine::kMostBlocks,
            "{} completions of up to {} tokens: more than the cache can number; lower -n or "
            "--max-tokens",
            options_.n, options_.max_tokens);
    generator_ = std::make_unique<engine::OwnedGenerator>(
        *loaded_.model, engine::generator_capacity(*loaded_.backend, load));
  }

  void step() {
    for (const engine::TokenEvent& event : (*generator_)->step()) {
      ++tokens_;
      Line& line = *running_.at(event.group);
      Sample& sample = line.samples[static_cast<std::size_t>(event.sample)];
      sample.finish = event.finish;
      if (with_text_) sample.text += sample.decoder->push(event);
      const bool stopped = with_text_ && sample.decoder->stopped();
      if (stopped && event.finish == engine::FinishReason::none) {
        (*generator_)->finish(event.group, event.sample);
      }
      if (stopped) sample.finish = engine::FinishReason::stop;
      if (sample.finish != engine::FinishReason::none) --line.unfinished;
    }
  }

  void write_finished() {
    while (!lines_.empty() && lines_.front()->group != 0 && lines_.front()->unfinished == 0) {
      const Line& line = *lines_.front();
      const auto completions = (*generator_)->take(line.group);
      io::JsonWriter json;
      json.begin_object();
      json.key("completions");
      json.begin_array();
      for (std::size_t i = 0; i < completions.size(); ++i) {
        json.begin_object();
        json.key("text");
        with_text_ ? json.value(line.samples[i].text) : json.null();
        json.member("ids", completions[i].ids);
        json.member("logprobs", completions[i].logprobs);
        json.member("finish_reason", std::string_view(name(line.samples[i].finish)));
        json.end_object();
      }
      json.end_array();
      json.end_object();
      std::string text = json.str();
      if (!line.copied.empty()) text = "{" + line.copied + "," + text.substr(1);
      out_ << text << '\n' << std::flush;
      running_.erase(line.group);
      lines_.pop_front();
      ++written_;
    }
    if (progress_wanted()) {
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
      show_progress(fmt::format("{} line{} done, {} tokens, {:.1f} tokens/s", written_,
                                written_ == 1 ? "" : "s", tokens_,
                                static_cast<double>(tokens_) / seconds.count()));
    }
  }

  const GenerateOptions& options_;
  SamplingParams params_;
  std::ostream& out_;
  LineReader reader_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  bool with_text_ = false;
  engine::StopWords stops_;
  std::unique_ptr<engine::OwnedGenerator> generator_;
  io::JsonDocument document_;
  std::vector<std::string> questions_;  // of the data sets, as input lines
  std::size_t next_question_ = 0;
  std::deque<std::unique_ptr<Line>> lines_;  // not written yet, in order
  std::map<engine::GroupId, Line*> running_;
  std::uint32_t next_key_ = 0;
  bool input_ended_ = false;
  std::exception_ptr error_;
  std::uint64_t written_ = 0;
  std::uint64_t tokens_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

int run_generate(const GenerateOptions& options, std::ostream& out) {
  return GenerateRun(options, out).run();
}

void add_generate_command(CommandLine& line) {
  const auto options = std::make_shared<GenerateOptions>();
  OptionTable table = line.command(
      "generate", "Complete prompts: JSON lines in, completions with their log-probs out",
      "Input, one object a line: {\"ids\": [..]}, {\"prompt\": \"..\"} or {\"messages\": "
      "[{\"role\": .., \"content\": ..}, ..]}; \"prompt\" may be a list of messages too.\n"
      "Output, one line each: {\"completions\": [{\"text\": .., \"ids\": [..], \"logprobs\": [..], "
      "\"finish_reason\": \"stop\" or \"length\"}]}.",
      [options] { return run_generate(*options, std::cout); });
  add_model_options(table, options->model);
  table.value("--input", options->input, "FILE", "File of JSON lines (default: standard input)");
  table.value("--dataset", options->dataset, "FILE",
              "Instead: questions as qgrpo train reads them (may be repeated); the "
              "output has \"messages\" and \"answer\" too");
  add_hub_dataset_options(table, options->hub);
  table.value("--limit", options->limit, "N", "The first N questions of --dataset; 0 = all");
  table.value("--prompt-column", options->columns.prompt_column, "NAME",
              "Key of --dataset's question or conversation");
  table.value("--answer-column", options->columns.answer_column, "NAME",
              "Key of --dataset's answer");
  table.choice("--answer-format", options->columns.answer_format, train::kAnswerFormatNames,
               "gsm8k: behind ####; plain: all of it; auto");
  table.value(
      "--system-prompt", options->system_prompt, "TEXT",
      "Before each question of --dataset (default: what the model was trained with, else the GSM8K "
      "notebook's)");
  table.bare_flag("--copy-input", options->copy_input,
                  "Put each input line's own members before its completions");
  table.value("-n,--n,--num-generations", options->n, "N", "Completions of each prompt");
  table.value("--max-tokens,--max-completion-length", options->max_tokens, "N",
              "Longest completion");
  table
      .value("--stop", options->stop, "TEXT",
             "End a completion before this text (may be given several times)")
      .one_each();
  table.bare_flag("--ignore-eos", options->ignore_eos,
                  "Go on after the end-of-text token, up to --max-tokens");
  table.value("--seed", options->seed, "N", "Of the random draws").not_negative();
  table.value("--batch-size", options->batch_size, "N", "Completions computed at once");
  add_sampling_options(table, options->sampling, "temperature 1, the rest off");
  add_device_options(table, options->device);
}

}  // namespace qgrpo::cli
