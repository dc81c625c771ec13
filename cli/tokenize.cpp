#include "cli/tokenize.h"

#include <iostream>
#include <optional>
#include <ostream>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/text/line_reader.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::cli {
namespace {

// Puts the line's name before an error's message.
template <typename Function>
auto named(const std::string& where, Function&& function) {
  try {
    return function();
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
}

class Lines {
 public:
  explicit Lines(const TokenizeOptions& options)
      : options_(options), tokenizer_(tokenizer::load_tokenizer(options.model)) {
    require_usage(!options.render || !options.decode,
                  "--render and --decode: found both, expected one");
    tokenizer::check_chat_template_options(options.chat_template, options.chat_template_kwargs);
  }

  std::string answer(const std::string& line, const std::string& where) {
    const auto request = document_.parse(line, where);
    io::JsonWriter writer;
    writer.begin_object();
    if (options_.decode) {
      require(request.is_object(), "{}: expected {{\"ids\":[..]}}", where);
      const auto ids = request.at("ids").as_ids();
      writer.member("text", named(where, [&] {
                      return tokenizer_->decode(ids, options_.skip_special_tokens);
                    }));
    } else {
      const bool raw = request.is_string();
      const std::string text = raw ? request.as_string() : render(request, where);
      if (options_.render) {
        writer.member("text", text);
      } else {
        writer.member("ids", named(where, [&] {
                        return raw ? tokenizer_->encode(text) : tokenizer_->encode_rendered(text);
                      }));
      }
    }
    writer.end_object();
    return writer.str();
  }

 private:
  std::string render(const io::JsonValue& request, const std::string& where) {
    require(request.is_object() && request.find("messages").has_value(),
            "{}: expected a JSON string or {{\"messages\":[..]}}{}", where,
            request.is_object() && request.find("ids") ? " (ids need --decode)" : "");
    const auto messages = tokenizer::read_messages(request.at("messages"));
    const tokenizer::RenderOptions render_options = tokenizer::read_render_options(request, false);
    // Only now: raw text needs no template, and is served whatever the folder's template is.
    if (!chat_template_) {
      chat_template_ = tokenizer::load_chat_template(
          options_.model, *tokenizer_, options_.chat_template, options_.chat_template_kwargs);
    }
    return named(where, [&] { return chat_template_->render(messages, render_options).text; });
  }

  const TokenizeOptions& options_;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::optional<tokenizer::ChatTemplate> chat_template_;
  io::JsonDocument document_;
};

}  // namespace

int run_tokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out) {
  Lines lines(options);
  std::string line;
  for (std::size_t number = 1;; ++number) {
    const std::string where = fmt::format("standard input line {}", number);
    if (!next_line(in, line, where)) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    out << lines.answer(line, where) << '\n' << std::flush;
  }
  require(!in.bad(), "cannot read standard input");
  return 0;
}

void add_tokenize_command(CommandLine& line) {
  const auto options = std::make_shared<TokenizeOptions>();
  OptionTable table = line.command(
      "tokenize", "Text to token ids and back: JSON lines in and out",
      "Input, one line each: \"text\", or {\"messages\": [{\"role\": .., \"content\": ..}, ..], "
      "\"add_generation_prompt\": true, \"tools\": [..], \"chat_template_kwargs\": {..}}; "
      "with --decode {\"ids\":[..]}.\n"
      "Output, one line each: {\"ids\":[..]}; with --decode or --render {\"text\":\"..\"}.",
      [options] { return run_tokenize(*options, std::cin, std::cout); });
  table
      .value("--model", options->model, "DIR",
             "Hugging Face folder (its tokenizer files are enough)")
      .required();
  table.bare_flag("--decode", options->decode, "Ids to text");
  table.bare_flag("--skip-special-tokens", options->skip_special_tokens,
                  "Leave special tokens out of decoded text");
  table.bare_flag("--render", options->render,
                  "Messages to the text that the chat template makes of them");
  add_chat_template_options(table, options->chat_template, options->chat_template_kwargs);
}

}  // namespace qgrpo::cli
