// Each check of the software GPU against a program with that bug, which must be found and blamed on
// the right kernel and source line, and against its repaired twin, of which nothing may be said.
// See planted.cu.

#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>

namespace {

struct Expected {
  const char* name;
  const char* error;   // of the launch or call that has the bug
  const char* kind;    // what the diagnosis must contain
  const char* kernel;  // whose name it must contain; empty for calls of the host
  bool line = true;    // whether it must name the line marked "// BUG: name"
  bool sticky = true;  // whether the context is lost
};

constexpr const char* illegal = "cudaErrorIllegalAddress";
constexpr const char* failure = "cudaErrorLaunchFailure";

const Expected table[] = {
    {"global-read", illegal, "out-of-bounds", "read_beyond"},
    {"global-write", illegal, "out-of-bounds", "write_before"},
    {"shared-index", illegal, "out-of-bounds", "shared_index"},
    {"local-index", illegal, "out-of-bounds", "local_index"},
    {"misaligned", "cudaErrorMisalignedAddress", "misaligned", "misaligned_vector"},
    {"use-after-free", illegal, "use-after-free", "read_freed"},
    {"null-pointer", illegal, "out-of-bounds", "write_through"},
    {"host-pointer", illegal, "out-of-bounds", "write_host"},
    {"uninitialised-branch", failure, "uninitialised", "branch_on_value"},
    {"uninitialised-result", failure, "uninitialised", "sum_of_values"},
    {"uninitialised-shared", failure, "uninitialised", "partial_shared"},
    {"uninitialised-index", failure, "uninitialised", "index_from_memory"},
    {"race-read", failure, "shared-race", "race_read"},
    {"race-overwrite", failure, "shared-race", "race_overwrite"},
    {"race-write", failure, "shared-race", "race_write"},
    {"race-in-warp", failure, "shared-race", "race_in_warp"},
    {"divergent-barrier", failure, "divergent-barrier", "barrier_in_branch"},
    {"two-barriers", failure, "divergent-barrier", "two_barriers"},
    {"async-no-wait", failure, "async-copy", "copy_without_wait"},
    {"async-weak-wait", failure, "async-copy", "copy_with_weak_wait"},
    {"shuffle-source", failure, "uninitialised", "shuffle_inactive"},
    {"shuffle-mask", failure, "warp-sync", "shuffle_outside_mask"},
    {"warp-apart", failure, "warp-sync", "exchange_apart"},
    {"unknown-instruction", "cudaErrorInvalidDeviceFunction", "unsupported", "unknown_instruction"},
    {"too-many-threads", "cudaErrorInvalidValue", "512", "bounded_kernel", false, false},
    {"too-much-shared", "cudaErrorInvalidValue", "81920", "dynamic_kernel", false, false},
    {"dynamic-shared", illegal, "out-of-bounds", "dynamic_kernel"},
    {"endless-loop", "cudaErrorLaunchTimeout", "budget", "wait_for_flag"},
    {"assertion", "cudaErrorAssert", "assertion", "asserting"},
    {"copy-beyond-end", "cudaErrorInvalidValue", "cudaMemcpy", "", false, false},
    {"freed-twice", "cudaErrorInvalidValue", "cudaFree", "", false, false},
};

// The program's output and diagnostics together.
std::string run(const std::string& name, bool bug, const std::string& settings) {
  const std::string command = "SOFTGPU_BUDGET=2000000 " + settings +
                              " '" SOFTGPU_RUN "' --build '" SOFTGPU_BUILD "' '" SOFTGPU_PLANTED
                              "' " +
                              name + (bug ? " bug" : " fixed") + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  std::array<char, 4096> part;
  for (std::size_t count; (count = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    output.append(part.data(), count);
  }
  pclose(pipe);
  return output;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// "planted_kernels.cuh:LINE" of the line that ends in the case's marker.
std::string marked_line(const std::string& name) {
  std::ifstream source(SOFTGPU_PLANTED_KERNELS);
  REQUIRE(source.good());
  const std::string marker = "// BUG: " + name;
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    if (line.ends_with(marker)) return "planted_kernels.cuh:" + std::to_string(number);
  }
  FAIL("no line is marked ", marker);
  return "";
}

void check_silent(const std::string& name, const std::string& settings) {
  const std::string output = run(name, false, settings);
  INFO(name, " fixed ", settings, "\n", output);
  CHECK(output == "error: cudaSuccess\nafterwards: cudaSuccess\nvalues: right\n");
}

}  // namespace

TEST_CASE("each planted bug is found, its repaired twin is not reported") {
  for (const Expected& expected : table) {
    const std::string output = run(expected.name, true, "");
    INFO(std::string(expected.name), " with its bug\n", output);
    CHECK(contains(output, std::string("error: ") + expected.error + "\n"));
    CHECK(contains(output, std::string("afterwards: ") +
                               (expected.sticky ? expected.error : "cudaSuccess") + "\n"));
    CHECK(contains(output, expected.kind));
    CHECK(contains(output, expected.kernel));
    if (expected.line) CHECK(contains(output, marked_line(expected.name)));
    check_silent(expected.name, "");
  }
}

TEST_CASE(
    "missing synchronisation shows under some seed of SOFTGPU_SCHEDULE, the repaired twin under "
    "none") {
  for (const char* name : {"schedule-event", "schedule-sync", "schedule-source"}) {
    int shown = 0;
    for (int seed = 1; seed <= 6; ++seed) {
      const std::string settings = "SOFTGPU_SCHEDULE=" + std::to_string(seed);
      shown += contains(run(name, true, settings), "values: wrong");
      check_silent(name, settings);
    }
    INFO(std::string(name));
    CHECK(shown > 0);
    check_silent(name, "");
  }
}
