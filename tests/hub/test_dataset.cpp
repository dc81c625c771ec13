#include "hub/dataset.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "hub/hub_server.h"
#include "model/io/file.h"
#include "support/error_of.h"
#include "support/program.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

// GSM8K's card, shortened.
constexpr const char* kCard = R"(---
annotations_creators:
- crowdsourced
paperswithcode_id: gsm8k
dataset_info:
- config_name: main
  features:
  - name: question
    dtype: string
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
- config_name: socratic
  data_files:
  - split: train
    path:
    - "socratic/train-*"
  - split: test
    path: ['socratic/test-*']   # quoted
---

# Dataset Card
configs:
)";

std::vector<hub::RepoFile> files(const std::vector<std::string>& paths) {
  std::vector<hub::RepoFile> out;
  for (const std::string& path : paths) out.push_back({path, 1, "", "", ""});
  return out;
}

std::vector<std::string> chosen(const std::vector<std::string>& paths,
                                const hub::DatasetChoice& choice = {},
                                const std::string& card = "") {
  std::vector<std::string> out;
  for (const auto& file :
       hub::dataset_files(files(paths), hub::read_dataset_configs(card, "card"), choice))
    out.push_back(file.path);
  return out;
}

using Paths = std::vector<std::string>;
const Paths kGsm8k = {"README.md", "main/test-00000-of-00001.parquet",
                      "main/train-00000-of-00001.parquet", "socratic/test-00000-of-00001.parquet",
                      "socratic/train-00000-of-00001.parquet"};

}  // namespace

TEST_CASE("data sets of the Hub: a card's configurations") {
  const auto configs = hub::read_dataset_configs(kCard, "card");
  REQUIRE(configs.size() == 2);
  CHECK(configs[0].name == "main");
  REQUIRE(configs[1].splits.size() == 2);
  CHECK(configs[1].splits[0].second == Paths{"socratic/train-*"});
  CHECK(configs[1].splits[1].second == Paths{"socratic/test-*"});
  CHECK(chosen(kGsm8k, {"main", "train"}, kCard) == Paths{kGsm8k[2]});
  CHECK(chosen(kGsm8k, {"socratic", "test+train"}, kCard) == Paths{kGsm8k[3], kGsm8k[4]});
  CHECK(error_of([&] { chosen(kGsm8k, {}, kCard); }) ==
        "has several configurations, name one with --dataset-config: main, socratic");
  CHECK(error_of([&] {
          chosen(kGsm8k, {"other", "train"}, kCard);
        }) == "has no configuration \"other\"; --dataset-config is one of: main, socratic");
  CHECK(error_of([&] {
          chosen(kGsm8k, {"main", "dev"}, kCard);
        }) == "has no split \"dev\"; --dataset-split is one of: test, train");
  CHECK(error_of([&] {
          chosen(kGsm8k, {"main", "train[:10%]"}, kCard);
        }).find("--dataset-split train[:10%]: found a part of a split") == 0);
  // The default one, and other forms of data_files.
  CHECK(chosen({"a.jsonl", "b.jsonl"}, {},
               "---\nconfigs:\n- config_name: x\n  data_files: a.jsonl\n"
               "- config_name: y\n  default: true\n  data_files: \"b.jsonl\"\n---\n") ==
        Paths{"b.jsonl"});
  CHECK(chosen({"a/1.csv", "a/b/2.csv", "c.csv"}, {},
               "---\nconfigs:\n  - config_name: x\n    data_files:\n"
               "      - a/*.csv\n      - c.csv\n---\n") == Paths{"a/1.csv", "c.csv"});
  CHECK(chosen({"a/1.csv", "a/b/2.csv", "c.csv"}, {}, "---\nconfigs:\n- data_dir: a\n---\n") ==
        Paths{"a/1.csv", "a/b/2.csv"});
  CHECK(chosen({"a.csv", "b.csv"}, {"", "test"},
               "---\nconfigs:\n- data_files:\n    train: a.csv\n    test: b.csv\n---\n") ==
        Paths{"b.csv"});
  CHECK(chosen({"train.csv"}, {}, "---\r\nlicense: mit\r\n---\r\n") == Paths{"train.csv"});
  CHECK(error_of([&] {
          hub::read_dataset_configs("---\nconfigs:\n- {a: b}\n---\n", "card");
        }).find("card: its \"configs\" are not understood at \"- {a: b}\"") == 0);
}

TEST_CASE("data sets of the Hub: splits by the files' names") {
  CHECK(chosen({"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
                "data/extra-00000-of-00001.parquet"}) ==
        Paths{"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"});
  CHECK(chosen({"data/extra-00000-of-00001.parquet"}, {"", "extra"}) ==
        Paths{"data/extra-00000-of-00001.parquet"});
  CHECK(chosen({"my_train_file.csv.gz", "dev/x.csv", "testing.csv"}) ==
        Paths{"my_train_file.csv.gz"});
  CHECK(chosen({"my_train_file.csv", "dev/x.csv", "testing.csv"}, {"", "validation"}) ==
        Paths{"dev/x.csv"});
  CHECK(chosen({"b.jsonl", "a.jsonl", "dataset_infos.json"}) == Paths{"a.jsonl", "b.jsonl"});
  // The same data in two kinds of files.
  CHECK(chosen({"train.csv", "train.parquet"}) == Paths{"train.parquet"});
  CHECK(chosen({"main/train/0000.parquet", "other/train/0000.parquet"}, {"main", "train"}) ==
        Paths{"main/train/0000.parquet"});
  CHECK(error_of([&] {
          chosen({"gsm8k.py", "README.md"});
        }).find("has no file that is read among its 2") == 0);
  CHECK(hub::names_data_file("data/train.jsonl"));
  CHECK_FALSE(hub::names_data_file("openai/gsm8k"));
}

TEST_CASE("data sets of the Hub: fetched once, then from the cache; failures are one line") {
  HubServer server;
  if (!server.running()) return;
  const ScratchFolder scratch;
  server.commit("datasets/org/sums",
                {{"README.md",
                  "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n"
                  "    path: main/train*\n---\n"},
                 {"main/train.csv", "question,answer\n1+1?,#### 2\n2+1?,#### 3\n"},
                 {"main/test.csv", "question,answer\n"}});
  server.commit("org/sums", {{"README.md", "a model of the same name"}});
  hub::Http http(server.settings(scratch.path("hub")));
  const auto paths = hub::pull_dataset(http, hub::parse_repo("org/sums"), {});
  REQUIRE(paths.size() == 1);
  CHECK(paths[0].find("/datasets--org--sums/snapshots/") != std::string::npos);
  CHECK(paths[0].ends_with("/main/train.csv"));
  CHECK(io::read_file(paths[0]).starts_with("question,answer"));
  server.log();
  hub::Settings offline = server.settings(scratch.path("hub"));
  offline.offline = true;
  hub::Http none(offline);
  CHECK(hub::pull_dataset(none, hub::parse_repo("org/sums"), {}) == paths);
  CHECK(server.log().empty());
  CHECK(error_of([&] {
          hub::pull_dataset(http, hub::parse_repo("org/sums"), {"", "test"});
        }) == "org/sums: has no split \"test\"; --dataset-split is one of: train");
  CHECK(error_of([&] {
          hub::pull_dataset(none, hub::parse_repo("org/other"), {});
        }).find("org/other: is not in the cache") == 0);
}

TEST_CASE("data sets of the Hub: a name on the command line") {
  HubServer server;
  if (!server.running()) return;
  const ScratchFolder scratch;
  server.commit("datasets/org/sums", {{"train.csv", "question,answer\n1+1?,#### 2\n"}});
  setenv("HF_ENDPOINT", server.endpoint().c_str(), 1);
  setenv("HF_HUB_CACHE", scratch.path("hub").c_str(), 1);
  const auto train = [&](const std::string& name, const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {
        "train", "--model",      vector_path("tiny_qwen2"), "--dataset",
        name,    "--output-dir", scratch.path("run")};
    args.insert(args.end(), more.begin(), more.end());
    return run_qgrpo(args);
  };
  check_refused(train("org/sums", {"--dataset-split", "test"}), 1,
                {"org/sums: has no split \"test\"", "so it was looked for on the Hub"});
  const auto found = train("org/sums");  // read; then the model has no tokenizer
  CHECK(found.err.find("org/sums") == std::string::npos);
  const auto missing = train("data/train.jsonl");
  CHECK(missing.err.find("data/train.jsonl: ") != std::string::npos);
  CHECK(missing.err.find("Hub") == std::string::npos);
  unsetenv("HF_ENDPOINT");
  unsetenv("HF_HUB_CACHE");
}

}  // namespace qgrpo::test
