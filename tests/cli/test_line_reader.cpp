#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/text/line_reader.h"
#include "model/ops/error.h"

using namespace qgrpo;
using namespace qgrpo::cli;

TEST_CASE("lines of a stream are std::getline's") {
  for (const std::string text : {"", "a", "a\n", "a\nb", "\n", "\n\na\r\n", "a\n\n"}) {
    CAPTURE(text);
    std::istringstream ours(text), theirs(text);
    std::string line, expected;
    while (std::getline(theirs, expected)) {
      CHECK(next_line(ours, line, "here"));
      CHECK(line == expected);
    }
    CHECK_FALSE(next_line(ours, line, "here"));
    CHECK_FALSE(ours.bad());
  }
}

TEST_CASE("a line that never ends is refused before it fills the memory") {
  struct Endless : std::streambuf {
    int_type underflow() override {
      setg(piece, piece, piece + sizeof piece);
      return 'x';
    }
    char piece[1 << 16] = {'x'};
  } endless;
  std::istream stream(&endless);
  std::string line;
  CHECK_THROWS_WITH_AS(next_line(stream, line, "input line 1"),
                       "input line 1: is longer than 64 MiB, the most that is read of a line",
                       Error);

  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("qgrpo-lines-{}", ::getpid());
  std::ofstream(path) << "short\n" << std::string(std::size_t{3} << 20, 'x') << "\nlast\n";
  LineReader reader(path.string());
  reader.limit_lines(std::size_t{2} << 20, "; make it shorter");
  CHECK(reader.next(line, true) == LineReader::Status::line);
  CHECK(line == "short");
  CHECK_THROWS_WITH_AS(
      reader.next(line, true),
      (path.string() +
       " line 2: is longer than 2 MiB, the most that is read of a line; make it shorter")
          .c_str(),
      Error);
  std::filesystem::remove(path);
}
