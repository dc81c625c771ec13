#include "cli/grade.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <istream>
#include <ostream>
#include <sstream>
#include <system_error>
#include <utility>

#include "cli/commands.h"
#include "cli/grade_lines.h"
#include "cli/grade_select.h"
#include "hub/dataset.h"
#include "model/io/json.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "train/data/data_file.h"
#include "train/reward/scorer.h"

namespace qgrpo::cli {
namespace {

constexpr std::size_t kBatch = 64;  // lines that rewards of the user's get at once

std::string scores_line(const std::vector<std::string>& names,
                        const train::GroupCompletion& completion) {
  io::JsonWriter json;
  json.begin_object();
  for (std::size_t i = 0; i < names.size(); ++i) json.member(names[i], completion.reward_values[i]);
  json.member("total", completion.reward);
  json.end_object();
  return json.str();
}

// Scores what has come together and writes it. The batch is empty then, also where that fails.
void answer_batch(std::vector<train::Group>& batch, train::RewardScorer& scorer,
                  std::ostream& output) {
  std::vector<train::Group> groups = std::exchange(batch, {});
  if (groups.empty()) return;
  scorer.score(groups, {});
  const std::vector<std::string> names = scorer.names();
  for (const train::Group& group : groups) {
    for (const auto& completion : group.completions)
      output << scores_line(names, completion) << '\n';
  }
  output.flush();
}

// What --keep-best was given: nothing is one.
std::int64_t parse_keep_best(const std::string& text) {
  if (text.empty()) return 1;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw UsageError(fmt::format("--keep-best: found \"{}\", expected a whole number", text));
  return value;
}

// Whether a file is a data set in another form than JSON lines, which are read as they come.
bool is_other_data_file(const std::string& path) {
  return hub::names_data_file(path) && !path.ends_with(".jsonl") && !path.ends_with(".ndjson") &&
         !path.ends_with(".txt");
}

// The objects of such a file, a line each.
std::string data_lines(const std::string& path) {
  std::string out;
  train::read_data_file(path, [&](const io::JsonValue&, std::string_view text) {
    out += text;
    out += '\n';
  });
  return out;
}

}  // namespace

int run_grade(const GradeOptions& options, std::istream& standard_input, std::ostream& output) {
  const std::vector<train::Reward> rewards = train::parse_rewards(options.rewards);
  const bool needs_answer = std::any_of(rewards.begin(), rewards.end(), train::needs_answer);
  require_usage(options.reward_timeout > 0 && std::isfinite(options.reward_timeout),
                "--reward-timeout: found {}, expected a number of seconds > 0",
                options.reward_timeout);
  const bool from_file = !options.input.empty() && options.input != "-";
  const std::string name = from_file ? options.input : "standard input";
  std::ifstream file;
  std::istringstream rows;
  if (from_file && is_other_data_file(options.input)) {
    rows.str(data_lines(options.input));
  } else if (from_file) {
    file.open(options.input, std::ios::binary);
    require(file.is_open(), "{}: {}, expected a file of JSON lines", name, std::strerror(errno));
  }
  std::istream& input = !from_file       ? standard_input
                        : file.is_open() ? static_cast<std::istream&>(file)
                                         : static_cast<std::istream&>(rows);
  train::RewardHostSettings host;
  host.python = options.python;
  host.timeout = options.reward_timeout;
  if (options.min_reward || options.keep_best) {
    SelectOptions select;
    select.source = name;
    select.rewards = options.rewards;
    select.host = host;
    select.min_reward = options.min_reward;
    select.keep_best = options.keep_best.value_or(0);
    require_usage(!options.keep_best || *options.keep_best > 0,
                  "--keep-best: found {}, expected 1 or more", *options.keep_best);
    select.keep_truncated = options.keep_truncated;
    select.keep_duplicates = options.keep_duplicates;
    select.output = options.output;
    return run_select(select, input, output);
  }
  require_usage(
      options.output.empty() && !options.keep_truncated && !options.keep_duplicates,
      "--output, --keep-truncated and --keep-duplicates: found no --min-reward or --keep-best, "
      "which they belong to");
  train::RewardScorer scorer(rewards, host);
  const std::size_t batch_size = scorer.only_built_in() ? 1 : kBatch;

  std::vector<train::Group> batch;
  try {
    read_graded_lines(input, name, needs_answer, [&](GradedLine line) {
      batch.push_back(std::move(line.group));
      if (batch.size() == batch_size) answer_batch(batch, scorer, output);
    });
  } catch (const io::StandardOutputFailed&) {
    throw;
  } catch (const Error&) {
    answer_batch(batch, scorer, output);  // the lines before the bad one
    throw;
  }
  answer_batch(batch, scorer, output);
  return 0;
}

void add_grade_command(CommandLine& line) {
  const auto options = std::make_shared<GradeOptions>();
  OptionTable table = line.command(
      "grade", "Score completions with the reward functions",
      "Input, one object a line: {\"completion\": \"..\", \"answer\": \"..\"}.\n"
      "Output, one line each: {\"xmlcount\": .., \"soft_format\": .., \"strict_format\": .., "
      "\"int\": .., \"correctness\": .., \"total\": ..}.\n"
      "With --min-reward or --keep-best, input: what qgrpo generate --copy-input wrote; output: "
      "{\"messages\":[..],\"answer\":..,\"reward\":..}.",
      [options] { return run_grade(*options, std::cin, std::cout); });
  table.value("--input", options->input, "FILE",
              "File of JSON lines (default: standard input), or as --dataset of qgrpo train");
  table.value("--reward,--rewards", options->rewards, "NAME[:WEIGHT]",
              "Which, with weights, e.g. correctness:2,int (default: the notebook's five, "
              "weight 1); also numeric, math, FILE.py:FUNCTION and cmd:PROGRAM");
  table.value("--reward-timeout", options->reward_timeout, "X",
              "Seconds for one call of a Python function or program");
  table.value("--python", options->python, "PROGRAM",
              "Runs rewards in Python (default: $QGRPO_PYTHON, else python3)");
  table.group("Rejection sampling: the good completions as conversations for qgrpo sft");
  table.value("--min-reward", options->min_reward, "X",
              "Keep completions with at least this total");
  table
      .text("--keep-best", "[N]", "Keep the N best of each prompt (without a number: the best)",
            [options](const std::string& text) { options->keep_best = parse_keep_best(text); })
      .may_stand_alone();
  table.bare_flag("--keep-truncated", options->keep_truncated,
                  "Also those that were cut by the length limit");
  table.bare_flag("--keep-duplicates", options->keep_duplicates,
                  "Also repetitions of a prompt's earlier completion");
  table.value("--output", options->output, "FILE", "Where they go (default: standard output)");
}

}  // namespace qgrpo::cli
