#include "train/run/trackers.h"

#include <algorithm>
#include <exception>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/ops/error.h"
#include "train/run/trackers_wandb.h"

namespace qgrpo::train {
namespace {

bool named(const std::vector<std::string>& names, const char* name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void collect(const io::JsonValue& object, const std::string& prefix, NamedNumbers& out) {
  for (const auto& [name, value] : object.as_object()) {
    if (value.is_number()) {
      out.emplace_back(prefix + name, value.as_double());
    } else if (value.is_object()) {
      collect(value, prefix + name + "/", out);
    }
  }
}

// The id that wandb knows the run by: made with the output folder, so that a resumed run goes on
// under it.
std::string wandb_id(const std::string& output_dir, bool resumed) {
  const std::string path = output_dir + "/wandb_id";
  if (resumed && io::exists(path)) {
    std::string id = io::read_file(path);
    while (!id.empty() && id.back() == '\n') id.pop_back();
    if (!id.empty()) return id;
  }
  std::string id;
  const std::string random = [] {
    const std::string content = io::read_file("/proc/sys/kernel/random/uuid");
    return content;
  }();
  for (const char c : random) {
    if (id.size() < 8 && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) id += c;
  }
  io::write_file_atomically(path, id + "\n");
  return id;
}

}  // namespace

template <typename F>
void Trackers::guarded(const char* name, F&& run) {
  try {
    run();
  } catch (const std::exception& error) {
    if (std::string(name) == "wandb") wandb_.reset();
    if (std::string(name) == "tensorboard") tensorboard_.reset();
    if (settings_.say) {
      settings_.say(fmt::format("warning: --report-to {}: {}; the run goes on without it", name,
                                error.what()));
    }
  }
}

Trackers::Trackers(TrackerSettings settings) : settings_(std::move(settings)) {
  const bool resumed = settings_.first_step > 1;
  const std::string folder = settings_.output_dir + "/runs";
  if (!resumed) remove_event_files(folder);
  if (named(settings_.report_to, "tensorboard")) {
    guarded("tensorboard", [&] {
      tensorboard_ = std::make_unique<TensorboardWriter>(folder, settings_.first_step);
      if (!resumed) tensorboard_->text("config", "```\n" + settings_.config + "\n```");
    });
  }
  if (named(settings_.report_to, "wandb")) {
    guarded("wandb", [&] {
      WandbSettings wandb;
      wandb.python = settings_.python;
      wandb.output_dir = settings_.output_dir;
      wandb.config = settings_.config;
      wandb.run_id = wandb_id(settings_.output_dir, resumed);
      wandb_ = std::make_unique<WandbBridge>(wandb);
    });
  }
}

Trackers::~Trackers() = default;

void Trackers::log(std::int64_t step, const std::string& json_line) {
  if (!tensorboard_ && !wandb_) return;
  NamedNumbers values;
  io::JsonDocument document;
  collect(document.parse(json_line, "the metrics"), "train/", values);
  if (tensorboard_) guarded("tensorboard", [&] { tensorboard_->scalars(step, values); });
  if (wandb_) {
    guarded("wandb", [&] {
      wandb_->log(step, values);
      if (const std::string address = wandb_->take_address(); !address.empty() && settings_.say)
        settings_.say("wandb: " + address);
    });
  }
}

void Trackers::finish() {
  if (wandb_) {
    guarded("wandb", [&] { wandb_->finish(); });
    wandb_.reset();
  }
}

}  // namespace qgrpo::train
