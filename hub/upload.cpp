#include "hub/upload.h"

#include <filesystem>
#include <memory>

#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

namespace fs = std::filesystem;

// What goes on with the run, and no other program reads.
const std::vector<std::string> kKept = {"optimizer*", "trainer_state.json", "experience.json",
                                        "unwritten_logs.json"};

// The files of a checkpoint under other names, so that they last until they are sent, whatever becomes of it.
class Staged {
 public:
  Staged(const std::string& checkpoint, const std::string& output_dir)
      : folder_(output_dir + "/.hub-upload") {
    std::error_code error;
    fs::remove_all(folder_, error);
    fs::create_directory(folder_);
    for (const auto& entry : fs::recursive_directory_iterator(checkpoint)) {
      const fs::path to = fs::path(folder_) / fs::relative(entry.path(), checkpoint);
      if (entry.is_directory()) {
        fs::create_directories(to);
        continue;
      }
      fs::create_hard_link(entry.path(), to, error);
      if (error) fs::copy_file(entry.path(), to);
    }
  }
  ~Staged() {
    std::error_code error;
    fs::remove_all(folder_, error);
  }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

std::string name_of(const std::string& checkpoint) {
  return fs::path(checkpoint).lexically_normal().filename().string();
}

}  // namespace

Uploader::Uploader(Options options) : options_(std::move(options)) {}

Uploader::~Uploader() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

std::string Uploader::check() {
  const Settings settings = settings_from_environment();
  require(!settings.offline, "--push-to-hub: HF_HUB_OFFLINE forbids to send anything");
  require(!settings.token.empty(),
          "--push-to-hub: sending takes a token that may write (HF_TOKEN, or the file that "
          "Python's `hf auth login` makes)");
  Http http(settings);
  Request ask;
  ask.url = settings.endpoint + "/api/whoami-v2";
  const Response answer = http.once(ask);
  if (answer.good()) return "";
  const std::string problem = explain(answer, "--push-to-hub: " + options_.repo.id, settings);
  if (!answer.transient) throw Error(problem);
  return fmt::format("  note: {}; the run goes on, and each save tries again", problem);
}

std::string Uploader::take_told() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(told_, "");
}

std::string Uploader::send(const std::string& folder, const std::string& checkpoint,
                           const std::string& message) {
  try {
    Http http(settings_from_environment());
    http.stopped = [this] { return stop_.load() || (options_.stopped && options_.stopped()); };
    PushOptions options;
    options.exclude = kKept;
    options.message = message;
    options.private_repo = options_.private_repo;
    options.card = options_.card;
    const PushResult result = push(http, options_.repo, folder, options);
    return result.url.empty() ? ""
                              : fmt::format("  sent {} to {}", name_of(checkpoint), result.url);
  } catch (const std::exception& error) {
    if (stop_) return "";
    return fmt::format("  note: {} was not sent ({}); it is here, and is sent by: qgrpo push {} {}",
                       name_of(checkpoint), error.what(), checkpoint, options_.repo.id);
  }
}

void Uploader::begin(const std::string& checkpoint) {
  if (thread_.joinable()) thread_.join();
  auto staged = std::make_shared<Staged>(checkpoint, options_.output_dir);
  busy_ = true;
  thread_ = std::thread([this, staged, checkpoint] {
    const std::string step = name_of(checkpoint).substr(name_of(checkpoint).rfind('-') + 1);
    const std::string told =
        send(staged->folder(), checkpoint, "Training in progress, step " + step);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      told_ = told;
    }
    busy_ = false;
  });
}

std::string Uploader::saved(const std::string& checkpoint, bool last) {
  if (!last) {
    if (!options_.every_save || busy_) return "";
    const std::string told = take_told();
    try {
      begin(checkpoint);
    } catch (const std::exception& error) {
      return fmt::format("  note: {} is not sent now ({})", name_of(checkpoint), error.what());
    }
    return told;
  }
  if (thread_.joinable()) thread_.join();
  std::string told = take_told();
  const std::string end = send(checkpoint, checkpoint, "End of training");
  if (!told.empty() && !end.empty()) told += '\n';
  return told + end;
}

}  // namespace qgrpo::hub
