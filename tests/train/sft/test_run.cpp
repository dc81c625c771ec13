#include "tokenizer/load.h"
#include "train/sft/run.h"

#include <algorithm>
#include <cmath>

#include "model/config_files.h"
#include "model/ops/error.h"
#include "train/grpo/trainer_fixture.h"

namespace qgrpo::train {
namespace {

// Conversations of the demo's questions with perfect answers.
std::string write_conversations(const std::string& path, std::uint32_t from, std::uint32_t count) {
  std::string text;
  for (std::uint32_t i = from; i < from + count; ++i) {
    const DemoProblem p = demo_problem(3, DemoSplit::train, i);
    io::JsonWriter w;
    w.begin_object();
    w.key("messages");
    w.begin_array();
    for (const auto& [role, content] : {std::pair<std::string, std::string>{"user", p.question},
                                        {"assistant", demo_completion(p)}}) {
      w.begin_object();
      w.member("role", role);
      w.member("content", content);
      w.end_object();
    }
    w.end_array();
    w.end_object();
    text += w.str() + "\n";
  }
  io::write_file_atomically(path, text);
  return path;
}

struct SftFixture {
  SftFixture() {
    fs::create_directories(folder);
    train = write_conversations(folder + "/train.jsonl", 0, 24);
    held_out = write_conversations(folder + "/eval.jsonl", 500, 8);
  }
  ~SftFixture() { fs::remove_all(folder); }

  SftRunOptions options(const std::string& output) const {
    SftRunOptions o;
    o.base.model = short_demo_model();
    o.data.dataset = {train};
    o.base.quantize = model::Quantize::none;
    o.run.output_dir = folder + "/" + output;
    o.batch.per_device_train_batch_size = 8;
    o.run.max_steps = 6;
    o.optimizer.learning_rate = 2e-3;
    o.optimizer.warmup_steps = 1;
    o.lora.lora_r = 4;
    o.run.logging_steps = 1000;
    o.run.save_steps = 3;
    return o;
  }
  std::string run(const SftRunOptions& o) const { return SftRun(o, *backend).run(); }

  std::string folder =
      (fs::temp_directory_path() / fmt::format("qgrpo-sft-run-{}", getpid())).string();
  std::string train;
  std::string held_out;
  std::unique_ptr<Backend> backend = cpu::make_cpu_backend(2);
};

}  // namespace

TEST_CASE("sft run: an adapter learns, the hold-out's loss falls, the log says so") {
  const SftFixture f;
  auto o = f.options("out");
  o.eval.eval_dataset = {f.held_out};
  o.run.max_steps = 0;
  o.batch.num_train_epochs = 4;
  SftRun run(o, *f.backend, [] { return DevicePeak{1e9, 2e9, "told"}; });
  CHECK(run.max_steps() == 12);  // 24 examples in steps of 8, four times
  const std::string saved = run.run();
  CHECK(saved == o.run.output_dir + "/checkpoint-12");
  CHECK(fs::exists(saved + "/adapter_model.safetensors"));
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  std::vector<double> losses;
  std::vector<double> held_out;
  for (const auto& line : lines_of(o.run.output_dir + "/metrics.jsonl", documents)) {
    if (line.find("eval_loss")) {
      held_out.push_back(line.at("eval_loss").as_double());
    } else {
      losses.push_back(line.at("loss").as_double());
      CHECK(line.at("tokens_per_second").as_double() > 0.0);
      CHECK(line.at("speed_of_light").as_double() > 0.0);
    }
  }
  CHECK(losses.size() == 12);
  REQUIRE(held_out.size() == 4);  // each epoch
  CHECK(held_out.back() < held_out.front());
  CHECK(losses.back() < 0.8 * losses.front());
  CHECK(*run.eval_loss() == held_out.back());
}

TEST_CASE("sft run: a resumed run equals the uninterrupted one bit for bit") {
  const SftFixture f;
  for (const bool full : {false, true}) {
    CAPTURE(full);
    auto o = f.options(full ? "full" : "lora");
    o.full = full;
    o.optimizer.learning_rate = 5e-4;
    o.eval.eval_dataset = {f.held_out};
    o.eval.eval_steps = 2;
    const std::string whole = f.run(o);
    const std::string name = full ? "/model.safetensors" : "/adapter_model.safetensors";
    const std::string first = io::read_file(whole + name);
    const std::string optimizer = io::read_file(whole + "/optimizer.safetensors");
    const std::string state = io::read_file(whole + "/trainer_state.json");
    const std::string middle = o.run.output_dir + "/checkpoint-3";
    auto again = o;
    again.run.resume = middle;
    CHECK(f.run(again) == whole);
    CHECK(io::read_file(whole + name) == first);
    CHECK(io::read_file(whole + "/optimizer.safetensors") == optimizer);
    if (full) {
      CHECK(fs::exists(whole + "/tokenizer.json"));
      CHECK(tokenizer::load_tokenizer(whole)->vocab_size() ==
            tokenizer::load_tokenizer(o.base.model)->vocab_size());
    }
    again.run.seed = 7;
    CHECK_THROWS_WITH_AS(f.run(again), doctest::Contains("seed = 42"), Error);
    again.run.seed = o.run.seed;
    again.data.dataset = {f.held_out};
    CHECK_THROWS_WITH_AS(f.run(again), doctest::Contains("other data"), Error);
  }
}

TEST_CASE("sft run: packing changes which examples share a step, not what is learned from each") {
  const SftFixture f;
  // One step over all examples is the same mean over the same tokens, packed or not.
  auto plain = f.options("plain");
  plain.run.max_steps = 1;
  plain.optimizer.warmup_steps = 0;
  plain.batch.per_device_train_batch_size = 24;
  auto packed = plain;
  packed.run.output_dir += "-packed";
  packed.batch.packing = true;
  packed.batch.max_length = 128;
  f.run(plain);
  f.run(packed);
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto a = lines_of(plain.run.output_dir + "/metrics.jsonl", documents);
  const auto b = lines_of(packed.run.output_dir + "/metrics.jsonl", documents);
  // The same float32 losses in another order of summation, in double.
  CHECK(a[0].at("loss").as_double() == doctest::Approx(b[0].at("loss").as_double()).epsilon(1e-12));
  CHECK(a[0].at("num_tokens").as_int() == b[0].at("num_tokens").as_int());
  CHECK(a[0].at("grad_norm").as_double() ==
        doctest::Approx(b[0].at("grad_norm").as_double()).epsilon(1e-4));
}

TEST_CASE("sft run: --adapter goes on from an adapter") {
  const SftFixture f;
  auto first = f.options("first");
  first.eval.eval_dataset = {f.held_out};
  SftRun one(first, *f.backend);
  const std::string adapter = one.run();
  auto second = f.options("second");
  second.base.adapter = adapter;
  second.eval.eval_dataset = {f.held_out};
  second.optimizer.learning_rate = 0.0;
  second.run.max_steps = 1;
  SftRun two(second, *f.backend);
  two.run();
  CHECK(*two.eval_loss() == *one.eval_loss());
}

TEST_CASE("sft run: impossible options and other folders are refused before anything is written") {
  const SftFixture f;
  const auto message = [&](const SftRunOptions& o) -> std::string {
    try {
      SftRun run(o, *f.backend);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  struct Case {
    const char* expected;
    void (*change)(SftRunOptions&);
  };
  const Case cases[] = {
      {"--model", [](SftRunOptions& o) { o.base.model = ""; }},
      {"--dataset", [](SftRunOptions& o) { o.data.dataset = {}; }},
      {"--max-length", [](SftRunOptions& o) { o.batch.max_length = 1; }},
      {"--num-train-epochs", [](SftRunOptions& o) { o.batch.num_train_epochs = 0; }},
      {"--num-train-epochs", [](SftRunOptions& o) { o.batch.num_train_epochs = std::nan(""); }},
      {"--max-steps", [](SftRunOptions& o) { o.run.max_steps = -1; }},
      {"--per-device-train-batch-size",
       [](SftRunOptions& o) { o.batch.per_device_train_batch_size = 0; }},
      {"--learning-rate", [](SftRunOptions& o) { o.optimizer.learning_rate = -1.0; }},
      {"--warmup-ratio", [](SftRunOptions& o) { o.optimizer.warmup_ratio = 2; }},
      {"--lora-r", [](SftRunOptions& o) { o.lora.lora_r = 0; }},
      {"--eval-steps", [](SftRunOptions& o) { o.eval.eval_steps = 5; }},
      {"--full and --adapter",
       [](SftRunOptions& o) {
         o.full = true;
         o.base.adapter = std::string("x");
       }},
      {"--micro-batch-tokens", [](SftRunOptions& o) { o.memory.micro_batch_tokens = 8; }},
  };
  for (const Case& one : cases) {
    auto o = f.options("bad");
    one.change(o);
    const std::string found = message(o);
    CAPTURE(found);
    CHECK(found.starts_with(one.expected));
  }
  CHECK_FALSE(fs::exists(f.folder + "/bad"));
  auto o = f.options("earlier");
  o.run.max_steps = 1;
  f.run(o);
  CHECK(message(o).find("holds an earlier run") != std::string::npos);
}

TEST_CASE("sft run: its folder says how it was made, TensorBoard has it, --hours ends it in time") {
  const SftFixture f;
  auto o = f.options("timed");
  o.run.hours = 2.0 / 3600.0;
  o.run.max_steps = 0;
  o.optimizer.warmup_steps = 0;
  o.run.report_to = {"tensorboard"};
  o.run.config_toml = "seed = 42\n";
  const std::string saved = f.run(o);
  const TrainerState state = load_trainer_state(saved, "sft");
  REQUIRE(!state.schedule.empty());
  CHECK(state.schedule.back().max_steps == state.global_step);
  CHECK(state.elapsed_seconds > 0.0);
  CHECK(state.elapsed_seconds < 20.0);
  io::JsonDocument document;
  const auto run = document.parse_file(o.run.output_dir + "/run.json");
  CHECK(run.at("seed").as_int() == 42);
  CHECK(run.at("starts").as_array().size() == 1);
  CHECK(run.at("options").at("max_length").as_string() == "512");
  CHECK(io::read_file(o.run.output_dir + "/config.toml") == o.run.config_toml);
  CHECK(!fs::is_empty(o.run.output_dir + "/runs"));
  // The rate ends where the steps do.
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto lines = lines_of(o.run.output_dir + "/metrics.jsonl", documents);
  CHECK(lines.size() == static_cast<std::size_t>(state.global_step));
  TimedSchedule schedule(o.run.hours, 1 << 30);
  schedule.restore(state.global_step, state.elapsed_seconds, state.schedule);
  for (const auto& line : lines) {
    const double left = 1.0 - schedule.progress(line.at("step").as_int() - 1);
    CHECK(line.at("learning_rate").as_double() == doctest::Approx(2e-3 * left).epsilon(1e-6));
  }
}

TEST_CASE("sft run: checkpoints of earlier versions are gone on from") {
  const SftFixture f;
  auto o = f.options("old");
  o.eval.eval_dataset = {f.held_out};
  o.eval.eval_steps = 3;
  const std::string whole = f.run(o);
  const std::string adapter = io::read_file(whole + "/adapter_model.safetensors");
  const std::string metrics = io::read_file(o.run.output_dir + "/metrics.jsonl");
  // As they wrote it: no counters but the step, and no times.
  const std::string path = o.run.output_dir + "/checkpoint-3/trainer_state.json";
  std::string state = io::read_file(path);
  for (const std::string gone : {"\"skipped_steps\": 0, ", "\"optimizer_step\": 3, ",
                                 "\"last_eval_step\": 3, ", "\"schedule\": [], "}) {
    const auto at = state.find(gone);
    REQUIRE(at != std::string::npos);
    state.erase(at, gone.size());
  }
  const auto elapsed = state.find("\"elapsed_seconds\"");
  state.erase(elapsed, state.find(',', elapsed) + 2 - elapsed);
  io::write_file_atomically(path, test::without_checksums(state));
  fs::remove_all(whole);
  o.run.resume = "latest";
  CHECK(f.run(o) == whole);
  CHECK(io::read_file(whole + "/adapter_model.safetensors") == adapter);
  // It was evaluated already; a time is all that may differ.
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  CHECK(lines(io::read_file(o.run.output_dir + "/metrics.jsonl")) == lines(metrics));
}

TEST_CASE("sft run: a full run's model keeps what its base's folder has") {
  const SftFixture f;
  const std::string base = f.folder + "/base";
  fs::copy(short_demo_model(), base);
  io::write_file_atomically(base + "/generation_config.json",
                            R"({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
      "repetition_penalty": 1.05, "pad_token_id": 0, "eos_token_id": [1, 2]})");
  std::string config = io::read_file(base + "/config.json");
  config.replace(config.find('{'), 1, R"({"pad_token_id": 3, "some_key": [1], )");
  io::write_file_atomically(base + "/config.json", config);
  io::write_file_atomically(base + "/chat_template.json", R"({"chat_template": "x"})");
  fs::create_directories(base + "/chat_templates");
  io::write_file_atomically(base + "/chat_templates/tool_use.jinja", "tools");
  auto o = f.options("kept");
  o.base.model = base;
  o.full = true;
  o.run.max_steps = 1;
  const std::string saved = f.run(o);
  for (const char* name : {"generation_config.json", "chat_template.json",
                           "chat_templates/tool_use.jinja", "tokenizer.json"}) {
    CAPTURE(name);
    CHECK(io::read_file(saved + "/" + name) == io::read_file(base + "/" + name));
  }
  const std::string written = io::read_file(saved + "/config.json");
  CHECK(written.find("\"some_key\": [1]") != std::string::npos);
  CHECK(model::load_config(saved).pad_token_id == 3);
  CHECK(model::load_generation_defaults(saved).sampling.top_k == 20);
}

}  // namespace qgrpo::train
