// Requests that come and go: what each gets, and what they leave behind.

#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpu/backend.h"
#include "model/model.h"
#include "serve/adapters.h"
#include "serve/api_error.h"
#include "serve/delivery.h"
#include "serve/engine_loop.h"
#include "support/error_of.h"
#include "support/vectors.h"
#include "tokenizer/load.h"

namespace qgrpo::serve {
namespace {

using test::error_of;

struct Fixture {
  Fixture() {
    model::Config c;
    c.hidden_size = 32;
    c.intermediate_size = 48;
    c.num_layers = 2;
    c.num_heads = 4;
    c.num_kv_heads = 2;
    c.head_dim = 16;
    c.vocab_size = tokenizer->vocab_size();
    c.max_position_embeddings = 4096;
    c.tie_word_embeddings = true;
    model = std::make_unique<model::Model>(
        model::Model::random(*backend, c, WeightFormat::f32, WeightFormat::f32, 7));
  }
  std::unique_ptr<EngineLoop> loop(std::size_t most_waiting = 100) const {
    engine::GeneratorCapacity capacity;
    capacity.num_blocks = 300;
    capacity.max_sequences = 8;
    capacity.max_tokens = 32;
    return std::make_unique<EngineLoop>(*model, *tokenizer, capacity, most_waiting);
  }

  std::unique_ptr<Backend> backend = cpu::make_cpu_backend(2);
  std::unique_ptr<tokenizer::Tokenizer> tokenizer =
      tokenizer::load_tokenizer(test::vector_path("tokenizer/small"));
  std::unique_ptr<model::Model> model;
};

Job job(std::int32_t prompt_length, std::int32_t tokens, std::uint64_t seed = 1,
        std::int32_t samples = 1) {
  Job job;
  for (std::int32_t i = 0; i < prompt_length; ++i) job.request.prompt.push_back(5 + i * i % 50);
  job.request.max_new_tokens = tokens;
  job.request.samples = samples;
  job.request.seed = seed;
  return job;
}

struct Result {
  std::map<std::int32_t, std::vector<std::int32_t>> ids;
  std::map<std::int32_t, std::string> text;
  std::vector<float> logprobs;
  bool operator==(const Result&) const = default;
};

Result run(EngineLoop& loop, Job job) {
  std::vector<Job> jobs;
  jobs.push_back(std::move(job));
  Delivery delivery(loop, std::move(jobs));
  Result result;
  delivery.run([] { return true; },
               [&](Piece& piece) {
                 result.ids[piece.sample].push_back(piece.token.id);
                 result.text[piece.sample] += piece.text;
                 if (piece.sample == 0) result.logprobs.push_back(piece.token.logprob);
               });
  return result;
}

bool soon(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return condition();
}

bool idle(const EngineLoop& loop) {
  const Metrics::Now now = loop.metrics().now();
  return now.running == 0 && now.waiting == 0 && now.used_blocks == 0;
}

TEST_CASE("engine loop: a completion does not depend on its neighbours") {
  const Fixture f;
  std::vector<Result> alone;
  {
    const auto loop = f.loop();
    for (std::uint64_t i = 0; i < 12; ++i)
      alone.push_back(run(*loop, job(3 + static_cast<std::int32_t>(i * 9), 30, i, 1 + i % 3)));
  }
  const auto loop = f.loop();
  std::vector<Result> together(12);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 12; ++i) {
    threads.emplace_back([&, i] {
      together[i] = run(*loop, job(3 + static_cast<std::int32_t>(i * 9), 30, i, 1 + i % 3));
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    CHECK(together[i] == alone[i]);
  }
  CHECK(soon([&] { return idle(*loop); }));
}

TEST_CASE("engine loop: who hangs up frees blocks at once, others go on") {
  const Fixture f;
  const auto loop = f.loop();
  const Result expected = run(*loop, job(20, 200, 3));
  int pieces = 0;
  std::vector<Job> jobs;
  bool ended = false;
  jobs.push_back(job(10, 4000, 5, 1));
  jobs.back().ended = [&ended] { ended = true; };
  {
    Delivery delivery(*loop, std::move(jobs));
    CHECK_FALSE(delivery.run([&] { return pieces < 3; }, [&](Piece&) { ++pieces; }));
  }
  CHECK(run(*loop, job(20, 200, 3)) == expected);
  CHECK(soon([&] { return idle(*loop); }));
  CHECK(ended);
  // One that never started, too: it needs more room than the other has left.
  std::vector<Job> large, larger;
  large.push_back(job(10, 3900));
  larger.push_back(job(10, 3900));
  auto first = std::make_unique<Delivery>(*loop, std::move(large));
  auto second = std::make_unique<Delivery>(*loop, std::move(larger));
  CHECK(soon([&] { return loop->metrics().now().waiting == 1; }));
  second.reset();
  CHECK(soon([&] { return loop->metrics().now().waiting == 0; }));
  CHECK(loop->metrics().now().running == 1);
  first.reset();
  CHECK(soon([&] { return idle(*loop); }));
}

TEST_CASE("engine loop: a queue that is full") {
  const Fixture f;
  const auto loop = f.loop(/*most_waiting=*/2);
  std::vector<std::unique_ptr<Delivery>> deliveries;
  const auto submit = [&](std::size_t count) {
    std::vector<Job> jobs;
    for (std::size_t i = 0; i < count; ++i) jobs.push_back(job(10, 3900));
    deliveries.push_back(std::make_unique<Delivery>(*loop, std::move(jobs)));
  };
  submit(1);
  CHECK(soon([&] { return loop->metrics().now().running == 1; }));
  submit(2);
  CHECK(soon([&] { return loop->metrics().now().waiting == 2; }));
  try {
    submit(1);
    FAIL("accepted");
  } catch (const ApiError& error) {
    CHECK(error.status() == 429);
  }
  deliveries.clear();
  CHECK(soon([&] { return idle(*loop); }));
  submit(3);  // more than may wait, but nobody waits
}

TEST_CASE("engine loop: failures reach whom they concern") {
  const Fixture f;
  const auto loop = f.loop();
  CHECK(error_of([&] { run(*loop, job(10, 5000)); }).find("positions") != std::string::npos);
  Job bad = job(3, 5);
  bad.request.prompt[1] = 1 << 20;
  CHECK(error_of([&] { run(*loop, std::move(bad)); }).find("vocabulary") != std::string::npos);
  CHECK(error_of([&] { loop->between_steps([] { fail("in between"); }); }) == "in between");
  CHECK(run(*loop, job(3, 5)).ids.at(0).size() == 5);
}

TEST_CASE("engine loop: scores are those of a drawn text") {
  const Fixture f;
  const auto loop = f.loop();
  Job greedy = job(9, 20);
  greedy.request.sampling.temperature = 0.0f;
  const std::vector<std::int32_t> prompt = greedy.request.prompt;
  const Result drawn = run(*loop, std::move(greedy));
  std::vector<std::int32_t> ids = prompt;
  ids.insert(ids.end(), drawn.ids.at(0).begin(), drawn.ids.at(0).end());
  const engine::ScoredText scored = loop->score(ids, -1, 2);
  REQUIRE(scored.logprobs.size() == ids.size() - 1);
  for (std::size_t t = 0; t < drawn.logprobs.size(); ++t) {
    // A text is one segment, a drawn one two: their softmaxes add up in another order.
    CHECK(scored.logprobs[prompt.size() - 1 + t] ==
          doctest::Approx(drawn.logprobs[t]).epsilon(1e-5));
    CHECK(scored.top[prompt.size() - 1 + t].front().id == drawn.ids.at(0)[t]);
  }
}

TEST_CASE("engine loop: its end ends what runs") {
  const Fixture f;
  auto loop = f.loop();
  std::vector<Job> jobs;
  jobs.push_back(job(10, 3900));
  Delivery delivery(*loop, std::move(jobs));
  std::thread ending([&] {
    CHECK(soon([&] { return loop->metrics().now().running == 1; }));
    loop.reset();
  });
  CHECK(error_of([&] { delivery.run([] { return true; }, [](Piece&) {}); }) ==
        "the server is shutting down");
  ending.join();
}

}  // namespace
}  // namespace qgrpo::serve
