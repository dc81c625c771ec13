// Which files of a folder `push` sends, and which it refuses.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "hub/push_files.h"
#include "support/error_of.h"
#include "support/program.h"

namespace qgrpo::test {

namespace fs = std::filesystem;

TEST_CASE("push: what leaves the folder, and what looks like a secret") {
  const ScratchFolder scratch;
  const std::string out = scratch.path("out");
  scratch.write("out/config.json", "{}");
  scratch.write("out/sub/a.bin", "12345");
  scratch.write("out/.env", "HF_TOKEN=x");
  scratch.write("elsewhere/x", "x");
  const auto paths = [&](const std::vector<std::string>& include = {},
                         const std::vector<std::string>& exclude = {}) {
    std::vector<std::string> found;
    for (const auto& file : hub::push_files(out, include, exclude).files)
      found.push_back(file.path);
    return found;
  };
  const auto refused = [&](const std::string& path, const std::string& why) {
    CAPTURE(path);
    const std::string message = error_of([&] { paths(); });
    CHECK(message.find(why) != std::string::npos);
    CHECK(message.find(path) != std::string::npos);
    const std::size_t others = paths({}, {path}).size();
    CHECK(others == 2);
    CHECK(paths({"config.json"}).size() == 1);  // not asked for: not looked at
    fs::remove(scratch.path("out/" + path));
  };
  const std::vector<std::string> plain = {"config.json", "sub/a.bin"};
  CHECK(paths() == plain);

  fs::create_directory_symlink(scratch.path("elsewhere"), out + "/linked");
  refused("linked", "leads out of the folder");
  fs::create_directory_symlink("..", out + "/sub/up");
  refused("sub/up", "leads to a folder that it lies in");
  fs::create_symlink("/etc/passwd", out + "/sub/users");
  refused("sub/users", "leads out of the folder, to /etc/passwd");
  fs::create_symlink("../elsewhere/none", out + "/dangling");
  refused("dangling", "leads to nothing");
  fs::create_symlink("sub/a.bin", out + "/inside.bin");
  fs::create_directory_symlink("sub", out + "/also");
  CHECK(paths() ==
        std::vector<std::string>{"also/a.bin", "config.json", "inside.bin", "sub/a.bin"});
  fs::remove(out + "/inside.bin");
  fs::remove(out + "/also");

  for (const char* name : {"server.pem", "id_rsa", "sub/id_ed25519", "token", "HF_TOKEN.txt",
                           "prod.env", "private.key", "credentials.json"}) {
    scratch.write(std::string("out/") + name, "x");
    CHECK(paths({"*", name}).size() == 3);  // named letter by letter
    refused(name, "looks like a file with a key, password or token");
  }
  CHECK(paths({"*", ".env"}).size() == 3);
  for (const char* name : {"tokenizer.json", "special_tokens_map.json", "id_rsa.pub"})
    scratch.write(std::string("out/") + name, "x");
  CHECK(paths().size() == 5);

  // What a run keeps of the machine.
  for (const char* name : {"run.json", "run.lock", "config.toml", "events.out.tfevents.1.host.2.0"})
    scratch.write(std::string("out/") + name, "x");
  scratch.write("out/sub/config.toml", "x");  // beside no run.json: not a run's
  CHECK(paths().size() == 6);
  CHECK(hub::push_files(out, {}, {}).kept ==
        std::vector<std::string>{"config.toml", "events.out.tfevents.1.host.2.0", "run.json",
                                 "run.lock"});
  CHECK(hub::push_files(out, {"*", "run.json"}, {}).files.size() == 7);
  fs::remove(out + "/sub/config.toml");

  const ProgramResult listed = run_qgrpo({"push", out, "me/x", "--dry-run"});  // and no token
  CHECK(listed.exit_code == 0);
  CHECK(listed.lines().size() == 5);
  CHECK(listed.out.find("sub/a.bin") != std::string::npos);
  CHECK(listed.err.find("events.out.tfevents.1.host.2.0, run.json, run.lock") != std::string::npos);
  CHECK(listed.err.find("nothing was sent to me/x") != std::string::npos);
}

}  // namespace qgrpo::test
