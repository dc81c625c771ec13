#include "train/reward/host.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "model/io/json.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"

namespace qgrpo::embedded {
extern const std::string_view reward_host_script;
}

namespace qgrpo::train {
namespace {

constexpr double kLeastLoading = 30.0;  // seconds: importing what a judge needs takes its time
// The host comes as descriptor 3, under its own name in tracebacks. It imports nothing from the current
// folder, where a json.py may lie.
constexpr const char* kRunScript =
    "import sys;sys.path[:]=[p for p in sys.path if p];"
    "exec(compile(open(3,encoding='utf-8').read(),'qgrpo_reward_host.py','exec'))";

std::string interpreter(const RewardHostSettings& settings) {
  if (!settings.python.empty()) return settings.python;
  const char* const variable = std::getenv("QGRPO_PYTHON");
  return variable != nullptr && *variable != '\0' ? variable : "python3";
}

std::string excerpt(const std::string& text) {
  constexpr std::size_t most = 120;
  return text.size() <= most ? text : fmt::format("{}..", text.substr(0, most));
}

// Lines of a message that main() shows as lines: a tab marks them.
std::string detail_lines(std::string_view text) {
  std::string out = "\n\t";
  for (const char c : text) out += c == '\n' ? std::string("\n\t") : std::string(1, c);
  return out;
}

std::string quoted_names(const std::vector<Reward>& rewards) {
  std::vector<std::string> names;
  for (const Reward& reward : rewards) names.push_back(fmt::format("'{}'", reward.name));
  return fmt::to_string(fmt::join(names, ", "));
}

}  // namespace

RewardHost::RewardHost(std::vector<Reward> rewards, RewardHostSettings settings)
    : rewards_(std::move(rewards)), settings_(std::move(settings)) {
  require(!rewards_.empty(), "a reward host needs at least one reward");
  if (!settings_.warn)
    settings_.warn = [](const std::string& line) { io::print_error("{}\n", line); };
  start();
}

// "reward 'brevity' (rewards.py)"; without an index it may be any of them.
std::string RewardHost::label(std::optional<std::size_t> index) const {
  if (!index && rewards_.size() == 1) index = 0;
  if (!index) return fmt::format("rewards {}", quoted_names(rewards_));
  const Reward& reward = rewards_[std::min(*index, rewards_.size() - 1)];
  return fmt::format("reward '{}' ({})", reward.name, reward.target);
}

void RewardHost::start() {
  if (!is_python()) {
    process_ = std::make_unique<LineProcess>(
        std::vector<std::string>{"/bin/sh", "-c", rewards_.front().target});
    // A command that is not there ends at once: said now, not after a round of sampling.
    if (process_->wait_for_end(0.2))
      fail("{}: {} before it was asked anything", label({}), process_->how_it_ended());
    return;
  }
  const std::string python = interpreter(settings_);
  try {
    process_ = std::make_unique<LineProcess>(std::vector<std::string>{python, "-c", kRunScript},
                                             embedded::reward_host_script);
  } catch (const Error& error) {
    fail("{}: {}; rewards in Python need an interpreter: give --python or set QGRPO_PYTHON",
         label({}), error.what());
  }
  io::JsonWriter w;
  w.begin_object();
  w.member("id", ++id_);
  w.key("load");
  w.begin_array();
  for (const Reward& reward : rewards_) {
    w.begin_object();
    w.member("file", reward.target);
    w.member("function", reward.attribute);
    w.end_object();
  }
  w.end_array();
  w.end_object();
  std::string line;
  const double timeout = std::max(settings_.timeout, kLeastLoading);
  switch (process_->ask(w.str(), line, timeout)) {
    case LineProcess::Outcome::answered:
      break;
    case LineProcess::Outcome::ended:
      fail("{}: {} {} while the file was loaded", label({}), python, process_->how_it_ended());
    default:
      process_->stop();
      fail("{}: not loaded within {} s; raise --reward-timeout", label({}), timeout);
  }
  io::JsonDocument document;
  check_answer(document, line);
}

void RewardHost::fail_with_answer(const std::string& line, const std::string& problem) const {
  fail("{}: answered {}, expected {}", label({}), excerpt(line), problem);
}

io::JsonValue RewardHost::check_answer(io::JsonDocument& document, const std::string& line) const {
  std::optional<io::JsonValue> root;
  try {
    root = document.parse(line, fmt::format("{}: its answer", label({})));
  } catch (const Error&) {
    const bool nan = line.find("NaN") != std::string::npos ||
                     line.find("nan") != std::string::npos ||
                     line.find("Infinity") != std::string::npos;
    fail_with_answer(line,
                     nan ? "finite numbers; null skips a completion"
                         : "one line of JSON such as {\"rewards\": [1.0, null]}; other output "
                           "belongs on standard error");
  }
  if (!root->is_object()) return *root;
  if (const auto id = root->find("id"); id && id->is_number() && id->as_int() != id_)
    fail_with_answer(line, fmt::format("the answer to the request {}", id_));
  if (const auto error = root->find("error"); error && error->is_string()) {
    std::optional<std::size_t> index;
    if (const auto reward = root->find("reward"); reward && reward->is_number())
      index = static_cast<std::size_t>(std::max<std::int64_t>(0, reward->as_int()));
    std::string message = fmt::format("{}: {}", label(index), error->as_string_view());
    const auto traceback = root->find("traceback");
    if (traceback && traceback->is_string()) message += detail_lines(traceback->as_string_view());
    throw Error(message);
  }
  return *root;
}

HostAnswer RewardHost::read_answer(const std::string& line, std::size_t count) const {
  io::JsonDocument document;
  const io::JsonValue root = check_answer(document, line);
  const auto rewards = root.is_object() ? root.find("rewards") : std::optional(root);
  if (!rewards || !rewards->is_array())
    fail_with_answer(line, "{\"rewards\": [..]} with a number or null for each completion");
  const auto read_row = [&](const io::JsonValue& row, std::size_t index) {
    const auto items = row.as_array();
    if (items.size() != count) {
      fail("{}: answered with {} rewards for {} completions, expected one for each", label(index),
           items.size(), count);
    }
    std::vector<double> values;
    for (const io::JsonValue& item : items) {
      if (!item.is_null() && !item.is_number()) {
        fail("{}: answered with {} for completion {}, expected a number, or null to skip it",
             label(index), excerpt(item.minified()), values.size());
      }
      values.push_back(item.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                      : item.as_double());
    }
    return values;
  };
  HostAnswer out;
  if (!is_python()) {
    out.values.push_back(read_row(*rewards, 0));
    return out;
  }
  for (const io::JsonValue& row : rewards->as_array()) {
    out.values.push_back(read_row(row, out.values.size()));
  }
  for (const auto& [name, values] : root.at("extra").as_object()) {
    std::vector<std::string> column;
    for (const io::JsonValue& value : values.as_array()) column.push_back(value.minified());
    out.extra.emplace_back(name, std::move(column));
  }
  for (const auto& [name, value] : root.at("metrics").as_object()) {
    if (!value.is_null()) out.metrics.emplace_back(name, value.as_double());
  }
  return out;
}

std::optional<HostAnswer> RewardHost::call(const std::string& request, std::size_t count,
                                           const std::function<bool()>& cancelled) {
  for (int attempt = 1;; ++attempt) {
    if (!process_) start();
    const std::string unasked = process_->unasked_output();
    if (!unasked.empty())
      fail(
          "{}: wrote {} without being asked, expected one line for each request; other output "
          "belongs on standard error",
          label({}), excerpt(unasked));
    std::string line;
    std::string problem;
    switch (process_->ask(fmt::format("{{\"id\":{},{}}}", ++id_, request), line, settings_.timeout,
                          cancelled)) {
      case LineProcess::Outcome::answered:
        return read_answer(line, count);
      case LineProcess::Outcome::cancelled:
        process_->stop();
        process_.reset();
        return std::nullopt;
      case LineProcess::Outcome::ended:
        problem = fmt::format("{} instead of answering", process_->how_it_ended());
        break;
      case LineProcess::Outcome::timed_out:
        problem = fmt::format("no answer within {} s (--reward-timeout)", settings_.timeout);
        break;
      case LineProcess::Outcome::overflow:
        process_->stop();
        fail("{}: wrote more than a gigabyte without the end of a line", label({}));
    }
    process_->stop();
    process_.reset();
    if (attempt == 2) fail("{}: {}, also after it was started again", label({}), problem);
    settings_.warn(
        fmt::format("{}: {}; it is started again and asked once more", label({}), problem));
  }
}

}  // namespace qgrpo::train
