#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "run_fixture.h"
#include "watch/completion_index.h"
#include "watch/line_tail.h"
#include "watch/metrics.h"

// The logs of a run that is being written, cut, replaced, damaged.
namespace qgrpo::watch::test {
namespace {

struct Read {
  explicit Read(LineTail& tail, std::size_t budget = 1 << 30) {
    result = tail.poll(
        budget, [&] { lines.clear(); },
        [&](const LineTail::Line& line) {
          lines.emplace_back(line.text);
          offsets.push_back(line.offset);
        });
  }
  LineTail::Result result;
  std::vector<std::string> lines;
  std::vector<std::uint64_t> offsets;
};

using Lines = std::vector<std::string>;

Metrics read_metrics(const Folder& folder) {
  Metrics metrics(folder.path());
  bool more = true;
  while (more) {
    more = false;
    metrics.poll(1 << 16, more);
  }
  return metrics;
}

}  // namespace

TEST_CASE("line tail: whole lines, each once, as they come") {
  const Folder folder;
  LineTail tail(folder.file("log"));
  CHECK(Read(tail).lines.empty());  // not there yet
  folder.write("log", "one\ntw");
  Read first(tail);
  CHECK(first.lines == Lines{"one"});
  CHECK(!first.result.replaced);
  CHECK(Read(tail).lines.empty());
  folder.append("log", "o\n\nthree\n");
  const Read second(tail);
  CHECK(second.lines == Lines{"two", "three"});
  CHECK(second.offsets == std::vector<std::uint64_t>{4, 9});
  CHECK(read_at(tail.path(), 9, 5) == "three");
  CHECK(read_at(tail.path(), 9, 50) == "three\n");
  CHECK(read_at(tail.path(), 90, 5).empty());
}

TEST_CASE("line tail: a file that was cut, replaced or removed is begun anew") {
  const Folder folder;
  LineTail tail(folder.file("log"));
  folder.write("log", "one\ntwo\nthree\n");
  CHECK(Read(tail).lines.size() == 3);

  SUBCASE("cut") {
    folder.write("log", "one\n");
  }
  SUBCASE("cut, and grown again beyond what was read") {
    folder.write("log", "one\nTWO\nTHREE\nfour\n");
  }
  SUBCASE("replaced by another file of the same beginning") {
    folder.write("new", "one\ntwo\nthree\nfour\n");
    std::filesystem::rename(folder.file("new"), folder.file("log"));
  }
  SUBCASE("removed, then written by a new run") {
    std::filesystem::remove(folder.file("log"));
    CHECK(Read(tail).result.replaced);
    folder.write("log", "one\n");
    CHECK(Read(tail).lines == Lines{"one"});
    return;
  }
  const Read again(tail);
  CHECK(again.result.replaced);
  CHECK(again.lines.front() == "one");
}

TEST_CASE("line tail: lines that are too long are left out, in bounded memory and any pieces") {
  const Folder folder;
  LineTail tail(folder.file("log"), 100);
  const std::string huge(5 << 20, 'x');
  folder.write("log", "one\n" + huge);
  CHECK(Read(tail).lines == Lines{"one"});
  folder.append("log",
                huge + "\ntwo\n" + std::string(101, 'y') + "\n" + std::string(100, 'z') + "\n");
  const Read rest(tail);
  CHECK(rest.lines == Lines{"two", std::string(100, 'z')});
  CHECK(tail.left_out() == 2);
}

TEST_CASE("line tail: a budget gives a part, and the rest later") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 40000; ++i) text += std::to_string(i) + std::string(100, '.') + "\n";
  folder.write("log", text);
  LineTail tail(folder.file("log"));
  std::size_t lines = 0;
  int parts = 0;
  for (bool more = true; more; ++parts) {
    const Read part(tail, 1);
    lines += part.lines.size();
    more = part.result.more;
  }
  CHECK(lines == 40000);
  CHECK(parts > 3);
}

TEST_CASE("metrics: columns of what lines have; an evaluation joins its step") {
  const Folder folder;
  folder.write("metrics.jsonl",
               "{\"step\":1,\"reward\":0.5,\"step_time\":1800}\n"
               "{\"step\":2,\"reward\":null,\"kl\":0.25,\"step_time\":1800}\n"
               "{\"step\":2,\"eval_accuracy\":0.75}\n"
               "{\"step\":3,\"reward\":1.5,\"note\":\"a text\",\"step_time\":3600}\n");
  const Metrics metrics = read_metrics(folder);
  CHECK(metrics.rows() == 3);
  CHECK(metrics.keys() == Lines{"eval_accuracy", "kl", "reward", "step_time"});
  CHECK(metrics.last("reward") == 1.5);
  CHECK(metrics.last("kl") == 0.25);
  CHECK(metrics.mean_of_first("reward", 5) == 1.0);
  CHECK(!metrics.last("loss"));
  CHECK(metrics.seconds() == doctest::Approx(7200));
  const Curves curves = metrics.curves(metrics.keys(), {}, 100);
  CHECK(curves.width == 1);
  CHECK(curves.steps == std::vector<double>{1, 2, 3});
  CHECK(curves.hours == std::vector<double>{0.5, 1.0, 2.0});
  const std::vector<double>& reward = curves.of.at("reward").mean;
  CHECK(reward[0] == 0.5);
  CHECK(std::isnan(reward[1]));
  CHECK(curves.of.at("reward").least.empty());
  CHECK(curves.of.at("eval_accuracy").mean[1] == 0.75);
}

TEST_CASE("metrics: a resumed run's log goes on from where it was cut") {
  const Folder folder;
  for (int step = 1; step <= 6; ++step) folder.append("metrics.jsonl", metric_line(step, step));
  Metrics metrics(folder.path());
  bool more = false;
  CHECK(metrics.poll(1 << 20, more));
  CHECK(metrics.last_step() == 6);
  folder.write("metrics.jsonl", metric_line(1, 1) + metric_line(2, 2) + metric_line(3, 30));
  CHECK(metrics.poll(1 << 20, more));
  CHECK(metrics.last_step() == 3);
  CHECK(metrics.last("reward") == 30.0);
  // One that was not cut: the later line of a step counts, and what came behind the earlier is gone.
  folder.append("metrics.jsonl", metric_line(2, 7));
  CHECK(metrics.poll(1 << 20, more));
  CHECK(metrics.last_step() == 2);
  CHECK(metrics.last("reward") == 7.0);
  CHECK(!metrics.poll(1 << 20, more));
}

TEST_CASE("metrics: damaged lines are counted and told, the others read") {
  const Folder folder;
  folder.write("metrics.jsonl",
               "{\"step\":1,\"reward\":1}\n{\"step\":\nnonsense\n[1]\n{\"reward\":2}\n"
               "{\"step\":2,\"reward\":3}\n{\"step\":3");
  const Metrics metrics = read_metrics(folder);
  CHECK(metrics.rows() == 2);
  CHECK(metrics.bad_lines() == 4);
  CHECK(!metrics.first_trouble().empty());
}

TEST_CASE("metrics: many steps come as buckets, which keep their least, largest and mean") {
  const Folder folder;
  std::string text;
  constexpr int kSteps = 20000;
  for (int step = 1; step <= kSteps; ++step)
    text += metric_line(step, step == 7001 ? 500 : step % 2);
  folder.write("metrics.jsonl", text);
  Metrics metrics = read_metrics(folder);
  const Curves curves = metrics.curves({"reward", "nothing"}, {}, 300);
  CHECK(curves.width == 128);
  CHECK(curves.steps.size() <= 300);
  CHECK(curves.steps.size() > 150);
  CHECK(curves.of.count("nothing") == 0);
  const Curve& reward = curves.of.at("reward");
  CHECK(*std::max_element(reward.largest.begin(), reward.largest.end()) == 500.0);
  CHECK(*std::min_element(reward.least.begin(), reward.least.end()) == 0.0);
  CHECK(reward.mean[1] == doctest::Approx(0.5));
  CHECK(curves.last.back() == kSteps);

  // Buckets that are full stay as they are.
  folder.append("metrics.jsonl", metric_line(kSteps + 1, 9));
  bool more = false;
  metrics.poll(1 << 20, more);
  const Curves grown = metrics.curves({"reward"}, {}, 300);
  CHECK(std::equal(curves.steps.begin(), curves.steps.end() - 1, grown.steps.begin()));

  // A part of the run, step by step where it is short.
  const Curves part = metrics.curves({"reward"}, {6990, 7010}, 300);
  CHECK(part.width == 1);
  CHECK(part.steps.size() == 21);
  CHECK(part.of.at("reward").mean[11] == 500.0);
  CHECK(metrics.curves({"reward"}, {5, 4}, 300).steps.empty());
}

TEST_CASE("metrics: steps at the ends of the numbers do no harm") {
  const Folder folder;
  std::string text = "{\"step\":-9223372036854775808,\"reward\":1}\n";
  for (int i = 0; i < 20; ++i) text += metric_line(i, 1);
  text += "{\"step\":9223372036854775807,\"reward\":1e308}\n{\"step\":1e999,\"reward\":1}\n";
  folder.write("metrics.jsonl", text);
  const Metrics metrics = read_metrics(folder);
  CHECK(metrics.rows() == 22);
  CHECK(metrics.curves({"reward"}, {}, 10).steps.size() <= 10);
}

TEST_CASE("completions: groups, parts, failures, and where the lines lie") {
  const Folder folder;
  CompletionIndex index(folder.path());
  index.set_group_size(2);
  bool more = false;
  CHECK(!index.poll(1 << 20, more));  // a run of sft has none
  Completion a{.step = 1, .text = "right", .reward = 2, .advantage = 1, .correctness = 2};
  Completion b{.step = 1, .text = "wrong", .reward = 0, .advantage = -1, .terminated = false};
  folder.write("completions.jsonl", a.line() + b.line() + a.line() + b.line());
  a.step = 2;
  folder.append("completions.jsonl", a.line() + "{\"step\":2,\"prompt\":\"cut off");
  CHECK(index.poll(1 << 20, more));
  CHECK(index.completions().size() == 5);
  REQUIRE(index.groups().size() == 3);  // two groups of one prompt in one step
  CHECK(index.groups()[0].count == 2);
  CHECK(index.groups()[0].failures == 1);
  CHECK(index.groups()[0].cut == 1);
  CHECK(index.groups()[0].mean == 1.0F);
  CHECK(index.groups()[2].step == 2);
  CHECK(index.parts() == Lines{"correctness"});
  CHECK(index.failure_rule() == "correctness is not above 0");
  CHECK(index.line(1) + "\n" == b.line());

  const std::uint64_t before = index.generation();
  folder.write("completions.jsonl", b.line());
  CHECK(index.poll(1 << 20, more));
  CHECK(index.generation() == before + 1);
  CHECK(index.completions().size() == 1);
}

TEST_CASE("completions: without a reward for right answers, what is below the mean has failed") {
  const Folder folder;
  folder.write(
      "completions.jsonl",
      "{\"step\":1,\"prompt\":\"p\",\"completion\":\"a\",\"reward\":1,\"advantage\":0.5,"
      "\"brevity\":1,\"log_extra/x\":\"text\",\"skipped\":null}\n"
      "{\"step\":1,\"prompt\":\"p\",\"completion\":\"b\",\"reward\":null,\"advantage\":-0.5,"
      "\"brevity\":0}\n[]\n");
  CompletionIndex index(folder.path());
  bool more = false;
  index.poll(1 << 20, more);
  CHECK(index.groups().at(0).failures == 1);
  CHECK(index.failure_rule() == "below its group's mean");
  CHECK(index.parts() == Lines{"brevity"});
  CHECK(index.bad_lines() == 1);
  for (const char* name : {"correctness", "Accuracy", "exact_match", "answer_is_correct"})
    CHECK(names_right_answers(name));
  for (const char* name : {"xmlcount", "int", "soft_format", "length"})
    CHECK(!names_right_answers(name));
}

}  // namespace qgrpo::watch::test
