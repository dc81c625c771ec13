#include <doctest/doctest.h>

#include "support/program.h"

// `qgrpo plan`: what it prints, for a GPU that is not there and for the CPU.
namespace qgrpo::test {
namespace {

bool has(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("plan: a size plans for a GPU, --device cpu for the CPU") {
  const std::vector<std::string> job = {"plan", "--shape", "qwen2.5-3b", "--device-memory", "24GB"};
  const auto gpu = run_qgrpo(job);
  CHECK(gpu.exit_code == 0);
  for (const char* part : {"on a CUDA device", "base weights", "LoRA", "bf16 shadows", "gradients",
                           "optimizer", "pool", "workspace", "CUDA runtime", "an estimate", "total",
                           "of 21.60 GB", "pinned host", "36 of 36 blocks"}) {
    CAPTURE(part);
    CHECK(has(gpu.out, part));
  }
  CHECK_FALSE(has(gpu.out, "cuBLASLt's workspace"));
  auto more = job;
  more.emplace_back("--verbose");
  const auto verbose = run_qgrpo(more);
  CHECK(has(verbose.out, "cuBLASLt's workspace"));
  CHECK(has(verbose.out, "head: a chunk's logits"));

  more = job;
  more.insert(more.end(), {"--device", "cpu"});
  const auto cpu = run_qgrpo(more);
  CHECK(cpu.exit_code == 0);
  CHECK(has(cpu.out, "on cpu: "));
  CHECK_FALSE(has(cpu.out, "CUDA"));
}

TEST_CASE("plan: several sizes are a line each, and one that is too small is said") {
  const auto fits = run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "16GB,24GB,40GB",
                               "--device-memory", "80GB"});
  CHECK(fits.exit_code == 0);
  for (const char* part : {"16.00 GB", "24.00 GB", "40.00 GB", "80.00 GB", "36 of 36"}) {
    CAPTURE(part);
    CHECK(has(fits.out, part));
  }
  const auto some = run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "4GB,6GB,24GB"});
  CHECK(some.exit_code == 1);
  CHECK(has(some.out, "does not fit: the run needs at least"));
  CHECK(has(some.out, "pinned host memory"));
  CHECK(has(some.out, "36 of 36"));
  CHECK(has(some.err, "does not fit into 4.00 GB"));
}

}  // namespace qgrpo::test
