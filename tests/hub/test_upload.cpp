#include "hub/upload.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "hub/hub_server.h"
#include "hub/pull.h"
#include "model/io/file.h"
#include "support/error_of.h"
#include "support/program.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

namespace fs = std::filesystem;

// The environment of a test's Hub.
class Environment {
 public:
  Environment(const HubServer& server, const std::string& cache, const char* token) {
    setenv("HF_ENDPOINT", server.endpoint().c_str(), 1);
    setenv("HF_HUB_CACHE", cache.c_str(), 1);
    setenv("HF_TOKEN", token, 1);
  }
  ~Environment() {
    for (const char* name : {"HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN"}) unsetenv(name);
  }
};

std::size_t commits(const std::vector<std::string>& log) {
  return static_cast<std::size_t>(
      std::count_if(log.begin(), log.end(), [](const std::string& line) {
        return line.starts_with("POST ") && line.find("/commit/") != line.npos;
      }));
}

// The names of the files of a repository, and the content of one.
struct Pulled {
  std::vector<std::string> names;
  std::string card;
};
Pulled pulled(const HubServer& server, const std::string& repo, const std::string& cache) {
  hub::Http http(server.settings(cache));
  const auto result = hub::pull(http, hub::parse_repo(repo), {});
  Pulled out;
  for (const auto& entry : fs::directory_iterator(result.folder))
    out.names.push_back(entry.path().filename().string());
  std::sort(out.names.begin(), out.names.end());
  out.card = io::read_file(result.folder + "/README.md");
  return out;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("upload: checkpoints in the background, the last one waited for") {
  HubServer server;
  if (!server.running()) return;
  const ScratchFolder scratch;
  const Environment environment(server, scratch.path("hub"), "hf_test");
  for (const char* step : {"1", "2"}) {
    const std::string folder = std::string("out/checkpoint-") + step;
    scratch.write(folder + "/adapter_model.safetensors", std::string("weights ") + step);
    scratch.write(folder + "/optimizer.safetensors", "moments");
    scratch.write(folder + "/trainer_state.json", "{}");
  }
  hub::Uploader::Options options;
  options.repo = hub::parse_repo("me/adapter");
  options.output_dir = scratch.path("out");
  options.card = [](const std::string&) { return "a card"; };
  hub::Uploader uploader(options);
  CHECK(uploader.check() == "");
  CHECK(uploader.saved(scratch.path("out/checkpoint-1"), false) == "");
  fs::remove_all(scratch.path("out/checkpoint-1"));  // pruned while it is on its way
  const std::string told = uploader.saved(scratch.path("out/checkpoint-2"), true);
  CHECK(has(told, "sent checkpoint-1 to "));
  CHECK(has(told, "sent checkpoint-2 to "));
  CHECK(commits(server.log()) == 2);
  const Pulled now = pulled(server, "me/adapter", scratch.path("hub"));
  CHECK(now.names == std::vector<std::string>{"README.md", "adapter_model.safetensors"});
  CHECK(now.card == "a card");
  CHECK_FALSE(fs::exists(scratch.path("out/.hub-upload")));
}

TEST_CASE("upload: a refused token ends the run before it begins, trouble later does not") {
  HubServer server;
  if (!server.running()) return;
  const ScratchFolder scratch;
  hub::Uploader::Options options;
  options.repo = hub::parse_repo("me/adapter");
  options.output_dir = scratch.path("out");
  scratch.write("out/checkpoint-1/adapter_model.safetensors", "weights");
  {
    const Environment environment(server, scratch.path("hub"), "hf_wrong");
    hub::Uploader uploader(options);
    const std::string note = uploader.saved(scratch.path("out/checkpoint-1"), true);
    CHECK(has(note, "note: checkpoint-1 was not sent ("));
    CHECK(has(note, "qgrpo push " + scratch.path("out/checkpoint-1") + " me/adapter"));
  }
  const Environment environment(server, scratch.path("hub"), "");
  CHECK(has(error_of([&] { hub::Uploader(options).check(); }), "HF_TOKEN"));
  setenv("HF_TOKEN", "hf_test", 1);
  server.faults(R"([{"match": "whoami", "status": 503}])");
  CHECK(has(hub::Uploader(options).check(), "the run goes on"));
}

TEST_CASE("upload: train --push-to-hub sends each save with a model card") {
  HubServer server;
  if (!server.running()) return;
  const ScratchFolder scratch;
  const Environment environment(server, scratch.path("hub"), "hf_test");
  std::string groups;
  for (int i = 0; i < 3; ++i)
    groups += R"({"prompt_ids": [1, 2, 3], "completions": [[4, 5], [6, 7]], "rewards": [1, 0]})"
              "\n";
  scratch.write("groups.jsonl", groups);
  const auto train = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"train",
                                     "--model",
                                     vector_path("tiny_qwen2"),
                                     "--replay",
                                     scratch.path("groups.jsonl"),
                                     "--output-dir",
                                     scratch.path("out"),
                                     "--prompts-per-step",
                                     "1",
                                     "--save-steps",
                                     "1",
                                     "--device",
                                     "cpu",
                                     "--push-to-hub"};
    args.insert(args.end(), more.begin(), more.end());
    return run_qgrpo(args);
  };
  check_refused(train({}), 2, {"--push-to-hub", "--hub-model-id"});
  const auto done = train({"--hub-model-id", "me/tiny"});
  REQUIRE_MESSAGE(done.exit_code == 0, done.err);
  CHECK(has(done.out + done.err, "sent checkpoint-3 to "));
  const Pulled now = pulled(server, "me/tiny", scratch.path("hub"));
  CHECK(now.names ==
        std::vector<std::string>{"README.md", "adapter_config.json", "adapter_model.safetensors"});
  CHECK(now.card.starts_with("---\nlibrary_name: peft\n"));
  for (const char* part :
       {"\n- \"grpo\"\n", "# me/tiny\n", "3 optimizer steps", "| loss | ", "| learning_rate | "}) {
    CAPTURE(part);
    CHECK(has(now.card, part));
  }
  CHECK_FALSE(has(now.card, scratch.path("")));
  // push of a checkpoint makes one too.
  const auto pushed =
      run_qgrpo({"push", scratch.path("out/checkpoint-2"), "me/other", "--dry-run"});
  CHECK(has(pushed.out, "README.md"));
}

}  // namespace qgrpo::test
