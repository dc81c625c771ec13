#include "cli/chat.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <random>
#include <sstream>

#include "cli/chat/answerer.h"
#include "cli/commands.h"
#include "cli/text/line_reader.h"
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
    "/retry               answer the last message anew\n"
    "/edit TEXT           put TEXT in the place of the last message, and answer it\n"
    "/compare TEXT        the base model's answer and the adapter's; neither is kept\n"
    "/sampling [NAME X]   show how tokens are drawn, or set temperature, top_p, top_k,\n"
    "                     min_p or repetition_penalty\n"
    "/stats               tokens a second after each answer, or no longer\n"
    "/reset               forget the conversation\n"
    "/system [TEXT]       show the system prompt, or set it and begin anew\n"
    "/save FILE           write the conversation as JSON\n"
    "/help                this list\n"
    "/exit                leave (or Ctrl-D)\n"
    "Ctrl-C stops an answer.\n";

// "temperature 0.5", "top_p=0.9", also several: what --temperature, --top-p .. take, in the same bounds.
SamplingParams changed_sampling(const SamplingParams& now, const std::string& text) {
  std::string words = text;
  std::replace(words.begin(), words.end(), '=', ' ');
  std::istringstream stream(words);
  SamplingOptions changed;
  for (std::string name, value; stream >> name;) {
    std::replace(name.begin(), name.end(), '-', '_');
    require(static_cast<bool>(stream >> value), "/sampling: {} has no value", name);
    const auto read = [&](auto& field) {
      typename std::decay_t<decltype(field)>::value_type number{};
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      require(error == std::errc() && end == value.data() + value.size(),
              "/sampling: {}: found \"{}\", expected a {}number", name, value,
              std::is_integral_v<decltype(number)> ? "whole " : "");
      field = number;
    };
    if (name == "temperature") {
      read(changed.temperature);
    } else if (name == "top_p") {
      read(changed.top_p);
    } else if (name == "top_k") {
      read(changed.top_k);
    } else if (name == "min_p") {
      read(changed.min_p);
    } else if (name == "repetition_penalty") {
      read(changed.repetition_penalty);
    } else {
      fail(
          "/sampling: there is no {}; expected temperature, top_p, top_k, min_p or "
          "repetition_penalty",
          name);
    }
  }
  try {
    return changed.resolve(now);
  } catch (const UsageError& error) {
    fail("/sampling: {}", error.what());
  }
}

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
    answerer_.emplace(loaded_, tokenizer_);
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
    } else if (name == "/retry") {
      require(argument.empty(), "/retry: takes nothing; /edit TEXT changes the message");
      answer_again(nullptr);
    } else if (name == "/edit") {
      require(!argument.empty(), "/edit: expected the new message");
      answer_again(&argument);
    } else if (name == "/compare") {
      compare(argument);
    } else if (name == "/sampling") {
      sampling(argument);
    } else if (name == "/stats") {
      stats_ = !stats_;
      out_ << (stats_ ? "(tokens a second after each answer)\n" : "(no more tokens a second)\n");
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

  // A completion of the conversation as it stands, shown while it is written.
  ChatAnswer complete(std::int32_t adapter) {
    engine::GroupRequest request;
    request.prompt = prompt_ids();
    request.max_new_tokens = static_cast<std::int32_t>(std::min(
        options_.max_tokens, loaded_.config().context_length() - std::ssize(request.prompt)));
    request.sampling = params_;
    request.eos_ids = tokenizer_.eos_ids(loaded_.config());
    request.adapter = adapter;
    request.seed = seed_;
    request.step = answers_;
    const std::int32_t most = request.max_new_tokens;
    interrupted = false;
    const ChatAnswer answer =
        answerer_->answer(std::move(request), interrupted,
                          [&](const std::string& piece) { out_ << piece << std::flush; });
    interrupted = false;
    out_ << (answer.stopped ? " [stopped]\n" : "\n") << std::flush;
    if (answer.cut && !answer.stopped) {
      io::print_error(
          "qgrpo: note: the answer was cut at {} token{} ({})\n", most, most == 1 ? "" : "s",
          most == options_.max_tokens ? "--max-tokens"
                                      : "the model has no more positions; /reset begins anew");
    }
    if (stats_) io::print_error("({})\n", speed_text(answer));
    return answer;
  }

  // Answers the last turn and appends the answer to the conversation.
  void answer() {
    const std::string text = complete(loaded_.adapter_index()).text;
    ++answers_;
    turns_.push_back({"assistant", text});
  }

  // Answers the last message anew, `text` in its place where there is one. What fails leaves the
  // conversation as it was.
  void answer_again(const std::string* text) {
    require(turns_.size() >= 2, "there is no answer yet");
    const std::vector<tokenizer::Message> before = turns_;
    turns_.pop_back();
    if (text != nullptr) turns_.back().content = *text;
    try {
      answer();
    } catch (const Error&) {
      turns_ = before;
      throw;
    }
  }

  void compare(const std::string& text) {
    require(!text.empty(), "/compare: expected a message");
    require(loaded_.adapter_index() >= 0, "/compare: there is no --adapter to compare with");
    const std::vector<tokenizer::Message> before = turns_;
    turns_.push_back({"user", text});
    try {
      for (const std::int32_t adapter : {-1, loaded_.adapter_index()}) {
        out_ << (adapter < 0 ? "-- base model --\n" : "-- with the adapter --\n");
        if (complete(adapter).stopped) break;
      }
      ++answers_;
    } catch (const Error&) {
      turns_ = before;
      throw;
    }
    turns_ = before;
  }

  void sampling(const std::string& argument) {
    if (!argument.empty()) params_ = changed_sampling(params_, argument);
    out_ << fmt::format(
        "temperature {:g}, top_p {:g}, top_k {}, min_p {:g}, repetition_penalty {:g}\n",
        params_.temperature, params_.top_p, params_.top_k, params_.min_p,
        params_.repetition_penalty);
  }

  const ChatOptions& options_;
  std::ostream& out_;
  SamplingParams params_;
  std::optional<train::TaughtPrompt> taught_;  // nothing: none, or the user has chosen another
  std::optional<std::string> system_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  std::optional<Answerer> answerer_;       // once the model is there
  std::vector<tokenizer::Message> turns_;  // user, assistant, user, ...
  bool stats_ = false;
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
  OptionTable table = line.command("chat", "Talk to a model (without --model: the trained demo)",
                                   "In the conversation: /retry, /edit, /compare, /sampling, "
                                   "/stats, /reset, /system, /save, /help, /exit.",
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
