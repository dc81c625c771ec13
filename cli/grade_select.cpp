#include "cli/grade_select.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "cli/grade_lines.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "train/reward/scorer.h"

namespace qgrpo::cli {
namespace {

class Selection {
 public:
  explicit Selection(const SelectOptions& options)
      : options_(options), scorer_(train::parse_rewards(options.rewards), options.host) {}

  void read(std::istream& input) {
    const auto& rewards = scorer_.rewards();
    const bool needs_answer = std::any_of(rewards.begin(), rewards.end(), train::needs_answer);
    read_graded_lines(input, options_.source, needs_answer,
                      [&](GradedLine line) { add(std::move(line)); });
    require(!prompts_.empty(),
            "{}: is empty, expected lines of a prompt and its completions, as qgrpo generate "
            "--copy-input writes them",
            options_.source);
  }

  std::string select() {
    std::vector<train::Group> groups;
    for (GradedLine& c : prompts_) groups.push_back(std::move(c.group));
    scorer_.score(groups, {});
    std::string out;
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      prompts_[i].group = std::move(groups[i]);
      out += selected(prompts_[i]);
    }
    require(kept_ > 0,
            "{}: none of {} completions was kept: {} do not reach --min-reward, {} hit the length "
            "limit; the best reward is {}",
            options_.source, completions_, below_, truncated_,
            best_ ? fmt::format("{:.4g}", *best_) : std::string("none"));
    return out;
  }

  std::string summary() const {
    return fmt::format(
        "kept {} of {} completions, of {} of {} prompts; mean reward {:.3f}, of the kept {:.3f}; "
        "left out: {} below --min-reward, {} cut by the length limit, {} said before",
        kept_, completions_, prompts_kept_, prompts_.size(), sum_ / static_cast<double>(scored_),
        kept_sum_ / static_cast<double>(kept_), below_, truncated_, duplicates_);
  }

 private:
  // Neighbours with the same prompt are one prompt's completions.
  void add(GradedLine line) {
    require(!line.prompt.empty(),
            "{}: found no prompt, expected \"messages\", \"prompt\" or \"question\" with the "
            "completions",
            line.where);
    completions_ += line.group.completions.size();
    const bool goes_on = !line.several && !prompts_.empty() &&
                         prompts_.back().prompt == line.prompt &&
                         prompts_.back().answer_json == line.answer_json;
    if (goes_on) {
      prompts_.back().group.completions.push_back(std::move(line.group.completions.front()));
    } else {
      prompts_.push_back(std::move(line));
    }
  }

  std::string selected(const GradedLine& c) {
    const auto& completions = c.group.completions;
    std::vector<std::size_t> order;
    std::set<std::string_view> said;
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const double reward = completions[i].reward;
      if (std::isfinite(reward)) {
        sum_ += reward;
        ++scored_;
        best_ = best_ ? std::max(*best_, reward) : reward;
      }
      if (!completions[i].terminated && !options_.keep_truncated) {
        ++truncated_;
      } else if (!std::isfinite(reward) || (options_.min_reward && reward < *options_.min_reward)) {
        ++below_;
      } else if (!said.insert(completions[i].text).second && !options_.keep_duplicates) {
        ++duplicates_;
      } else {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return completions[a].reward > completions[b].reward;
    });
    if (options_.keep_best > 0 && order.size() > static_cast<std::size_t>(options_.keep_best))
      order.resize(static_cast<std::size_t>(options_.keep_best));
    std::string out;
    for (const std::size_t i : order) {
      out += line(c, completions[i]) + "\n";
      kept_sum_ += completions[i].reward;
    }
    kept_ += order.size();
    prompts_kept_ += order.empty() ? 0 : 1;
    return out;
  }

  static std::string line(const GradedLine& c, const train::GroupCompletion& completion) {
    io::JsonWriter w;
    w.begin_object();
    if (c.prompt.messages.empty()) {
      w.member("prompt", c.prompt.text);
      w.member("completion", completion.text);
    } else {
      std::vector<tokenizer::Message> messages = c.prompt.messages;
      messages.push_back({"assistant", completion.text});
      w.key("messages");
      w.raw(messages_json(messages));
    }
    for (const auto& [key, value] : c.prompt.variables) {
      w.key(key);
      w.raw(value);
    }
    if (!c.answer_json.empty()) {
      w.key("answer");
      w.raw(c.answer_json);
    }
    w.member("reward", completion.reward);
    w.end_object();
    return w.str();
  }

  const SelectOptions& options_;
  train::RewardScorer scorer_;
  std::vector<GradedLine> prompts_;
  std::size_t completions_ = 0;
  std::size_t kept_ = 0;
  std::size_t prompts_kept_ = 0;
  std::size_t below_ = 0;
  std::size_t truncated_ = 0;
  std::size_t duplicates_ = 0;
  std::size_t scored_ = 0;
  std::optional<double> best_;
  double sum_ = 0.0;
  double kept_sum_ = 0.0;
};

}  // namespace

int run_select(const SelectOptions& options, std::istream& input, std::ostream& out) {
  require(options.keep_best >= 0, "--keep-best: found {}, expected 1 or more", options.keep_best);
  require(!options.min_reward || std::isfinite(*options.min_reward),
          "--min-reward: found {}, expected a number", options.min_reward.value_or(0));
  Selection selection(options);
  selection.read(input);
  const std::string kept = selection.select();
  if (options.output.empty()) {
    out << kept << std::flush;
  } else {
    io::write_file_atomically(options.output, kept);
  }
  io::print_error("qgrpo grade: {}\n", selection.summary());
  return 0;
}

}  // namespace qgrpo::cli
