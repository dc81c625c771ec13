// The targets without libFuzzer: over the inputs that are kept here, and over mutations of them that are the same in
// every run.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "fuzz/target.h"
#include "model/io/file.h"

using namespace qgrpo;

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr unsigned kLongestInput = 60;  // seconds, on a slow machine; no input here takes a tenth
constexpr std::size_t kLargest = 1 << 16;

// The input at work, for who looks for what ended the process.
std::string current_input;
std::string current_file;

// Keeps the input and ends the process: it has crashed, or does not end.
void keep_and_exit(int signal) {
  const int file = open(current_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const bool kept = file >= 0 && write(file, current_input.data(), current_input.size()) ==
                                     static_cast<ssize_t>(current_input.size());
  const std::string_view text = signal == SIGALRM ? "takes too long: " : "has crashed on: ";
  for (const std::string_view part : {text, std::string_view(current_file), std::string_view("\n")})
    if (write(STDERR_FILENO, part.data(), part.size()) < 0) break;
  _exit(kept ? 1 : 2);
}

struct Alarm {
  Alarm() { alarm(kLongestInput); }
  ~Alarm() { alarm(0); }
};

std::string kept_path(std::string_view target) {
  return fmt::format("{}/qgrpo-fuzz-{}", fs::temp_directory_path().string(), target);
}

struct Input {
  std::string name;
  std::string content;
};

std::vector<Input> inputs_of(const std::string& kind, std::string_view target) {
  std::vector<Input> out;
  const fs::path folder = fs::path(QGRPO_SOURCE_DIR) / "tests/fuzz" / kind / target;
  if (!fs::is_directory(folder)) return out;
  for (const auto& entry : fs::directory_iterator(folder))
    out.push_back({entry.path().string(), io::read_file(entry.path().string())});
  std::sort(out.begin(), out.end(), [](const Input& a, const Input& b) { return a.name < b.name; });
  return out;
}

// What went wrong; empty: nothing.
std::string problem_with(const fuzz::Target& target, const std::string& input) {
  current_input = input;
  current_file = kept_path(target.name);
  const Alarm alarm;
  try {
    fuzz::run(target, input);
  } catch (const fuzz::Violation& violation) {
    return violation.what;
  } catch (const std::exception& error) {
    return std::string("an exception that is no Error: ") + error.what();
  }
  return "";
}

// A number of the environment: QGRPO_FUZZ_SECONDS, how long the mutations of all targets may take together, and
// QGRPO_FUZZ_SEED, which of them.
double setting(const char* name, double otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtod(text, nullptr);
}

// One to four changes: a bit, a byte, a number, bytes left out, repeated, or taken from another input.
class Mutator {
 public:
  explicit Mutator(const std::vector<Input>& inputs)
      : inputs_(inputs), random_(static_cast<std::uint64_t>(setting("QGRPO_FUZZ_SEED", 1.0))) {}

  std::string next() {
    std::string text = pick(inputs_).content;
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(text);
    text.resize(std::min(text.size(), kLargest));
    return text;
  }

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }
  template <typename T>
  const T& pick(const std::vector<T>& items) {
    return items[below(items.size())];
  }

  void change(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = std::min(text.size() - at, 1 + below(below(2) == 0 ? 8 : 64));
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      case 4: {
        const std::string& other = pick(inputs_).content;
        text.insert(at, other.substr(below(other.size() + 1), 1 + below(64)));
        break;
      }
      case 5: {  // a number, as text or as bytes
        static const std::vector<std::string> numbers = {"0",
                                                         "-1",
                                                         "1e999",
                                                         "4294967295",
                                                         "2147483648",
                                                         "9223372036854775807",
                                                         "18446744073709551616",
                                                         std::string(4, '\xff'),
                                                         std::string(8, '\xff'),
                                                         std::string(8, '\0'),
                                                         std::string(7, '\0') + '\x80'};
        text.replace(at, length, pick(numbers));
        break;
      }
      default: {  // one of its own pieces elsewhere
        const std::string piece = text.substr(below(text.size() + 1), length);
        text.replace(at, std::min(piece.size(), text.size() - at), piece);
      }
    }
  }

  const std::vector<Input>& inputs_;
  std::mt19937_64 random_;
};

}  // namespace

TEST_CASE("fuzz targets over the inputs that are kept") {
  REQUIRE(!fuzz::targets().empty());
  for (const fuzz::Target& target : fuzz::targets()) {
    CAPTURE(target.name);
    const auto seeds = inputs_of("corpus", target.name);
    CHECK(!seeds.empty());
    std::size_t good = 0;
    for (const Input& input : seeds) {
      CAPTURE(input.name);
      CHECK(problem_with(target, input.content) == "");
      good += fuzz::run(target, input.content) ? 1 : 0;
    }
    CHECK(good > 0);  // else all that lies behind the first check would never be reached
    for (const Input& input : inputs_of("regressions", target.name)) {
      CAPTURE(input.name);
      CHECK(problem_with(target, input.content) == "");
    }
    CHECK(problem_with(target, "") == "");
  }
}

TEST_CASE("fuzz targets over mutations") {
  for (const int signal : {SIGALRM, SIGSEGV, SIGFPE, SIGABRT, SIGBUS, SIGILL})
    std::signal(signal, keep_and_exit);
  const double seconds =
      setting("QGRPO_FUZZ_SECONDS", 45.0) / static_cast<double>(fuzz::targets().size());
  for (const fuzz::Target& target : fuzz::targets()) {
    CAPTURE(target.name);
    auto inputs = inputs_of("corpus", target.name);
    const auto more = inputs_of("regressions", target.name);
    inputs.insert(inputs.end(), more.begin(), more.end());
    Mutator mutator(inputs);
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    std::size_t runs = 0;
    for (; Clock::now() < until; ++runs) {
      const std::string input = mutator.next();
      const std::string problem = problem_with(target, input);
      if (problem.empty()) continue;
      const std::string kept = kept_path(target.name);
      io::write_file_atomically(kept, input);
      FAIL_CHECK(target.name << ": " << problem << "; the input: " << kept);
      break;
    }
    MESSAGE(target.name << ": " << runs << " mutations");
  }
}
