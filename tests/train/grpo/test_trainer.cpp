#include <cmath>

#include "model/io/safetensors.h"
#include "train/grpo/trainer_fixture.h"
#include "train/objective/policy_gradient.h"
#include "train/run/stop.h"

using namespace qgrpo;
using namespace qgrpo::train;

namespace {

struct Gradients {
  std::vector<std::vector<float>> values;
  TokenLogprobs logprobs;
  UpdateStatistics statistics;
};

Gradients gradients_with(const Fixture& fixture, Backend& backend, std::int64_t tokens) {
  auto model = model::Model::load(backend, fixture.model(), model::Quantize::none);
  model::LoraConfig lora;
  lora.r = 4;
  lora.lora_alpha = 8;
  auto adapter = model::LoraAdapter::create(backend, model.config(), lora, 3);
  // B is zero in a new adapter, which would hide A's gradient.
  Rng rng(3, RngStream::test);
  for (std::int64_t l = 0; l < adapter.layers(); ++l) {
    for (int p = 0; p < model::kProjections; ++p) {
      const auto& f = adapter.at(l, static_cast<model::Projection>(p));
      std::vector<float> b(static_cast<std::size_t>(f.b.elements()));
      for (float& x : b) x = 0.02f * rng.normal();
      backend.upload(f.b, b.data());
      backend.synchronize();
    }
  }
  model.set_adapters({&adapter});
  auto parameters = model::TrainableParameters::lora(model, adapter, 0);
  const model::PassCapacity capacity{tokens, tokens, 0};
  model::Arena count;
  model::PassBuffers::place(count, model.config(), DType::f32, capacity);
  const auto memory = backend.allocate(count.used());
  model::Arena arena(memory->data(), memory->bytes());
  model::TrainingPass pass(model, arena, capacity);
  UpdateSettings settings;
  settings.objective.params.beta = 0.04f;
  settings.groups_per_chunk = 2;
  settings.temperature = 0.9f;
  Gradients out;
  const auto groups = random_groups(model.config().vocab_size, 1);
  out.statistics = accumulate_policy_gradient(pass, model, parameters.gradients(), groups, settings,
                                              &out.logprobs);
  for (const auto& p : parameters.parameters()) {
    out.values.emplace_back(static_cast<std::size_t>(p.gradient.elements()));
    backend.download(out.values.back().data(), p.gradient);
  }
  backend.synchronize();
  return out;
}

}  // namespace

TEST_CASE(
    "trainer: a prompt computed once for its group equals a prompt computed for every completion") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  const Gradients shared =
      gradients_with(fixture, *backend, 400);  // both groups in one micro-batch
  const Gradients cut =
      gradients_with(fixture, *backend, 141);  // a prompt and a completion, or two
  CHECK(shared.statistics.passes == 1);
  CHECK(cut.statistics.passes > 2);
  CHECK(cut.statistics.computed_tokens > shared.statistics.computed_tokens);
  // Rows do not depend on their neighbours, so the log-probs are the same bits.
  CHECK(shared.logprobs.policy == cut.logprobs.policy);
  CHECK(shared.logprobs.reference == cut.logprobs.reference);
  CHECK(shared.statistics.loss == doctest::Approx(cut.statistics.loss).epsilon(1e-12));
  // Gradients sum over tokens in another order: float32 rounding over 240 tokens.
  for (std::size_t i = 0; i < shared.values.size(); ++i) {
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t j = 0; j < shared.values[i].size(); ++j) {
      difference += std::pow(static_cast<double>(shared.values[i][j] - cut.values[i][j]), 2);
      norm += std::pow(static_cast<double>(shared.values[i][j]), 2);
    }
    CHECK(norm > 0.0);
    CHECK(std::sqrt(difference / norm) < 1e-5);
  }
}

TEST_CASE(
    "trainer: sampling's log-probs are the training pass's, bit for bit; the number of threads "
    "changes nothing") {
  const Fixture fixture;
  const TrainOptions a = fixture.options("a");
  const std::string checkpoint = GrpoTrainer(a, *cpu::make_cpu_backend(2)).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto metrics = lines_of(a.run.output_dir + "/metrics.jsonl", documents);
  CHECK(metrics.size() == 6);
  bool learned = false;
  for (const auto& m : metrics) {
    CHECK(m.at("sampling/sampling_logp_difference/max").as_double() == 0.0);
    CHECK(m.at("sampling/importance_sampling_ratio/min").as_double() == 1.0);
    learned = learned || m.at("grad_norm").as_double() > 0.0;
  }
  CHECK(learned);
  CHECK(metrics.back().at("kl").as_double() > 0.0);
  CHECK(lines_of(a.run.output_dir + "/completions.jsonl", documents).size() == 6 * 2 * 4);

  for (const int threads : {1, 3}) {
    const TrainOptions b = fixture.options(fmt::format("threads-{}", threads));
    const std::string other = GrpoTrainer(b, *cpu::make_cpu_backend(threads)).run();
    CHECK(
        same_file(checkpoint + "/adapter_model.safetensors", other + "/adapter_model.safetensors"));
    CHECK(same_file(a.run.output_dir + "/completions.jsonl",
                    b.run.output_dir + "/completions.jsonl"));
  }
}

TEST_CASE("trainer: a step's log has its speed, and the result is the same without") {
  const Fixture fixture;
  TrainOptions compared = fixture.options("compared");
  compared.run.max_steps = 2;
  compared.objective.num_iterations = 2;  // the second step samples nothing
  const DevicePeak peak{1e9, 2e9, "told"};
  const std::string expected =
      GrpoTrainer(compared, *cpu::make_cpu_backend(2), [&] { return peak; }).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto metrics = lines_of(compared.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(metrics.size() == 2);
  const auto share = [&](std::size_t step, const std::string& phase) {
    return metrics[step].at("speed_of_light" + phase).as_double();
  };
  const double least_sampling = share(0, "/sampling") * 8 *
                                metrics[0].at("completions/mean_length").as_double() /
                                metrics[0].at("tokens_per_second/sampling").as_double();
  CHECK(least_sampling > 0.0);
  for (const std::size_t step : {0, 1}) {
    CHECK(metrics[step].at("tokens_per_second/training").as_double() > 0.0);
    CHECK(share(step, "/training") > 0.0);
  }
  // The phases' least times are the step's.
  const double training_seconds = metrics[0].at("step_time/training").as_double();
  CHECK(share(0, "") * metrics[0].at("step_time").as_double() ==
        doctest::Approx(least_sampling + share(0, "/training") * training_seconds).epsilon(0.02));
  CHECK_FALSE(metrics[1].find("speed_of_light/sampling"));
  CHECK_FALSE(metrics[1].find("tokens_per_second"));
  CHECK(io::read_file(compared.run.output_dir + "/run.json").find(R"("peak_origin": "told")") !=
        std::string::npos);

  TrainOptions alone = compared;
  alone.run.output_dir = fixture.options("alone").run.output_dir;
  const std::string without = GrpoTrainer(alone, *cpu::make_cpu_backend(2)).run();
  CHECK(same_file(expected + "/adapter_model.safetensors", without + "/adapter_model.safetensors"));
  const auto unknown = lines_of(alone.run.output_dir + "/metrics.jsonl", documents);
  CHECK(unknown[0].find("tokens_per_second/training"));
  CHECK_FALSE(unknown[0].find("speed_of_light"));
}

TEST_CASE(
    "trainer: the log has each token with its log-prob where it is asked to, run.json the plan") {
  const Fixture fixture;
  TrainOptions o = fixture.options("tokens");
  o.run.max_steps = 1;
  o.log_token_logprobs = true;
  GrpoTrainer(o, *cpu::make_cpu_backend(2)).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto lines = lines_of(o.run.output_dir + "/completions.jsonl", documents);
  REQUIRE(lines.size() == 8);
  for (const io::JsonValue& line : lines) {
    const auto tokens = line.at("tokens").as_array();
    const auto logprobs = line.at("logprobs").as_array();
    CHECK(std::ssize(tokens) == line.at("length").as_int());
    REQUIRE(logprobs.size() == tokens.size());
    std::string text;
    for (const io::JsonValue& token : tokens) text += token.as_string();
    CHECK(text.starts_with(line.at("completion").as_string()));
    for (const io::JsonValue& logprob : logprobs) CHECK(logprob.as_double() <= 0.0);
  }
  io::JsonDocument document;
  const io::JsonValue memory = document.parse_file(o.run.output_dir + "/run.json").at("memory");
  CHECK(memory.at("total").as_int() > 0);
  CHECK(memory.at("regions").as_array().at(0).at("bytes").as_int() > 0);

  o.run.output_dir = fixture.options("without").run.output_dir;
  o.log_token_logprobs = false;
  GrpoTrainer(o, *cpu::make_cpu_backend(2)).run();
  CHECK_FALSE(lines_of(o.run.output_dir + "/completions.jsonl", documents)[0].find("tokens"));
}

TEST_CASE("trainer: a stopped and resumed run equals the uninterrupted one, bit for bit") {
  const Fixture fixture;
  for (const auto& [kind, name] : kOptimizerNames.entries()) {
    const std::string optim(name);
    CAPTURE(optim);
    TrainOptions whole = fixture.options("whole-" + optim);
    whole.optimizer.optim = kind;
    whole.lora.lora_r = 40;  // factors above 4,096 elements have 8-bit states
    const std::string expected = GrpoTrainer(whole, *cpu::make_cpu_backend(2)).run();

    TrainOptions part = whole;
    part.run.output_dir = fixture.options("part-" + optim).run.output_dir;
    part.run.save_steps = 3;
    const auto backend = cpu::make_cpu_backend(2);
    GrpoTrainer(part, *backend).run();
    // As if it had been killed after step 5: later checkpoints are gone, the logs run ahead of the
    // last one.
    fs::remove_all(part.run.output_dir + "/checkpoint-6");
    part.run.resume = "latest";
    const std::string resumed = GrpoTrainer(part, *backend).run();
    for (const char* file : {"adapter_model.safetensors", "optimizer.safetensors"}) {
      CHECK(same_file(expected + "/" + file, resumed + "/" + file));
    }
    CHECK(same_file(whole.run.output_dir + "/completions.jsonl",
                    part.run.output_dir + "/completions.jsonl"));

    // Another option, another base, a broken checkpoint: refused, and nothing is lost.
    part.optimizer.learning_rate *= 2;
    CHECK_THROWS_WITH_AS(GrpoTrainer(part, *backend), doctest::Contains("learning_rate"), Error);
    part.optimizer.learning_rate = whole.optimizer.learning_rate;
    fs::resize_file(resumed + "/optimizer.safetensors", 1000);
    CHECK_THROWS_WITH_AS(GrpoTrainer(part, *backend), doctest::Contains("optimizer.safetensors"),
                         Error);
    part.run.resume = part.run.output_dir + "/checkpoint-3";
    CHECK(same_file(expected + "/adapter_model.safetensors",
                    GrpoTrainer(part, *backend).run() + "/adapter_model.safetensors"));
  }
}

TEST_CASE("trainer: a run that made its adapter is resumed with the same shape of it only") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  TrainOptions o = fixture.options("run");
  o.run.max_steps = 2;
  const std::string checkpoint = GrpoTrainer(o, *backend).run();
  o.run.resume = "latest";
  const auto refused = [&](const char* option, const char* before, const char* now, auto change) {
    TrainOptions other = o;
    change(other);
    const std::string message = fmt::format(
        "{}: was made with {} = {}, but this run has {}; resume with the same options, or start a "
        "new run",
        checkpoint, option, before, now);
    CHECK_THROWS_WITH_AS(GrpoTrainer(other, *backend), message.c_str(), Error);
  };
  const auto refuse_all = [&] {
    refused("lora_r", "4", "8", [](TrainOptions& t) { t.lora.lora_r = 8; });
    refused("lora_alpha", "8", "16", [](TrainOptions& t) { t.lora.lora_alpha = 16; });
    refused("use_rslora", "false", "true", [](TrainOptions& t) { t.lora.use_rslora = true; });
  };
  refuse_all();
  refused("lora_target_modules", "all-linear", "q_proj,v_proj", [](TrainOptions& t) {
    t.lora.lora_target_modules = {"q_proj", "v_proj"};
  });
  // A checkpoint of an earlier version records none of it; its adapter_config.json does.
  const std::string path = checkpoint + "/trainer_state.json";
  std::string state = io::read_file(path);
  for (const char* entry :
       {"\"lora_alpha\": \"8\", ", "\"lora_r\": \"4\", ",
        "\"lora_target_modules\": \"all-linear\", ", "\"use_rslora\": \"false\", "}) {
    const std::size_t at = state.find(entry);
    REQUIRE(at != std::string::npos);
    state.erase(at, std::string(entry).size());
  }
  io::write_file_atomically(path, test::without_checksums(state));
  refuse_all();
  o.run.max_steps = 3;
  CHECK_NOTHROW(GrpoTrainer(o, *backend).run());
}

TEST_CASE("trainer: Ctrl-C ends with a checkpoint from which the run goes on") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  const TrainOptions whole = fixture.options("whole");
  const std::string expected = GrpoTrainer(whole, *backend).run();
  TrainOptions part = whole;
  part.run.output_dir = fixture.options("part").run.output_dir;
  {
    GrpoTrainer trainer(part, *backend);
    stop_requested = true;
    CHECK(trainer.run() == part.run.output_dir + "/checkpoint-0");
    stop_requested = false;
  }
  part.run.resume = "latest";
  CHECK(same_file(expected + "/adapter_model.safetensors",
                  GrpoTrainer(part, *backend).run() + "/adapter_model.safetensors"));
}

TEST_CASE("trainer: an earlier run is not overwritten unasked") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(1);
  TrainOptions o = fixture.options("run");
  o.run.max_steps = 1;
  GrpoTrainer(o, *backend).run();
  CHECK_THROWS_WITH_AS(GrpoTrainer(o, *backend), doctest::Contains("--resume"), Error);
  CHECK(fs::exists(o.run.output_dir + "/checkpoint-1/adapter_model.safetensors"));
  o.run.overwrite_output_dir = true;
  GrpoTrainer(o, *backend).run();
}

TEST_CASE("trainer: what cannot fit is refused with the figure and the option that would help") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(1);
  TrainOptions o = fixture.options("plan");
  o.memory.device_memory_gb = 0.001;
  CHECK_THROWS_WITH_AS(GrpoTrainer(o, *backend), doctest::Contains("--device-memory"), Error);
  CHECK_FALSE(fs::exists(o.run.output_dir));
  o.memory.device_memory_gb = 0;
  o.sampling.max_completion_length = 100000;
  CHECK_THROWS_WITH_AS(GrpoTrainer(o, *backend), doctest::Contains("--max-completion-length"),
                       Error);
}
