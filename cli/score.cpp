#include "cli/score.h"

#include <algorithm>
#include <exception>
#include <iostream>

#include "cli/commands.h"
#include "cli/text/line_reader.h"
#include "engine/scorer.h"
#include "model/io/json.h"

namespace qgrpo::cli {
namespace {

using Ids = std::vector<std::int32_t>;

class ScoreRun {
 public:
  ScoreRun(const ScoreOptions& options, std::ostream& out)
      : options_(options), out_(out), reader_(options.input), tokenizer_(options.model) {
    require_usage(options.batch_tokens >= 1 && options.batch_tokens <= (1 << 24),
                  "--batch-tokens: found {}, expected 1 to {}", options.batch_tokens, 1 << 24);
    loaded_ = load_model(options.model, make_backend(options.device, Workload::inference));
    limit_prompt_lines(reader_, loaded_.config());
    scorer_.emplace(*loaded_.model);
  }

  // One batch at a time: what has arrived, up to batch_tokens.
  int run() {
    std::vector<Ids> batch;
    std::int64_t tokens = 0;
    const auto flush = [&] {
      answer(batch);
      batch.clear();
      tokens = 0;
    };
    std::exception_ptr error;
    for (bool ended = false; !ended;) {
      Ids ids;
      auto status = LineReader::Status::end;
      try {
        status = next(ids, /*wait=*/batch.empty());
      } catch (const Error&) {
        error = std::current_exception();  // the lines before the bad one are answered all the same
      }
      if (status == LineReader::Status::line) {
        const auto length = static_cast<std::int64_t>(ids.size());
        if (tokens + length > options_.batch_tokens) flush();
        tokens += length;
        batch.push_back(std::move(ids));
        continue;
      }
      ended = status == LineReader::Status::end;
      flush();
    }
    if (progress_wanted()) show_progress("");
    if (error) std::rethrow_exception(error);
    return 0;
  }

 private:
  // The next line that is not blank.
  LineReader::Status next(Ids& ids, bool wait) {
    std::string text;
    while (true) {
      const auto status = reader_.next(text, wait);
      if (status == LineReader::Status::interrupted) continue;
      if (status != LineReader::Status::line) return status;
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      ids = parse(document_.parse(text, reader_.where()));
      return status;
    }
  }

  Ids parse(const io::JsonValue& json) {
    const model::Config& config = loaded_.config();
    Ids ids = read_prompt(json, "text", false, config.vocab_size, tokenizer_);
    require(static_cast<std::int64_t>(ids.size()) <= config.context_length(),
            "{}: {} tokens, the model has {} positions: shorten the text", json.where(), ids.size(),
            config.context_length());
    return ids;
  }

  void answer(const std::vector<Ids>& batch) {
    if (batch.empty()) return;
    const std::vector<engine::ScoredText> scored = scorer_->score(batch, loaded_.adapter_index());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      io::JsonWriter json;
      json.begin_object();
      json.member("ids", batch[i]);
      json.key("logprobs");
      json.begin_array();
      json.null();
      for (const float logprob : scored[i].logprobs) json.value(logprob);
      json.end_array();
      json.end_object();
      out_ << json.str() << '\n';
      ++written_;
    }
    out_.flush();
    if (progress_wanted())
      show_progress(fmt::format("{} line{} done", written_, written_ == 1 ? "" : "s"));
  }

  const ScoreOptions& options_;
  std::ostream& out_;
  LineReader reader_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  io::JsonDocument document_;
  std::optional<engine::Scorer> scorer_;
  std::uint64_t written_ = 0;
};

}  // namespace

int run_score(const ScoreOptions& options, std::ostream& out) {
  return ScoreRun(options, out).run();
}

void add_score_command(CommandLine& line) {
  const auto options = std::make_shared<ScoreOptions>();
  OptionTable table = line.command(
      "score", "The log-prob of every token: JSON lines in, JSON lines out",
      "Input, one object a line: {\"ids\":[..]}, {\"text\":\"..\"} or {\"messages\":[..]}.\n"
      "Output, one line each: {\"ids\":[..],\"logprobs\":[null,..]}, logprobs[t] = log p(ids[t] | "
      "ids before t).",
      [options] { return run_score(*options, std::cout); });
  add_model_options(table, options->model);
  table.value("--input", options->input, "FILE", "File of JSON lines (default: standard input)");
  table.value("--batch-tokens", options->batch_tokens, "N", "Tokens computed at once");
  add_device_options(table, options->device);
}

}  // namespace qgrpo::cli
