#include <fmt/format.h>

#include <iostream>

#include "tools/cmd_grade.h"
#include "tools/cmd_tokenize.h"
#include "tools/commands.h"

// The command lines of the commands that need no model.
namespace qgrpo::tools {

void add_tokenize_command(CLI::App& app, Command& chosen) {
  auto* command =
      app.add_subcommand("tokenize", "Text to token ids and back: JSON lines in and out");
  command->footer(
      "Input, one line each: \"text\", or {\"messages\":[{\"role\":..,\"content\":..},..],"
      "\"add_generation_prompt\":true,\"tools\":[..],\"chat_template_kwargs\":{..}}; "
      "with --decode {\"ids\":[..]}.\n"
      "Output, one line each: {\"ids\":[..]}; with --decode or --render {\"text\":\"..\"}.");
  const auto options = std::make_shared<TokenizeOptions>();
  command
      ->add_option("--model", options->model,
                   "Hugging Face folder (its tokenizer files are enough)")
      ->required()
      ->type_name("DIR");
  command->add_flag("--decode", options->decode, "Ids to text");
  command->add_flag("--skip-special-tokens", options->skip_special_tokens,
                    "Leave special tokens out of decoded text");
  command->add_flag("--render", options->render,
                    "Messages to the text that the chat template makes of them");
  command
      ->add_option(
          "--chat-template", options->chat_template,
          "chatml (for folders whose own template is missing), or a file with a Jinja template")
      ->type_name("NAME|FILE");
  command
      ->add_option(
          "--chat-template-kwargs", options->chat_template_kwargs,
          "JSON object of more variables for the chat template, e.g. {\"enable_thinking\": false}")
      ->type_name("JSON");
  command->callback([options, &chosen] {
    chosen = [options] { return run_tokenize(*options, std::cin, std::cout); };
  });
}

void add_grade_command(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("grade", "Score completions with the reward functions");
  command->footer(
      "Input, one object a line: {\"completion\":\"..\",\"answer\":\"..\"}.\n"
      "Output, one line each: {\"xmlcount\":..,\"soft_format\":..,\"strict_format\":..,\"int\":..,"
      "\"correctness\":..,\"total\":..}.\n"
      "With --min-reward or --keep-best, input: what qgrpo generate --copy-input wrote; output: "
      "{\"messages\":[..],\"answer\":..,\"reward\":..}.");
  const auto options = std::make_shared<GradeOptions>();
  command->add_option("--input", options->input, "File of JSON lines (default: standard input)")
      ->type_name("FILE");
  command
      ->add_option("--reward,--rewards", options->rewards,
                   "Which, with weights, e.g. correctness:2,int (default: the notebook's five, "
                   "weight 1); also numeric, FILE.py:FUNCTION and cmd:PROGRAM")
      ->type_name("NAME[:WEIGHT]");
  command
      ->add_option("--reward-timeout", options->reward_timeout,
                   "Seconds for one call of a Python function or program")
      ->capture_default_str();
  command
      ->add_option("--python", options->python,
                   "Runs rewards in Python (default: $QGRPO_PYTHON, else python3)")
      ->type_name("PROGRAM");
  const std::string group =
      "Rejection sampling: the good completions as conversations for qgrpo sft";
  command
      ->add_option_function<double>(
          "--min-reward", [options](double value) { options->min_reward = value; },
          "Keep completions with at least this total")
      ->type_name("X")
      ->group(group);
  command
      ->add_option_function<std::string>(
          "--keep-best",
          [options](const std::string& text) {
            std::int64_t value = 1;
            if (!text.empty() && !CLI::detail::lexical_cast(text, value)) {
              throw CLI::ValidationError(
                  "--keep-best", fmt::format("found \"{}\", expected a whole number", text));
            }
            options->keep_best = value;
          },
          "Keep the N best of each prompt (without a number: the best)")
      ->expected(0, 1)
      ->type_name("[N]")
      ->group(group);
  command
      ->add_flag("--keep-truncated", options->keep_truncated,
                 "Also those that were cut by the length limit")
      ->group(group);
  command
      ->add_flag("--keep-duplicates", options->keep_duplicates,
                 "Also repetitions of a prompt's earlier completion")
      ->group(group);
  command->add_option("--output", options->output, "Where they go (default: standard output)")
      ->type_name("FILE")
      ->group(group);
  command->callback([options, &chosen] {
    chosen = [options] { return run_grade(*options, std::cin, std::cout); };
  });
}

}  // namespace qgrpo::tools
