#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/rng.h"
#include "support/earlier_state.h"
#include "train/demo/model.h"
#include "train/grpo/trainer.h"

// A small model with data, and runs of the GrpoTrainer on it.
namespace qgrpo::train {

namespace fs = std::filesystem;

// The demo's model after a short cold start: it knows the format a little, so rewards differ and
// there is something to learn. Made once for all tests, in a folder of its own.
inline const std::string& short_demo_model() {
  struct Folder {
    std::string path =
        (fs::temp_directory_path() / fmt::format("qgrpo-trainer-model-{}", getpid())).string();
    Folder() {
      SftOptions sft = demo_sft_options();
      sft.max_steps = 120;
      prepare_demo(*cpu::make_cpu_backend(2), path, 1, {}, sft);
    }
    ~Folder() { fs::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

class Fixture {
 public:
  Fixture()
      : folder_((fs::temp_directory_path() / fmt::format("qgrpo-trainer-{}", getpid())).string()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~Fixture() { fs::remove_all(folder_); }

  std::string model() const { return short_demo_model(); }
  TrainOptions options(const std::string& output) const {
    TrainOptions o;
    o.base.model = model();
    o.data.dataset = {model() + "/train.jsonl"};
    o.base.quantize = model::Quantize::nf4;
    o.run.output_dir = folder_ + "/" + output;
    o.prompt.system_prompt = "";
    o.sampling.num_generations = 4;
    o.batch.prompts_per_step = 2;
    o.sampling.max_completion_length = 24;
    o.prompt.max_prompt_length = 48;
    o.run.max_steps = 6;
    o.lora.lora_r = 4;
    o.lora.lora_alpha = 8;
    o.optimizer.learning_rate = 1e-3;
    o.run.logging_steps = 1000;
    o.sample_steps = 0;
    return o;
  }

 private:
  std::string folder_;
};

inline std::vector<io::JsonValue> lines_of(
    const std::string& path, std::vector<std::unique_ptr<io::JsonDocument>>& documents) {
  std::ifstream file(path);
  std::vector<io::JsonValue> out;
  for (std::string line; std::getline(file, line);) {
    documents.push_back(std::make_unique<io::JsonDocument>());
    out.push_back(documents.back()->parse(line, path));
  }
  return out;
}

inline bool same_file(const std::string& a, const std::string& b) {
  return io::read_file(a) == io::read_file(b);
}

// Groups of random tokens with set advantages, sampled by nobody.
inline std::vector<Group> random_groups(std::int64_t vocab, std::uint32_t key) {
  Rng rng(11, RngStream::test, key);
  std::vector<Group> groups(2);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::uint32_t i = 0; i < 5 + 66 * g; ++i) {
      groups[g].prompt_ids.push_back(
          static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(vocab))));
    }
    for (const std::uint32_t length : {1u, 9u, 4u, 70u}) {
      GroupCompletion c;
      for (std::uint32_t i = 0; i < length; ++i) {
        c.ids.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(vocab))));
      }
      c.advantage = rng.normal();
      groups[g].completions.push_back(c);
    }
  }
  return groups;
}

}  // namespace qgrpo::train
