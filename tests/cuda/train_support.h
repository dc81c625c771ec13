#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cuda/device_support.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "train/demo/model.h"
#include "train/grpo/trainer.h"

// Whole training runs on both backends, in a folder that is removed afterwards.
namespace qgrpo::test {

// The demo's model after a short cold start on the CPU, made once for all tests: it knows the
// format a little, so rewards differ and there is something to learn.
inline const std::string& short_demo_model() {
  struct Folder {
    std::string path =
        (std::filesystem::temp_directory_path() / fmt::format("qgrpo-cuda-model-{}", getpid()))
            .string();
    Folder() {
      train::SftOptions sft = train::demo_sft_options();
      sft.max_steps = 300;
      train::prepare_demo(*qgrpo::cpu::make_cpu_backend(2), path, 1, {}, sft);
    }
    ~Folder() { std::filesystem::remove_all(path); }
  };
  static const Folder folder;
  return folder.path;
}

class RunFolder {
 public:
  RunFolder()
      : path_((std::filesystem::temp_directory_path() / fmt::format("qgrpo-cuda-run-{}", getpid()))
                  .string()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~RunFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A small run on the demo's model: 2 prompts x 4 completions of up to 16 tokens a step.
inline train::TrainOptions small_run(const std::string& output) {
  train::TrainOptions o;
  o.base.model = short_demo_model();
  o.data.dataset = {short_demo_model() + "/train.jsonl"};
  o.base.quantize = model::Quantize::nf4;
  o.run.output_dir = output;
  o.prompt.system_prompt = "";
  o.sampling.num_generations = 4;
  o.batch.prompts_per_step = 2;
  o.sampling.max_completion_length = 16;
  o.prompt.max_prompt_length = 48;
  o.run.max_steps = 2;
  o.lora.lora_r = 8;
  o.lora.lora_alpha = 16;
  o.optimizer.learning_rate = 1e-3;
  o.run.logging_steps = 1000;
  o.sample_steps = 0;
  return o;
}

// The lines of a run's metrics.jsonl or completions.jsonl.
class Log {
 public:
  explicit Log(const std::string& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      documents_.push_back(std::make_unique<io::JsonDocument>());
      lines_.push_back(documents_.back()->parse(line, path));
    }
  }
  std::size_t size() const { return lines_.size(); }
  const io::JsonValue& operator[](std::size_t i) const { return lines_.at(i); }
  double number(std::size_t i, const char* key) const { return lines_.at(i).at(key).as_double(); }

 private:
  std::vector<std::unique_ptr<io::JsonDocument>> documents_;
  std::vector<io::JsonValue> lines_;
};

inline bool same_file(const std::string& a, const std::string& b) {
  return io::read_file(a) == io::read_file(b);
}

}  // namespace qgrpo::test
