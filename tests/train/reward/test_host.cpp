#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/reward/scorer.h"

// Rewards in processes of their own: Python functions and programs, good ones and bad ones.
namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

bool has_python() {
  static const bool found = std::system("python3 -c 'import asyncio' >/dev/null 2>&1") == 0;
  if (!found) MESSAGE("SKIPPED: rewards in Python are not tested, there is no python3");
  return found;
}

class Folder {
 public:
  Folder()
      : path_(
            (fs::temp_directory_path() / fmt::format("qgrpo-reward-host-{}", getpid())).string()) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string file(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Two prompts with two completions each.
std::vector<Group> groups() {
  std::vector<Group> out(2);
  for (std::size_t g = 0; g < 2; ++g) {
    out[g].question = g == 0 ? "1+1?" : "2+2 \"\\\n?";
    out[g].answer = g == 0 ? "2" : "4";
    out[g].columns = {{"answer", g == 0 ? "\"2\"" : "\"4\""}, {"level", g == 0 ? "3" : "[1,2]"}};
    for (std::size_t c = 0; c < 2; ++c) {
      GroupCompletion completion;
      completion.text = c == 0 ? out[g].answer : "\xc3\xa9\n";
      completion.ids = {static_cast<std::int32_t>(g), static_cast<std::int32_t>(c)};
      out[g].completions.push_back(completion);
    }
  }
  return out;
}

struct Scored {
  std::vector<std::vector<double>> values;  // one row a completion
  std::vector<double> totals;
  std::vector<Group> groups;
  RewardReport report;
  std::vector<std::string> warnings;
};

Scored score_with(const std::vector<std::string>& texts, double timeout = 60.0) {
  Scored out;
  RewardHostSettings settings;
  settings.timeout = timeout;
  settings.warn = [&](const std::string& line) { out.warnings.push_back(line); };
  RewardScorer scorer(parse_rewards(texts), settings);
  out.groups = groups();
  RewardContext context;
  context.global_step = 7;
  context.max_steps = 9;
  const bool finished = scorer.score(out.groups, context, &out.report);  // may throw: no REQUIRE
  REQUIRE(finished);
  for (const Group& group : out.groups) {
    for (const auto& c : group.completions) {
      out.values.push_back(c.reward_values);
      out.totals.push_back(c.reward);
    }
  }
  return out;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("reward host: modules of the current folder are not its own") {
  if (!has_python()) return;
  const Folder folder;
  folder.file("json.py", "raise RuntimeError('shadow')\n");
  const std::string file = folder.file("lengths.py",
                                       "def f(completions, **kwargs):\n"
                                       "    return [1.0 for c in completions]\n");
  const fs::path before = fs::current_path();
  fs::current_path(folder.path(""));
  // The reward's own folder is the user's to import from; the host has what it needs by then.
  const Scored scored = score_with({file + ":f"});
  fs::current_path(before);
  CHECK(scored.totals == std::vector<double>(4, 1.0));
}

TEST_CASE("python rewards: a comma in a file's name is part of it") {
  const Folder folder;
  const std::string file = folder.file("a,b.py", "");
  const auto rewards = parse_rewards(std::vector<std::string>{"int," + file + ":f:2,numeric"});
  REQUIRE(rewards.size() == 2 + 1);
  CHECK(rewards[1].target == file);
  CHECK(rewards[1].weight == 2.0);
}

TEST_CASE("python rewards: TRL's signature, plain and async, weights, None") {
  if (!has_python()) return;
  const Folder folder;
  const std::string file = folder.file("rewards.py", R"(
import asyncio, functools
from dataclasses import dataclass
import helper

print("this goes to standard error")

@dataclass
class Seen:
    calls: int = 0
seen = Seen()

def everything(prompts, completions, answer, completion_ids, trainer_state, **columns):
    seen.calls += 1
    assert [p[-1]["role"] for p in prompts] == ["user"] * 4
    assert [p[-1]["content"] for p in prompts] == ["1+1?", "1+1?", '2+2 "\\\n?', '2+2 "\\\n?']
    assert completions[0] == [{"role": "assistant", "content": "2"}]
    assert completions[1][0]["content"] == "\u00e9\n"
    assert answer == ["2", "2", "4", "4"]
    assert columns["level"] == [3, 3, [1, 2], [1, 2]]
    assert completion_ids == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (trainer_state.global_step, trainer_state.max_steps) == (7, 9)
    assert "prompt" not in columns and callable(columns["log_metric"])
    print("hello", flush=True)
    return [helper.SCALE * (c[0]["content"] == a) for c, a in zip(completions, answer)]

async def judge(completions, log_extra, log_metric):
    await asyncio.sleep(0.01)
    log_extra("verdict", ["a", "b", {"c": 1}, object])
    log_metric("judge/calls", seen.calls)
    return (1.0 if len(c[0]["content"]) == 1 else None for c in completions)

class Callable:
    async def __call__(self, prompts, **kwargs):
        return [seen.calls] * len(prompts)
by_object = Callable()
partly = functools.partial(lambda value, completions: [value] * len(completions), 0.25)
)");
  folder.file("helper.py", "SCALE = 3\n");
  const Scored got = score_with({file + ":everything", "correctness", file + ":judge:10",
                                 file + ":by_object", file + ":partly:-1"});
  REQUIRE(got.values.size() == 4);
  CHECK(got.values[0] == std::vector<double>{3, 2, 1, 1, 0.25});
  CHECK(got.totals[0] == 3 + 2 + 10 + 1 - 0.25);
  CHECK(std::isnan(got.values[1][2]));  // None
  CHECK(got.totals[1] == 0 + 0 + 1 - 0.25);
  CHECK(got.report.unscored == 0);
  CHECK(got.report.metrics.at("judge/calls") == 1.0);
  CHECK(got.groups[1].completions[0].extra == std::vector<Column>{{"verdict", "{\"c\":1}"}});
  CHECK(got.groups[1].completions[1].extra[0].second == "\"<class 'object'>\"");
  CHECK(got.warnings.empty());
}

TEST_CASE("python rewards: a completion that every reward skips has no reward") {
  if (!has_python()) return;
  const Folder folder;
  const std::string file =
      folder.file("rewards.py",
                  "def some(completions, **kw): return [1, None, 2, 3]\n"
                  "def less(completions, **kw): return [None, None, 2, True]\n");
  const Scored got = score_with({file + ":some", file + ":less"});
  CHECK(got.totals[0] == 1.0);
  CHECK(std::isnan(got.totals[1]));
  CHECK(got.totals[2] == 4.0);
  CHECK(got.totals[3] == 4.0);
  CHECK(got.report.unscored == 1);
  CHECK(got.report.unscored_example == "1+1?");
}

TEST_CASE("python rewards: what is wrong is said with the function, and the traceback") {
  if (!has_python()) return;
  const Folder folder;
  const std::string file = folder.file("bad.py", R"(
import sys
def raises(completions, **kw):
    return inner(completions)
def inner(completions):
    raise KeyError("gold")
async def raises_later(completions, **kw):
    raise RuntimeError("two\nlines")
def leaves(completions, **kw): sys.exit(3)
def short(completions, **kw): return [1.0]
def nothing(completions, **kw): pass
def text(completions, **kw): return "1111"
def words(completions, **kw): return [1, "2", 3, 4]
def nan(completions, **kw): return [1, float("nan"), 3, 4]
def infinite(completions, **kw): return [1, 2, 3, float("-inf")]
def objects(completions, **kw): return [object()] * 4
def takes(completions, solution): return [0] * 4
number = 4
)");
  const auto message = [&](const std::string& name) {
    return error_of([&] { score_with({"int", file + ":" + name}); });
  };
  const std::string raised = message("raises");
  CHECK(raised.starts_with("reward 'raises' (" + file + "): KeyError: 'gold'\n\tTraceback"));
  check_contains(raised, "line 6, in inner");
  CHECK(raised.find("qgrpo_reward_host") == std::string::npos);
  CHECK(raised.ends_with("KeyError: 'gold'"));
  check_contains(message("raises_later"), "RuntimeError: two lines\n\tTraceback");
  check_contains(message("leaves"), "'leaves'");
  check_contains(message("leaves"), "SystemExit: 3");
  check_contains(message("short"), "returned 1 rewards for 4 completions");
  check_contains(message("nothing"), "returned NoneType None, expected a list of 4 numbers");
  check_contains(message("text"), "returned str '1111', expected a list");
  check_contains(message("words"), "returned str '2' for completion 1, expected a number");
  check_contains(message("nan"), "returned nan for completion 1, expected a finite number");
  check_contains(message("infinite"), "returned -inf for completion 3");
  check_contains(message("objects"), "for completion 0, expected a number");
  check_contains(message("takes"),
                 "takes 'solution', which is not there; there are: answer, level");

  // Before anything is scored.
  const auto load = [&](const std::string& reward) {
    return error_of([&] { RewardScorer(parse_rewards(std::vector<std::string>{reward}), {}); });
  };
  check_contains(load(file + ":absent"), "has no 'absent'; its functions are: raises, inner");
  check_contains(load(file + ":number"), "'number' is a int, expected a function");
  check_contains(load(folder.path("none.py") + ":f"), "none.py: no such file");
  const std::string syntax = load(folder.file("syntax.py", "def f(:\n") + ":f");
  check_contains(syntax, "SyntaxError: invalid syntax");
  const std::string import = load(folder.file("import.py", "import no_such_module\n") + ":f");
  check_contains(import, "ModuleNotFoundError: No module named 'no_such_module'\n\tTraceback");
  check_contains(load(folder.file("dies.py", "import os\nos._exit(4)\n") + ":f"),
                 "ended with exit code 4 while the file was loaded");
  RewardHostSettings settings;
  settings.python = "/no/such/python";
  check_contains(error_of([&] {
                   RewardScorer(parse_rewards(std::vector<std::string>{file + ":short"}), settings);
                 }),
                 "give --python or set QGRPO_PYTHON");
}

TEST_CASE("python rewards: a process that hangs or dies is started again, once") {
  if (!has_python()) return;
  const Folder folder;
  // Bad at the first call of all, then good.
  const std::string once = R"(
import os, signal, time
def call(completions, **kw):
    mark = __file__ + "." + os.path.basename(__file__)
    if not os.path.exists(mark):
        open(mark, "w").close()
        BAD
    return [5.0] * len(completions)
)";
  const auto with = [&](std::string text, const std::string& bad) {
    return text.replace(text.find("BAD"), 3, bad);
  };
  const std::string dies =
      folder.file("dies.py", with(once, "os.kill(os.getpid(), signal.SIGSEGV)"));
  const Scored after_death = score_with({dies + ":call"});
  CHECK(after_death.totals == std::vector<double>{5, 5, 5, 5});
  REQUIRE(after_death.warnings.size() == 1);
  check_contains(after_death.warnings[0], "was killed by signal 11");
  check_contains(after_death.warnings[0], "started again");

  const std::string hangs = folder.file("hangs.py", with(once, "time.sleep(3600)"));
  const auto begin = std::chrono::steady_clock::now();
  const Scored after_hang = score_with({hangs + ":call"}, 1.0);
  CHECK(after_hang.totals == std::vector<double>{5, 5, 5, 5});
  REQUIRE(after_hang.warnings.size() == 1);
  check_contains(after_hang.warnings[0], "no answer within 1 s (--reward-timeout)");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));

  const std::string always =
      folder.file("always.py",
                  "import os, time\ndef dies(completions, **kw): os._exit(9)\n"
                  "def hangs(completions, **kw):\n    while True: pass\n");
  check_contains(error_of([&] { score_with({always + ":dies"}); }),
                 "ended with exit code 9 instead of answering, also after it was started again");
  check_contains(error_of([&] { score_with({always + ":hangs"}, 0.5); }),
                 "no answer within 0.5 s (--reward-timeout), also after");
}

TEST_CASE("rewards of the user's: waiting can be given up") {
  RewardScorer scorer(parse_rewards(std::vector<std::string>{"cmd:sleep 3600"}), {});
  std::vector<Group> some = groups();
  RewardContext context;
  int asked = 0;
  context.cancelled = [&] { return ++asked > 3; };
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(scorer.score(some, context));
  CHECK(some[0].completions[0].reward_values.empty());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("command rewards: a program in any language, over JSON lines") {
  const Folder folder;
  // The shell itself: keeps the requests, and scores by a count that it keeps.
  const std::string program = folder.file("judge.sh", R"(
n=0
while IFS= read -r line; do
  printf '%s\n' "$line" >> "$1"
  n=$((n + 1))
  echo "thinking" >&2
  echo "{\"rewards\": [$n, null, -0.5, 1e2]}"
done
)");
  RewardScorer scorer(parse_rewards(std::vector<std::string>{"cmd:sh " + program + " " +
                                                             folder.path("requests") + ":2"}),
                      {});
  CHECK(scorer.names() == std::vector<std::string>{"sh"});
  std::vector<Group> some = groups();
  for (int call = 1; call <= 2; ++call) {
    REQUIRE(scorer.score(some, {}));
    CHECK(some[0].completions[0].reward == 2.0 * call);  // the same process, both times
    CHECK(std::isnan(some[0].completions[1].reward));
    CHECK(some[1].completions[0].reward == -1.0);
    CHECK(some[1].completions[1].reward == 200.0);
  }
  const std::string requests = io::read_file(folder.path("requests"));
  const std::string expected =
      R"({"id":1,"prompts": [[{"role":"user","content":"1+1?"}], [{"role":"user","content":"1+1?"}], )"
      R"([{"role":"user","content":"2+2 \"\\\n?"}], [{"role":"user","content":"2+2 \"\\\n?"}]], )"
      "\"completions\": [\"2\", \"\xc3\xa9\\n\", \"4\", \"\xc3\xa9\\n\"], "
      R"("completion_ids": [[0, 0], [0, 1], [1, 0], [1, 1]], )"
      R"("columns": {"answer": ["2", "2", "4", "4"], "level": [3, 3, [1,2], [1,2]]}, )"
      R"("trainer_state": {"global_step": 0, "max_steps": 0, "epoch": 0}})";
  CHECK(requests.substr(0, requests.find('\n')) == expected);
}

TEST_CASE("command rewards: what is wrong is said") {
  const auto message = [](const std::string& command, double timeout = 60.0) {
    return error_of([&] { score_with({"cmd:" + command}, timeout); });
  };
  const auto answers = [&](const std::string& line) {
    return message("read -r request; echo '" + line + "'; read -r more");
  };
  check_contains(message("/no/such/program --x"),
                 "reward 'program' (/no/such/program --x): ended with exit code 127 before");
  check_contains(answers("good morning"), "answered good morning, expected one line of JSON");
  check_contains(answers("[1, NaN, 2, 3]"), "expected finite numbers; null skips a completion");
  check_contains(answers("[1, 2]"), "answered with 2 rewards for 4 completions");
  check_contains(answers("[1, 2, \"3\", 4]"), "answered with \"3\" for completion 2");
  check_contains(answers("[1, 2, true, 4]"), "answered with true for completion 2");
  check_contains(answers("{\"reward\": 1}"), "expected {\"rewards\": [..]}");
  check_contains(answers("{\"id\": 7, \"rewards\": [1,2,3,4]}"), "the answer to the request 1");
  check_contains(answers("{\"error\": \"no licence\"}"), "): no licence");
  check_contains(message("read -r request; exit 5"),
                 "ended with exit code 5 instead of answering, also after it was started again");
  check_contains(message("exec >&-; sleep 60"), "closed its standard output");
  check_contains(message("sleep 60", 0.3), "no answer within 0.3 s");
  check_contains(message("echo early; sleep 60"), "wrote early without being asked");
}

TEST_CASE("command rewards: requests and answers larger than a pipe holds flow both ways") {
  // Answers while it still has to read: a program that echoes its request as an error.
  std::vector<Group> some = groups();
  some[0].completions[0].text = std::string(1 << 20, 'x');
  RewardHostSettings settings;
  settings.timeout = 60;
  RewardScorer scorer(parse_rewards(std::vector<std::string>{"cmd:cat"}), settings);
  check_contains(error_of([&] { scorer.score(some, {}); }), "expected {\"rewards\": [..]}");
}

}  // namespace qgrpo::train
