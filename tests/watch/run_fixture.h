#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "model/io/json.h"

namespace qgrpo::watch::test {

// A run's folder that a test writes as a run would.
class Folder {
 public:
  Folder()
      : path_((std::filesystem::temp_directory_path() / ("qgrpo-watch-" + std::to_string(getpid())))
                  .string()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }
  void append(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary | std::ios::app) << text;
  }

 private:
  std::string path_;
};

struct Completion {
  std::int64_t step = 1;
  std::string prompt = "1 + 1?";
  std::string text = "2";
  double reward = 0.0;
  double advantage = 0.0;
  double correctness = 0.0;
  bool terminated = true;

  std::string line() const {
    io::JsonWriter w;
    w.begin_object();
    w.member("step", step);
    w.member("prompt", prompt);
    w.member("completion", text);
    w.member("answer", "2");
    w.member("correctness", correctness);
    w.member("reward", reward);
    w.member("advantage", advantage);
    w.member("length", std::int64_t{3});
    w.member("terminated", terminated);
    w.end_object();
    return w.str() + "\n";
  }
};

inline std::string metric_line(std::int64_t step, double reward) {
  return "{\"step\": " + std::to_string(step) + ", \"reward\": " + io::json_number(reward) +
         ", \"step_time\": 2}\n";
}

}  // namespace qgrpo::watch::test
