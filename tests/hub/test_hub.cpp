#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "hub/digest.h"
#include "hub/hub_server.h"
#include "hub/model_files.h"
#include "hub/pull.h"
#include "hub/push.h"
#include "support/error_of.h"
#include "support/program.h"

namespace qgrpo::test {
namespace {

namespace fs = std::filesystem;

std::string noise(std::size_t bytes, unsigned seed) {
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i) {
    seed = seed * 1664525u + 1013904223u;
    out += static_cast<char>(seed >> 24);
  }
  return out;
}

std::size_t count(const std::vector<std::string>& lines, const std::string& part) {
  return static_cast<std::size_t>(
      std::count_if(lines.begin(), lines.end(),
                    [&](const std::string& line) { return line.find(part) != line.npos; }));
}

struct Hub {
  HubServer server;
  ScratchFolder scratch;
  std::string small = "{\"a\": 1}";
  std::string large = noise(300000, 1);
  std::string commit;

  Hub() {
    if (server.running()) {
      commit = server.commit("org/name", {{"config.json", small},
                                          {"model.safetensors", large},
                                          {"original/weights.pth", noise(2000, 2)},
                                          {"README.md", "read me"},
                                          {"tokenizer.json", "{}"}});
    }
    server_log();
  }
  std::vector<std::string> server_log() {
    return server.running() ? server.log() : std::vector<std::string>();
  }
  std::string cache() const { return scratch.path("hub"); }
  hub::PullResult pull(const std::string& repo, const hub::PullOptions& options = {}) {
    hub::Http http(settings());
    return hub::pull(http, hub::parse_repo(repo), options);
  }
  hub::Settings settings() {
    hub::Settings s = server.settings(cache());
    s.token = token;
    s.offline = offline;
    return s;
  }
  std::string token;
  bool offline = false;
};

}  // namespace

TEST_CASE("names of repositories, and paths that stay inside of one") {
  CHECK(hub::parse_repo("Qwen/Qwen2.5-3B-Instruct").folder() ==
        "models--Qwen--Qwen2.5-3B-Instruct");
  CHECK(hub::parse_repo("gpt2").folder() == "models--gpt2");
  CHECK(hub::parse_repo("a/b@refs/pr/1").revision == "refs/pr/1");
  for (const char* bad : {"", "a/b/c", "a/", "/b", "../b", "a/.b", "a b/c", "a--b/c", "a/b@",
                          "a/b@../x", "a/b@/x", "a/b@x//y"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(hub::parse_repo(bad), Error);
  }
  CHECK(hub::names_repo("Qwen/Qwen2.5"));
  for (const char* path : {"model", "./a", "a/b/c", "/a/b", "../a"}) CHECK(!hub::names_repo(path));
  for (const char* bad : {"", "/a", "a//b", "a/../b", ".", "a\\b", "a/b/"})
    CHECK_THROWS_AS(hub::check_repo_path(bad, "test"), Error);
  const std::string commit(40, 'a');
  CHECK(hub::snapshot_name("/x/models--Q--N.5/snapshots/" + commit + "/") == "Q/N.5@" + commit);
  CHECK(hub::snapshot_name("/x/models--Q--N.5/snapshots/abc").empty());
  CHECK(hub::snapshot_name("models").empty());
}

TEST_CASE("checksums are git's and LFS's") {
  const ScratchFolder scratch;
  scratch.write("f", "hello\n");
  CHECK(hub::git_blob_sha1(scratch.path("f")) == "ce013625030ba8dba906f756967f9e9ca394464a");
  CHECK(hub::file_sha256(scratch.path("f")) ==
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  CHECK(hub::base64("hello") == "aGVsbG8=");
}

TEST_CASE("pull fills the cache as Python lays it out, and asks for nothing twice") {
  Hub hub;
  if (!hub.server.running()) return;
  hub.token = "hf_test";
  const hub::PullResult first = hub.pull("org/name");
  CHECK(first.commit == hub.commit);
  CHECK(first.files == 5);
  CHECK(first.fetched == first.bytes);
  const std::string repo = hub.cache() + "/models--org--name";
  CHECK(first.folder == repo + "/snapshots/" + hub.commit);
  CHECK(read_text(repo + "/refs/main") == hub.commit);
  CHECK(read_text(first.folder + "/config.json") == hub.small);
  CHECK(read_text(first.folder + "/model.safetensors") == hub.large);
  const fs::path link = fs::read_symlink(first.folder + "/original/weights.pth");
  CHECK(link.string().starts_with("../../../blobs/"));
  CHECK(fs::read_symlink(first.folder + "/model.safetensors").filename().string() ==
        hub::file_sha256(first.folder + "/model.safetensors"));
  CHECK(fs::read_symlink(first.folder + "/config.json").filename().string() ==
        hub::git_blob_sha1(first.folder + "/config.json"));
  for (const auto& entry : fs::directory_iterator(repo + "/blobs"))
    CHECK(entry.path().extension() != ".incomplete");

  // The token went to the endpoint and nowhere else (the server refuses it on the other host).
  const auto log = hub.server_log();
  CHECK(count(log, " true 127.0.0.1") == log.size() - count(log, "localhost"));
  CHECK(count(log, " false localhost") == 2);

  // Again: one question for the commit; by the commit's name none at all.
  CHECK(hub.pull("org/name").fetched == 0);
  CHECK(hub.server_log().size() == 1);
  CHECK(hub.pull("org/name@" + hub.commit).fetched == 0);
  CHECK(hub.server_log().empty());
  hub.offline = true;
  CHECK(hub.pull("org/name").folder == first.folder);
  CHECK(hub.server_log().empty());

  // A new commit: only what has changed comes.
  hub.offline = false;
  const std::string second = hub.server.commit("org/name", {{"config.json", "{}"}});
  const hub::PullResult result = hub.pull("org/name");
  CHECK(result.commit == second);
  CHECK(result.fetched == 0);  // "{}" is also tokenizer.json's content: the blob is there
  CHECK(read_text(result.folder + "/config.json") == "{}");
  CHECK(read_text(first.folder + "/config.json") == hub.small);
}

TEST_CASE("pull: patterns and the files of a model") {
  Hub hub;
  if (!hub.server.running()) return;
  hub::PullOptions options;
  options.include = {"*.json"};
  CHECK(hub.pull("org/name", options).files == 2);
  options.include = {"original/"};
  CHECK(hub.pull("org/name", options).files == 1);
  options.include = {};
  options.exclude = {"*.pth", "*.md"};
  CHECK(hub.pull("org/name", options).files == 3);
  options.include = {"nothing*"};
  CHECK(error_of([&] { hub.pull("org/name", options); }).find("5 files") != std::string::npos);
  options = {};
  options.choose = hub::model_files;
  const hub::PullResult model = hub.pull("org/name", options);
  CHECK(model.files == 4);
  CHECK(!fs::exists(model.folder + "/original/x"));
  hub.server.commit("org/bare", {{"config.json", "{}"}});
  CHECK(error_of([&] { hub.pull("org/bare", options); }).find("safetensors") != std::string::npos);
}

TEST_CASE("pull goes on where a transfer broke off, and repeats what fails for a while") {
  Hub hub;
  if (!hub.server.running()) return;
  hub.server.faults(
      R"([{"match": "/revision/", "status": 503, "times": 2},
          {"match": "/tree/", "status": 429, "retry_after": "0"},
          {"match": "/resolve/", "status": 500, "times": 2},
          {"match": "/cdn/", "cut": 100000}, {"match": "/cdn/", "stall": 2, "cut": 50000}])");
  const hub::PullResult result = hub.pull("org/name");
  CHECK(read_text(result.folder + "/model.safetensors") == hub.large);
  CHECK(result.fetched == result.bytes);  // no byte twice
  const auto log = hub.server_log();
  CHECK(count(log, "/revision/") == 3);
  CHECK(count(log, "bytes=100000-") > 0);
}

TEST_CASE("pull: an earlier run's part is used, also with a server that knows no ranges") {
  for (const bool ranges : {true, false}) {
    Hub hub;
    if (!hub.server.running()) return;
    CAPTURE(ranges);
    const ScratchFolder sums;
    sums.write("x", hub.large);
    const std::string blob =
        hub.cache() + "/models--org--name/blobs/" + hub::file_sha256(sums.path("x"));
    hub.scratch.write(
        "hub/models--org--name/blobs/" + hub::file_sha256(sums.path("x")) + ".incomplete",
        hub.large.substr(0, 200000));
    if (!ranges) hub.server.faults(R"([{"match": "/cdn/", "no_range": true, "times": 9}])");
    const hub::PullResult result = hub.pull("org/name");
    CHECK(read_text(blob) == hub.large);
    CHECK(result.fetched == result.bytes - (ranges ? 200000 : 0));
  }
}

TEST_CASE("pull never gives a name to wrong bytes") {
  Hub hub;
  if (!hub.server.running()) return;
  const std::string blobs = hub.cache() + "/models--org--name/blobs";
  hub.server.faults(R"([{"match": "/cdn/", "corrupt": true}])");
  CHECK(read_text(hub.pull("org/name").folder + "/model.safetensors") == hub.large);  // second try
  fs::remove_all(hub.cache());
  hub.server.faults(R"([{"match": "/cdn/", "corrupt": true, "times": 99}])");
  CHECK(error_of([&] { hub.pull("org/name"); }).find("checksum") != std::string::npos);
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(blobs)) {
    if (entry.file_size() == hub.large.size()) ++files;
  }
  CHECK(files == 0);
  // A damaged file of the cache is fetched anew.
  hub.server.faults("[]");
  const auto result = hub.pull("org/name");
  const fs::path blob = fs::canonical(result.folder + "/model.safetensors");
  fs::resize_file(blob, 1000);
  hub.pull("org/name");
  CHECK(read_text(blob.string()) == hub.large);
  // A listing that leads outside is refused before anything is written.
  hub.server.commit("org/evil", {{"a", "b"}});
  hub.server.faults(R"([{"match": "evil/tree", "entry": {"path": "../../../escaped"}}])");
  CHECK(error_of([&] { hub.pull("org/evil"); }).find("no path inside") != std::string::npos);
}

TEST_CASE("pull: two at once do not disturb each other") {
  Hub hub;
  if (!hub.server.running()) return;
  hub.server.faults(R"([{"match": "/cdn/", "stall": 0.3, "times": 1}])");
  std::string errors[2];
  std::thread other([&] { errors[0] = error_of([&] { hub.pull("org/name"); }); });
  errors[1] = error_of([&] { hub.pull("org/name"); });
  other.join();
  CHECK(errors[0] == "");
  CHECK(errors[1] == "");
  const auto log = hub.server_log();
  CHECK(count(log, "/cdn/") == 2);  // each large file once
  CHECK(read_text(hub.pull("org/name").folder + "/model.safetensors") == hub.large);
}

TEST_CASE("pull: each refusal in one line that says what to do") {
  Hub hub;
  if (!hub.server.running()) return;
  hub.server.commit("org/secret", {{"a", "b"}}, ",\"private\":true");
  hub.server.commit("org/gated", {{"a", "b"}}, ",\"gated\":true");
  const auto refused = [&](const std::string& repo, const std::string& part) {
    const std::string error = error_of([&] { hub.pull(repo); });
    CAPTURE(error);
    CHECK(error.find(part) != std::string::npos);
    CHECK(error.find('\n') == std::string::npos);
    CHECK(error.find(hub::parse_repo(repo).id) != std::string::npos);
  };
  refused("org/none", "does not exist or is private");
  refused("org/secret", "HF_TOKEN");
  refused("org/gated", "accept its terms");
  refused("org/name@v9", "no such revision");
  hub.token = "hf_wrong";
  refused("org/name", "token is not valid");
  hub.token = "hf_test";
  CHECK(hub.pull("org/secret").files == 1);
  CHECK(hub.pull("org/gated").files == 1);
  hub.server.faults(R"([{"match": "/revision/", "status": 503, "times": 99}])");
  refused("org/name", "try again later");
  CHECK(hub.server_log().size() > 5);
  // With something in the cache a Hub in trouble is no obstacle.
  hub.server.faults("[]");
  hub.pull("org/name");
  hub.server.faults(R"([{"match": "/revision/", "status": 503, "times": 99}])");
  CHECK(hub.pull("org/name").fetched == 0);
  hub.offline = true;
  refused("org/never", "HF_HUB_OFFLINE");
  hub.offline = false;
  hub::Settings nowhere = hub.settings();
  nowhere.endpoint = "http://127.0.0.1:1";
  nowhere.retries = 1;
  hub::Http http(nowhere);
  const auto never = hub::parse_repo("org/never");
  CHECK(error_of([&] { hub::pull(http, never, {}); }).find("check the network") !=
        std::string::npos);
}

TEST_CASE("push: one commit, of what the Hub has not, large files apart") {
  Hub hub;
  if (!hub.server.running()) return;
  const std::string large = noise(250000, 3);  // three parts
  hub.scratch.write("out/config.json", "{}");
  hub.scratch.write("out/adapter.safetensors", large);
  hub.scratch.write("out/sub/middle.bin", noise(5000, 4));
  hub.scratch.write("out/empty", "");
  hub.scratch.write("out/skip.ignored", "x");
  hub.scratch.write("out/.git/x", "x");
  hub.scratch.write("out/half.tmp", "x");
  const auto push = [&](const std::string& repo, const hub::PushOptions& options = {}) {
    hub::Http http(hub.settings());
    return hub::push(http, hub::parse_repo(repo), hub.scratch.path("out"), options);
  };
  CHECK(error_of([&] { push("me/new"); }).find("HF_TOKEN") != std::string::npos);
  hub.token = "hf_test";
  hub.server.faults(
      R"([{"match": "/part/", "status": 500}, {"match": "/upload/", "status": 503}])");
  hub::PushSelection announced;
  const hub::PushResult result =
      push("me/new", {.include = {},
                      .exclude = {},
                      .message = "first",
                      .private_repo = true,
                      .dry_run = false,
                      .listed = [&](const hub::PushSelection& chosen) { announced = chosen; },
                      .progress = {}});
  REQUIRE(announced.files.size() == 5);  // one of them the Hub will leave out
  CHECK(announced.files[0].path == "adapter.safetensors");
  CHECK(announced.files[0].size == 250000);
  CHECK(result.changed == 4);
  CHECK(result.sent == 255000);
  CHECK(result.url == hub.server.endpoint() + "/me/new/commit/" + result.commit);
  const auto log = hub.server_log();
  CHECK(count(log, "PUT /part/") == 4);  // one of three failed once
  CHECK(count(log, "/verify/") == 2);
  const hub::PullResult back = hub.pull("me/new");
  CHECK(back.commit == result.commit);
  CHECK(back.files == 4);
  CHECK(read_text(back.folder + "/adapter.safetensors") == large);
  CHECK(fs::file_size(back.folder + "/empty") == 0);

  CHECK(push("me/new").url.empty());  // nothing has changed
  hub.scratch.write("out/config.json", "{\"b\": 2}");
  hub::PushOptions only;
  only.exclude = {"*.safetensors"};
  const auto second = push("me/new", only);
  CHECK(second.changed == 1);
  CHECK(second.sent == 0);
  CHECK(hub.pull("me/new").files == 4);
  hub.token = "";
  CHECK(error_of([&] { hub.pull("me/new"); }).find("is private") != std::string::npos);
  hub.token = "hf_test";
  CHECK(error_of([&] { push("me/new@nobranch"); }).find("no such revision") != std::string::npos);
  hub.server.faults(R"([{"match": "/commit/", "status": 500}])");
  hub.scratch.write("out/config.json", "{}");
  CHECK(error_of([&] { push("me/new"); }).find("run the command again") != std::string::npos);
}

TEST_CASE("pull and --model on the command line") {
  Hub hub;
  if (!hub.server.running()) return;
  setenv("HF_ENDPOINT", hub.server.endpoint().c_str(), 1);
  setenv("HF_HUB_CACHE", hub.cache().c_str(), 1);
  const auto pulled = run_qgrpo({"pull", "org/name", "--include", "*.json"});
  CHECK(pulled.exit_code == 0);
  CHECK(pulled.out == hub.cache() + "/models--org--name/snapshots/" + hub.commit + "\n");
  check_refused(run_qgrpo({"pull", "org/none"}), 1, {"org/none", "HF_TOKEN"});
  check_refused(run_qgrpo({"pull", "no such name"}), 1, {"no such name", "OWNER/NAME"});
  check_refused(run_qgrpo({"pull"}), 2, {"REPO"});
  check_refused(run_qgrpo({"push", hub.cache(), "me/x"}), 1, {"HF_TOKEN"});
  check_refused(run_qgrpo({"plan", "--model", "org/none"}), 1, {"org/none", "no such folder here"});
  // The files come; that this config.json is no model's is the loader's complaint.
  check_refused(run_qgrpo({"plan", "--model", "org/name", "--device", "cpu"}), 1,
                {"models--org--name/snapshots/" + hub.commit});
  setenv("HF_ENDPOINT", "ftp://x", 1);
  check_refused(run_qgrpo({"pull", "org/name"}), 1, {"HF_ENDPOINT", "ftp://x"});
  unsetenv("HF_ENDPOINT");
  unsetenv("HF_HUB_CACHE");
}

}  // namespace qgrpo::test
