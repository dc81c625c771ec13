// Steps at the edges: nothing to learn from, nothing said, the longest prompt, the last ids, a long
// context.
#include <cmath>
#include <numeric>

#include "model/model.h"
#include "trainer_fixture.h"

namespace qgrpo::train {
namespace {

// A copy of the demo's model whose config.json and generation_config.json say `config` and
// `generation` after what they say.
std::string changed_model(const Fixture& fixture, const std::string& to, const std::string& key,
                          const std::string& value, const std::string& generation = "") {
  fs::copy(fixture.model(), to, fs::copy_options::recursive);
  std::string config = io::read_file(to + "/config.json");
  const std::size_t at = config.find("\"" + key + "\"");
  REQUIRE(at != std::string::npos);
  const std::size_t end = config.find_first_of(",}", at);
  config.replace(at, end - at, "\"" + key + "\": " + value);
  io::write_file_atomically(to + "/config.json", config);
  if (!generation.empty()) io::write_file_atomically(to + "/generation_config.json", generation);
  return to;
}

std::int64_t vocab_size(const std::string& model) {
  io::JsonDocument document;
  return document.parse_file(model + "/config.json").at("vocab_size").as_int();
}

using Documents = std::vector<std::unique_ptr<io::JsonDocument>>;

// Runs to the end; its metrics, a line a step, in which every number is finite.
std::vector<io::JsonValue> metrics_of(const TrainOptions& options, Documents& documents) {
  GrpoTrainer(options, *cpu::make_cpu_backend(2)).run();
  auto metrics = lines_of(options.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(std::ssize(metrics) == options.run.max_steps);
  for (const io::JsonValue& line : metrics) {
    for (const auto& [key, value] : line.as_object()) {
      CAPTURE(std::string(key));
      if (value.is_number()) CHECK(std::isfinite(value.as_double()));
    }
  }
  return metrics;
}

}  // namespace

TEST_CASE("edges: equal rewards everywhere leave every weight as it is") {
  const Fixture fixture;
  TrainOptions options = fixture.options("equal");
  options.reward.rewards = {"int"};  // the cold start's answers are none of the notebook's
  options.sampling.max_completion_length = 2;
  options.objective.beta = 0.0;
  options.optimizer.weight_decay = 0.0;
  options.run.max_steps = 2;
  options.run.save_steps = 1;
  Documents documents;
  const auto metrics = metrics_of(options, documents);
  for (const auto& m : metrics) {
    CHECK(m.at("frac_reward_zero_std").as_double() == 1.0);
    CHECK(m.at("loss").as_double() == 0.0);
    CHECK(m.at("grad_norm").as_double() == 0.0);
  }
  CHECK(same_file(options.run.output_dir + "/checkpoint-1/adapter_model.safetensors",
                  options.run.output_dir + "/checkpoint-2/adapter_model.safetensors"));
}

TEST_CASE("edges: completions that end at once are empty texts, and are learned from") {
  const Fixture fixture;
  TrainOptions options = fixture.options("empty");
  // Every id ends a completion.
  std::string ids;
  for (std::int64_t id = 0; id < vocab_size(fixture.model()); ++id)
    ids += (id == 0 ? "" : ",") + std::to_string(id);
  options.base.model = changed_model(fixture, options.run.output_dir + "-model", "eos_token_id",
                                     "0", "{\"eos_token_id\": [" + ids + "]}");
  options.run.max_steps = 2;
  Documents documents;
  const auto metrics = metrics_of(options, documents);
  CHECK(metrics[0].at("completions/mean_length").as_double() == 1.0);
  CHECK(metrics[0].at("sampling/sampling_logp_difference/max").as_double() == 0.0);
  const auto lines = lines_of(options.run.output_dir + "/completions.jsonl", documents);
  CHECK(lines.size() == 2 * 2 * 4);
  for (const auto& line : lines) CHECK(line.at("completion").as_string().size() <= 12);
}

TEST_CASE("edges: a prompt of the longest length, up to the model's last position") {
  const Fixture fixture;
  TrainOptions options = fixture.options("longest");
  options.base.model =
      changed_model(fixture, options.run.output_dir + "-model", "max_position_embeddings", "128");
  std::string question;
  for (int i = 0; i < 200; ++i) question += "Max has 3 pens. ";
  const std::string data = options.run.output_dir + "-data.jsonl";
  io::write_file_atomically(data, "{\"question\": \"" + question +
                                      "\", \"answer\": \"#### 3\"}\n{\"question\": \"1+1?\", "
                                      "\"answer\": \"#### 2\"}\n");
  options.data.dataset = {data};
  options.prompt.max_prompt_length = 100;
  options.sampling.max_completion_length = 28;
  options.run.max_steps = 2;
  Documents documents;
  const auto metrics = metrics_of(options, documents);
  for (const auto& m : metrics)
    CHECK(m.at("sampling/sampling_logp_difference/max").as_double() == 0.0);
  // One position more than the model has is refused.
  options.run.output_dir += "-more";
  options.sampling.max_completion_length = 29;
  CHECK_THROWS_WITH_AS(GrpoTrainer(options, *cpu::make_cpu_backend(2)), doctest::Contains("128"),
                       Error);
}

TEST_CASE("edges: the last ids of the vocabulary, in prompts and completions") {
  const Fixture fixture;
  TrainOptions options = fixture.options("last-ids");
  const std::string groups = options.run.output_dir + "-groups.jsonl";
  const std::int64_t last = vocab_size(fixture.model()) - 1;
  const auto write_groups = [&](std::int64_t id) {
    io::write_file_atomically(
        groups,
        fmt::format("{{\"prompt_ids\": [{0}, 0, {1}], \"completions\": [[{0}], [0, {1}, {0}]], "
                    "\"rewards\": [1, 0]}}\n",
                    id, last - 1));
  };
  write_groups(last);
  options.data.replay = groups;
  options.data.dataset.clear();
  options.batch.prompts_per_step = 1;
  options.run.max_steps = 2;
  Documents documents;
  const auto metrics = metrics_of(options, documents);
  CHECK(metrics[0].at("grad_norm").as_double() > 0.0);
  // One id past the last is refused by file and line.
  write_groups(last + 1);
  options.run.output_dir += "-past";
  CHECK_THROWS_WITH_AS(GrpoTrainer(options, *cpu::make_cpu_backend(2)), doctest::Contains("line 1"),
                       Error);
}

TEST_CASE("edges: a context of 32,768 tokens, sampled and trained with the same bits") {
  const Fixture fixture;
  TrainOptions options = fixture.options("context");
  const std::string folder = options.run.output_dir + "-model";
  fs::copy(fixture.model(), folder, fs::copy_options::recursive);
  const auto backend = cpu::make_cpu_backend(2);
  model::Config config = model::named_shape("demo");
  config.vocab_size = vocab_size(fixture.model());
  config.hidden_size = 32;
  config.num_layers = 1;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 16;
  config.intermediate_size = 32;
  config.max_position_embeddings = 32768;
  model::Model::random(*backend, config, WeightFormat::f32, WeightFormat::f32, 3).save(folder);
  const std::string data = options.run.output_dir + "-data.jsonl";
  std::string question;
  while (question.size() < 200000) question += "Max has 3 pens and Zoe 4. ";
  io::write_file_atomically(data, "{\"question\": \"" + question + "\", \"answer\": \"#### 3\"}\n");
  options.base.model = folder;
  options.base.quantize = model::Quantize::none;
  options.data.dataset = {data};
  options.batch.prompts_per_step = 1;
  options.sampling.num_generations = 2;
  options.sampling.max_completion_length = 16;
  options.prompt.max_prompt_length = 32768 - 16;
  options.run.max_steps = 1;
  options.reward.preflight = 0;
  Documents documents;
  const auto metrics = metrics_of(options, documents);
  CHECK(metrics[0].at("num_tokens").as_double() > 32768 - 16);
  CHECK(metrics[0].at("sampling/sampling_logp_difference/max").as_double() == 0.0);
}

}  // namespace qgrpo::train
