// bench_tokenizer FOLDER FILE: the speed of encode() on one thread, in MB/s (10^6 bytes of text)
// and tokens/s, line by line and for the whole file at once, and of decode(). Lines of a .jsonl
// file are taken as they are, as text. Each figure is the best of five runs; the first run of a
// tokenizer, with its cache of words still empty, is also given.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <sstream>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "tokenizer/load.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::bench {
namespace {

double seconds(const std::function<void()>& function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void report(const char* name, std::size_t bytes, const std::function<std::size_t()>& encode) {
  std::size_t tokens = 0;
  const double first = seconds([&] { tokens = encode(); });
  double best = first;
  for (int run = 0; run < 4; ++run) best = std::min(best, seconds([&] { tokens = encode(); }));
  const auto size = static_cast<double>(bytes);
  fmt::print("{:<12} {:8.1f} MB/s {:12.0f} tokens/s   (first run {:.1f} MB/s; {} tokens)\n", name,
             size / best / 1e6, static_cast<double>(tokens) / best, size / first / 1e6, tokens);
}

void run(const std::string& folder, const std::string& file) {
  const std::string text = io::read_input(file);
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  fmt::print("load         {:8.0f} ms\n",
             1e3 * seconds([&] { tokenizer = tokenizer::load_tokenizer(folder); }));
  report("lines", text.size(), [&] {
    std::size_t tokens = 0;
    for (const auto& line : lines) tokens += tokenizer->encode(line).size();
    return tokens;
  });
  tokenizer = tokenizer::load_tokenizer(folder);
  report("whole file", text.size(), [&] { return tokenizer->encode(text).size(); });
  const auto ids = tokenizer->encode(text);
  report("decode", text.size(), [&] {
    require(tokenizer->decode(ids).size() == text.size(), "decode() lost text");
    return ids.size();
  });
}

}  // namespace
}  // namespace qgrpo::bench

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_tokenizer FOLDER FILE\n");
    return 2;
  }
  try {
    qgrpo::bench::run(argv[1], argv[2]);
  } catch (const qgrpo::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
