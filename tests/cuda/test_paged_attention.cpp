#include "cuda/paged_attention.h"

#include "cuda/device_support.h"
#include "cuda/kv_cache.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

constexpr AttentionShape kShapes[] = {
    {16, 2, 128},  // Qwen2.5-3B
    {14, 2, 64},   // Qwen2.5-0.5B
    {4, 4, 16},    // one query head a KV head
    {3, 1, 32},
};

TEST_CASE("cuda paged attention: decode rows and prompts in chunks, alone and in groups") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::PagedCase& c : cases::paged_attention()) {
    CAPTURE(c.name);
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda paged attention: a row's bits are its own") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionShape& shape : kShapes) {
    CAPTURE(shape.head_dim);
    PagedScene scene(shape, 16, 400);
    scene.add_group(300, {1, 65, 7, 3, 290, 64, 2, 31, 9, 5, 4});  // more than a tile of the 3B's
    scene.add_group(64, {2, 3});
    scene.add_chunk(90, 90, 40);
    scene.add_chunk(90, 90, 40);
    const auto together = attend(*b.cuda, scene, scene.sequences);
    for (const PagedSequence& s : scene.sequences) {
      CAPTURE(s.query_begin);
      PagedSequence one = s;
      one.prompt_group = -1;  // also without a word on sharing
      const auto alone = attend(*b.cuda, scene, std::span(&one, 1));
      const auto from = static_cast<std::size_t>(s.query_begin * scene.query_width());
      const auto count = static_cast<std::size_t>(s.query_length * scene.query_width());
      CHECK(same_bits(std::span(alone).subspan(from, count),
                      std::span(together).subspan(from, count)));
    }
    // A chunk as one, or as two.
    PagedSequence first = scene.sequences.back(), second = first;
    first.query_length = 13;
    first.context_length -= 27;
    second.query_begin += 13;
    second.query_length = 27;
    const PagedSequence halves[] = {first, second};
    const auto parts = attend(*b.cuda, scene, halves);
    const auto from = static_cast<std::size_t>(first.query_begin * scene.query_width());
    CHECK(same_bits(std::span(parts).subspan(from), std::span(together).subspan(from)));
  }
}

// DecodeRows of a scene's sequences, one row each, with the given rows stopped and padding behind.
class RowsOnDevice {
 public:
  RowsOnDevice(const PagedScene& scene, std::int32_t padding,
               const std::vector<std::int32_t>& stopped = {})
      : count_(static_cast<std::int32_t>(scene.sequences.size()) + padding) {
    const auto total = static_cast<std::size_t>(count_);
    for (auto* column : {&positions, &active, &prompt, &first_, &size_}) column->assign(total, 0);
    for (std::int32_t i = 0; i < count_; ++i) {
      first_[static_cast<std::size_t>(i)] = i;
      size_[static_cast<std::size_t>(i)] = 1;
    }
    for (std::size_t i = 0; i < scene.sequences.size(); ++i) {
      const PagedSequence& s = scene.sequences[i];
      positions[i] = s.context_length - 1;
      active[i] = 1;
      prompt[i] = s.prompt_length;
      blocks_ = std::max(blocks_, static_cast<std::int64_t>(s.block_table.size()));
      if (i > 0 && s.prompt_group >= 0 && scene.sequences[i - 1].prompt_group == s.prompt_group) {
        first_[i] = first_[i - 1];
        const auto from = static_cast<std::size_t>(first_[i]);
        for (std::size_t j = from; j <= i; ++j) size_[j] = static_cast<std::int32_t>(i - from) + 1;
      }
    }
    for (const std::int32_t row : stopped) active[static_cast<std::size_t>(row)] = 0;
    for (std::int32_t i = 0; i < count_; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const auto table =
          at < scene.sequences.size() ? scene.sequences[at].block_table : std::span<const int>();
      for (std::int64_t n = 0; n < blocks_; ++n) {
        const auto place = static_cast<std::size_t>(n);
        tables_.push_back(place < table.size() ? table[place] : -1);
      }
    }
    block_size_ = scene.block_size;
    memory_ = cuda::DeviceMemory((5 * total + tables_.size()) * sizeof(std::int32_t));
  }

  // Copies the arrays as they are now.
  void upload() {
    std::vector<std::int32_t> flat;
    for (const auto* column : {&positions, &active, &prompt, &first_, &size_, &tables_}) {
      flat.insert(flat.end(), column->begin(), column->end());
    }
    QGRPO_CUDA(cudaMemcpy(memory_.data(), flat.data(), flat.size() * sizeof(std::int32_t),
                          cudaMemcpyHostToDevice));
  }
  cuda::DecodeRows rows(std::int64_t max_context) const {
    const auto* at = static_cast<const std::int32_t*>(memory_.data());
    cuda::DecodeRows r;
    for (const std::int32_t** field : {&r.positions, &r.active, &r.prompt_length, &r.group_first,
                                       &r.group_size, &r.block_tables}) {
      *field = at;
      at += count_;
    }
    r.rows = count_;
    r.max_blocks = blocks_;
    r.max_context = max_context;
    r.block_size = block_size_;
    return r;
  }

  std::vector<std::int32_t> positions, active, prompt;

 private:
  std::int32_t count_;
  std::vector<std::int32_t> first_, size_, tables_;
  std::int64_t blocks_ = 0;
  std::int32_t block_size_ = 0;
  cuda::DeviceMemory memory_;
};

TEST_CASE("cuda decode attention on the device: the bits of the list of sequences") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionShape& shape : kShapes) {
    CAPTURE(shape.head_dim);
    PagedScene scene(shape, 16, 300);
    scene.add_group(300, {1, 65, 7, 3, 290, 64, 2, 31, 9, 5});
    scene.add_group(20, {2, 3});
    scene.add_group(1, {1});
    const auto expected = attend(*b.cuda, scene, scene.sequences);
    for (const std::int64_t max_context : {590, 4096}) {
      const std::vector<std::int32_t> stopped = {0, 9, 10, 11};  // first of a tile, a whole group
      const SceneOnBackend on(*b.cuda, scene);
      const std::int32_t padding = 3;
      const auto rows = scene.rows() + padding;
      auto q = scene.queries;
      q.resize(static_cast<std::size_t>(rows * scene.query_width()), NAN);
      const OnBackend qs(*b.cuda, q, {rows, scene.query_width()});
      const OnBackend os(*b.cuda, std::vector<float>(q.size(), NAN), {rows, scene.query_width()});
      cuda::Device device;
      RowsOnDevice arrays(scene, padding, stopped);
      arrays.upload();
      cuda::decode_attention(device, os, qs, on.cache, shape, arrays.rows(max_context));
      device.stream().synchronize();
      const auto got = os.values();
      for (std::int32_t row = 0; row < rows; ++row) {
        CAPTURE(row);
        const auto width = static_cast<std::size_t>(scene.query_width());
        const auto one = std::span(got).subspan(static_cast<std::size_t>(row) * width, width);
        if (arrays.active[static_cast<std::size_t>(row)] == 0) {
          CHECK(std::all_of(one.begin(), one.end(), [](float x) { return x == 0.0f; }));
        } else {
          CHECK(same_bits(
              one, std::span(expected).subspan(static_cast<std::size_t>(row) * width, width)));
        }
      }
    }
  }
}

TEST_CASE("cuda decode step in a graph: replayed at other positions") {
  const Backends b = both_backends();
  if (!b) return;
  const AttentionShape shape = {16, 2, 128};
  const RopeFrequencies turns = rope_frequencies(shape.head_dim, 1e6);
  PagedScene scene(shape, 16, 200);
  scene.add_group(40, {3, 30, 250, 1});
  scene.add_group(64, {2});
  const std::int32_t rows = scene.rows();
  const auto k = bf16_values(std::int64_t{rows} * scene.width(), 50);
  const auto v = bf16_values(std::int64_t{rows} * scene.width(), 51);
  const auto same_q = [&](Backend& to) {
    return OnBackend(to, scene.queries, {rows, scene.query_width()});
  };
  // As the operators with lists do it.
  const auto step_by_lists = [&](const std::vector<std::int32_t>& positions, std::int32_t stopped) {
    const SceneOnBackend on(*b.cuda, scene);
    const OnBackend ks(*b.cuda, k, {rows, scene.width()}), vs(*b.cuda, v, {rows, scene.width()});
    std::vector<PagedSequence> sequences;
    for (std::int32_t row = 0; row < rows; ++row) {
      if (row == stopped) continue;
      PagedSequence s = scene.sequences[static_cast<std::size_t>(row)];
      const std::int32_t at = positions[static_cast<std::size_t>(row)];
      const std::vector<std::int32_t> slot = {
          s.block_table[static_cast<std::size_t>(at / scene.block_size)] * scene.block_size +
          at % scene.block_size};
      b.cuda->rollout().rope_kv_write(on.cache, on.q.view().rows(row, 1), ks.view().rows(row, 1),
                                      vs.view().rows(row, 1), turns, std::span(&at, 1), slot);
      s.context_length = at + 1;
      sequences.push_back(s);
    }
    b.cuda->rollout().paged_attention(on.o, on.q, on.cache, scene.block_size, shape, sequences);
    return std::vector<std::vector<float>>{on.o.values(), on.k.values(), on.v.values()};
  };

  cuda::Device device;
  cuda::Rope rope;
  RowsOnDevice arrays(scene, 0);
  const auto last = arrays.positions;
  const SceneOnBackend on(*b.cuda, scene);
  const OnBackend q = same_q(*b.cuda), ks(*b.cuda, k, {rows, scene.width()}),
                  vs(*b.cuda, v, {rows, scene.width()});
  const auto step = [&] {
    cuda::decode_rope_kv_write(device, rope, on.cache, q, ks, vs, turns, arrays.rows(512));
    cuda::decode_attention(device, on.o, q, on.cache, shape, arrays.rows(512));
  };
  arrays.active.assign(static_cast<std::size_t>(rows), 0);
  arrays.upload();
  step();  // scratch grows; no row is active
  device.stream().synchronize();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t recorded = nullptr;
  QGRPO_CUDA(cudaStreamBeginCapture(device.handle(), cudaStreamCaptureModeThreadLocal));
  step();
  QGRPO_CUDA(cudaStreamEndCapture(device.handle(), &graph));
  QGRPO_CUDA(cudaGraphInstantiate(&recorded, graph, 0));
  QGRPO_CUDA(cudaGraphDestroy(graph));

  // Earlier positions, and a row that has stopped; every replay begins with the same q, k, cache.
  for (const std::int32_t back : {0, 1, 2}) {
    CAPTURE(back);
    const std::int32_t stopped = back - 1;
    arrays.positions = last;
    for (std::size_t i = 0; i < arrays.positions.size(); ++i) {
      arrays.positions[i] = std::max(arrays.positions[i] - back, arrays.prompt[i]);
      arrays.active[i] = static_cast<std::int32_t>(i) == stopped ? 0 : 1;
    }
    arrays.upload();
    const SceneOnBackend fresh(*b.cuda, scene);
    const OnBackend fresh_k(*b.cuda, k, {rows, scene.width()});
    LayerOps& ops = b.cuda->layer();
    ops.copy(q, fresh.q);
    ops.copy(ks, fresh_k);
    ops.copy(on.k, fresh.k);
    ops.copy(on.v, fresh.v);
    ops.copy(on.o, fresh.o);
    b.cuda->synchronize();
    QGRPO_CUDA(cudaGraphLaunch(recorded, device.handle()));
    device.stream().synchronize();
    const auto expected = step_by_lists(arrays.positions, stopped);
    auto got = on.o.values();
    const auto width = scene.query_width();
    if (stopped >= 0) {  // zeros there; the list has no such row
      std::fill_n(got.begin() + stopped * width, width,
                  expected[0].at(static_cast<std::size_t>(stopped * width)));
    }
    CHECK(same_bits(got, expected[0]));
    CHECK(same_bits(on.k.values(), expected[1]));
    CHECK(same_bits(on.v.values(), expected[2]));
  }
  QGRPO_CUDA(cudaGraphExecDestroy(recorded));
}

TEST_CASE("cuda paged attention refuses what does not fit") {
  const Backends b = both_backends();
  if (!b) return;
  PagedScene scene({4, 2, 16}, 16, 10);
  scene.add_group(20, {3, 5});
  const auto run = [&](const AttentionShape& shape, std::vector<PagedSequence> sequences,
                       std::int32_t block = 16) {
    const SceneOnBackend on(*b.cuda, scene);
    b.cuda->rollout().paged_attention(on.o, on.q, on.cache, block, shape, sequences);
  };
  auto bad = scene.sequences;
  CHECK_NOTHROW(run(scene.shape, bad));
  CHECK_THROWS_WITH_AS(run({8, 4, 8}, bad),
                       "paged attention: head size 8; the CUDA backend has 16, 32, 64 and 128",
                       Error);
  CHECK_THROWS_AS(run(scene.shape, bad, 8), Error);
  bad[1].prompt_length = 19;
  CHECK_THROWS_WITH_AS(
      run(scene.shape, bad),
      "paged attention: sequence 1 of prompt group 0 has a prompt of 19, its neighbour of 20",
      Error);
  bad = scene.sequences;
  bad[0].context_length = 33;
  CHECK_THROWS_WITH_AS(run(scene.shape, bad),
                       "paged attention: sequence 0 has 2 blocks of 16 for a context of 33", Error);
  bad = scene.sequences;
  bad[0].query_begin = 2;
  CHECK_THROWS_AS(run(scene.shape, bad), Error);
  const std::vector<std::int32_t> outside = {3, 10};
  bad = scene.sequences;
  bad[0].block_table = outside;
  CHECK_THROWS_WITH_AS(run(scene.shape, bad),
                       "paged attention: sequence 0 names block 10, the cache has 10", Error);
}

}  // namespace
}  // namespace qgrpo::test
