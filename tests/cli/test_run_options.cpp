#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/program.h"

// The options of small runs through the program: what the run's folder says of them repeats the
// run, and what a resume takes and refuses.
namespace qgrpo::test {
namespace {

using Arguments = std::vector<std::string>;

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string line_of(const std::string& text, const std::string& key) {
  const std::size_t at = text.find("\n" + key + " = ");
  if (at == std::string::npos) return "";
  return text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

std::string without(std::string text, const std::string& line) {
  const std::size_t at = text.find(line);
  return at == std::string::npos ? text : text.erase(at, line.size());
}

// `again`: the folder of the run after its first step; `two_steps`: the adapter after the second.
void check_resume_alone(const ScratchFolder& folder, const Arguments& run, const std::string& again,
                        const std::string& two_steps) {
  const std::string& command = run.front();
  // The run knows its own options: its folder, or a checkpoint of it, is all that it takes.
  for (const std::string& from : {again, again + "/", again + "/checkpoint-1"}) {
    CAPTURE(from);
    std::filesystem::remove_all(again + "/checkpoint-2");
    const auto alone = run_qgrpo({command, "--resume", from, "--max-steps", "2"});
    INFO(alone.err);
    CHECK(alone.exit_code == 0);
    CHECK(read_text(again + "/checkpoint-2/adapter_model.safetensors") == two_steps);
  }
  CHECK(run_qgrpo({command, "--resume", "--output-dir", again}).exit_code == 0);
  CHECK_FALSE(std::filesystem::exists(again + "/demo"));
  check_refused(run_qgrpo({command, "--resume", again, "--lora-r", "8"}), 1,
                {"was made with lora_r = 4, but this run has 8"});
  check_refused(run_qgrpo({command, "--resume", again + "/checkpoint-9"}), 1,
                {"checkpoint-9: is not a folder", again + " (up to step 2)"});
  check_refused(run_qgrpo({command, "--resume", folder.path("model")}), 1,
                {"neither a checkpoint", again + " (up to step 2)"});
  check_refused(run_qgrpo({command, "--resume", "--output-dir", folder.path("none")}), 1,
                {"none: has no checkpoint to resume from", again + " (up to step 2)"});
  check_refused(run_qgrpo({command == "sft" ? "train" : "sft", "--resume", again}), 1,
                {"is no checkpoint of qgrpo"});
  std::filesystem::remove(again + "/config.toml");
  check_refused(run_qgrpo({command, "--resume", again}), 1, {"has no config.toml"});
  CHECK(run_qgrpo(with(run, {"--output-dir", again, "--resume", "--max-steps", "2"})).exit_code ==
        0);
}

// `output`: the folder of a run with two checkpoints, which is removed.
void check_start_from_adapter(const ScratchFolder& folder, const Arguments& run,
                              const std::string& output) {
  const std::string& command = run.front();
  // An adapter brings its own shape, and is a part of the run.
  const std::string third = folder.path("third");
  const Arguments onward =
      with(run, {"--output-dir", third, "--adapter", output + "/checkpoint-1"});
  check_refused(run_qgrpo(with(onward, {"--lora-r", "8"})), 1,
                {"--lora-r: the adapter " + output + "/checkpoint-1 was made with 4"});
  REQUIRE(run_qgrpo(with(onward, {"--max-steps", "1"})).exit_code == 0);
  CHECK(line_of(read_text(third + "/config.toml"), "lora_r") == "lora_r = 4");
  check_refused(run_qgrpo({command, "--resume", third, "--max-steps", "2", "--adapter",
                           output + "/checkpoint-2"}),
                1, {"was made with adapter = " + output + "/checkpoint-1", "but this run has"});
  std::filesystem::remove_all(output);
  CHECK(run_qgrpo({command, "--resume", third, "--max-steps", "2"}).exit_code == 0);
}

// `run`: a command with its options but for --output-dir, --max-steps and --lora-r.
void check_run(const ScratchFolder& folder, const Arguments& run) {
  const std::string output = folder.path("first");
  const Arguments first = with(run, {"--output-dir", output});
  REQUIRE(run_qgrpo(with(first, {"--max-steps", "1", "--lora-r", "4"})).exit_code == 0);

  const std::string config = read_text(output + "/config.toml");
  CHECK(line_of(config, "lora_r") == "lora_r = 4");
  CHECK(line_of(config, "max_steps") == "max_steps = 1");
  CHECK(line_of(config, "output_dir") == "output_dir = \"" + output + "\"");
  CHECK(line_of(config, "resume") == "");
  CHECK(read_text(output + "/run.json").find("\"use_rslora\": \"false\"") != std::string::npos);
  const std::string again = folder.path("again");
  REQUIRE(run_qgrpo({run.front(), "--config", output + "/config.toml", "--output-dir", again})
              .exit_code == 0);
  const std::string repeated = read_text(again + "/config.toml");
  CHECK(without(repeated, line_of(repeated, "output_dir")) ==
        without(config, line_of(config, "output_dir")));
  CHECK(read_text(again + "/checkpoint-1/adapter_model.safetensors") ==
        read_text(output + "/checkpoint-1/adapter_model.safetensors"));

  const Arguments resume = with(first, {"--resume", "--max-steps", "2"});
  check_refused(run_qgrpo(with(resume, {"--lora-r", "8"})), 1,
                {"checkpoint-1: was made with lora_r = 4, but this run has 8; resume with"});
  check_refused(run_qgrpo(with(resume, {"--lora-alpha", "999"})), 1,
                {"was made with lora_alpha = "});
  check_refused(run_qgrpo(with(resume, {"--lora-target-modules", "q_proj"})), 1,
                {"was made with lora_target_modules = all-linear, but this run has q_proj"});
  check_refused(run_qgrpo(with(resume, {"--adapter", again + "/checkpoint-1", "--lora-r", "4"})), 1,
                {"was made with adapter = none, but this run has " + again + "/checkpoint-1"});
  CHECK(read_text(output + "/config.toml") == config);
  check_refused(run_qgrpo(with(resume, {"--lora-r", "4", "--use-rslora"})), 1,
                {"was made with use_rslora = false, but this run has true"});
  check_refused(run_qgrpo(with(resume, {"--lora-r", "4", "--hours", "1"})), 1,
                {"was made with schedule = steps, but this run has hours"});
  CHECK(
      run_qgrpo(with(resume, {"--lora-r", "4", "--save-steps", "9", "--report-to", "tensorboard"}))
          .exit_code == 0);
  CHECK(line_of(read_text(output + "/config.toml"), "lora_r") == "lora_r = 4");
  check_resume_alone(folder, run, again,
                     read_text(output + "/checkpoint-2/adapter_model.safetensors"));
  check_start_from_adapter(folder, run, output);
}

}  // namespace

TEST_CASE("options: the folder of a run repeats it; a resume takes the same options") {
  const ScratchFolder folder;
  const std::string model = folder.path("model");
  REQUIRE(run_qgrpo({"sft", "--make-demo-model", model, "--max-steps", "2", "--device", "cpu"})
              .exit_code == 0);
  SUBCASE("train") {
    check_run(folder,
              {"train", "--model", model, "--dataset", model + "/train.jsonl", "--system-prompt",
               "", "--max-prompt-length", "48", "--max-completion-length", "8", "--num-generations",
               "2", "--preflight", "0", "--threads", "2", "--device", "cpu"});
  }
  SUBCASE("sft") {
    folder.write("sft.jsonl",
                 "{\"prompt\": \"2 + 2 = \", \"completion\": \"4\"}\n"
                 "{\"prompt\": \"2 + 3 = \", \"completion\": \"5\"}\n");
    check_run(folder, {"sft", "--model", model, "--dataset", folder.path("sft.jsonl"),
                       "--max-length", "32", "--threads", "2", "--device", "cpu"});
  }
}

}  // namespace qgrpo::test
