#include <doctest/doctest.h>

#include <map>

#include "cpu/backend.h"
#include "cuda/sizes/sizes.h"
#include "model/io/bytes.h"
#include "train/grpo/plan.h"

using namespace qgrpo;
using namespace qgrpo::train;

namespace {

model::LoraConfig lora_of(const TrainOptions& o) {
  model::LoraConfig lora;
  lora.r = o.lora.lora_r;
  lora.lora_alpha = o.lora.lora_alpha;
  return lora;
}

// The notebook's job: Qwen2.5-3B in NF4, r = 64 on all linears, 8 completions of up to 512 tokens
// for a prompt of up to 256.
MemoryPlan notebook(double gigabytes, TrainOptions o = {}) {
  o.memory.device_memory_gb = gigabytes;
  const auto sizes = cuda::make_cuda_sizes();
  return make_plan(o, model::named_shape("qwen2.5-3b"), lora_of(o), *sizes, WeightFormat::nf4,
                   WeightFormat::bf16, memory_budget(o.memory, std::nullopt, 0));
}

std::map<std::string, std::size_t> by_name(const MemoryPlan& plan) {
  std::map<std::string, std::size_t> out;
  for (const auto& region : plan.regions) out[region.name] = region.bytes;
  return out;
}

}  // namespace

TEST_CASE("plan: the notebook's job on a GPU, planned without one") {
  std::int64_t kept = -1;
  for (const double gigabytes : {16.0, 24.0, 40.0, 80.0}) {
    CAPTURE(gigabytes);
    const MemoryPlan plan = notebook(gigabytes);
    CHECK(static_cast<double>(plan.total_bytes) <= 0.9e9 * gigabytes);
    CHECK(plan.shares_prompt);
    CHECK(plan.pass.offloaded_layers == 0);
    CHECK(plan.pass.kept_layers > kept);  // more memory, fewer blocks computed twice
    kept = plan.pass.kept_layers == 36 ? 35 : plan.pass.kept_layers;
    std::size_t sum = 0;
    std::size_t allocated = 0;
    for (const auto& region : plan.regions) {
      if (region.kind != PlanRegion::Kind::host) sum += region.bytes;
      if (region.kind == PlanRegion::Kind::allocated) allocated += region.bytes;
    }
    CHECK(sum == plan.total_bytes);
    CHECK(allocated == plan.allocated_bytes);
    CHECK(plan.host_bytes < 1000000);  // the windows of sampling alone
  }
  CHECK(notebook(80).pass.kept_layers == 36);
}

TEST_CASE("plan: what the regions of the notebook's job must be") {
  const MemoryPlan plan = notebook(24);
  const auto regions = by_name(plan);
  // 36 blocks of 77,070,336 weights at 4.127 bits and a tied embedding of 151,936 x 2048 in bf16.
  const double linears = 36.0 * 77070336 * 4.127 / 8;
  const double embedding = 151936.0 * 2048 * 2;
  CHECK(static_cast<double>(regions.at("base weights")) ==
        doctest::Approx(linears + embedding).epsilon(0.002));
  // 119.7 M factors: masters of 4 bytes and shadows of 2; gradients of 4; two moments of 1 byte
  // and two scales of 4 for each 256.
  CHECK(plan.trained_parameters == 119734272);
  const double n = 119734272;
  CHECK(static_cast<double>(regions.at("LoRA")) == doctest::Approx(6 * n).epsilon(1e-4));
  CHECK(static_cast<double>(regions.at("gradients")) == doctest::Approx(4 * n).epsilon(1e-4));
  CHECK(static_cast<double>(regions.at("optimizer")) ==
        doctest::Approx(2 * n * (1 + 4.0 / 256)).epsilon(1e-3));
  // The cache of 8 completions behind one prompt: 36,864 bytes a token.
  CHECK(plan.sampling_bytes > static_cast<std::size_t>(36864) * (256 + 8 * 512));
  CHECK(regions.at("CUDA runtime") > 0);
  std::size_t parts = 0;
  for (const auto& part : plan.scratch) parts += part.bytes;
  CHECK(parts <= regions.at("workspace"));
  CHECK(parts + 256 * plan.scratch.size() >= regions.at("workspace"));
}

TEST_CASE("plan: what does not fit keeps less on the device, then is refused with the figure") {
  // Down from 24 GB: first fewer blocks keep activations, then inputs leave the device, then the
  // micro-batch shrinks, and then it ends.
  bool offloaded = false;
  bool cut = false;
  std::size_t last_total = 0;
  double gigabytes = 24;
  std::string message;
  for (; gigabytes > 2; gigabytes -= 0.125) {
    CAPTURE(gigabytes);
    try {
      const MemoryPlan plan = notebook(gigabytes);
      CHECK(static_cast<double>(plan.total_bytes) <= 0.9e9 * gigabytes);
      CHECK((plan.pass.kept_layers == 0 || plan.pass.offloaded_layers == 0));
      if (plan.pass.offloaded_layers > 0) {
        offloaded = true;
        const std::size_t windows = cuda::make_cuda_sizes()->pinned_bytes(plan.workspace);
        CHECK(plan.host_bytes == windows + static_cast<std::size_t>(plan.pass.offloaded_layers) *
                                               static_cast<std::size_t>(plan.pass.tokens) * 2048 *
                                               2);
      }
      cut = cut || !plan.shares_prompt;
      last_total = plan.total_bytes;
    } catch (const Error& error) {
      message = error.what();
      break;
    }
  }
  CHECK(offloaded);
  CHECK(cut);
  CHECK(message.find("--max-completion-length") != std::string::npos);
  CHECK(message.find(io::format_bytes(static_cast<std::size_t>(0.9e9 * gigabytes))) !=
        std::string::npos);
  // What is refused is really more than the last that fitted was allowed.
  CHECK(last_total <= static_cast<std::size_t>(0.9e9 * (gigabytes + 0.125)));

  TrainOptions dense;
  dense.base.quantize = model::Quantize::none;
  dense.memory.device_memory_gb = 6;
  const auto sizes = cuda::make_cuda_sizes();
  CHECK_THROWS_WITH_AS(
      make_plan(dense, model::named_shape("qwen2.5-3b"), lora_of(dense), *sizes, WeightFormat::bf16,
                WeightFormat::bf16, memory_budget(dense.memory, std::nullopt, 0)),
      doctest::Contains("--quantize nf4"), Error);
}

TEST_CASE("plan: several prompts are sampled at once as far as memory goes") {
  TrainOptions o;
  o.batch.prompts_per_step = 16;
  CHECK(notebook(80, o).groups_at_once == 16);
  const MemoryPlan small = notebook(7, o);
  CHECK(small.groups_at_once < 16);
  CHECK(small.groups_at_once >= 1);
  CHECK(small.generator.max_sequences == small.groups_at_once * o.sampling.num_generations);
  // Short groups share a micro-batch.
  o.prompt.max_prompt_length = 64;
  o.sampling.max_completion_length = 48;
  const MemoryPlan many = notebook(24, o);
  CHECK(many.pass.tokens > 2 * many.group_tokens);
  CHECK(many.pass.tokens <= 4096);
}

TEST_CASE("plan: without a reference pass its residual stream is not there") {
  TrainOptions o;
  o.memory.micro_batch_tokens = 4352;
  o.memory.gradient_checkpointing = false;
  const MemoryPlan with = notebook(80, o);
  o.objective.beta = 0.0;
  const MemoryPlan without = notebook(80, o);
  CHECK(with.training_bytes - without.training_bytes == std::size_t{4352} * 2048 * 2);
}

TEST_CASE("plan: what the backend prefers decides the rows of a step") {
  CHECK(notebook(80).generator.max_tokens == cuda::kPreferences.prefill_rows);
  TrainOptions o;
  o.memory.device_memory_gb = 80;
  const auto host = cpu::make_cpu_backend(1);
  const MemoryPlan plan =
      make_plan(o, model::named_shape("qwen2.5-3b"), lora_of(o), *host, WeightFormat::nf4,
                WeightFormat::bf16, memory_budget(o.memory, std::nullopt, 0));
  CHECK(plan.generator.max_tokens == host->preferences().prefill_rows);
}

TEST_CASE("plan: B is copied for decoding only where kernels need its rows padded") {
  const auto copies_b = [](std::int64_t rank) {
    TrainOptions o;
    o.lora.lora_r = rank;
    const MemoryPlan plan = notebook(80, o);
    CHECK(plan.workspace.lora_ranks == std::vector<std::int64_t>{rank});
    for (const NamedBytes& part : plan.scratch) {
      if (part.name == "linear: LoRA's B as bf16") return part.bytes > 0;
    }
    FAIL("no such part");
    return false;
  };
  CHECK_FALSE(copies_b(64));
  CHECK(copies_b(60));
}

TEST_CASE("plan: the budget is what is given, else what is free") {
  TrainOptions o;
  o.memory.gpu_memory_utilization = 0.5;
  CHECK(memory_budget(o.memory, std::size_t{1000}, 0).bytes == 500);
  CHECK_FALSE(memory_budget(o.memory, std::size_t{1000}, 0).soft);
  CHECK(memory_budget(o.memory, std::nullopt, 100).soft);
  o.memory.device_memory_gb = 2;
  CHECK(memory_budget(o.memory, std::size_t{1000}, 0).bytes == 1000000000);
}

TEST_CASE("plan: lengths that were not given fit the model, and that is said") {
  const model::Config config = model::named_shape("demo");  // 512 positions
  REQUIRE(config.max_position_embeddings == 512);
  TrainOptions o;  // 256 and 512
  CHECK(fit_lengths(o, config) ==
        "the model has 512 positions: --max-completion-length is 256 instead of 512");
  CHECK(o.prompt.max_prompt_length == 256);
  CHECK(o.sampling.max_completion_length == 256);
  CHECK(fit_lengths(o, config).empty());

  TrainOptions completion;
  completion.sampling.max_completion_length = 500;
  completion.run.given = {"max_completion_length"};
  CHECK(fit_lengths(completion, config) ==
        "the model has 512 positions: --max-prompt-length is 12 instead of 256");
  TrainOptions prompt;
  prompt.prompt.max_prompt_length = 400;
  prompt.run.given = {"max_prompt_length"};
  CHECK(fit_lengths(prompt, config) ==
        "the model has 512 positions: --max-completion-length is 112 instead of 512");
  TrainOptions both;
  both.run.given = {"max_prompt_length", "max_completion_length"};
  CHECK_THROWS_WITH_AS(fit_lengths(both, config),
                       "--max-prompt-length (256) + --max-completion-length (512) is more than the "
                       "model's 512 positions; lower one of them",
                       Error);
  TrainOptions real;
  CHECK(fit_lengths(real, model::named_shape("qwen2.5-0.5b")).empty());
  CHECK(real.sampling.max_completion_length == 512);
}

TEST_CASE("plan: on a CPU, the memory that may be used is what is free") {
  const auto backend = cpu::make_cpu_backend(1);
  const auto text = [&](const char* shape, const TrainOptions& o = {}) {
    const MemoryPlan plan =
        make_plan(o, model::named_shape(shape), lora_of(o), *backend, WeightFormat::nf4,
                  WeightFormat::bf16, memory_budget(o.memory, std::nullopt, 24000000000u));
    CHECK(plan.total_bytes <= plan.budget_bytes);
    return format_plan(plan, o);
  };
  CHECK(text("qwen2.5-7b")
            .find("of 21.60 GB that may be used; it would keep to 3.22 GB, but cannot "
                  "do with less") != std::string::npos);
  CHECK(text("qwen2.5-0.5b")
            .find("of 21.60 GB that may be used; it keeps to 3.22 GB (more: "
                  "--device-memory)") != std::string::npos);
  TrainOptions given;
  given.memory.device_memory_gb = 10;
  CHECK(text("qwen2.5-0.5b", given).find("of 9.00 GB that may be used\n") != std::string::npos);
}
