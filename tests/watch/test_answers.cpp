#include <doctest/doctest.h>

#include <sys/utsname.h>

#include <string>
#include <thread>
#include <vector>

#include "model/io/json.h"
#include "run_fixture.h"
#include "support/error_of.h"
#include "watch/answers.h"
#include "watch/board.h"
#include "watch/export.h"
#include "watch/page.h"

// What the page is told, and the page itself.
namespace qgrpo::watch::test {
namespace {

using qgrpo::test::error_of;

std::string run_json(const std::string& status, const std::string& more = "") {
  return "{\"trainer\":\"grpo\",\"options\":{\"max_steps\":\"10\",\"hours\":\"0\",\"num_"
         "generations\":\"2\"},"
         "\"starts\":[{\"time\":\"2026-01-31T10:00:00Z\",\"status\":\"" +
         status + "\",\"device\":\"cpu\",\"host\":\"secret-host\"" + more + "}]}";
}

// Five steps with one group of two each.
void write_run(const Folder& folder, const std::string& status = "finished") {
  folder.write("run.json", run_json(status));
  for (int step = 1; step <= 5; ++step) {
    folder.append("metrics.jsonl", metric_line(step, step));
    Completion c{.step = step, .prompt = step % 2 == 1 ? "Odd?" : "Even " + std::to_string(step)};
    c.text = "Answer " + std::to_string(step);
    c.reward = step;
    c.advantage = 1;
    c.correctness = step > 3 ? 1 : 0;
    folder.append("completions.jsonl", c.line());
    c.text = "Other";
    c.reward = step == 2 ? -9 : 0;
    c.advantage = -1;
    c.correctness = 0;
    c.terminated = step != 4;
    folder.append("completions.jsonl", c.line());
  }
}

struct Loaded {
  explicit Loaded(const Folder& folder) : run(folder.path(), "run") {
    bool more = true;
    while (more) {
      more = false;
      run.poll(more);
    }
  }
  Run run;
};

std::vector<std::size_t> found(const Run& run, const GroupQuery& query) {
  return find_groups(run.completions(), query).groups;
}

using Numbers = std::vector<std::size_t>;

}  // namespace

TEST_CASE("groups: order, filter, steps and search, page by page") {
  const Folder folder;
  write_run(folder);
  const Loaded loaded(folder);
  const Run& run = loaded.run;
  CHECK(found(run, {}) == Numbers{4, 3, 2, 1, 0});
  CHECK(found(run, {.order = GroupOrder::oldest}) == Numbers{0, 1, 2, 3, 4});
  CHECK(found(run, {.order = GroupOrder::lowest}).front() == 1);
  CHECK(found(run, {.order = GroupOrder::highest}).front() == 4);
  CHECK(found(run, {.order = GroupOrder::spread}).front() == 1);
  CHECK(found(run, {.filter = GroupFilter::right}) == Numbers{4, 3});
  CHECK(found(run, {.filter = GroupFilter::cut}) == Numbers{3});
  CHECK(found(run, {.filter = GroupFilter::failed}).size() == 5);
  CHECK(found(run, {.steps = {2, 3}}) == Numbers{2, 1});
  CHECK(found(run, {.search = "aNSWER 3"}) == Numbers{2});
  CHECK(found(run, {.search = "even"}) == Numbers{3, 1});
  CHECK(found(run, {.search = "reward"}).empty());  // a key, no text
  CHECK(find_groups(run.completions(), {.search = "other"}).matches.front() ==
        std::vector<std::uint32_t>{1});

  GroupQuery query{.limit = 2};
  GroupAnswer answer = find_groups(run.completions(), query);
  CHECK(answer.groups == Numbers{4, 3});
  query.skip = answer.skip;
  query.among = answer.among;
  CHECK(find_groups(run.completions(), query).groups == Numbers{2, 1});
  // What came meanwhile does not shift the pages.
  query.among = 3;
  query.skip = 0;
  CHECK(find_groups(run.completions(), query).groups == Numbers{2, 1});
  // A search that may read little gives a part.
  const GroupAnswer part = find_groups(run.completions(), {.search = "nothing", .budget = 1});
  CHECK(part.skip == 1);
  CHECK(part.candidates == 5);
}

TEST_CASE("groups: before and after are of one prompt, as far apart as there are") {
  const Folder folder;
  write_run(folder);
  const Loaded loaded(folder);
  const auto pair = before_after(loaded.run.completions());
  REQUIRE(pair);
  CHECK(pair->before == 0);
  CHECK(pair->after == 4);
  CHECK(pair->same_prompt);
  const Folder other;
  other.write("completions.jsonl", Completion{.step = 1, .prompt = "a"}.line() +
                                       Completion{.step = 2, .prompt = "b"}.line());
  CHECK(!before_after(Loaded(other).run.completions())->same_prompt);
  const Folder one;
  one.write("completions.jsonl", Completion{}.line());
  CHECK(!before_after(Loaded(one).run.completions()));
}

TEST_CASE("answers: what the page reads is JSON, with everything in it") {
  const Folder folder;
  write_run(folder);
  folder.write("config.toml", "# qgrpo train\nmax_steps = 10\n");
  const Loaded loaded(folder);
  io::JsonDocument document;
  const io::JsonValue overview = document.parse(overview_json(loaded.run), "overview");
  CHECK(overview.at("state").as_string() == "finished");
  CHECK(overview.at("step").as_int() == 5);
  CHECK(overview.at("max_steps").as_int() == 10);
  CHECK(overview.at("groups").as_int() == 5);
  CHECK(overview.at("seconds").as_double() == doctest::Approx(10));
  const io::JsonValue curves =
      document.parse(curves_json(loaded.run, {"reward"}, {}, 100), "curves");
  CHECK(curves.at("curves").at("reward").at("mean").as_array().size() == 5);
  const io::JsonValue groups = document.parse(groups_json(loaded.run, {}), "groups");
  CHECK(groups.at("groups").as_array().at(0).at("prompt").as_string() == "Odd?");
  const io::JsonValue group = document.parse(group_json(loaded.run, 3), "group");
  const auto completions = group.at("completions").as_array();
  REQUIRE(completions.size() == 2);
  CHECK(completions[0].at("text").as_string() == "Answer 4");
  CHECK(completions[0].at("parts").at("correctness").as_double() == 1);
  CHECK(completions[1].at("failed").as_bool());
  CHECK(!completions[1].at("terminated").as_bool());
  CHECK(group_json(loaded.run, 99) == "null");
  const io::JsonValue details = document.parse(details_json(loaded.run), "details");
  CHECK(details.at("options").as_array().size() == 3);
  CHECK(details.at("config_toml").as_string().find("max_steps") != std::string::npos);
}

TEST_CASE("answers: tokens with their log-probs, where the log has both") {
  const Folder folder;
  const std::string begin = "{\"step\": 1, \"prompt\": \"p\", \"completion\": \"ab\", \"tokens\": ";
  folder.write("completions.jsonl", begin + "[\"a\", \"b\"], \"logprobs\": [-0.5, null]}\n" +
                                        begin + "[\"a\", \"b\"], \"logprobs\": [-0.5]}\n" + begin +
                                        "3}\n");
  const Loaded loaded(folder);
  io::JsonDocument document;
  const auto completions =
      document.parse(group_json(loaded.run, 0), "").at("completions").as_array();
  REQUIRE(completions.size() == 3);
  const auto tokens = completions[0].at("tokens").as_array();
  CHECK(tokens.at(0).as_array().at(0).as_string() == "a");
  CHECK(tokens.at(0).as_array().at(1).as_double() == -0.5);
  CHECK(tokens.at(1).as_array().at(1).is_null());
  CHECK(!completions[1].find("tokens"));
  CHECK(!completions[2].find("tokens"));
  CHECK(completions[0].at("extra").as_object().empty());
}

TEST_CASE("answers: a long text is cut between characters, and said to be") {
  const Folder folder;
  Completion c;
  c.text = "x";
  for (std::size_t i = 0; i < kMostText / 2; ++i) c.text += "ü";
  folder.write("completions.jsonl", c.line());
  const Loaded loaded(folder);
  io::JsonDocument document;
  const io::JsonValue text =
      document.parse(group_json(loaded.run, 0), "").at("completions").as_array()[0];
  CHECK(text.at("text").as_string().size() == kMostText - 1);
  CHECK(text.at("cut").as_int() == static_cast<std::int64_t>(c.text.size()));
}

TEST_CASE("run state: by the record, the lock and the process") {
  const Folder folder;
  CHECK(Loaded(folder).run.state() == RunState::waiting);
  struct utsname system {};
  REQUIRE(uname(&system) == 0);
  const auto lock = [&](int process, const std::string& host) {
    folder.write("run.lock", "qgrpo train, process " + std::to_string(process) + " on " + host +
                                 ", since 2026-01-31T10:00:00Z\n");
  };
  write_run(folder, "running");
  lock(0x3fffffff, system.nodename);  // no such process
  CHECK(Loaded(folder).run.state() == RunState::killed);
  CHECK(!Loaded(folder).run.seconds_left());
  lock(1, "another-machine");
  CHECK(Loaded(folder).run.state() == RunState::running);  // it has written a moment ago
  CHECK(*Loaded(folder).run.seconds_left() == doctest::Approx(10).epsilon(0.25));
  std::filesystem::last_write_time(
      folder.file("metrics.jsonl"),
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  CHECK(Loaded(folder).run.state() == RunState::silent);
  for (const char* status : {"finished", "interrupted", "failed", "killed"}) {
    folder.write("run.json", run_json(status));
    folder.write("run.lock", "");
    CHECK(std::string(name(Loaded(folder).run.state())) == status);
  }
  folder.write("run.json", "{\"trainer\":");
  CHECK(Loaded(folder).run.troubles().size() == 1);
  CHECK(parse_utc("2026-01-31T23:59:59Z") == 1769903999);
  CHECK(!parse_utc("yesterday"));
}

TEST_CASE("runs: a folder, what lies in it, or runs below it") {
  const Folder folder;
  CHECK(run_folders(folder.path()) == std::vector<std::string>{folder.path()});  // empty: to begin
  std::filesystem::create_directories(folder.file("a/grpo/checkpoint-5"));
  std::filesystem::create_directories(folder.file("b/grpo"));
  folder.write("a/grpo/metrics.jsonl", metric_line(1, 1));
  folder.write("b/grpo/metrics.jsonl", metric_line(1, 1));
  CHECK(run_folders(folder.file("a/grpo/")) == std::vector<std::string>{folder.file("a/grpo")});
  CHECK(run_folders(folder.file("a/grpo/checkpoint-5")).front() == folder.file("a/grpo"));
  CHECK(run_folders(folder.file("a/grpo/metrics.jsonl")).front() == folder.file("a/grpo"));
  CHECK(run_folders(folder.path()).size() == 2);
  CHECK(short_names({folder.file("a/grpo"), folder.file("b/grpo")}) ==
        std::vector<std::string>{"a/grpo", "b/grpo"});
  CHECK(run_folders(folder.file("new")).size() == 1);  // a run may make it
  CHECK(error_of([&] { run_folders(folder.file("no/such")); }).find("no such folder") !=
        std::string::npos);
  folder.write("c", "");
  CHECK(error_of([&] { run_folders(folder.file("c")); }).find("no folder of a run") !=
        std::string::npos);
}

TEST_CASE("board: many ask while a run is written") {
  const Folder folder;
  write_run(folder, "running");
  Board board({folder.path()});
  std::atomic<bool> stop{false};
  std::thread reader([&] { board.follow([&] { return stop.load(); }); });
  std::uint64_t seen = board.wait(0, std::chrono::seconds(5));
  for (int step = 6; step < 12; ++step) {
    folder.append("metrics.jsonl", metric_line(step, step));
    const std::uint64_t now = board.wait(seen, std::chrono::seconds(5));
    CHECK(now > seen);
    seen = now;
    board.ask(0, [](const Run& run) { return curves_json(run, {"reward"}, {}, 10); });
  }
  CHECK(board.overview().find("\"step\": 11") != std::string::npos);
  CHECK(error_of([&] {
          board.ask(1, [](const Run&) { return std::string(); });
        }).find("run is 1") != std::string::npos);
  stop = true;
  reader.join();
}

TEST_CASE("export: one page without requests, in which a run's text stays text") {
  const Folder folder;
  write_run(folder);
  const std::string attack = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>";
  Completion c{.step = 6, .prompt = attack, .text = attack};
  folder.append("completions.jsonl", c.line());
  Board board({folder.path()});
  board.read_all();
  const std::string page = exported_page(board.runs());
  CHECK(page.find("</script><script>alert") == std::string::npos);
  CHECK(page.find("<!--") == std::string::npos);
  CHECK(page.find("\\u003c/script>\\u003cscript>alert(1)") != std::string::npos);
  CHECK(page.find("<img") == std::string::npos);
  CHECK(page.find("http://www.w3.org/2000/svg") != std::string::npos);  // a name, no address
  for (const char* forbidden : {"watch.js", "watch.css", "https://", "secret-host", "@import"})
    CHECK(page.find(forbidden) == std::string::npos);
  CHECK(page.find(folder.path()) == std::string::npos);
  CHECK(page.find("Content-Security-Policy") != std::string::npos);
  const std::size_t begin = page.find("id=\"embedded-run\">") + 18;
  const std::string data = page.substr(begin, page.find("</script>", begin) - begin);
  io::JsonDocument document;
  const io::JsonValue run = document.parse(data, "data").at("runs").as_array().at(0);
  CHECK(run.at("groups").as_array().size() == 6);
  CHECK(run.at("groups").as_array()[5].at("completions").as_array()[0].at("text").as_string() ==
        attack);
}

TEST_CASE("export: of many completions as many as the bytes allow, with the first and the last") {
  const Folder folder;
  for (int step = 1; step <= 200; ++step)
    folder.append(
        "completions.jsonl",
        Completion{.step = step, .prompt = std::to_string(step), .text = std::string(1000, 'x')}
            .line());
  Board board({folder.path()});
  board.read_all();
  const std::string page = exported_page(board.runs(), {.entries = 100, .text_bytes = 30000});
  CHECK(page.size() < 200000);
  CHECK(page.find("\"step\": 1,") != std::string::npos);
  CHECK(page.find("\"step\": 200,") != std::string::npos);
}

TEST_CASE("page: its parts can stand inside HTML, and a key is handed on") {
  const std::string script = page_script();
  for (const char* end :
       {"</script", "<!--", "innerHTML", "insertAdjacentHTML", "document.write", "eval("})
    CHECK(script.find(end) == std::string::npos);
  CHECK(page_style().find("</style") == std::string_view::npos);
  CHECK(page_style().find("url(") == std::string_view::npos);
  CHECK(page_html().find("://") == std::string_view::npos);
  CHECK(page_for_key("") == page_html());
  CHECK(page_for_key("a\"<b").find("watch.js?key=a%22%3Cb\"") != std::string::npos);
}

}  // namespace qgrpo::watch::test
