#include "train/reward/host.h"

#include <algorithm>
#include <cstdlib>

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

}  // namespace

RewardHost::RewardHost(std::vector<Reward> rewards, RewardHostSettings settings)
    : rewards_(std::move(rewards)), settings_(std::move(settings)) {
  require(!rewards_.empty(), "a reward host needs at least one reward");
  if (!settings_.warn)
    settings_.warn = [](const std::string& line) { io::print_error("{}\n", line); };
  start();
}

void RewardHost::start() {
  if (!is_python()) {
    process_ = std::make_unique<LineProcess>(
        std::vector<std::string>{"/bin/sh", "-c", rewards_.front().target});
    // A command that is not there ends at once: said now, not after a round of sampling.
    if (process_->wait_for_end(0.2))
      fail("{}: {} before it was asked anything", label(), process_->how_it_ended());
    return;
  }
  const std::string python = interpreter(settings_);
  try {
    process_ = std::make_unique<LineProcess>(std::vector<std::string>{python, "-c", kRunScript},
                                             embedded::reward_host_script);
  } catch (const Error& error) {
    fail("{}: {}; rewards in Python need an interpreter: give --python or set QGRPO_PYTHON",
         label(), error.what());
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
      fail("{}: {} {} while the file was loaded", label(), python, process_->how_it_ended());
    default:
      process_->stop();
      fail("{}: not loaded within {} s; raise --reward-timeout", label(), timeout);
  }
  answer_reader().check(line);
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
          label(), answer_excerpt(unasked));
    std::string line;
    std::string problem;
    switch (process_->ask(fmt::format("{{\"id\":{},{}}}", ++id_, request), line, settings_.timeout,
                          cancelled)) {
      case LineProcess::Outcome::answered:
        return answer_reader().read(line, count);
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
        fail("{}: wrote more than a gigabyte without the end of a line", label());
    }
    process_->stop();
    process_.reset();
    if (attempt == 2) fail("{}: {}, also after it was started again", label(), problem);
    settings_.warn(
        fmt::format("{}: {}; it is started again and asked once more", label(), problem));
  }
}

}  // namespace qgrpo::train
