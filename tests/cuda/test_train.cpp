#include "model/golden.h"
#include "model/parameters.h"
#include "support/program.h"
#include "train/grpo/canary.h"
#include "train/grpo/trl_scenarios.h"
#include "train_support.h"

// Training on the CUDA backend against the CPU's float32: whole passes, TRL's recorded steps, runs.
namespace qgrpo::test {
namespace {

using model::PassCapacity;
using model::TrainableParameters;

struct Case {
  const char* model;
  const char* adapter;  // "": every parameter is trained
  model::Quantize quantize;
  std::int64_t kept;
  std::int64_t offloaded;
};

struct Pass {
  std::vector<std::string> names;
  std::vector<std::vector<float>> gradients;
  std::vector<float> logprobs;
};

// The negative log-likelihood of the golden completions, two prompts' completions sharing them.
Pass run_pass(Backend& backend, const Case& c) {
  auto model = model::Model::load(backend, vector_path(c.model), c.quantize);
  std::unique_ptr<model::LoraAdapter> adapter;
  if (*c.adapter != '\0') {
    adapter = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(backend, model.config(), vector_path(c.adapter)));
    model.set_adapters({adapter.get()});
  }
  auto trained =
      adapter ? TrainableParameters::lora(model, *adapter, 0) : TrainableParameters::full(model);
  PassCapacity capacity;
  capacity.tokens = 160;
  capacity.head_rows = 160;
  capacity.kept_layers = c.kept;
  capacity.offloaded_layers = backend.has_host_store() ? c.offloaded : 0;
  model::Arena count;
  model::PassBuffers::place(count, model.config(), backend.activation_dtype(), capacity);
  const auto memory = backend.allocate(count.used());
  model::Arena arena(memory->data(), memory->bytes());
  model::TrainingPass pass(model, arena, capacity);

  Batch batch;
  std::vector<std::int32_t> rows;
  std::vector<HeadEntry> entries;
  const auto ids = [&](std::int32_t n, std::int32_t seed) {
    std::vector<std::int32_t> out;
    for (std::int32_t i = 0; i < n; ++i) out.push_back((i * i * 37 + 11 * seed + i * seed) % 310);
    return out;
  };
  for (const std::int32_t prompt_length : {7, 70}) {
    const std::int32_t prompt = batch.add(ids(prompt_length, prompt_length), adapter ? 0 : -1);
    const std::int32_t last = batch.segments.back().end() - 1;
    for (const std::int32_t length : {5, 1, 20}) {
      const auto completion = ids(length, prompt_length + length);
      const std::int32_t segment = batch.add(completion, adapter ? 0 : -1, prompt);
      const std::int32_t begin = batch.segments[static_cast<std::size_t>(segment)].begin;
      for (std::int32_t t = 0; t < length; ++t) {
        rows.push_back(t == 0 ? last : begin + t - 1);
        entries.push_back({0, completion[static_cast<std::size_t>(t)]});
      }
    }
  }
  // Sorted by row; the prompts' last rows have three entries each.
  std::vector<std::size_t> order(entries.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rows[a] < rows[b]; });
  std::vector<std::int32_t> head_rows;
  std::vector<HeadEntry> sorted;
  for (const std::size_t i : order) {
    if (head_rows.empty() || head_rows.back() != rows[i]) head_rows.push_back(rows[i]);
    sorted.push_back({static_cast<std::int32_t>(head_rows.size()) - 1, entries[i].target});
  }
  const std::vector<ObjectiveEntry> terms(sorted.size(),
                                          {.weight = 1.0f / static_cast<float>(sorted.size())});
  ObjectiveParams params;
  params.kind = ObjectiveKind::negative_log_likelihood;
  std::vector<HeadResult> results(sorted.size());
  std::vector<TokenObjective<float>> objectives(sorted.size());
  trained.zero_gradients();
  pass.forward(batch, /*gradient=*/true);
  const TensorView hidden = pass.hidden(head_rows);
  backend.train().head_objective(results, objectives, pass.dhidden(), trained.gradients().dlm_head,
                                 hidden, model.head_linear(), sorted, terms, params, 1.0f);
  pass.backward(trained.gradients());
  Pass out;
  for (const auto& p : trained.parameters()) {
    out.names.push_back(p.name);
    out.gradients.push_back(download(backend, p.gradient));
  }
  for (const HeadResult& r : results) out.logprobs.push_back(r.logprob);
  return out;
}

}  // namespace

// Each activation and each gradient on the way is rounded to bf16, by up to 2^-9 of its value, and
// so are both operands of each product: about 12 roundings a block forward and 20 backward,
// independent of each other. Over 3 blocks and the head that is a random walk of some 100 steps of
// 2^-9 / sqrt(3), which is 1 % of a gradient's norm; where large terms cancel (the biases of k,
// whose exact gradient is nearly zero) it is more.
TEST_CASE("cuda train: every gradient of the tiny models is the CPU's") {
  const Backends b = both_backends();
  if (!b) return;
  using model::Quantize;
  for (const Case& c : {Case{"tiny_qwen2", "", Quantize::none, 0, 0},
                        Case{"tiny_qwen2_untied", "", Quantize::none, 1, 0},
                        Case{"tiny_qwen2", "lora/adapter", Quantize::none, 3, 0},
                        Case{"tiny_qwen2", "lora/adapter", Quantize::nf4, 0, 3},
                        Case{"tiny_qwen3", "", Quantize::none, 1, 0},
                        Case{"tiny_qwen3", "tiny_qwen3/lora/adapter", Quantize::nf4, 0, 3},
                        Case{"tiny_llama3", "tiny_llama3/lora/adapter", Quantize::none, 3, 0},
                        Case{"tiny_mistral_yarn", "", Quantize::none, 0, 0}}) {
    CAPTURE(std::string(c.model));
    CAPTURE(std::string(c.adapter));
    CAPTURE(c.kept);
    const Pass host = run_pass(*b.cpu, c);
    const Pass device = run_pass(*b.cuda, c);
    CHECK(worst_difference(device.logprobs, host.logprobs) < 0.05);
    double worst = 0.0;
    for (std::size_t i = 0; i < host.gradients.size(); ++i) {
      CAPTURE(host.names[i]);
      const double error = relative_l2(device.gradients[i], host.gradients[i]);
      worst = std::max(worst, error);
      const bool cancels = host.names[i].ends_with("k_proj.bias");
      CHECK(error < (cancels ? 2.0 : 0.04));
    }
    MESSAGE(std::string(c.model), " ", std::string(c.adapter), ": worst gradient off by ", worst,
            " of its norm");
  }
}

TEST_CASE("cuda train: where activations are kept changes no bit of a gradient") {
  const Backends b = both_backends();
  if (!b) return;
  const auto gradients = [&](std::int64_t kept, std::int64_t offloaded) {
    const Case c{"tiny_qwen2", "lora/adapter", model::Quantize::nf4, kept, offloaded};
    return run_pass(*b.cuda, c).gradients;
  };
  const auto expected = gradients(3, 0);
  for (const auto& [kept, offloaded] : {std::pair{0, 0}, {1, 0}, {0, 3}, {1, 2}, {2, 1}, {0, 1}}) {
    CAPTURE(kept);
    CAPTURE(offloaded);
    CHECK(gradients(kept, offloaded) == expected);
  }
}

// What a step logs is a mean over its tokens, whose log-probs are off by up to 0.02 each and by
// 0.005 on average. An optimizer step moves a weight by about the learning rate in the direction of
// its gradient, so where bf16 turns the sign of a small gradient the weight goes the other way: the
// update as a whole points the same way, element by element it need not.
TEST_CASE("cuda train: TRL's recorded steps, within bf16") {
  const Backends b = both_backends();
  if (!b) return;
  const RunFolder folder;
  io::JsonDocument document;
  const auto root = document.parse_file(vector_path("e2e_grpo/expected.json"));
  for (const auto& scenario : root.at("scenarios").as_array()) {
    const std::string name = scenario.at("name").as_string();
    CAPTURE(name);
    const std::string replay = folder / (name + ".jsonl");
    write_replay(replay, root, scenario);
    const train::TrainOptions options = scenario_options(scenario, replay, folder / name);
    train::GrpoTrainer trainer(options, *b.cuda);
    const std::string checkpoint = trainer.run();

    const Log log(options.run.output_dir + "/metrics.jsonl");
    std::size_t step = 0;
    for (const auto& expected : scenario.at("logs").as_array()) {
      for (const char* key : {"loss", "grad_norm", "kl", "entropy", "reward", "learning_rate"}) {
        const auto value = expected.find(key);
        if (!value || !value->is_number()) continue;
        if (options.batch.gradient_accumulation_steps > 1 &&
            (std::string(key) == "kl" || std::string(key) == "entropy"))
          continue;
        CAPTURE(key);
        CAPTURE(step);
        CHECK(log.number(step, key) ==
              doctest::Approx(value->as_double()).epsilon(0.03).scale(0.1));
      }
      ++step;
    }

    const io::SafetensorsFile start(options.base.adapter + "/adapter_model.safetensors");
    const io::SafetensorsFile theirs(vector_path("e2e_grpo/" + name + ".safetensors"));
    const io::SafetensorsFile ours(checkpoint + "/adapter_model.safetensors");
    const std::string prefix = fmt::format("adapter.step{}/", options.run.max_steps);
    double dot = 0.0, mine = 0.0, recorded = 0.0;
    for (const auto& key : ours.names()) {
      const auto s = io::to_float(start.tensor(key));
      const auto o = io::to_float(ours.tensor(key));
      const auto t = io::to_float(theirs.tensor(prefix + key));
      for (std::size_t i = 0; i < s.size(); ++i) {
        const double x = static_cast<double>(o[i]) - static_cast<double>(s[i]);
        const double y = static_cast<double>(t[i]) - static_cast<double>(s[i]);
        dot += x * y;
        mine += x * x;
        recorded += y * y;
      }
    }
    const double cosine = dot / std::sqrt(mine * recorded);
    const double length = std::sqrt(mine / recorded);
    MESSAGE(name, ": update at cosine ", cosine, ", length ", length, " of TRL's");
    if (recorded == 0.0) {
      CHECK(mine == 0.0);
    } else {
      CHECK(cosine > 0.98);
      CHECK(std::fabs(length - 1.0) < 0.005);
    }
  }
}

TEST_CASE("cuda train: a stopped and resumed run equals the uninterrupted one, bit for bit") {
  if (!both_backends()) return;
  const RunFolder folder;
  train::TrainOptions whole = small_run(folder / "whole");
  whole.run.max_steps = 3;
  whole.lora.lora_r = 40;  // factors above 4,096 elements have 8-bit states
  const auto run = [](const train::TrainOptions& options) {
    const auto backend = qgrpo::cuda::make_cuda_backend();
    return train::GrpoTrainer(options, *backend).run();
  };
  const std::string expected = run(whole);
  train::TrainOptions part = whole;
  part.run.output_dir = folder / "part";
  part.run.save_steps = 2;
  run(part);
  // As if it had been killed after step 3.
  std::filesystem::remove_all(part.run.output_dir + "/checkpoint-3");
  part.run.resume = "latest";
  const auto backend = qgrpo::cuda::make_cuda_backend();
  train::GrpoTrainer trainer(part, *backend);
  const std::string resumed = trainer.run();
  for (const char* file : {"adapter_model.safetensors", "optimizer.safetensors"}) {
    CHECK(same_file(expected + "/" + file, resumed + "/" + file));
  }
  CHECK(same_file(whole.run.output_dir + "/completions.jsonl",
                  part.run.output_dir + "/completions.jsonl"));
}

// The same seeds on both backends. A draw is the same function of the same uniform number, so a
// token differs where the number falls between the two backends' boundaries, whose distance is
// bf16's rounding of the probabilities (0.5 % on average); from there on a completion is another
// one. Of 16 tokens that is about one completion in twenty; the rest of a run follows from that.
TEST_CASE("cuda train: a bf16 copy of the adapter that an update has left behind is noticed") {
  const Backends b = both_backends();
  if (!b) return;
  auto model = model::Model::load(*b.cuda, vector_path("tiny_qwen2"), model::Quantize::none);
  model::LoraConfig lora;
  lora.r = 4;
  const auto adapter = model::LoraAdapter::create(*b.cuda, model.config(), lora, 1);
  model.set_adapters({&adapter});
  CHECK_NOTHROW(train::check_published(model, adapter, 0, 0));
  const auto& factors = adapter.at(0, model::Projection::q);
  std::vector<float> changed(factors.b.elements(), 0.0f);
  changed.back() = 1.0f;
  b.cuda->upload(factors.b, changed.data());
  b.cuda->synchronize();
  std::string fault;
  try {
    train::check_published(model, adapter, 0, 0);
  } catch (const Error& error) {
    fault = error.what();
  }
  CHECK(fault.find("self_attn.q_proj.lora_B") != std::string::npos);
  CHECK(fault.find("a stale bf16 copy") != std::string::npos);
  adapter.refresh_shadows(*b.cuda);
  CHECK_NOTHROW(train::check_published(model, adapter, 0, 0));
}

TEST_CASE("cuda train: ten steps of the demo agree with the CPU's") {
  const Backends b = both_backends();
  if (!b) return;
  const RunFolder folder;
  const auto run = [&](Backend& backend, const std::string& name) {
    train::TrainOptions options = small_run(folder / name);
    options.base.quantize = model::Quantize::none;  // the demo's setting
    options.optimizer.optim = train::OptimizerKind::adamw_torch;
    options.run.max_steps = 10;
    options.optimizer.learning_rate = 3e-3;
    options.optimizer.weight_decay = 0.0;
    options.optimizer.warmup_ratio = 0.0;
    options.optimizer.max_grad_norm = 1.0;
    options.sampling.temperature = 1.0;
    train::GrpoTrainer(options, backend).run();
    return options.run.output_dir;
  };
  const std::string host = run(*b.cpu, "cpu");
  const std::string device = run(*b.cuda, "cuda");
  const Log host_metrics(host + "/metrics.jsonl"), metrics(device + "/metrics.jsonl");
  const Log host_texts(host + "/completions.jsonl"), texts(device + "/completions.jsonl");
  REQUIRE(metrics.size() == 10);
  REQUIRE(texts.size() == host_texts.size());

  // Sampling and training: the kernels of few rows and those of many, the cache and the packed
  // batch. Both round at the same places, so they differ by float32 sums in another order that now
  // and then round to the other bf16.
  double mean = 0.0, most = 0.0;
  for (std::size_t i = 0; i < 10; ++i) {
    mean = std::max(mean, metrics.number(i, "sampling/sampling_logp_difference/mean"));
    most = std::max(most, metrics.number(i, "sampling/sampling_logp_difference/max"));
  }
  MESSAGE("sampled against training log-prob: ", mean, " on average, at most ", most);
  CHECK(mean < 0.004);
  CHECK(most < 0.08);

  std::size_t equal = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    equal += texts[i].at("completion").as_string() == host_texts[i].at("completion").as_string();
  }
  MESSAGE(equal, " of 8 completions of the first step are the same");
  CHECK(equal >= 7);
  double reward = 0.0, host_reward = 0.0;
  for (std::size_t i = 0; i < 10; ++i) {
    reward += metrics.number(i, "reward") / 10;
    host_reward += host_metrics.number(i, "reward") / 10;
  }
  MESSAGE("mean reward ", reward, ", on the CPU ", host_reward);
  MESSAGE("kl of the last step ", metrics.number(9, "kl"), ", on the CPU ",
          host_metrics.number(9, "kl"));
  // 80 completions with a deviation of about 1 each, most of them the same on both: a tenth of them
  // drawn anew would move the mean by 0.04. The KL grows with the square of what was learned.
  CHECK(std::fabs(reward - host_reward) < 0.1);
  CHECK(metrics.number(9, "kl") == doctest::Approx(host_metrics.number(9, "kl")).epsilon(0.25));
}

TEST_CASE("cuda train: through the command line") {
  if (!both_backends()) return;
  const RunFolder folder;
  const auto result = run_qgrpo({"train",
                                 "--device",
                                 "cuda",
                                 "--model",
                                 short_demo_model(),
                                 "--dataset",
                                 short_demo_model() + "/train.jsonl",
                                 "--output-dir",
                                 folder / "run",
                                 "--max-steps",
                                 "1",
                                 "--num-generations",
                                 "4",
                                 "--max-completion-length",
                                 "8",
                                 "--max-prompt-length",
                                 "48",
                                 "--lora-r",
                                 "8",
                                 "--system-prompt",
                                 ""},
                                "");
  INFO("standard error: ", result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("on cuda: ") != std::string::npos);
  CHECK(result.out.find("bf16 shadows") != std::string::npos);
  CHECK(std::filesystem::exists(folder / "run/checkpoint-1/adapter_model.safetensors"));
  // Without a device of that size the plan still says what it would take.
  const auto plan = run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "24GB"}, "");
  CHECK(plan.exit_code == 0);
  CHECK(plan.out.find("36 of 36 blocks keep their activations") != std::string::npos);
}

}  // namespace qgrpo::test
