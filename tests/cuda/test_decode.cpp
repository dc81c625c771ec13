// Decode windows on the device: recorded graphs against launches, neighbours, and what goes wrong.

#include <cstdlib>

#include "cuda/decode.h"
#include "cuda/device_support.h"
#include "engine/generator_cases.h"

namespace qgrpo::test {
namespace {

// A backend whose windows are launched step by step instead of replayed.
std::unique_ptr<Backend> backend_without_graphs() {
  setenv("QGRPO_CUDA_GRAPHS", "0", 1);
  auto backend = cuda::make_cuda_backend();
  unsetenv("QGRPO_CUDA_GRAPHS");
  return backend;
}

Results run_requests(Backend& backend, const engine::GeneratorCapacity& capacity,
                     const std::vector<engine::GroupRequest>& all) {
  Owned owned(backend, capacity);
  for (const engine::GroupRequest& r : all) owned.generator->add(r);
  return owned.generator->run();
}

TEST_CASE("cuda decode: windows and graphs do not change a bit") {
  const Backends backends = both_backends();
  if (!backends) return;
  Backend& device = *backends.cuda;
  REQUIRE(device.decode() != nullptr);
  const Results expected = run_requests(device, small_capacity(16), requests());
  std::size_t tokens = 0, stopped = 0;
  for (const auto& [group, completions] : expected) {
    for (const engine::Completion& c : completions) {
      tokens += c.ids.size();
      stopped += c.finish == engine::FinishReason::stop ? 1 : 0;
      for (const float p : c.logprobs) CHECK((p <= 0.0f && p > -60.0f));
    }
  }
  CHECK(tokens > 60);
  CHECK(stopped >= 4);
  const auto& decode = dynamic_cast<const cuda::Decode&>(*device.decode());
  CHECK(decode.recorded() > 3);
  CHECK(decode.replayed() > decode.recorded());
  // The same backend again, whose scratch has its size now.
  check_equal(run_requests(device, small_capacity(16), requests()), expected);
  check_equal(run_requests(device, small_capacity(3), requests()), expected);
  check_equal(run_requests(device, small_capacity(1), requests()), expected);
  // One generator, the same work again: all its steps are recorded already.
  Owned owned(device, small_capacity(16));
  owned.generator->add(requests()[1]);
  const Results first = owned.generator->run();
  const std::uint64_t before = decode.recorded();
  const engine::GroupId again = owned.generator->add(requests()[1]);
  check_equal({{1, owned.generator->run().at(again)}}, first);
  CHECK(decode.recorded() == before);

  const auto eager = backend_without_graphs();
  check_equal(run_requests(*eager, small_capacity(16), requests()), expected);
  CHECK(dynamic_cast<const cuda::Decode&>(*eager->decode()).recorded() == 0);
}

TEST_CASE("cuda decode: neighbours do not change a sequence's tokens") {
  const Backends backends = both_backends();
  if (!backends) return;
  engine::GeneratorCapacity capacity = small_capacity(16);
  capacity.max_sequences = 40;
  capacity.max_tokens = 64;
  capacity.num_blocks = 600;
  // Many at once: 19 sequences of 8 groups in 24 rows, prompts in one step; their number falls.
  const auto all = requests();
  const Results together = run_requests(*backends.cuda, capacity, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    // Alone: 1, 2 or 4 rows.
    check_equal(run_requests(*backends.cuda, capacity, {all[i]}),
                {{1, together.at(static_cast<engine::GroupId>(i + 1))}});
  }
  // A sample's tokens do not depend on how many the group has: 33 of them fill 48 rows.
  engine::GroupRequest one = all[3], many = all[3];
  one.samples = 1;
  many.samples = 33;
  const Results lone = run_requests(*backends.cuda, capacity, {one});
  const Results crowd = run_requests(*backends.cuda, capacity, {many});
  check_equal({{1, {crowd.at(1).front()}}}, lone);
}

TEST_CASE("cuda decode: more rows than one launch of the head takes") {
  const Backends backends = both_backends();
  if (!backends) return;
  engine::GeneratorCapacity capacity = small_capacity(16);
  capacity.max_sequences = 150;
  capacity.max_tokens = 150;
  capacity.num_blocks = 600;
  engine::GroupRequest many = requests()[3];
  many.max_new_tokens = 5;
  many.samples = 150;  // 192 rows
  const Results all = run_requests(*backends.cuda, capacity, {many});
  many.samples = 1;
  const Results one = run_requests(*backends.cuda, capacity, {many});
  check_equal({{1, {all.at(1).front()}}}, one);
  // The last sample, too: its keys are its own.
  many.samples = 150;
  capacity.window = 1;
  const Results again = run_requests(*backends.cuda, capacity, {many});
  check_equal(again, all);
}

TEST_CASE("cuda decode: what changes in the model is seen by the next window") {
  const Backends backends = both_backends();
  if (!backends) return;
  Backend& device = *backends.cuda;
  engine::GroupRequest request = requests()[4];
  request.adapter = 0;
  request.ignore_eos = true;
  request.max_new_tokens = 12;
  const auto changed = [&](Owned& owned) {
    const TensorView b = owned.adapter.at(1, model::Projection::down).b;
    const std::vector<float> values(static_cast<std::size_t>(b.elements()), 0.25f);
    device.upload(b, values.data());
    owned.adapter.refresh_shadows(device);
  };
  Owned fresh(device, small_capacity(4));
  changed(fresh);
  fresh.generator->add(request);
  const Results expected = fresh.generator->run();

  Owned owned(device, small_capacity(4));
  owned.generator->add(request);
  const Results before = owned.generator->run();  // records the graphs
  changed(owned);
  const engine::GroupId id = owned.generator->add(request);
  check_equal({{1, owned.generator->run().at(id)}}, expected);
  CHECK(before.at(1).front().logprobs != expected.at(1).front().logprobs);

  // Another adapter's memory is another step.
  model::LoraAdapter zero = model::LoraAdapter::create(device, tiny_config(), tiny_lora(), 4);
  owned.model.set_adapters({&zero});
  const engine::GroupId third = owned.generator->add(request);
  const engine::Completion with_zero = owned.generator->run().at(third).front();
  request.adapter = -1;
  const engine::GroupId base = owned.generator->add(request);
  const engine::Completion without = owned.generator->run().at(base).front();
  CHECK(with_zero.ids == without.ids);  // B = 0 adds nothing
  CHECK(with_zero.logprobs == without.logprobs);
  CHECK(with_zero.logprobs != expected.at(1).front().logprobs);
}

TEST_CASE("cuda decode: two generators of one model keep to their own caches") {
  const Backends backends = both_backends();
  if (!backends) return;
  Owned owned(*backends.cuda, small_capacity(4));
  model::Arena count;
  engine::GeneratorBuffers::place(count, owned.model.config(), DType::bf16, small_capacity(4));
  const auto memory = backends.cuda->allocate(count.used());
  model::Arena arena(memory->data(), memory->bytes());
  engine::Generator twin(owned.model, arena, small_capacity(4));
  engine::GroupRequest request = requests()[5], other = requests()[4];
  for (engine::GroupRequest* r : {&request, &other}) {
    r->samples = 1;
    r->adapter = 0;
    r->sampling.repetition_penalty = 1.0f;
    r->max_new_tokens = 12;
  }
  owned.generator->add(request);
  const Results expected = owned.generator->run();
  twin.add(other);
  const Results others = twin.run();
  CHECK(expected.at(1).front().ids != others.at(1).front().ids);
  // Both at once: what one writes is not where the other reads.
  const engine::GroupId id = owned.generator->add(request), other_id = twin.add(other);
  while (owned.generator->has_work() || twin.has_work()) {
    owned.generator->step();
    twin.step();
  }
  check_equal({{1, owned.generator->take(id)}}, expected);
  check_equal({{1, twin.take(other_id)}}, others);
}

TEST_CASE("cuda decode: two models take turns on one backend") {
  const Backends backends = both_backends();
  if (!backends) return;
  Backend& device = *backends.cuda;
  model::Config other = tiny_config();
  other.rope_theta = 500.0;
  engine::GroupRequest request = requests()[5];
  request.max_new_tokens = 14;
  const auto alone = [&](const model::Config& config) {
    Owned owned(device, small_capacity(4), config);
    owned.generator->add(request);
    return owned.generator->run().at(1);
  };
  const Results expected{{1, alone(tiny_config())}}, others{{1, alone(other)}};
  CHECK(expected.at(1).front().logprobs != others.at(1).front().logprobs);
  Owned first(device, small_capacity(4)), second(device, small_capacity(4), other);
  for (int round = 0; round < 3; ++round) {
    CAPTURE(round);
    const engine::GroupId id = first.generator->add(request);
    second.generator->add(request);
    // A token of the one, a token of the other; the second round and the third only replay.
    while (first.generator->has_work() || second.generator->has_work()) {
      first.generator->step();
      second.generator->step();
    }
    check_equal({{1, first.generator->take(id)}}, expected);
    check_equal({{1, second.generator->take(id)}}, others);
  }
}

TEST_CASE("cuda decode: contexts that grow from one graph's to the next") {
  const Backends backends = both_backends();
  if (!backends) return;
  model::Config config = tiny_config();
  config.max_position_embeddings = 1024;
  engine::GeneratorCapacity capacity = small_capacity(4);
  capacity.block_size = 16;
  capacity.max_tokens = 256;
  engine::GroupRequest request = requests()[4];
  request.prompt.clear();
  for (std::int32_t i = 0; i < 200; ++i) request.prompt.push_back((i * i * 7 + 3) % 40);
  request.samples = 1;
  request.ignore_eos = true;
  request.max_new_tokens = 90;  // 200 .. 289 keys
  const auto run = [&](Backend& device) {
    Owned owned(device, capacity, config);
    owned.generator->add(request);
    return owned.generator->run();
  };
  const auto& decode = dynamic_cast<const cuda::Decode&>(*backends.cuda->decode());
  const Results found = run(*backends.cuda);
  // One step for up to 256 keys, one for more; the scratch of the second drops the first.
  CHECK(decode.recorded() == 2);
  CHECK(decode.replayed() == 89 - 2);
  const std::uint64_t before = decode.recorded();
  check_equal(run(*backends.cuda), found);
  CHECK(decode.recorded() == before + 2);  // another generator's
  check_equal(run(*backend_without_graphs()), found);
}

TEST_CASE("cuda decode: a recorded step is not taken for another one") {
  const Backends backends = both_backends();
  if (!backends) return;
  Backend& device = *backends.cuda;
  // One generator; after each other, windows of as many rows that differ in one thing.
  engine::GroupRequest plain = requests()[4];
  plain.samples = 2;
  plain.ignore_eos = true;
  plain.max_new_tokens = 12;
  plain.adapter = -1;
  std::vector<engine::GroupRequest> kinds(5, plain);
  kinds[1].sampling.repetition_penalty = 1.5f;
  kinds[2].adapter = 0;
  kinds[3].eos_ids = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  kinds[3].ignore_eos = false;
  kinds[4].prompt.assign(100, 7);  // not one more block than the cache has
  kinds[4].samples = 1;
  std::vector<engine::Completion> expected;
  for (const engine::GroupRequest& kind : kinds) {
    Owned fresh(device, small_capacity(4));
    fresh.generator->add(kind);
    expected.push_back(fresh.generator->run().at(1).front());
  }
  Owned owned(device, small_capacity(4));
  for (const std::size_t kind : {0, 1, 0, 2, 3, 4, 1, 2, 0}) {
    CAPTURE(kind);
    const engine::GroupId id = owned.generator->add(kinds[kind]);
    check_equal({{1, {owned.generator->run().at(id).front()}}}, {{1, {expected[kind]}}});
  }
  // Scratch that has moved meanwhile: a larger generator's.
  engine::GeneratorCapacity large = small_capacity(16);
  large.max_sequences = 70;
  large.max_tokens = 70;
  large.num_blocks = 500;
  Owned other(device, large);
  engine::GroupRequest many = plain;
  many.samples = 70;
  other.generator->add(many);
  other.generator->run();
  for (const std::size_t kind : {1, 0, 2}) {
    CAPTURE(kind);
    const engine::GroupId id = owned.generator->add(kinds[kind]);
    check_equal({{1, {owned.generator->run().at(id).front()}}}, {{1, {expected[kind]}}});
  }
}

DecodeSequence some_sequence(std::span<const std::int32_t> table) {
  DecodeSequence s;
  s.token = 3;
  s.position = 4;
  s.prompt_length = 5;
  s.remaining = 2;
  s.block_table = table;
  s.request.prompt = 7;
  s.request.sample = 2;
  s.request.position = 5;
  return s;
}

TEST_CASE("cuda decode: logits that are not finite name the sequence, and the next window runs") {
  const Backends backends = both_backends();
  if (!backends) return;
  Backend& device = *backends.cuda;
  DecodeOps& ops = *device.decode();
  const std::int64_t width = 32, vocab = 40;
  const auto values = bf16_values(vocab * width, 5);
  const auto weight =
      device.prepare({values.data(), DType::f32, {vocab, width}}, WeightFormat::bf16);
  Linear head;
  head.weight = weight.get();
  const std::vector<std::int32_t> table{0};
  const std::vector<DecodeSequence> sequences(3, some_sequence(table));
  std::vector<float> hidden = bf16_values(4 * width, 9);
  const auto good = hidden;
  hidden[static_cast<std::size_t>(width)] = NAN;  // the second row
  const OnBackend bad_rows(device, hidden, {4, width}), good_rows(device, good, {4, width});

  ops.begin(sequences, 2, 16);
  CHECK(ops.rows() == 4);
  CHECK_THROWS_AS(ops.begin(sequences, 2, 16), Error);  // one window at a time
  ops.run(1, [&] { ops.sample(bad_rows, head); });
  CHECK_THROWS_WITH_AS(ops.finish(), doctest::Contains("prompt 7, sample 2"), Error);
  CHECK_THROWS_AS(ops.finish(), Error);  // over

  ops.begin(sequences, 2, 16);
  ops.run(2, [&] { ops.sample(good_rows, head); });
  const auto drawn = ops.finish();
  REQUIRE(drawn.size() == 3);
  for (const auto& tokens : drawn) CHECK(tokens.size() == 2);

  // A step that throws ends the window: when it is launched, and when it is recorded.
  for (const int failing : {1, 2}) {
    CAPTURE(failing);
    int calls = 0;
    ops.begin(sequences, 2, 16);
    const auto step = [&] {
      if (++calls == failing) fail("the step's own error");
      ops.sample(good_rows, head);
    };
    CHECK_THROWS_WITH_AS(ops.run(static_cast<std::uint64_t>(10 + failing), step),
                         "the step's own error", Error);
    CHECK_THROWS_AS(ops.finish(), Error);
    ops.begin(sequences, 2, 16);
    ops.run(static_cast<std::uint64_t>(10 + failing), [&] { ops.sample(good_rows, head); });
    const auto again = ops.finish();
    for (std::size_t i = 0; i < again.size(); ++i) {
      REQUIRE(again[i].size() == 2);
      CHECK(again[i][1].token == drawn[i][1].token);
      CHECK(again[i][1].logprob == drawn[i][1].logprob);
    }
  }
}

TEST_CASE("cuda decode: few-row kernels are for windows alone") {
  if (!both_backends()) return;
  cuda::Device device;
  cuda::Rope rope;
  cuda::Decode decode(device, rope);
  const std::vector<std::int32_t> table{0};
  const std::vector<DecodeSequence> sequences(3, some_sequence(table));
  CHECK_FALSE(device.few_rows());
  decode.begin(sequences, 2, 16);
  CHECK(device.few_rows());
  decode.run(1, [&] { CHECK(device.few_rows()); });
  for (const auto& tokens : decode.finish()) CHECK(tokens.empty());  // nothing was sampled
  CHECK_FALSE(device.few_rows());
  decode.begin(sequences, 2, 16);
  CHECK_THROWS_AS(decode.run(2, [] { fail("an error"); }), Error);
  CHECK_FALSE(device.few_rows());
  std::vector<DecodeSequence> wrong = sequences;
  wrong[2].remaining = 0;
  CHECK_THROWS_AS(decode.begin(wrong, 2, 16), Error);
  CHECK_FALSE(device.few_rows());
}

TEST_CASE("cuda decode: windows that cannot be are refused") {
  const Backends backends = both_backends();
  if (!backends) return;
  DecodeOps& ops = *backends.cuda->decode();
  const std::vector<std::int32_t> table{0};
  const auto refused = [&](auto change, std::int32_t window, const char* named) {
    std::vector<DecodeSequence> sequences(2, some_sequence(table));
    change(sequences[1]);
    CHECK_THROWS_WITH_AS(ops.begin(sequences, window, 6), doctest::Contains(named), Error);
  };
  const auto nothing = [](DecodeSequence&) {};
  refused([](DecodeSequence& s) { s.remaining = 0; }, 1, "sequence 1");
  refused([](DecodeSequence& s) { s.token = -1; }, 1, "token -1");
  refused([](DecodeSequence& s) { s.prompt_length = 6; }, 1, "a prompt of 6 tokens");
  refused([](DecodeSequence& s) { s.remaining = 3; }, 3, "has 1 blocks of 6 tokens");
  refused(nothing, 0, "a window of 0 tokens");
  CHECK_THROWS_AS(ops.begin({}, 1, 16), Error);
  CHECK_THROWS_AS(ops.run(1, [] {}), Error);
  CHECK_THROWS_AS(ops.finish(), Error);
}

}  // namespace
}  // namespace qgrpo::test
