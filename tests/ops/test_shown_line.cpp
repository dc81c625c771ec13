#include <doctest/doctest.h>

#include "model/io/notes.h"
#include "model/io/utf8.h"

using namespace qgrpo;

TEST_CASE("a message is shown as one line without control characters") {
  CHECK(io::shown_line("model.gguf: key \"größe\"") == "model.gguf: key \"größe\"");
  CHECK(io::shown_line("a\r\n\tb") == "a   b");
  CHECK(io::shown_line("\x1b[2J\x7f\xc2\x9b\a") == "\\x1b[2J\\x7f\\x9b\\x07");
  CHECK(io::shown_line("a\xffz") == "a\xef\xbf\xbdz");
  CHECK(io::shown_line(std::string("a\0b", 3)) == "a\\x00b");
}

TEST_CASE("a long message is shown with its beginning and its end") {
  std::string text = "model.gguf: ";
  for (int i = 0; i < 100000; ++i) text += "ä";
  text += ": expected a number";
  const std::string line = io::shown_line(text);
  CHECK(line.size() <= 4096);
  CHECK(line.starts_with("model.gguf: ää"));
  CHECK(line.ends_with("ä: expected a number"));
  CHECK(utf8::is_valid(line));
  CHECK(io::shown_line(std::string(4096, 'x')) == std::string(4096, 'x'));
}
