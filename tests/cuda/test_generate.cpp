// Generations on --device cuda against the CPU's, in the process and through the command line.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "cuda/device_support.h"
#include "engine/generator.h"
#include "model/io/json.h"
#include "support/program.h"
#include "support/vectors.h"
#include "tokenizer/load.h"
#include "tokenizer/tokenizer.h"
#include "train/demo/data.h"
#include "train/demo/model.h"

namespace qgrpo::test {
namespace {

// A model of tests/vectors on a backend, with its generator.
struct Loaded {
  Loaded(Backend& backend, const std::string& folder, model::Quantize quantize,
         const std::string& adapter_folder)
      : model(model::Model::load(backend, folder, quantize)) {
    if (!adapter_folder.empty()) {
      adapter = std::make_unique<model::LoraAdapter>(
          model::LoraAdapter::load(backend, model.config(), adapter_folder));
      model.set_adapters({adapter.get()});
    }
    engine::GeneratorCapacity capacity;
    capacity.num_blocks = 512;
    capacity.max_sequences = 32;
    model::Arena count;
    engine::GeneratorBuffers::place(count, model.config(), backend.activation_dtype(), capacity);
    memory = backend.allocate(count.used());
    arena = model::Arena(memory->data(), memory->bytes());
    generator = std::make_unique<engine::Generator>(model, arena, capacity);
  }
  std::vector<engine::Completion> run(const std::vector<engine::GroupRequest>& requests) {
    std::vector<engine::GroupId> ids;
    for (const engine::GroupRequest& r : requests) ids.push_back(generator->add(r));
    const auto results = generator->run();
    std::vector<engine::Completion> out;
    for (const engine::GroupId id : ids) {
      out.insert(out.end(), results.at(id).begin(), results.at(id).end());
    }
    return out;
  }
  engine::GroupRequest request(std::vector<std::int32_t> prompt, std::int32_t tokens) const {
    engine::GroupRequest r;
    r.prompt = std::move(prompt);
    r.max_new_tokens = tokens;
    r.sampling.temperature = 0.0f;
    r.ignore_eos = true;
    r.adapter = adapter ? 0 : -1;
    return r;
  }
  model::Model model;
  std::unique_ptr<model::LoraAdapter> adapter;
  std::unique_ptr<Buffer> memory;
  model::Arena arena;
  std::unique_ptr<engine::Generator> generator;
};

// How far the likeliest token's logit is above the second's, for each token of a completion. From
// draws with top_k = 2: of a token that has the share s of the two, the distance is log(s / (1 -
// s)).
std::vector<double> gaps(Loaded& loaded, const std::vector<std::int32_t>& prompt,
                         const std::vector<std::int32_t>& completion) {
  std::vector<engine::GroupRequest> requests;
  std::vector<std::int32_t> ids = prompt;
  for (const std::int32_t id : completion) {
    engine::GroupRequest r = loaded.request(ids, 1);
    r.sampling.temperature = 1.0f;
    r.sampling.top_k = 2;
    requests.push_back(r);
    ids.push_back(id);
  }
  std::vector<double> out;
  for (const engine::Completion& c : loaded.run(requests)) {
    const double log_share = c.sampled_logprobs.front();
    out.push_back(std::abs(log_share - std::log(-std::expm1(log_share))));
  }
  return out;
}

// bf16 activations and weights through 2 or 3 blocks move these texts' log-probs by up to 0.016
// (measured; that bound is checked), so two logits keep their order when they are twice the bound
// apart.
constexpr double kLogprobBound = 0.03;
constexpr double kMargin = 2 * kLogprobBound;

TEST_CASE("cuda generate: the tiny models' greedy tokens are the CPU's") {
  const Backends backends = both_backends();
  if (!backends) return;
  struct Case {
    const char* folder;
    model::Quantize quantize;
    const char* adapter;
  };
  for (const Case& c :
       {Case{"tiny_qwen2", model::Quantize::none, ""}, Case{"tiny_qwen2", model::Quantize::nf4, ""},
        Case{"tiny_qwen2", model::Quantize::nf4, "lora/adapter"},
        Case{"tiny_qwen2_untied", model::Quantize::none, ""},
        Case{"tiny_qwen2_untied", model::Quantize::nf4, ""},
        Case{"tiny_qwen3", model::Quantize::nf4, "tiny_qwen3/lora/adapter"},
        Case{"tiny_llama3", model::Quantize::none, "tiny_llama3/lora/adapter"},
        Case{"tiny_mistral_yarn", model::Quantize::nf4, ""}}) {
    CAPTURE(std::string(c.folder));
    CAPTURE(std::string(c.adapter));
    const std::string adapter = *c.adapter == '\0' ? "" : vector_path(c.adapter);
    Loaded host(*backends.cpu, vector_path(c.folder), c.quantize, adapter);
    Loaded device(*backends.cuda, vector_path(c.folder), c.quantize, adapter);
    std::vector<engine::GroupRequest> candidates, requests;
    for (std::int32_t p = 0; p < 192; ++p) {
      std::vector<std::int32_t> prompt;
      for (std::int32_t i = 0; i < 3 + 2 * (p % 48); ++i)
        prompt.push_back((i * i * 37 + 11 * p) % 310);
      candidates.push_back(host.request(prompt, 10));
    }
    // Of the CPU's texts the first whose every token is likelier than the next one by the margin.
    constexpr std::size_t kTexts = 16;
    std::vector<engine::Completion> expected;
    const auto on_host = host.run(candidates);
    for (std::size_t i = 0; i < candidates.size() && requests.size() < kTexts; ++i) {
      const auto gap = gaps(host, candidates[i].prompt, on_host[i].ids);
      if (*std::min_element(gap.begin(), gap.end()) < kMargin) continue;
      requests.push_back(candidates[i]);
      expected.push_back(on_host[i]);
    }
    const auto found = device.run(requests);
    double worst = 0.0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      CHECK(found[i].ids == expected[i].ids);
      for (std::size_t t = 0; t < found[i].ids.size(); ++t) {
        const double d =
            std::abs(static_cast<double>(found[i].logprobs[t]) - expected[i].logprobs[t]);
        worst = std::max(worst, std::isnan(d) ? INFINITY : d);
      }
    }
    MESSAGE(fmt::format("{} {}: {} texts of 10 tokens equal, log-probs within {:.4f}", c.folder,
                        c.adapter, requests.size(), worst));
    CHECK(worst < kLogprobBound);
    CHECK(requests.size() >= 6);
  }
}

std::vector<std::string> generate_arguments(const std::string& device,
                                            const std::vector<std::string>& extra) {
  std::vector<std::string> out = {"generate",
                                  "--device",
                                  device,
                                  "--model",
                                  vector_path("tiny_qwen2"),
                                  "--adapter",
                                  vector_path("lora/adapter")};
  out.insert(out.end(), extra.begin(), extra.end());
  return out;
}

constexpr const char* kPrompts =
    "{\"ids\":[5,7,9]}\n"
    "{\"ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}\n"
    "{\"ids\":[300,2,99,18,77]}\n"
    "{\"ids\":[44]}\n";

TEST_CASE("cuda generate: the command's lines do not depend on batch, order of work or graphs") {
  if (!both_backends()) return;
  const std::vector<std::string> sampled = {"-n",      "2",   "--max-tokens",         "12",
                                            "--top-p", "0.9", "--repetition-penalty", "1.1",
                                            "--seed",  "3"};
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> extra = sampled;
    extra.insert(extra.end(), more.begin(), more.end());
    const auto result = run_qgrpo(generate_arguments("cuda", extra), kPrompts);
    INFO("standard error: ", result.err);
    REQUIRE(result.exit_code == 0);
    CHECK(result.err.empty());
    return result.out;
  };
  const std::string expected = run({});
  CHECK(std::count(expected.begin(), expected.end(), '\n') == 4);
  CHECK(run({"--batch-size", "2"}) == expected);  // one prompt at a time
  setenv("QGRPO_CUDA_GRAPHS", "0", 1);
  const std::string launched = run({});
  unsetenv("QGRPO_CUDA_GRAPHS");
  CHECK(launched == expected);
  // The software GPU delays and reorders what CUDA lets it (a real one does as it likes).
  const char* before = std::getenv("SOFTGPU_SCHEDULE");
  const std::string saved = before == nullptr ? "" : before;
  for (const char* seed : {"1", "2"}) {
    CAPTURE(std::string(seed));
    setenv("SOFTGPU_SCHEDULE", seed, 1);
    CHECK(run({}) == expected);
  }
  before == nullptr ? unsetenv("SOFTGPU_SCHEDULE") : setenv("SOFTGPU_SCHEDULE", saved.c_str(), 1);
}

TEST_CASE("cuda generate and chat: text with stop strings, and a conversation") {
  if (!both_backends()) return;
  const ScratchFolder folder;
  train::write_demo_tokenizer(folder.path(), 1);
  const auto tokenizer = tokenizer::load_tokenizer(folder.path());
  {
    const auto cpu = cpu::make_cpu_backend(1);
    model::Model::random(*cpu, train::demo_config(*tokenizer), WeightFormat::f32, WeightFormat::f32,
                         5)
        .save(folder.path());
  }
  struct Answer {
    std::string text;
    std::vector<std::int32_t> ids;
    std::string finish;
  };
  const auto generate = [&](std::vector<std::string> extra) {
    std::vector<std::string> all = {"generate",     "--device",   "cuda",   "--model",
                                    folder.path(),  "--quantize", "none",   "--ignore-eos",
                                    "--max-tokens", "24",         "--seed", "2"};
    all.insert(all.end(), extra.begin(), extra.end());
    const auto result = run_qgrpo(all, "{\"prompt\":\"How many apples are there?\"}\n");
    INFO("standard error: ", result.err);
    REQUIRE(result.exit_code == 0);
    io::JsonDocument document;
    const auto first = document.parse(result.out, "output").at("completions").as_array().front();
    return Answer{first.at("text").as_string(), first.at("ids").as_ids(),
                  first.at("finish_reason").as_string()};
  };
  const Answer plain = generate({});
  REQUIRE(plain.ids.size() == 24);
  CHECK(plain.finish == "length");
  // The text of a token in the middle of the first window ends the completion with that token.
  std::size_t at = 8;
  std::string stop;
  while (at + 1 < plain.ids.size()) {
    stop = tokenizer->decode(std::vector<std::int32_t>{plain.ids[at]}, true);
    if (!stop.empty() && static_cast<unsigned char>(stop[0]) < 0x80u) break;
    ++at;
  }
  const Answer stopped = generate({"--stop", stop});
  CHECK(stopped.finish == "stop");
  CHECK(stopped.text == plain.text.substr(0, plain.text.find(stop)));
  REQUIRE(stopped.ids.size() <= at + 1);
  CHECK(std::equal(stopped.ids.begin(), stopped.ids.end(), plain.ids.begin()));
  CHECK(tokenizer->decode(stopped.ids, true).find(stop) != std::string::npos);

  const auto chat = [&](std::vector<std::string> extra, const std::string& input) {
    std::vector<std::string> all = {"chat",        "--device",     "cuda", "--model",
                                    folder.path(), "--quantize",   "none", "--seed",
                                    "4",           "--max-tokens", "20"};
    all.insert(all.end(), extra.begin(), extra.end());
    const auto result = run_qgrpo(all, input);
    INFO("standard error: ", result.err);
    CHECK(result.exit_code == 0);
    return result.out;
  };
  const std::string once = chat({"--prompt", "How many?"}, "");
  CHECK(once.size() > 1);
  const std::string twice = chat({}, "How many?\nAnd now?\n");
  CHECK(twice.size() > once.size());
  CHECK(twice.starts_with(once));
}

TEST_CASE("cuda generate: a cache that the device cannot hold is refused with the figures") {
  if (!both_backends()) return;
  if (std::getenv("SOFTGPU_SMS") == nullptr) {
    fmt::print(stderr, "SKIPPED: {}: only the software GPU has as little memory as one likes\n",
               doctest::getContextOptions()->currentTest->m_name);
    return;
  }
  setenv("SOFTGPU_MEMORY_MIB", "200", 1);
  const auto result = run_qgrpo(generate_arguments("cuda", {"-n", "4096", "--max-tokens", "500"}),
                                "{\"ids\":[5,7,9]}\n");
  unsetenv("SOFTGPU_MEMORY_MIB");
  check_refused(result, 1, {"generation needs", "on the device", "--max-tokens"});
}

// The real 0.5B model, several minutes on the software GPU: where QGRPO_QWEN05 names its folder.
TEST_CASE("cuda generate: Qwen2.5-0.5B answers a question as the CPU does") {
  if (!both_backends()) return;
  const char* folder = std::getenv("QGRPO_QWEN05");
  if (folder == nullptr || *folder == '\0') {
    fmt::print(stderr, "SKIPPED: {} (set QGRPO_QWEN05 to the model's folder)\n",
               doctest::getContextOptions()->currentTest->m_name);
    return;
  }
  const std::string question =
      "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}\n";
  const auto answer = [&](const char* device) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = run_qgrpo({"generate", "--device", device, "--model", folder, "--quantize",
                                   "nf4", "--temperature", "0", "--max-tokens", "8"},
                                  question);
    INFO("standard error: ", result.err);
    REQUIRE(result.exit_code == 0);
    io::JsonDocument document;
    const auto completion =
        document.parse(result.out, "output").at("completions").as_array().front();
    MESSAGE(fmt::format(
        "{}: \"{}\" in {:.0f} s", device, completion.at("text").as_string(),
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
    return completion.at("ids").as_ids();
  };
  const auto host = answer("cpu"), device = answer("cuda");
  CHECK(host.size() >= 7);
  CHECK(device == host);  // the likeliest token is far ahead all along: a clear answer
}

}  // namespace
}  // namespace qgrpo::test
