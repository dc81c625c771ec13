#include <cmath>

#include "train/grpo/trainer_fixture.h"
#include "train/objective/objective.h"
#include "train/objective/policy_gradient.h"

// What a round of sampling is used for: several iterations, skipped groups, masked completions,
// dynamic sampling.
using namespace qgrpo;
using namespace qgrpo::train;

namespace {

// A model with an adapter and the gradients of one step's groups.
class OneStep {
 public:
  explicit OneStep(Backend& backend)
      : backend_(&backend),
        model_(model::Model::load(backend, short_demo_model(), model::Quantize::none)),
        adapter_(model::LoraAdapter::create(backend, model_.config(), lora(), 3)) {
    Rng rng(3, RngStream::test);
    for (std::int64_t l = 0; l < adapter_.layers(); ++l) {
      for (int p = 0; p < model::kProjections; ++p) {
        const auto& f = adapter_.at(l, static_cast<model::Projection>(p));
        std::vector<float> b(static_cast<std::size_t>(f.b.elements()));
        for (float& x : b) x = 0.02f * rng.normal();
        backend.upload(f.b, b.data());
      }
    }
    model_.set_adapters({&adapter_});
  }

  std::vector<Group> groups(std::uint32_t key) const {
    return random_groups(model_.config().vocab_size, key);
  }

  struct Result {
    UpdateStatistics statistics;
    TokenLogprobs logprobs;
    std::vector<std::vector<float>> gradients;
  };
  Result run(std::span<const Group> groups, const UpdateSettings& settings,
             std::int64_t tokens = 1000) {
    auto parameters = model::TrainableParameters::lora(model_, adapter_, 0);
    parameters.zero_gradients();
    const model::PassCapacity capacity{tokens, tokens, 0};
    model::Arena count;
    model::PassBuffers::place(count, model_.config(), DType::f32, capacity);
    const auto memory = backend_->allocate(count.used());
    model::Arena arena(memory->data(), memory->bytes());
    model::TrainingPass pass(model_, arena, capacity);
    Result out;
    out.statistics = accumulate_policy_gradient(pass, model_, parameters.gradients(), groups,
                                                settings, &out.logprobs);
    for (const auto& p : parameters.parameters()) {
      out.gradients.emplace_back(static_cast<std::size_t>(p.gradient.elements()));
      backend_->download(out.gradients.back().data(), p.gradient);
    }
    backend_->synchronize();
    return out;
  }

 private:
  static model::LoraConfig lora() {
    model::LoraConfig config;
    config.r = 4;
    config.lora_alpha = 8;
    return config;
  }

  Backend* backend_;
  model::Model model_;
  model::LoraAdapter adapter_;
};

UpdateSettings settings_with(LossType type, ImportanceLevel level, float beta) {
  UpdateSettings s;
  s.objective.type = type;
  s.objective.level = level;
  s.objective.params.beta = beta;
  s.objective.params.epsilon_high = type == LossType::cispo ? 1.1f : 0.28f;
  s.normalization.step_tokens = 500.0;
  s.normalization.max_completion_length = 70;
  s.groups_per_chunk = 2;
  return s;
}

double relative_difference(const OneStep::Result& a, const OneStep::Result& b) {
  double difference = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < a.gradients.size(); ++i) {
    for (std::size_t j = 0; j < a.gradients[i].size(); ++j) {
      const auto x = static_cast<double>(a.gradients[i][j]);
      const auto y = static_cast<double>(b.gradients[i][j]);
      difference += (x - y) * (x - y);
      norm += x * x;
    }
  }
  REQUIRE(norm > 0.0);
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("experience: a group without signal is skipped, and the gradient is the same bits") {
  const auto backend = cpu::make_cpu_backend(2);
  OneStep step(*backend);
  auto groups = step.groups(1);
  for (auto& g : step.groups(2)) groups.push_back(g);
  for (auto& c : groups[1].completions) c.advantage = 0.0f;
  UpdateSettings settings = settings_with(LossType::grpo, ImportanceLevel::token, 0.0f);
  settings.groups_per_chunk = 4;
  // A KL term of weight 0 but for rounding would not do: the full computation is that of a group
  // whose only advantage is the smallest number there is, far below any rounding.
  auto computed = groups;
  computed[1].completions[0].advantage = std::numeric_limits<float>::denorm_min();
  for (const std::int64_t tokens : {1000, 200}) {  // all in one micro-batch; several
    CAPTURE(tokens);
    const auto skipped = step.run(groups, settings, tokens);
    const auto full = step.run(computed, settings, tokens);
    CHECK(skipped.statistics.skipped_groups == 1);
    CHECK(full.statistics.skipped_groups == 0);
    CHECK(skipped.statistics.computed_tokens < full.statistics.computed_tokens);
    CHECK(skipped.gradients == full.gradients);
    CHECK(skipped.statistics.loss == full.statistics.loss);
  }
  // With a KL term the group pulls towards the reference: nothing is skipped.
  settings.objective.params.beta = 0.04f;
  CHECK(step.run(groups, settings).statistics.skipped_groups == 0);
}

TEST_CASE("experience: every objective's gradient through the model, off-policy") {
  // The derivative of the loss along the gradient, by central differences of the whole pass, would
  // need double precision; instead the gradient must be what the terms say: the sum over tokens of
  // weight * dL/dlogp * dlogp, which a policy_gradient pass with these coefficients computes.
  const auto backend = cpu::make_cpu_backend(2);
  OneStep step(*backend);
  auto groups = step.groups(5);
  const auto first = step.run(groups, settings_with(LossType::grpo, ImportanceLevel::token, 0.04f));
  Rng rng(8, RngStream::test);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t c = 0; c < groups[g].completions.size(); ++c) {
      auto& old = groups[g].completions[c].old_logprobs;
      const auto sampled = first.logprobs.policy.of(g, c);
      old.assign(sampled.begin(), sampled.end());
      for (float& x : old) x += 0.3f * rng.normal();
    }
  }
  std::vector<OneStep::Result> results;
  for (const LossType type : {LossType::grpo, LossType::bnpo, LossType::dr_grpo, LossType::dapo,
                              LossType::luspo, LossType::cispo, LossType::sapo, LossType::vespo}) {
    for (const ImportanceLevel level : {ImportanceLevel::token, ImportanceLevel::sequence}) {
      CAPTURE(static_cast<int>(type));
      CAPTURE(static_cast<int>(level));
      UpdateSettings settings = settings_with(type, level, 0.04f);
      const auto in_kernel = step.run(groups, settings);
      CHECK(std::isfinite(in_kernel.statistics.loss));
      // A quantile just below 1 keeps every token but forces the evaluation by completions.
      settings.objective.top_entropy_quantile = std::nextafter(1.0, 0.0);
      const auto by_completions = step.run(groups, settings);
      CHECK(by_completions.statistics.loss ==
            doctest::Approx(in_kernel.statistics.loss).epsilon(1e-5));
      CHECK(by_completions.statistics.kl == doctest::Approx(in_kernel.statistics.kl).epsilon(1e-6));
      CHECK(by_completions.statistics.clip_high_mean == in_kernel.statistics.clip_high_mean);
      // float32 terms against double ones.
      CHECK(relative_difference(in_kernel, by_completions) < 1e-5);
      // VESPO's weight is of the whole completion at either level.
      if (type == LossType::vespo && level == ImportanceLevel::sequence) continue;
      for (const auto& other : results) CHECK(relative_difference(in_kernel, other) > 1e-4);
      results.push_back(in_kernel);
    }
  }
}

TEST_CASE("experience: fewer tokens by entropy, and completions that do not count") {
  const auto backend = cpu::make_cpu_backend(2);
  OneStep step(*backend);
  auto groups = step.groups(6);
  UpdateSettings settings = settings_with(LossType::dapo, ImportanceLevel::token, 0.0f);
  const auto all = step.run(groups, settings);
  settings.objective.top_entropy_quantile = 0.2;
  const auto top = step.run(groups, settings);
  CHECK(relative_difference(all, top) > 0.1);
  CHECK(top.statistics.entropy == all.statistics.entropy);
  // A micro-batch of any size has the same quantile: it is that of the chunk.
  CHECK(relative_difference(top, step.run(groups, settings, 150)) < 1e-5);

  // Not counted = as if it were not there, but for the number of completions in the mean.
  settings.objective.top_entropy_quantile = 1.0;
  groups[0].completions[1].counted = false;
  const auto masked = step.run(groups, settings);
  auto without = groups;
  without[0].completions[1].advantage = 0.0f;
  without[0].completions[1].counted = true;
  CHECK(relative_difference(masked, step.run(without, settings)) < 1e-6);
  CHECK(masked.statistics.completion_tokens == all.statistics.completion_tokens);
}

TEST_CASE("experience: several iterations on each round, resumed in between, bit for bit") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  TrainOptions whole = fixture.options("whole");
  whole.objective.num_iterations = 3;
  whole.objective.loss_type = LossType::dapo;
  whole.objective.importance_sampling_level = ImportanceLevel::sequence;
  whole.run.max_steps = 7;
  const std::string expected = GrpoTrainer(whole, *backend).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto metrics = lines_of(whole.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(metrics.size() == 7);
  // Steps 1-3 are on the same completions, 4-6 on the next ones.
  CHECK(metrics[0].at("reward").as_double() == metrics[2].at("reward").as_double());
  CHECK(metrics[0].at("num_tokens").as_int() == metrics[2].at("num_tokens").as_int());
  CHECK(metrics[3].at("num_tokens").as_int() > metrics[2].at("num_tokens").as_int());
  CHECK(metrics[0].at("sampling/sampling_logp_difference/max").as_double() == 0.0);
  // The warm-up's first step has the learning rate 0.
  CHECK(metrics[1].at("sampling/sampling_logp_difference/max").as_double() == 0.0);
  CHECK(metrics[2].at("sampling/sampling_logp_difference/max").as_double() > 0.0);
  CHECK(lines_of(whole.run.output_dir + "/completions.jsonl", documents).size() == 3 * 2 * 4);

  for (const std::int64_t killed_after : {1, 2, 3, 5}) {
    CAPTURE(killed_after);
    TrainOptions part = whole;
    part.run.output_dir = fixture.options(fmt::format("part-{}", killed_after)).run.output_dir;
    part.run.save_steps = 1;
    GrpoTrainer(part, *backend).run();
    for (std::int64_t s = killed_after + 1; s <= 7; ++s)
      fs::remove_all(fmt::format("{}/checkpoint-{}", part.run.output_dir, s));
    CHECK(fs::exists(fmt::format("{}/checkpoint-{}/experience.json", part.run.output_dir,
                                 killed_after)) == (killed_after % 3 != 0));
    part.run.resume = "latest";
    const std::string resumed = GrpoTrainer(part, *backend).run();
    for (const char* file : {"adapter_model.safetensors", "optimizer.safetensors"})
      CHECK(same_file(expected + "/" + file, resumed + "/" + file));
    CHECK(same_file(whole.run.output_dir + "/completions.jsonl",
                    part.run.output_dir + "/completions.jsonl"));
  }
}

TEST_CASE("experience: dynamic sampling replaces groups of equal rewards") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  TrainOptions plain = fixture.options("plain");
  plain.objective.beta = 0.0;
  plain.reward.rewards = {"int"};  // often the same for a whole group of 4
  GrpoTrainer(plain, *backend).run();
  TrainOptions refilled = plain;
  refilled.run.output_dir = fixture.options("refilled").run.output_dir;
  refilled.objective.dynamic_sampling = true;
  const std::string expected = GrpoTrainer(refilled, *backend).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto before = lines_of(plain.run.output_dir + "/metrics.jsonl", documents);
  const auto after = lines_of(refilled.run.output_dir + "/metrics.jsonl", documents);
  std::int64_t skipped = 0, discarded = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    skipped += before[i].at("skipped_groups").as_int();
    discarded += after[i].at("discarded_groups").as_int();
    CHECK(after[i].at("frac_reward_zero_std").as_double() == 0.0);
    CHECK(after[i].at("skipped_groups").as_int() == 0);
  }
  CHECK(skipped > 0);
  CHECK(discarded > 0);

  // The data cursor is where the groups that were discarded have moved it: also after a stop.
  TrainOptions part = refilled;
  part.run.output_dir = fixture.options("part").run.output_dir;
  part.run.save_steps = 2;
  GrpoTrainer(part, *backend).run();
  for (const int s : {4, 6})
    fs::remove_all(fmt::format("{}/checkpoint-{}", part.run.output_dir, s));
  part.run.resume = "latest";
  CHECK(same_file(expected + "/adapter_model.safetensors",
                  GrpoTrainer(part, *backend).run() + "/adapter_model.safetensors"));

  // Where no prompt gives a signal the rounds end, and the step is one without signal.
  TrainOptions hopeless = refilled;
  hopeless.run.output_dir = fixture.options("hopeless").run.output_dir;
  hopeless.objective.max_resample_batches = 2;
  hopeless.sampling.max_completion_length = 1;
  hopeless.reward.rewards = {"strict_format"};
  hopeless.run.max_steps = 1;
  GrpoTrainer(hopeless, *backend).run();
  const auto last = lines_of(hopeless.run.output_dir + "/metrics.jsonl", documents);
  CHECK(last.back().at("frac_reward_zero_std").as_double() == 1.0);
  CHECK(last.back().at("discarded_groups").as_int() == 4);
}
