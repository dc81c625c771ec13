#include "cli/chat.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <random>

#include "cli/commands.h"
#include "cli/text/line_reader.h"
#include "engine/owned_generator.h"
#include "model/config_files.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/io/standard_streams.h"
#include "model/ops/program.h"
#include "train/data/taught_prompt.h"

namespace qgrpo::cli {
namespace {

// An answer has at least this much room; older turns are left out for it.
constexpr std::int64_t kLeastAnswer = 16;

std::atomic<bool> interrupted{false};
void on_interrupt(int) {
  interrupted = true;
}

// Ctrl-C sets `interrupted` while this lives; a blocked read returns.
class InterruptGuard {
 public:
  InterruptGuard() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_ = {};
};

constexpr const char* kHelp =
    "/reset          forget the conversation\n"
    "/system [TEXT]  show the system prompt, or set it and begin anew\n"
    "/save FILE      write the conversation as JSON\n"
    "/help           this list\n"
    "/exit           leave (or Ctrl-D)\n"
    "Ctrl-C stops an answer.\n";

std::optional<train::TaughtPrompt> read_taught(const ChatOptions& options) {
  if (options.system_prompt) return std::nullopt;
  return train::read_taught_prompt({options.model.adapter, options.model.model});
}

class Chat {
 public:
  Chat(const ChatOptions& options, std::ostream& out)
      : options_(options),
        out_(out),
        params_(options.sampling.resolve(
            model::load_generation_defaults(options.model.model).sampling)),
        taught_(read_taught(options)),
        system_(options.system_prompt),
        tokenizer_(options.model) {
    require_usage(options.max_tokens >= 1 && options.max_tokens <= (1 << 24),
                  "--max-tokens: found {}, expected 1 to {}", options.max_tokens, 1 << 24);
    tokenizer_.chat();  // says at once what is missing
    loaded_ = load_model(options.model, make_backend(options.device, Workload::inference));
    if (taught_) {
      io::print_error("{}\n", taught_->text());
      if (!taught_->prompt.system_prompt.empty()) system_ = taught_->prompt.system_prompt;
    }
    seed_ = options.seed ? *options.seed : std::random_device{}();
  }

  int run() {
    const InterruptGuard guard;
    if (options_.prompt) {
      turns_.push_back({"user", *options_.prompt});
      answer();
      return 0;
    }
    LineReader reader("");
    const bool terminal = isatty(STDIN_FILENO) == 1;
    if (terminal) {
      out_ << options_.model.model
           << (options_.model.adapter.empty() ? "" : " + " + options_.model.adapter)
           << "  (/help lists the commands)\n";
    }
    std::string line;
    while (true) {
      if (terminal) out_ << "\n> " << std::flush;
      const auto status = reader.next(line, /*wait=*/true);
      if (status == LineReader::Status::interrupted) {
        if (terminal) out_ << "\n(/exit or Ctrl-D leaves)";
        interrupted = false;
        if (!terminal) return 130;
        continue;
      }
      if (status == LineReader::Status::end) break;
      // At a terminal, lines that are there at once were pasted: one turn.
      std::string more;
      while (terminal && reader.next(more, /*wait=*/false) == LineReader::Status::line)
        line += "\n" + more;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      try {
        if (line.front() == '/') {
          if (!command(line)) break;
        } else {
          turns_.push_back({"user", line});
          answer();
        }
      } catch (const io::StandardOutputFailed&) {
        throw;
      } catch (const Error& error) {
        // A line that cannot be served does not end the conversation.
        if (!turns_.empty() && turns_.back().role == "user") turns_.pop_back();
        out_.flush();
        io::print_error("{}\n", error.what());
      }
    }
    if (terminal) out_ << '\n' << std::flush;
    return 0;
  }

 private:
  // False: leave.
  bool command(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
    argument.erase(0, argument.find_first_not_of(' '));
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") {
      out_ << kHelp;
    } else if (name == "/reset") {
      turns_.clear();
      out_ << "(the conversation begins anew)\n";
    } else if (name == "/system") {
      if (argument.empty()) {
        const auto& standard = tokenizer_.chat().default_system();
        out_ << "system prompt: " << (system_ ? *system_ : standard.value_or("(none)")) << '\n';
      } else {
        system_ = argument;
        turns_.clear();
        out_ << "(the conversation begins anew)\n";
      }
    } else if (name == "/save") {
      require(!argument.empty(), "/save: expected the name of a file");
      save(argument);
      out_ << "saved to " << argument << '\n';
    } else {
      fail("{}: no such command; /help lists them", name);
    }
    out_.flush();
    return true;
  }

  void save(const std::string& path) const {
    io::JsonWriter json;
    json.begin_object();
    json.key("messages");
    json.begin_array();
    for (const tokenizer::Message& message : messages(0)) {
      json.begin_object();
      json.member("role", message.role);
      json.member("content", message.content);
      json.end_object();
    }
    json.end_array();
    json.end_object();
    io::write_file_atomically(path, json.str() + "\n");
  }

  // The system prompt and the turns from `first` on.
  std::vector<tokenizer::Message> messages(std::size_t first) const {
    std::vector<tokenizer::Message> all;
    if (system_) all.push_back({"system", *system_});
    if (taught_ && taught_->prompt.one_shot) {
      const auto solved = train::build_prompt("", {.system_prompt = "", .one_shot = true});
      all.insert(all.end(), solved.begin(), solved.end() - 1);
    }
    all.insert(all.end(), turns_.begin() + static_cast<std::ptrdiff_t>(first), turns_.end());
    return all;
  }

  // The prompt's ids, without the oldest turns where they leave no room for an answer.
  std::vector<std::int32_t> prompt_ids() {
    const std::int64_t positions = loaded_.config().context_length();
    for (std::size_t first = 0;; first += 2) {
      auto ids = tokenizer_.chat().tokenize(tokenizer_.get(), messages(first),
                                            {.add_generation_prompt = true});
      if (static_cast<std::int64_t>(ids.size()) + kLeastAnswer <= positions) {
        if (first > 0) {
          out_.flush();
          io::print_error("(the {} oldest messages no longer fit)\n", first);
        }
        return ids;
      }
      require(first + 2 < turns_.size(),
              "the message has {} tokens with its system prompt, the model has {} positions: "
              "shorten it",
              ids.size(), positions);
    }
  }

  // Answers the last turn and appends the answer to the conversation.
  void answer() {
    engine::GroupRequest request;
    request.prompt = prompt_ids();
    const auto length = static_cast<std::int64_t>(request.prompt.size());
    request.max_new_tokens = static_cast<std::int32_t>(
        std::min(options_.max_tokens, loaded_.config().context_length() - length));
    request.sampling = params_;
    request.eos_ids = tokenizer_.eos_ids(loaded_.config());
    request.adapter = loaded_.adapter_index();
    request.seed = seed_;
    request.step = answers_++;

    engine::GeneratorLoad load;
    load.group_blocks =
        engine::blocks_of_group(length, request.max_new_tokens, 1, engine::kBlockSize);
    // Someone who reads along sees each token at once.
    if (isatty(STDOUT_FILENO) == 1) load.window = 1;
    engine::OwnedGenerator generator(*loaded_.model,
                                     engine::generator_capacity(*loaded_.backend, load));
    generator->add(request);
    tokenizer::StreamDecoder decoder(tokenizer_.get(), /*skip_special_tokens=*/true);
    std::string text;
    const auto show = [&](const std::string& piece) {
      text += piece;
      out_ << piece << std::flush;
    };
    interrupted = false;
    bool cut = false;
    while (generator->has_work() && !interrupted) {
      for (const engine::TokenEvent& event : generator->step()) {
        cut = event.finish == engine::FinishReason::length;
        const std::int32_t id = event.sampled.token;
        if (event.finish != engine::FinishReason::stop && tokenizer_.has_token(id))
          show(decoder.push(id));
      }
    }
    show(decoder.flush());
    out_ << (interrupted ? " [stopped]\n" : "\n") << std::flush;
    if (cut && !interrupted) {
      io::print_error("qgrpo: note: the answer was cut at {} token{} ({})\n",
                      request.max_new_tokens, request.max_new_tokens == 1 ? "" : "s",
                      request.max_new_tokens == options_.max_tokens
                          ? "--max-tokens"
                          : "the model has no more positions; /reset begins anew");
    }
    interrupted = false;
    turns_.push_back({"assistant", text});
  }

  const ChatOptions& options_;
  std::ostream& out_;
  SamplingParams params_;
  std::optional<train::TaughtPrompt> taught_;  // nothing: none, or the user has chosen another
  std::optional<std::string> system_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  std::vector<tokenizer::Message> turns_;  // user, assistant, user, ...
  std::uint64_t seed_ = 0;
  std::uint32_t answers_ = 0;
};

}  // namespace

int run_chat(const ChatOptions& given, std::ostream& out) {
  ChatOptions options = given;
  default_to_demo(options.model, options.output_dir);
  return Chat(options, out).run();
}

void add_chat_command(CommandLine& line) {
  const auto options = std::make_shared<ChatOptions>();
  OptionTable table =
      line.command("chat", "Talk to a model (without --model: the trained demo)",
                   "In the conversation: /reset, /system [TEXT], /save FILE, /help, /exit.",
                   [options] { return run_chat(*options, std::cout); });
  const DeclaredOption quantize = add_model_options(table, options->model, /*optional_model=*/true);
  table.value("--output-dir", options->output_dir, "DIR",
              "Where `qgrpo train` has left the demo (without --model)");
  table.value("--system-prompt", options->system_prompt, "TEXT",
              "Instead of the one that the model was trained with, or the chat template's");
  table.value("--prompt", options->prompt, "TEXT", "Answer this and leave");
  table.value("--max-tokens,--max-completion-length", options->max_tokens, "N", "Longest answer");
  table.value("--seed", options->seed, "N", "Of the random draws (default: a new one each time)")
      .not_negative();
  add_sampling_options(table, options->sampling, "the model's generation_config.json");
  add_device_options(table, options->device);
  table.checks([options, quantize] {
    // The demo's model is trained in float32, and small.
    if (options->model.model.empty() && !quantize.given()) options->model.quantize = "none";
  });
}

}  // namespace qgrpo::cli
