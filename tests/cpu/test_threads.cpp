// Threads that the system refuses.
#include "cpu/threads.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "model/ops/error.h"

namespace qgrpo::test {

// Sanitizers need address space of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("threads that cannot be started end in an error, not in a wait") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);  // a wait without end fails the test
    const rlimit limit = {std::size_t{4} << 30, std::size_t{4} << 30};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
    try {
      cpu::ThreadPool pool(5000);  // of 8 MiB each
    } catch (const Error& error) {
      const std::string message = error.what();
      _exit(message.find("of 5000 threads could be started") != std::string::npos ? 0 : 2);
    }
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

}  // namespace qgrpo::test
