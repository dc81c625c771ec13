#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/stop_signals.h"
#include "engine/owned_generator.h"
#include "model/config_files.h"
#include "model/io/bytes.h"
#include "model/io/standard_streams.h"
#include "serve/routes.h"
#include "serve/tokenizer_info.h"
#include "train/run/run_folder.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

// What the cache of a CPU takes by default, as vLLM's on a CPU.
constexpr std::size_t kHostCacheBytes = std::size_t{4} << 30;
constexpr const char* kKeyVariable = "QGRPO_API_KEY";

struct ServeOptions {
  ModelOptions model;  // no model: the demo's, in output_dir
  std::string output_dir = "outputs";
  DeviceOptions device;
  std::string host = "127.0.0.1";
  std::int64_t port = 8000;
  std::string api_key;
  bool insecure = false;
  std::vector<std::string> allowed_origins;
  std::vector<std::string> served_model_name;
  std::vector<std::string> lora_modules;
  std::int64_t max_model_len = 0;  // 0: the model's
  std::int64_t max_num_seqs = 64;
  std::int64_t max_waiting = 256;
  std::size_t kv_cache_bytes = 0;  // 0: by the machine
  bool prefix_caching = true;
  std::int64_t shutdown_timeout = 60;
};

void check(const ServeOptions& options) {
  const auto within = [](std::int64_t value, const char* name, std::int64_t least,
                         std::int64_t most) {
    require_usage(value >= least && value <= most, "{}: found {}, expected {} to {}", name, value,
                  least, most);
  };
  within(options.port, "--port", 0, 65535);
  within(options.max_num_seqs, "--max-num-seqs", 1, 1 << 12);
  within(options.max_model_len, "--max-model-len", 0, 1 << 30);
  within(options.max_waiting, "--max-waiting", 1, 1 << 20);
  within(options.shutdown_timeout, "--shutdown-timeout", 0, 1 << 20);
  require_usage(
      web::is_loopback(options.host) || !options.api_key.empty() || options.insecure,
      "--host {}: everybody who reaches this machine could use the server; give --api-key "
      "(or {}), or --insecure-no-api-key where that is meant",
      options.host, kKeyVariable);
  for (const std::string& module : options.lora_modules) {
    const std::size_t equals = module.find('=');
    require_usage(equals != std::string::npos && equals > 0 && equals + 1 < module.size(),
                  "--lora-modules: found \"{}\", expected NAME=FOLDER", module);
  }
}

class ServeRun {
 public:
  explicit ServeRun(const ServeOptions& options)
      : options_(options), tokenizer_(options.model), server_(server_options(options)) {
    // The address is taken before the model is read: that it is in use is said at once.
    (void)tokenizer_.get();
    ModelOptions alone = options.model;
    alone.adapter.clear();
    loaded_ = load_model(alone, make_backend(options.device, Workload::inference));
    loop_ = std::make_unique<serve::EngineLoop>(*loaded_.model, tokenizer_.get(), capacity(),
                                                static_cast<std::size_t>(options.max_waiting));
    adapters_ = std::make_unique<serve::Adapters>(*loaded_.model, *loop_);
    fill();
    load_adapters();
    serve::add_routes(server_, served_);
  }

  int run() {
    const StopSignals signals;
    announce();
    server_.run([] { return train::stop_requested.load(); });
    io::print_error("qgrpo: stopped\n");
    return train::interrupted_exit_code();
  }

 private:
  static web::ServerOptions server_options(const ServeOptions& options) {
    web::ServerOptions web;
    web.host = options.host;
    web.port = static_cast<int>(options.port);
    web.api_key = options.api_key;
    web.allowed_origins = options.allowed_origins;
    web.drain = web::Seconds(static_cast<double>(options.shutdown_timeout));
    web.error = [](int status, const std::string& message) {
      return serve::error_response(status, message);
    };
    return web;
  }

  std::int64_t max_model_len() const {
    const std::int64_t positions = loaded_.config().context_length();
    require_usage(options_.max_model_len <= positions,
                  "--max-model-len: found {}, but the model has {} positions",
                  options_.max_model_len, positions);
    return options_.max_model_len == 0 ? positions : options_.max_model_len;
  }

  engine::GeneratorCapacity capacity() const {
    const model::Model& model = *loaded_.model;
    const std::int64_t length = max_model_len();
    const auto block_bytes = static_cast<std::int64_t>(engine::kv_block_bytes(model));
    engine::GeneratorLoad load;
    load.sequences = options_.max_num_seqs;
    load.window = 8;  // a client that streams reads along
    load.group_blocks = engine::most_blocks_of_group(length - 1, 1, 1, engine::kBlockSize);
    load.affordable_blocks = engine::affordable_blocks(model);
    if (options_.kv_cache_bytes > 0) {
      load.affordable_blocks = static_cast<std::int64_t>(options_.kv_cache_bytes) / block_bytes;
      require(load.affordable_blocks >= load.group_blocks,
              "--kv-cache-memory-bytes {}: one request of {} tokens needs {}: raise it, or lower "
              "--max-model-len",
              io::format_bytes(options_.kv_cache_bytes), length,
              io::format_bytes(static_cast<std::size_t>(load.group_blocks * block_bytes)));
    } else if (!model.backend().free_bytes()) {
      load.affordable_blocks = std::min(load.affordable_blocks,
                                        static_cast<std::int64_t>(kHostCacheBytes) / block_bytes);
    }
    const std::size_t needed = static_cast<std::size_t>(load.num_blocks() * block_bytes);
    const std::size_t available = engine::available_memory(model.backend());
    require(needed <= available,
            "the KV cache needs {} for requests of {} tokens, but only {} are free: lower "
            "--max-model-len",
            io::format_bytes(needed), length, io::format_bytes(available));
    return engine::generator_capacity(*loaded_.backend, load);
  }

  void fill() {
    served_.names = options_.served_model_name;
    served_.root = options_.model.model;
    if (served_.names.empty()) served_.names = {served_.root};
    served_.created = std::chrono::duration_cast<std::chrono::seconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
    served_.tokenizer = &tokenizer_.get();
    try {
      served_.chat = &tokenizer_.chat();
    } catch (const Error& error) {
      served_.chat_problem = error.what();
    }
    served_.vocab_size = loaded_.config().vocab_size;
    served_.eos_ids = tokenizer_.eos_ids(loaded_.config());
    served_.defaults = model::load_generation_defaults(options_.model.model).sampling;
    served_.max_model_len = max_model_len();
    served_.share_prefixes = options_.prefix_caching;
    served_.tokenizer_info = serve::tokenizer_info(options_.model.model, tokenizer_.get());
    served_.version = train::build_versions().at("version");
    served_.adapters = adapters_.get();
    served_.loop = loop_.get();
  }

  void load_adapters() {
    if (!options_.model.adapter.empty()) {
      const std::filesystem::path folder(options_.model.adapter);
      const std::string name =
          (folder.has_filename() ? folder : folder.parent_path()).filename().string();
      adapters_->load(name, options_.model.adapter);
      served_.model_use = *adapters_->use(name);
    }
    for (const std::string& module : options_.lora_modules) {
      const std::size_t equals = module.find('=');
      adapters_->load(module.substr(0, equals), module.substr(equals + 1));
    }
  }

  void announce() const {
    std::vector<std::string> names;
    for (const auto& adapter : adapters_->list()) names.push_back(adapter.name);
    const engine::GeneratorCapacity& c = loop_->capacity();
    const std::int64_t tokens = std::int64_t{c.num_blocks} * c.block_size;
    io::print_error(
        "qgrpo: serving {} at {} on {}: adapters {}; up to {} sequences of {} tokens, KV cache "
        "{} tokens ({} blocks), room for {:.1f} requests of full length\n",
        served_.names.front(), server_.address(), loaded_.backend->name(),
        names.empty() ? "none" : fmt::to_string(fmt::join(names, ", ")), c.max_sequences,
        served_.max_model_len, tokens, c.num_blocks,
        static_cast<double>(tokens) / static_cast<double>(served_.max_model_len));
  }

  const ServeOptions& options_;
  LazyTokenizer tokenizer_;
  LoadedModel loaded_;
  serve::Served served_;
  std::unique_ptr<serve::EngineLoop> loop_;
  std::unique_ptr<serve::Adapters> adapters_;
  web::Server server_;
};

int run_serve(const ServeOptions& given) {
  ServeOptions options = given;
  default_to_demo(options.model, options.output_dir);
  const char* key = std::getenv(kKeyVariable);
  if (options.api_key.empty() && key != nullptr) options.api_key = key;
  check(options);
  return ServeRun(options).run();
}

}  // namespace

void add_serve_command(CommandLine& line) {
  const auto options = std::make_shared<ServeOptions>();
  OptionTable table = line.command(
      "serve", "An OpenAI-compatible HTTP server (without --model: the trained demo)",
      "Routes: /v1/chat/completions, /v1/completions, /v1/models, /v1/load_lora_adapter, "
      "/v1/unload_lora_adapter, /tokenize, /detokenize, /tokenizer_info, /health, /version, "
      "/metrics.\n"
      "Ctrl-C answers what is in work, and ends; a second one ends at once.",
      [options] { return run_serve(*options); });
  const DeclaredOption quantize = add_model_options(table, options->model, /*optional_model=*/true);
  table.value("--output-dir", options->output_dir, "DIR",
              "Where `qgrpo train` has left the demo (without --model)");
  table
      .texts(
          "--served-model-name", "NAME",
          "The model's name in requests (may be given several times; default: --model)",
          [options](const std::vector<std::string>& names) { options->served_model_name = names; })
      .one_each();
  table
      .texts(
          "--lora-modules", "NAME=DIR",
          "An adapter that requests name as their model (may be given several times)",
          [options](const std::vector<std::string>& modules) { options->lora_modules = modules; })
      .one_each();
  table.group("Server");
  table.value("--host", options->host, "ADDRESS",
              "Where to listen; other than this machine alone needs a key");
  table.value("--port", options->port, "N", "0 = any that is free");
  table.value("--api-key", options->api_key, "KEY",
              "Every request must have it (also in the environment: QGRPO_API_KEY)");
  table.bare_flag("--insecure-no-api-key", options->insecure, "Any --host without a key");
  table
      .texts("--allowed-origins", "ORIGIN",
             "Pages of other servers that may use this one: http://HOST:PORT, or * for all (may be "
             "given several times)",
             [options](const std::vector<std::string>& all) { options->allowed_origins = all; })
      .one_each();
  table.value("--shutdown-timeout", options->shutdown_timeout, "SECONDS",
              "After Ctrl-C, what is in work has so long");
  table.group("Engine");
  table.value("--max-model-len", options->max_model_len, "N",
              "Longest prompt + completion; 0 = the model's positions");
  table.value("--max-num-seqs", options->max_num_seqs, "N", "Completions computed at once");
  table.value("--max-waiting", options->max_waiting, "N",
              "Requests that wait; more are refused (429)");
  table.text(
      "--kv-cache-memory-bytes", "SIZE",
      "Of the KV cache, e.g. 8GiB (default: half of what is free, on a CPU 4GiB at most)",
      [options](const std::string& text) { options->kv_cache_bytes = io::parse_bytes(text); });
  table.flag("enable-prefix-caching", options->prefix_caching,
             "Requests share the cache of what their prompts begin with");
  add_device_options(table, options->device);
  table.checks([options, quantize] {
    // The demo's model is trained in float32, and small.
    if (options->model.model.empty() && !quantize.given()) options->model.quantize = "none";
  });
}

}  // namespace qgrpo::cli
