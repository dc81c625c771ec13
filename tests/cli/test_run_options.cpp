#include <doctest/doctest.h>

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
  check_refused(run_qgrpo(with(resume, {"--lora-r", "4", "--use-rslora"})), 1,
                {"was made with use_rslora = false, but this run has true"});
  check_refused(run_qgrpo(with(resume, {"--lora-r", "4", "--hours", "1"})), 1,
                {"was made with schedule = steps, but this run has hours"});
  CHECK(
      run_qgrpo(with(resume, {"--lora-r", "4", "--save-steps", "9", "--report-to", "tensorboard"}))
          .exit_code == 0);
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
