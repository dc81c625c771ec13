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
      "\"add_generation_prompt\":true}; with --decode {\"ids\":[..]}.\n"
      "Output, one line each: {\"ids\":[..]}; with --decode {\"text\":\"..\"}.");
  const auto options = std::make_shared<TokenizeOptions>();
  command
      ->add_option("--model", options->model,
                   "Hugging Face folder (its tokenizer files are enough)")
      ->required()
      ->type_name("DIR");
  command->add_flag("--decode", options->decode, "Ids to text");
  command->add_flag("--skip-special-tokens", options->skip_special_tokens,
                    "Leave special tokens out of decoded text");
  command
      ->add_option("--chat-template", options->chat_template,
                   "chatml: for folders whose own template is missing or unknown")
      ->type_name("NAME");
  command->callback([options, &chosen] {
    chosen = [options] { return run_tokenize(*options, std::cin, std::cout); };
  });
}

void add_grade_command(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("grade", "Score completions with the reward functions");
  command->footer(
      "Input, one object a line: {\"completion\":\"..\",\"answer\":\"..\"}.\n"
      "Output, one line each: {\"xmlcount\":..,\"soft_format\":..,\"strict_format\":..,\"int\":..,"
      "\"correctness\":..,\"total\":..}.");
  const auto options = std::make_shared<GradeOptions>();
  command->add_option("--input", options->input, "File of JSON lines (default: standard input)")
      ->type_name("FILE");
  command
      ->add_option("--rewards", options->rewards,
                   "Which, with weights, e.g. correctness:2,int (default: all, weight 1)")
      ->type_name("NAME[:WEIGHT]")
      ->delimiter(',');
  command->callback([options, &chosen] {
    chosen = [options] { return run_grade(*options, std::cin, std::cout); };
  });
}

}  // namespace qgrpo::tools
