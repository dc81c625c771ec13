#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "golden.h"
#include "model/config_files.h"
#include "model/ops/rng.h"
#include "model/parameters.h"

using namespace qgrpo;
using namespace qgrpo::model;
using namespace qgrpo::test;

namespace {

// A host store that is as late as the interface allows: a tensor leaves when saved() asks for it,
// or at the latest before its fetch, and comes back when fetched() does; until then its place holds
// NaNs. Whoever forgets one of the two, or changes a tensor too early, gets wrong numbers.
class LateStore final : public HostStore {
 public:
  struct Counts {
    int saves = 0;
    int fetches = 0;
  };
  explicit LateStore(Counts& counts) : counts_(counts) {}

  void save(std::int64_t slot, ConstTensorView from) override {
    ++counts_.saves;
    leaving_[slot] = from;
  }
  void saved(std::int64_t slot) override {
    const auto found = leaving_.find(slot);
    if (found == leaving_.end()) return;
    const auto* bytes = static_cast<const std::byte*>(found->second.data);
    kept_[slot].assign(bytes, bytes + found->second.bytes());
    leaving_.erase(found);
  }
  void fetch(std::int64_t slot, TensorView to) override {
    ++counts_.fetches;
    // Copies run in the order of their calls.
    while (!leaving_.empty()) saved(leaving_.begin()->first);
    std::memset(to.data, 0xff, to.bytes());
    coming_[slot] = to;
  }
  void fetched(std::int64_t slot) override {
    const TensorView to = coming_.at(slot);
    REQUIRE(kept_.at(slot).size() == to.bytes());
    std::memcpy(to.data, kept_.at(slot).data(), to.bytes());
    coming_.erase(slot);
  }

 private:
  Counts& counts_;
  std::map<std::int64_t, ConstTensorView> leaving_;
  std::map<std::int64_t, TensorView> coming_;
  std::map<std::int64_t, std::vector<std::byte>> kept_;
};

Config deep_config() {
  Config c = load_config(vector_path("tiny_qwen2"));
  c.num_layers = 6;
  return c;
}

struct Result {
  std::vector<std::vector<float>> gradients;
  std::vector<float> logprobs;
  std::vector<float> reference;
  LateStore::Counts counts;
  std::size_t bytes = 0;
};

// Two steps of forward and backward over a prompt with two completions, in this capacity.
// `separate`: the reference in a pass of its own.
Result run(PassCapacity capacity, bool separate = false) {
  const auto backend = cpu::make_cpu_backend(2);
  Model model = Model::random(*backend, deep_config(), WeightFormat::nf4, WeightFormat::bf16, 5);
  LoraConfig lora;
  lora.r = 4;
  LoraAdapter adapter = LoraAdapter::create(*backend, model.config(), lora, 3);
  Rng rng(3, RngStream::test);
  for (std::int64_t l = 0; l < adapter.layers(); ++l) {
    for (int p = 0; p < kProjections; ++p) {
      const auto& f = adapter.at(l, static_cast<Projection>(p));
      std::vector<float> b(static_cast<std::size_t>(f.b.elements()));
      for (float& x : b) x = 0.05f * rng.normal();
      backend->upload(f.b, b.data());
    }
  }
  model.set_adapters({&adapter});
  auto parameters = TrainableParameters::lora(model, adapter, 0);

  Result out;
  Arena count;
  PassBuffers::place(count, model.config(), DType::f32, capacity);
  out.bytes = count.used();
  const auto memory = backend->allocate(count.used());
  Arena arena(memory->data(), memory->bytes());
  TrainingPass pass(model, arena, capacity, std::make_unique<LateStore>(out.counts));

  const auto ids = [&](std::int32_t n) {
    std::vector<std::int32_t> tokens;
    for (std::int32_t i = 0; i < n; ++i) {
      tokens.push_back(static_cast<std::int32_t>(
          rng.below(static_cast<std::uint32_t>(model.config().vocab_size))));
    }
    return tokens;
  };
  for (int step = 0; step < 2; ++step) {
    Batch batch;
    const std::int32_t prompt = batch.add(ids(5 + step), 0);
    batch.add(ids(7), 0, prompt);
    batch.add(ids(3), 0, prompt);
    std::vector<std::int32_t> rows;
    std::vector<HeadEntry> entries;
    std::vector<ObjectiveEntry> terms;
    for (std::int32_t t = 4; t + 1 < batch.size(); ++t) {
      rows.push_back(t);
      entries.push_back({static_cast<std::int32_t>(rows.size()) - 1,
                         batch.tokens[static_cast<std::size_t>(t) + 1]});
      terms.push_back({0.1f, 0.0f, 0.0f, 0.0f});
    }
    ObjectiveParams params;
    params.kind = ObjectiveKind::negative_log_likelihood;
    const Linear head = model.head_linear();
    const auto reference = [&](ConstTensorView hidden) {
      std::vector<HeadResult> results(entries.size());
      backend->train().head_logprob(results, hidden, head, entries, 0.9f);
      for (const HeadResult& r : results) out.reference.push_back(r.logprob);
    };
    if (separate) {
      Batch base = batch;
      for (Segment& s : base.segments) s.adapter = -1;
      pass.forward(base, /*gradient=*/false);
      reference(pass.hidden(rows));
      // One that is not followed by a backward pass: its inputs may still be on their way.
      pass.forward(batch, /*gradient=*/true);
      pass.forward(batch, /*gradient=*/true);
    } else {
      pass.forward_with_reference(batch, -1);
      reference(pass.reference_hidden(rows));
    }
    std::vector<HeadResult> results(entries.size());
    std::vector<TokenObjective<float>> objectives(entries.size());
    const TensorView hidden = pass.hidden(rows);
    backend->train().head_objective(results, objectives, pass.dhidden(), {}, hidden, head, entries,
                                    terms, params, 0.9f);
    for (const HeadResult& r : results) out.logprobs.push_back(r.logprob);
    pass.backward(parameters.gradients());
  }
  for (const Parameter& p : parameters.parameters())
    out.gradients.push_back(download(*backend, p.gradient));
  return out;
}

PassCapacity capacity_of(std::int64_t kept, std::int64_t offloaded) {
  PassCapacity capacity;
  capacity.tokens = 24;
  capacity.head_rows = 24;
  capacity.kept_layers = kept;
  capacity.offloaded_layers = offloaded;
  return capacity;
}

}  // namespace

TEST_CASE("training pass: inputs that wait in the host's memory change no bit") {
  const Result expected = run(capacity_of(0, 0));
  CHECK(expected.counts.saves == 0);
  for (const auto& [kept, offloaded] :
       {std::pair{0, 1}, {0, 2}, {0, 3}, {0, 5}, {0, 6}, {2, 3}, {3, 6}, {6, 6}}) {
    const auto& kept_shown = kept;
    CAPTURE(kept_shown);
    const auto& offloaded_shown = offloaded;
    CAPTURE(offloaded_shown);
    const Result found = run(capacity_of(kept, offloaded));
    CHECK(found.gradients == expected.gradients);
    CHECK(found.logprobs == expected.logprobs);
    CHECK(found.counts.saves == 2 * offloaded);
    CHECK(found.counts.fetches == 2 * offloaded);
    const Result separate = run(capacity_of(kept, offloaded), /*separate=*/true);
    CHECK(separate.gradients == expected.gradients);
  }
  // Two buffers serve however many are offloaded.
  const auto input = static_cast<std::size_t>(24 * deep_config().hidden_size * 4);
  CHECK(run(capacity_of(0, 2)).bytes == expected.bytes);
  CHECK(run(capacity_of(0, 6)).bytes == expected.bytes - 4 * input);
}

TEST_CASE("training pass: the reference beside the policy equals a pass of its own, bit for bit") {
  for (const std::int64_t kept : {0, 1, 6}) {
    CAPTURE(kept);
    const Result together = run(capacity_of(kept, 0));
    const Result separate = run(capacity_of(kept, 0), /*separate=*/true);
    CHECK(together.reference == separate.reference);
    CHECK(together.logprobs == separate.logprobs);
    CHECK(together.gradients == separate.gradients);
    CHECK(together.reference != together.logprobs);
  }
  const auto stream = static_cast<std::size_t>(24 * deep_config().hidden_size * 4);
  PassCapacity without = capacity_of(0, 0);
  without.reference = false;
  Arena count;
  PassBuffers::place(count, deep_config(), DType::f32, without);
  CHECK(count.used() + stream == run(capacity_of(0, 0)).bytes);
}
