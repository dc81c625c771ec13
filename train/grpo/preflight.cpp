#include "train/grpo/preflight.h"

#include <algorithm>
#include <cmath>

#include "model/io/json.h"
#include "train/grpo/experience.h"
#include "train/objective/advantages.h"

namespace qgrpo::train {
namespace {

// The two formats exclude each other: where one scores, the other cannot.
std::string excluded(const std::string& name, std::span<const Preflight::Row> rows) {
  const bool soft = name == "soft_format";
  if (!soft && name != "strict_format") return "";
  const std::string_view other = soft ? "strict_format" : "soft_format";
  if (std::none_of(rows.begin(), rows.end(), [&](const auto& row) { return row.name == other; }))
    return "";
  return fmt::format(
      " (a completion that scores in {} cannot: soft_format wants text in the tags' lines, "
      "strict_format in lines of its own)",
      other);
}

double part(std::int64_t count, std::int64_t all) {
  return all == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(all);
}

}  // namespace

Preflight::Preflight(std::span<const Reward> rewards)
    : rewards_(rewards.begin(), rewards.end()), values_(rewards.size() + 1) {}

void Preflight::add(std::span<const Group> groups) {
  for (const Group& group : groups) {
    ++groups_;
    equal_groups_ += rewards_differ(group) ? 0 : 1;
    for (const GroupCompletion& completion : group.completions) {
      ++completions_;
      truncated_ += completion.terminated ? 0 : 1;
      for (std::size_t r = 0; r < rewards_.size() && r < completion.reward_values.size(); ++r)
        values_[r].push_back(completion.reward_values[r]);
      values_.back().push_back(completion.reward);
    }
  }
}

double Preflight::zero_variance_rate() const {
  return part(equal_groups_, groups_);
}

double Preflight::truncation_rate() const {
  return part(truncated_, completions_);
}

Preflight::Row Preflight::describe(const std::string& name, double weight,
                                   std::span<const double> values) const {
  Row row;
  row.name = name;
  row.weight = weight;
  std::int64_t hits = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    row.least = row.scored == 0 ? value : std::min(row.least, value);
    row.most = row.scored == 0 ? value : std::max(row.most, value);
    ++row.scored;
    hits += value > 0.0 ? 1 : 0;
  }
  row.hit_rate = part(hits, row.scored);
  row.mean = mean_of(values);
  const double deviation = unbiased_std(values);
  row.variance = deviation * deviation;
  return row;
}

std::vector<Preflight::Row> Preflight::rows() const {
  std::vector<Row> rows;
  for (std::size_t r = 0; r < rewards_.size(); ++r)
    rows.push_back(describe(rewards_[r].name, rewards_[r].weight, values_[r]));
  rows.push_back(describe("total", 1.0, values_.back()));
  return rows;
}

std::vector<std::string> Preflight::warnings(const TrainOptions& options) const {
  std::vector<std::string> out;
  if (completions_ == 0) return out;
  if (truncated_ == completions_)
    out.push_back(fmt::format(
        "all {} completions were cut off at --max-completion-length {}: none reached its end, so "
        "none can score for a finished answer; raise the limit, or check that the model ends its "
        "answers",
        completions_, options.sampling.max_completion_length));
  if (equal_groups_ == groups_)
    out.push_back(fmt::format(
        "in each of the {} groups all completions scored the same: every advantage is 0, so there "
        "is nothing to learn from; look at the rewards below, the difficulty of the questions, "
        "--temperature and --num-generations",
        groups_));
  std::vector<Row> all = rows();
  all.pop_back();  // the total's trouble is that of the groups
  for (const Row& row : all) {
    if (row.scored == 0) {
      out.push_back(fmt::format("reward '{}' skipped all {} completions", row.name, completions_));
    } else if (row.most <= 0.0 && row.least < row.most) {
      out.push_back(fmt::format(
          "reward '{}' was never above 0 in {} completions; it varies, so it works as a penalty",
          row.name, row.scored));
    } else if (row.most <= 0.0) {
      out.push_back(fmt::format(
          "reward '{}' was never above 0: {} for all {} completions, so no signal comes from it "
          "until one scores{}",
          row.name, row.most, row.scored, excluded(row.name, all)));
    } else if (row.least == row.most) {
      out.push_back(
          fmt::format("reward '{}' gave {} to all {} completions, so no signal comes from it",
                      row.name, row.most, row.scored));
    }
  }
  return out;
}

std::string Preflight::text(const TrainOptions& options) const {
  const std::vector<Row> all = rows();
  std::size_t width = 6;
  for (const Row& row : all) width = std::max(width, row.name.size());
  std::string out =
      fmt::format("preflight: {} completions of {} prompts, before anything is learned\n",
                  completions_, groups_);
  out += fmt::format("  {:<{}}  {:>6}  {:>8}  {:>9}  {:>7}\n", "reward", width, "weight", "mean",
                     "variance", "above 0");
  for (const Row& row : all) {
    const bool total = &row == &all.back();
    out += fmt::format("  {:<{}}  {:>6}  ", row.name, width,
                       total ? std::string() : fmt::format("{}", row.weight));
    out += row.scored == 0 ? fmt::format("{:>8}  {:>9}  {:>7}", "-", "-", "-")
                           : fmt::format("{:>8.4f}  {:>9.5f}  {:>5.0f} %", row.mean, row.variance,
                                         100 * row.hit_rate);
    if (row.scored > 0 && row.scored < completions_)
      out += fmt::format("  (of {} scored)", row.scored);
    out += '\n';
  }
  out += fmt::format("  groups of equal rewards: {} of {}   cut off by the length limit: {} of {}",
                     equal_groups_, groups_, truncated_, completions_);
  for (const std::string& warning : warnings(options)) out += "\n  warning: " + warning;
  return out;
}

std::string Preflight::json(const TrainOptions& options) const {
  io::JsonWriter w;
  w.begin_object();
  w.member("prompts", groups_);
  w.member("completions", completions_);
  w.member("zero_variance_groups", zero_variance_rate());
  w.member("truncation_rate", truncation_rate());
  w.key("rewards");
  w.begin_array();
  for (const Row& row : rows()) {
    w.begin_object();
    w.member("name", row.name);
    w.member("weight", row.weight);
    w.member("scored", row.scored);
    w.member("hit_rate", row.hit_rate);
    w.member("mean", row.mean);
    w.member("variance", row.variance);
    w.member("min", row.least);
    w.member("max", row.most);
    w.end_object();
  }
  w.end_array();
  w.member("warnings", warnings(options));
  w.end_object();
  return w.str() + "\n";
}

}  // namespace qgrpo::train
