#include "cuda/device/device.h"
#include "cuda/sizes/sizes.h"
#include "engine/generator_cases.h"
#include "engine/owned_generator.h"
#include "model/workspace.h"
#include "train/grpo/trl_scenarios.h"
#include "train_support.h"

// The memory plan against what the device's allocator then says.
namespace qgrpo::test {
namespace {

std::size_t free_memory() {
  std::size_t available = 0, total = 0;
  QGRPO_CUDA(cudaMemGetInfo(&available, &total));
  return available;
}

// Whether the device's own figure counts bytes, as the software GPU's does; a real one gives memory
// in pages of 2 MiB.
bool counts_bytes() {
  const std::size_t before = free_memory();
  const qgrpo::cuda::DeviceMemory one(1);
  return before - free_memory() == 1;
}

// Device memory in use since it was made, by the program's count and by the device's.
class Used {
 public:
  Used() : exact_(counts_bytes()), bytes_(qgrpo::cuda::device_use().bytes), free_(free_memory()) {}
  std::size_t bytes() const {
    const std::size_t used = qgrpo::cuda::device_use().bytes - bytes_;
    if (exact_) CHECK(free_ - free_memory() == used);
    return used;
  }

 private:
  bool exact_;
  std::size_t bytes_;
  std::size_t free_;
};

std::vector<std::int32_t> on_host(const std::int32_t* device, std::size_t count) {
  std::vector<std::int32_t> out(count);
  QGRPO_CUDA(cudaMemcpy(out.data(), device, count * sizeof(out[0]), cudaMemcpyDeviceToHost));
  return out;
}

}  // namespace

TEST_CASE("cuda memory: slots lie in the reserved memory, and take no more than was planned") {
  if (!both_backends()) return;
  using qgrpo::cuda::Slot;
  qgrpo::cuda::Device device;
  qgrpo::cuda::SlotBytes slots{};
  slots[static_cast<std::size_t>(Slot::sums)] = 400;
  slots[static_cast<std::size_t>(Slot::low)] = 256;
  const Used used;
  {
    device.reserve(1024, slots);
    CHECK(used.bytes() == 1024 + 512 + 256);
    const auto* sums = device.scratch<std::byte>(Slot::sums, 400);
    const auto* low = device.scratch<std::byte>(Slot::low, 1);
    CHECK((low - sums == 512 || sums - low == 256));
    CHECK(device.scratch<std::byte>(Slot::sums, 7) == sums);
    CHECK_THROWS_WITH_AS(device.scratch<std::byte>(Slot::sums, 401),
                         doctest::Contains("\"sums\" needs 401 bytes, 400 were planned"), Error);
    CHECK_THROWS_AS(device.scratch<std::byte>(Slot::hidden, 1), Error);
    // Matrices: parts of theirs while it lasts.
    const auto first = device.take_weight(700);
    const auto second = device.take_weight(256);
    CHECK(static_cast<std::byte*>(second.data()) - static_cast<std::byte*>(first.data()) == 768);
    CHECK(used.bytes() == 1024 + 512 + 256);
    const auto third = device.take_weight(1);
    CHECK(used.bytes() == 1024 + 512 + 256 + 1);
  }
  // Another reservation replaces the first; nothing of it is kept alive.
  const std::uint64_t generation = device.scratch_generation();
  device.reserve(256, slots);
  CHECK(device.scratch_generation() > generation);
  CHECK(used.bytes() == 256 + 512 + 256);
}

TEST_CASE("cuda memory: a list is copied again when another has taken its slot") {
  if (!both_backends()) return;
  qgrpo::cuda::Device device;
  qgrpo::cuda::DeviceArray<std::int32_t> a(qgrpo::cuda::Slot::tokens);
  qgrpo::cuda::DeviceArray<std::int32_t> b(qgrpo::cuda::Slot::tokens);
  const std::vector<std::int32_t> first = {1, 2, 3}, second = {4, 5, 6}, longer(500, 7);
  const auto upload = [&](auto& array, const std::vector<std::int32_t>& values) {
    const std::int32_t* data = array.upload(device, std::span<const std::int32_t>(values));
    device.stream().synchronize();
    return on_host(data, values.size());
  };
  CHECK(upload(a, first) == first);
  CHECK(upload(b, second) == second);
  CHECK(upload(a, first) == first);
  CHECK(upload(b, longer) == longer);  // the slot moves
  CHECK(upload(a, first) == first);
}

TEST_CASE("cuda memory: dequantized matrices are found again while nothing has taken their place") {
  if (!both_backends()) return;
  using qgrpo::cuda::Slot;
  qgrpo::cuda::Device device;
  qgrpo::cuda::SlotBytes slots{};
  slots[static_cast<std::size_t>(Slot::weight)] = 1024;
  device.reserve(0, slots);
  const auto filled = [&](std::uint64_t id, std::size_t bytes) {
    return device.take_dense(id, bytes).filled;
  };
  CHECK_FALSE(filled(1, 256));
  CHECK_FALSE(filled(2, 500));
  CHECK(filled(1, 256));
  CHECK(filled(2, 500));
  CHECK(device.take_dense(2, 500).data != device.take_dense(1, 256).data);
  CHECK_FALSE(filled(3, 300));  // from the beginning again: over 1 and a part of 2
  CHECK_FALSE(filled(2, 500));  // behind 3
  CHECK(filled(3, 300));
  CHECK_FALSE(filled(1, 256));
  CHECK_FALSE(filled(3, 300));
  CHECK(filled(3, 300));
  device.scratch<std::byte>(Slot::weight, 8);  // an operator writes there
  CHECK_FALSE(filled(3, 300));
  CHECK(filled(3, 300));
  device.set_few_rows(true);  // a recorded step may
  device.set_few_rows(false);
  CHECK_FALSE(filled(3, 300));
  CHECK_THROWS_AS(filled(4, 1025), Error);

  qgrpo::cuda::Device grows;
  CHECK_FALSE(grows.take_dense(1, 256).filled);
  CHECK(grows.take_dense(1, 256).filled);
  CHECK_FALSE(grows.take_dense(2, 512).filled);
  CHECK_FALSE(grows.take_dense(1, 256).filled);
}

TEST_CASE("cuda memory: a run takes what the plan says, to the byte, and nothing more later") {
  if (!both_backends()) return;
  const RunFolder folder;
  struct Case {
    const char* name;
    void (*change)(train::TrainOptions&);
  };
  const Case cases[] = {
      {"as it is", [](train::TrainOptions&) {}},
      {"dense", [](train::TrainOptions& o) { o.base.quantize = model::Quantize::none; }},
      {"no reference, 32-bit states",
       [](train::TrainOptions& o) {
         o.objective.beta = 0.0;
         o.optimizer.optim = train::OptimizerKind::adamw_torch;
         o.sampling.repetition_penalty = 1.1;
       }},
      {"a completion a micro-batch",
       [](train::TrainOptions& o) { o.memory.micro_batch_tokens = 64; }},
      {"odd sizes",
       [](train::TrainOptions& o) {
         o.sampling.num_generations = 3;
         o.batch.prompts_per_step = 3;
         o.sampling.max_completion_length = 13;
         o.prompt.max_prompt_length = 41;
         o.lora.lora_r = 24;
         o.lora.lora_target_modules = {"q_proj", "down_proj"};
       }},
  };
  {
    // The kernels' own variables are loaded with the first launches.
    train::TrainOptions first = small_run(folder / "first");
    first.run.max_steps = 1;
    train::GrpoTrainer(first, *qgrpo::cuda::make_cuda_backend()).run();
  }
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    train::TrainOptions options = small_run(folder / c.name);
    options.run.max_steps = 1;
    c.change(options);
    const auto backend = qgrpo::cuda::make_cuda_backend();
    const Used used;
    train::GrpoTrainer trainer(options, *backend);
    CHECK(used.bytes() == trainer.plan().allocated_bytes);
    const std::uint64_t allocations = qgrpo::cuda::device_use().allocations;
    trainer.run();
    CHECK(qgrpo::cuda::device_use().allocations == allocations);
    CHECK(used.bytes() == trainer.plan().allocated_bytes);
    // The backend plans as the planner without a device does.
    const auto sizes = qgrpo::cuda::make_cuda_sizes();
    CHECK(sizes->workspace_bytes(trainer.plan().workspace) ==
          backend->workspace_bytes(trainer.plan().workspace));
  }
}

TEST_CASE("cuda memory: sampling alone takes what the shape of model and generator says") {
  if (!both_backends()) return;
  for (const std::int64_t rank : {0, 8, 12}) {
    CAPTURE(rank);
    const auto backend = qgrpo::cuda::make_cuda_backend();
    const model::Config config = tiny_config();
    model::LoraConfig lora = tiny_lora();
    lora.r = rank;
    const std::vector<std::int64_t> ranks =
        rank > 0 ? model::lora_ranks(config, lora) : std::vector<std::int64_t>{};
    engine::GeneratorLoad load;
    load.sequences = 6;
    load.samples = 3;
    load.group_blocks = engine::most_blocks_of_group(30, 20, load.samples, engine::kBlockSize);
    const auto capacity = engine::generator_capacity(*backend, load);
    CHECK(capacity.max_tokens == qgrpo::cuda::kPreferences.prefill_rows);
    WorkspaceShape shape = model::workspace_shape(config, WeightFormat::nf4, ranks);
    engine::include_rollout(shape, capacity, 50);
    const auto matrices =
        model::model_bytes(*backend, config, WeightFormat::nf4, WeightFormat::bf16).matrices;
    const Used used;
    backend->reserve(matrices, shape);
    CHECK(used.bytes() == matrices + backend->workspace_bytes(shape));

    auto model =
        model::Model::random(*backend, config, WeightFormat::nf4, WeightFormat::bf16, /*seed=*/7);
    std::optional<model::LoraAdapter> adapter;
    if (rank > 0) {
      adapter.emplace(model::LoraAdapter::create(*backend, config, lora, 3));
      model.set_adapters({&*adapter});
    }
    CHECK(model::lora_ranks(model) == ranks);
    engine::OwnedGenerator generator(model, capacity);
    const std::uint64_t allocations = qgrpo::cuda::device_use().allocations;
    for (const std::int32_t length : {30, 17, 3}) {
      engine::GroupRequest request;
      request.prompt.assign(static_cast<std::size_t>(length), 5);
      request.samples = 3;
      request.max_new_tokens = 20;
      request.sampling.repetition_penalty = 1.1f;
      request.ignore_eos = true;
      request.adapter = rank > 0 ? 0 : -1;
      generator->add(request);
    }
    CHECK(generator->run().size() == 3);
    CHECK(qgrpo::cuda::device_use().allocations == allocations);
  }
}

TEST_CASE(
    "cuda memory: blocks' inputs leave the device where the plan says so, and change no bit") {
  if (!both_backends()) return;
  const RunFolder folder;
  io::JsonDocument document;
  const auto root = document.parse_file(vector_path("e2e_grpo/expected.json"));
  const auto scenario = root.at("scenarios").as_array()[0];
  write_replay(folder / "groups.jsonl", root, scenario);
  train::TrainOptions options =
      scenario_options(scenario, folder / "groups.jsonl", folder / "much");
  options.base.quantize = model::Quantize::nf4;
  options.memory.micro_batch_tokens =
      4000;  // so that training needs more of the pool than sampling
  options.memory.gpu_memory_utilization = 1.0;
  const auto backend = qgrpo::cuda::make_cuda_backend();
  train::GrpoTrainer much(options, *backend);
  CHECK(much.plan().pass.kept_layers == 3);
  const std::string expected = much.run();

  // Down to the least that the run can do with: all three inputs wait in the host's memory, where
  // two buffers on the device serve them.
  options.run.output_dir = folder / "little";
  options.run.overwrite_output_dir = true;
  const auto other = qgrpo::cuda::make_cuda_backend();
  std::unique_ptr<train::GrpoTrainer> little;
  for (std::size_t bytes = much.plan().total_bytes - 1; !little;) {
    options.memory.device_memory_gb = static_cast<double>(bytes) / 1e9;
    little = std::make_unique<train::GrpoTrainer>(options, *other);
    bytes = little->plan().total_bytes - 1;
    if (little->plan().pass.offloaded_layers == 0) little.reset();
  }
  CHECK(little->plan().pass.offloaded_layers == 3);
  CHECK(little->plan().allocated_bytes < much.plan().allocated_bytes);
  CHECK(same_file(expected + "/adapter_model.safetensors",
                  little->run() + "/adapter_model.safetensors"));
}

TEST_CASE("cuda memory: a plan for more than is free is refused before anything is loaded") {
  if (!both_backends()) return;
  const RunFolder folder;
  train::TrainOptions options = small_run(folder / "run");
  options.sampling.num_generations = 65536;  // more than any device has
  options.sampling.max_completion_length = 460;
  const auto backend = qgrpo::cuda::make_cuda_backend();
  const Used used;
  options.memory.device_memory_gb = 10000;
  CHECK_THROWS_WITH_AS(train::GrpoTrainer(options, *backend), doctest::Contains("are free"), Error);
  options.memory.device_memory_gb = 0.5;
  CHECK_THROWS_WITH_AS(train::GrpoTrainer(options, *backend), doctest::Contains("--device-memory"),
                       Error);
  CHECK(used.bytes() == 0);
}

}  // namespace qgrpo::test
