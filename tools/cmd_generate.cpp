#include "tools/cmd_generate.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <exception>
#include <iostream>
#include <limits>
#include <map>

#include "engine/stop.h"
#include "model/io/json.h"
#include "tools/commands.h"
#include "tools/line_reader.h"
#include "train/plan.h"

namespace qgrpo::tools {
namespace {

constexpr std::int32_t kBlockSize = 16;

// The text of one completion while it grows.
struct Sample {
  std::string text;
  std::optional<StreamDecoder> decoder;
  std::optional<StopMatcher> matcher;
  FinishReason finish = FinishReason::none;
};

// One input line on its way.
struct Line {
  GroupRequest request;
  std::vector<Sample> samples;
  std::size_t unfinished = 0;
  GroupId group = 0;  // 0: not handed to the generator yet
};

class GenerateRun {
 public:
  GenerateRun(const GenerateOptions& options, std::ostream& out)
      : options_(options),
        params_(options.sampling.resolve()),
        out_(out),
        reader_(options.input),
        tokenizer_(options.model.model, options.model.chat_template) {
    const auto count = [](std::int64_t value, const char* name, std::int64_t most) {
      require(value >= 1 && value <= most, "{}: found {}, expected 1 to {}", name, value, most);
    };
    count(options.n, "-n", 1 << 16);
    count(options.max_tokens, "--max-tokens", 1 << 30);
    count(options.batch_size, "--batch-size", 1 << 16);
    for (const auto& stop : options.stop) {
      require(!stop.empty(), "--stop: found an empty string, expected at least one character");
    }
    loaded_ = load_model(options.model, make_backend(options.device));
    with_text_ = tokenizer_.available();
    require(with_text_ || options.stop.empty(),
            "--stop: {} has no tokenizer files, so there is no text to look for stop strings in",
            options.model.model);
    if (with_text_) prepare_stops();
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
  // A stop string that is the spelling of a special token, which is no text, is found by its id.
  void prepare_stops() {
    for (const auto& stop : options_.stop) {
      const auto id = tokenizer_.get().token_to_id(stop);
      if (id && tokenizer_.get().is_special(*id)) {
        stop_ids_.push_back(*id);
      } else {
        stop_strings_.push_back(stop);
      }
    }
  }

  // Reads what is there, up to a bounded number of lines ahead; waits only when nothing runs. The
  // first error ends the input: the lines before it are still answered.
  void read_lines() {
    const auto ahead = static_cast<std::size_t>(2 * options_.batch_size);
    std::string text;
    while (!input_ended_ && lines_.size() < ahead) {
      try {
        const auto status = reader_.next(text, /*wait=*/lines_.empty());
        if (status == LineReader::Status::not_ready) return;
        if (status == LineReader::Status::interrupted) continue;
        if (status == LineReader::Status::end) {
          input_ended_ = true;
          return;
        }
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        lines_.push_back(parse(document_.parse(text, reader_.where())));
      } catch (const Error&) {
        error_ = std::current_exception();
        input_ended_ = true;
      }
    }
  }

  std::unique_ptr<Line> parse(const io::JsonValue& json) {
    const model::Config& config = loaded_.config();
    auto line = std::make_unique<Line>();
    GroupRequest& request = line->request;
    request.prompt = read_prompt(json, "prompt", true, config.vocab_size, tokenizer_);
    const auto length = static_cast<std::int64_t>(request.prompt.size());
    require(length < config.max_position_embeddings,
            "{}: a prompt of {} tokens leaves no room for a completion, the model has {} positions",
            json.where(), length, config.max_position_embeddings);
    request.samples = static_cast<std::int32_t>(options_.n);
    request.max_new_tokens = static_cast<std::int32_t>(
        std::min(options_.max_tokens, config.max_position_embeddings - length));
    request.sampling = params_;
    request.eos_ids = config.eos_token_ids;
    request.ignore_eos = options_.ignore_eos;
    request.adapter = loaded_.adapter_index();
    request.seed = options_.seed;
    request.prompt_key = next_key_++;
    line->unfinished = static_cast<std::size_t>(options_.n);
    line->samples.resize(line->unfinished);
    for (Sample& sample : line->samples) {
      if (with_text_) sample.decoder.emplace(tokenizer_.get(), /*skip_special_tokens=*/true);
      sample.matcher.emplace(stop_strings_);
    }
    return line;
  }

  std::int64_t blocks_needed(const GroupRequest& request) const {
    return blocks_of_group(static_cast<std::int64_t>(request.prompt.size()), request.max_new_tokens,
                           request.samples, kBlockSize);
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
    std::int64_t largest = 1;
    for (const auto& line : lines_) {
      if (line->group == 0) largest = std::max(largest, blocks_needed(line->request));
    }
    generator_.reset();
    const std::int64_t groups = std::max<std::int64_t>(1, options_.batch_size / options_.n);
    const auto affordable = static_cast<std::int64_t>(train::available_host_memory() / 2 /
                                                      kv_block_bytes(*loaded_.model, kBlockSize));
    const std::int64_t blocks = std::max(largest, std::min(groups * largest, affordable));
    require(blocks <= std::numeric_limits<std::int32_t>::max() / kBlockSize,
            "{} completions of up to {} tokens: more than the cache can number; lower -n or "
            "--max-tokens",
            options_.n, options_.max_tokens);
    GeneratorCapacity capacity;
    capacity.block_size = kBlockSize;
    capacity.num_blocks = static_cast<std::int32_t>(blocks);
    capacity.max_sequences = static_cast<std::int32_t>(std::max(options_.n, options_.batch_size));
    capacity.max_tokens = std::max(256, capacity.max_sequences);
    generator_ = std::make_unique<OwnedGenerator>(*loaded_.model, capacity);
  }

  void step() {
    for (const TokenEvent& event : (*generator_)->step()) {
      ++tokens_;
      Line& line = *running_.at(event.group);
      Sample& sample = line.samples[static_cast<std::size_t>(event.sample)];
      sample.finish = event.finish;
      const bool stopped = with_text_ && add_text(sample, event);
      if (stopped && event.finish == FinishReason::none) {
        (*generator_)->finish(event.group, event.sample);
      }
      if (stopped) sample.finish = FinishReason::stop;
      if (sample.finish != FinishReason::none) --line.unfinished;
    }
  }

  // Whether a stop string is complete with this token.
  bool add_text(Sample& sample, const TokenEvent& event) {
    const std::int32_t id = event.sampled.token;
    const bool last = event.finish != FinishReason::none;
    if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) {
      sample.text += sample.matcher->push(sample.decoder->flush());
      sample.text += sample.matcher->finish();
      return true;
    }
    // The eos token is no part of the text; ids that only the embedding has mean nothing.
    if (event.finish != FinishReason::stop && tokenizer_.has_token(id)) {
      sample.text += sample.matcher->push(sample.decoder->push(id));
    }
    if (last && !sample.matcher->stopped()) {
      sample.text += sample.matcher->push(sample.decoder->flush());
      sample.text += sample.matcher->finish();
    }
    return sample.matcher->stopped();
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
      out_ << json.str() << '\n' << std::flush;
      require(out_.good(), "cannot write to standard output: {}", std::strerror(errno));
      running_.erase(line.group);
      lines_.pop_front();
      ++written_;
    }
    if (progress_wanted()) {
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
      show_progress(fmt::format("{} lines done, {} tokens, {:.1f} tokens/s", written_, tokens_,
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
  std::vector<std::string> stop_strings_;
  std::vector<std::int32_t> stop_ids_;
  std::unique_ptr<OwnedGenerator> generator_;
  io::JsonDocument document_;
  std::deque<std::unique_ptr<Line>> lines_;  // not written yet, in order
  std::map<GroupId, Line*> running_;
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

void add_generate_command(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand(
      "generate", "Complete prompts: JSON lines in, completions with their log-probs out");
  command->footer(
      "Input, one object a line: {\"ids\":[..]}, {\"prompt\":\"..\"} or "
      "{\"messages\":[{\"role\":..,"
      "\"content\":..},..]}.\nOutput, one line each: {\"completions\":[{\"text\":..,\"ids\":[..],"
      "\"logprobs\":[..],\"finish_reason\":\"stop\"|\"length\"}]}.");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_options(*command, options->model);
  command->add_option("--input", options->input, "File of JSON lines (default: standard input)")
      ->type_name("FILE");
  command->add_option("-n,--n", options->n, "Completions of each prompt")
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--max-tokens", options->max_tokens, "Longest completion")
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--stop", options->stop,
                   "End a completion before this text (may be given several times)")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_flag("--ignore-eos", options->ignore_eos,
                    "Go on after the end-of-text token, up to --max-tokens");
  command->add_option("--seed", options->seed, "Of the random draws")
      ->capture_default_str()
      ->check(not_negative())
      ->type_name("N");
  command->add_option("--batch-size", options->batch_size, "Completions computed at once")
      ->capture_default_str()
      ->type_name("N");
  add_sampling_options(*command, options->sampling, "temperature 1, the rest off");
  add_device_options(*command, options->device);
  command->callback(
      [options, &chosen] { chosen = [options] { return run_generate(*options, std::cout); }; });
}

}  // namespace qgrpo::tools
