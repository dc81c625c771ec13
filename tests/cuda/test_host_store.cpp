#include <cstdio>
#include <filesystem>

#include "cuda/device_support.h"

// Tensors that leave the device and come back while it computes. Done in order nothing can go
// wrong: the software GPU's seeds delay and reorder what no event orders, so the test runs itself
// again under several.
namespace qgrpo::test {
namespace {

constexpr std::int64_t kBlocks = 5;
constexpr std::int64_t kElements = 3000;

// As training does it: one buffer that every block overwrites on the way forward, two that take
// turns on the way back.
void there_and_back(Backend& backend) {
  LayerOps& ops = backend.layer();
  const Shape shape{kElements};
  const std::vector<float> nothing(kElements, 0.0f);
  const OnBackend stream(backend, nothing, shape, DType::f32),
      first(backend, nothing, shape, DType::f32), second(backend, nothing, shape, DType::f32);
  const TensorView back[] = {first, second};
  std::vector<std::vector<float>> inputs;
  std::vector<OnBackend> sources, copies;
  sources.reserve(kBlocks);
  copies.reserve(kBlocks);
  for (std::int64_t i = 0; i < kBlocks; ++i) {
    inputs.push_back(bf16_values(kElements, 60 + static_cast<std::uint32_t>(i)));
    sources.emplace_back(backend, inputs.back(), shape, DType::f32);
    copies.emplace_back(backend, nothing, shape, DType::f32);
  }
  const auto store =
      backend.make_host_store(kBlocks, static_cast<std::size_t>(kElements) * sizeof(float));
  REQUIRE(store != nullptr);
  const auto slot_of = [](std::int64_t i) { return (i * 3 + 1) % kBlocks; };
  for (int round = 0; round < 2; ++round) {  // the slots are used again
    for (std::int64_t i = 0; i < kBlocks; ++i) {
      ops.zero(stream);
      ops.add(stream, sources[static_cast<std::size_t>(i)]);
      store->save(slot_of(i), stream.view());
      ops.zero(copies[static_cast<std::size_t>(i)]);  // work beside the copy
      store->saved(slot_of(i));
    }
    ops.add(stream, sources[0]);
    const auto fetch = [&](std::int64_t i) { store->fetch(slot_of(i), back[i % 2]); };
    fetch(kBlocks - 1);
    for (std::int64_t i = kBlocks - 1; i >= 0; --i) {
      if (i > 0) fetch(i - 1);
      store->fetched(slot_of(i));
      ops.add(copies[static_cast<std::size_t>(i)], back[i % 2]);
      ops.zero(back[i % 2]);  // the next fetch into it may not come before
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) CHECK(copies[i].values() == inputs[i]);
  }
}

TEST_CASE("cuda host store: tensors come back as they were") {
  const Backends b = both_backends();
  if (!b) return;
  CHECK(b.cpu->make_host_store(2, 16) == nullptr);
  there_and_back(*b.cuda);
}

// The exit status of a command of the shell and what it printed.
std::pair<int, std::string> run_command(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string printed;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) printed += static_cast<char>(c);
  return {pclose(pipe), printed};
}

TEST_CASE("cuda host store: in any legal order of copies and kernels") {
  if (!both_backends() || std::getenv("SOFTGPU_SCHEDULE") != nullptr) return;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (int seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    const auto [status, printed] = run_command(
        fmt::format("SOFTGPU_SCHEDULE={} '{}' -tc='cuda host store: tensors*'", seed, self));
    INFO(printed);
    CHECK(status == 0);
    CHECK(printed.find(" 1 passed |") != std::string::npos);
  }
}

TEST_CASE("cuda host store: what does not fit is refused") {
  const Backends b = both_backends();
  if (!b) return;
  const auto store = b.cuda->make_host_store(2, 64);
  const OnBackend x(*b.cuda, std::vector<float>(32), {32}),
      large(*b.cuda, std::vector<float>(512), {512});
  CHECK_THROWS_WITH_AS(store->save(2, x.view()), "host store: slot 2 of 2", Error);
  CHECK_THROWS_WITH_AS(store->save(-1, x.view()), "host store: slot -1 of 2", Error);
  CHECK_THROWS_WITH_AS(store->save(0, large.view()), "host store: 1024 bytes for a slot of 256",
                       Error);
  CHECK_THROWS_WITH_AS(store->fetch(0, x.view()), "host store: slot 0 was not saved", Error);
  store->save(0, x.view());
  CHECK_THROWS_WITH_AS(store->fetch(0, large.view()),
                       "host store: slot 0 has 64 bytes, 1024 are asked for", Error);
  CHECK_THROWS_WITH_AS(store->fetched(0), "host store: slot 0 was not fetched", Error);
  CHECK(b.cuda->make_host_store(0, 0) != nullptr);
}

}  // namespace
}  // namespace qgrpo::test
