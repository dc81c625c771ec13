// What a Generator is sized for, from what it is to run.

#include "cpu/backend.h"
#include "engine/generator_cases.h"
#include "model/workspace.h"

namespace qgrpo::test {
namespace {

// The CPU's sizes, but for what its processor is best at.
class Preferring final : public BackendSizes {
 public:
  explicit Preferring(std::int64_t prefill_rows) : prefill_rows_(prefill_rows) {}
  DType activation_dtype() const override { return DType::f32; }
  BackendPreferences preferences() const override { return {prefill_rows_, 2048}; }
  std::size_t weight_bytes(std::int64_t, std::int64_t, WeightFormat) const override { return 0; }
  std::size_t workspace_bytes(const WorkspaceShape&) const override { return 0; }

 private:
  std::int64_t prefill_rows_;
};

}  // namespace

TEST_CASE("capacity: sequences, rows and blocks from the load and the backend's preference") {
  GeneratorLoad load;
  load.sequences = 12;
  load.samples = 4;
  load.group_blocks = most_blocks_of_group(20, 30, 4, kBlockSize);
  const GeneratorCapacity few = generator_capacity(Preferring(256), load);
  CHECK(few.block_size == kBlockSize);
  CHECK(few.num_blocks == 3 * load.group_blocks);
  CHECK(few.max_sequences == 12);
  CHECK(few.max_tokens == 256);
  CHECK(few.window == kWindow);
  CHECK(generator_capacity(Preferring(1024), load).max_tokens == 1024);
  // Every sequence decodes in every step, however many rows prompts would like.
  CHECK(generator_capacity(Preferring(5), load).max_tokens == 12);
  load.window = 1;
  CHECK(generator_capacity(Preferring(256), load).window == 1);
}

TEST_CASE("capacity: fewer groups at once where blocks are dear, but always a whole one") {
  GeneratorLoad load;
  load.sequences = 14;  // three groups of four, and a rest
  load.samples = 4;
  load.group_blocks = 10;
  CHECK(load.num_blocks() == 30);
  load.affordable_blocks = 25;
  CHECK(load.num_blocks() == 25);
  load.affordable_blocks = 3;
  CHECK(load.num_blocks() == 10);
  load.samples = 64;  // more than run at once
  CHECK(load.num_blocks() == 10);
  load.group_blocks = kMostBlocks;
  CHECK(generator_capacity(Preferring(256), load).num_blocks == kMostBlocks);
  load.group_blocks = kMostBlocks + 1;
  CHECK_THROWS_WITH_AS(generator_capacity(Preferring(256), load), doctest::Contains("KV blocks"),
                       Error);
}

TEST_CASE("capacity: a rollout in the shape of the workspace") {
  WorkspaceShape shape = model::workspace_shape(tiny_config(), WeightFormat::nf4, {4});
  CHECK(shape.decode_rows == 0);
  include_rollout(shape, small_capacity(3), 77);
  CHECK(shape.tokens == 9);
  CHECK(shape.head_rows == 5);
  CHECK(shape.decode_rows == 5);
  CHECK(shape.decode_window == 3);
  CHECK(shape.max_context == 77);
  CHECK(shape.block_size == 4);
  CHECK_FALSE(shape.training);
  // The larger of two users counts, whichever comes first.
  shape.tokens = 100;
  shape.head_rows = 50;
  include_rollout(shape, small_capacity(3), 77);
  CHECK(shape.tokens == 100);
  CHECK(shape.head_rows == 50);
}

}  // namespace qgrpo::test
