#include <doctest/doctest.h>

#include <string>

#include "support/program.h"
#include "web/socket.h"

// What `qgrpo watch` is asked for and cannot do; what it shows is tested in tests/watch.
namespace qgrpo::test {

TEST_CASE("watch: what is no run, no port or no place for a page is refused in one line") {
  const ScratchFolder folder;
  folder.write("notes/todo.txt", "none\n");
  folder.write("run/metrics.jsonl", "{\"step\": 1, \"reward\": 0.5}\n");
  const std::string run = folder.path("run");
  CHECK(run_qgrpo({"watch"}).exit_code == 2);
  check_refused(run_qgrpo({"watch", folder.path("notes")}), 1, {"notes", "metrics.jsonl"});
  check_refused(run_qgrpo({"watch", folder.path("no/such/run")}), 1,
                {"no/such/run", "no such folder"});
  check_refused(run_qgrpo({"watch", folder.path("notes/todo.txt")}), 1,
                {"todo.txt", "expected a folder"});
  check_refused(run_qgrpo({"watch", run, "--port", "65536"}), 2, {"--port", "65536", "65535"});
  const web::Descriptor taken = web::listen_on("127.0.0.1", 0);
  const std::string port = std::to_string(web::port_of(taken));
  check_refused(run_qgrpo({"watch", run, "--port", port}), 1, {port});
  check_refused(
      run_qgrpo({"watch", folder.path("begins-later"), "--export", folder.path("page.html")}), 1,
      {"begins-later", "nothing to export"});
  check_refused(run_qgrpo({"watch", run, "--export", folder.path("none/page.html")}), 1,
                {"none/page.html"});

  const ProgramResult exported = run_qgrpo({"watch", run, "--export", folder.path("page.html")});
  CHECK(exported.exit_code == 0);
  CHECK(exported.out.empty());
  CHECK(read_text(folder.path("page.html")).starts_with("<!doctype html>"));
}

}  // namespace qgrpo::test
