#include "serve/adapters.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "serve/api_error.h"

namespace qgrpo::serve {

// Where the last request with an adapter that was unloaded has ended, its place is free.
std::int32_t Adapters::free_slot() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].expired()) return static_cast<std::int32_t>(i);
  }
  slots_.emplace_back();
  return static_cast<std::int32_t>(slots_.size()) - 1;
}

void Adapters::set_adapters() {
  std::vector<const model::LoraAdapter*> adapters;
  for (const auto& slot : slots_) adapters.push_back(slot.lock().get());
  model_->set_adapters(std::move(adapters));
}

void Adapters::load(const std::string& name, const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    throw ApiError(404,
                   fmt::format("{}: no such folder (lora_path of the adapter '{}')", path, name),
                   "lora_path");
  const auto refuse_taken = [&] {
    require_request(!use(name), "lora_name", "the LoRA adapter '{}' has already been loaded", name);
  };
  refuse_taken();
  loop_->between_steps([&] {
    refuse_taken();
    std::shared_ptr<const model::LoraAdapter> adapter;
    try {
      adapter = std::make_shared<const model::LoraAdapter>(
          model::LoraAdapter::load(model_->backend(), model_->config(), path));
    } catch (const Error& error) {
      throw ApiError(400, error.what(), "lora_path");
    }
    Loaded loaded;
    loaded.listed = {name, path,
                     std::chrono::duration_cast<std::chrono::seconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count()};
    loaded.use.index_ = free_slot();
    loaded.use.key_ = ++keys_;
    slots_[static_cast<std::size_t>(loaded.use.index_)] = adapter;
    loaded.use.adapter_ = std::move(adapter);
    set_adapters();
    const std::lock_guard lock(mutex_);
    loaded_.push_back(std::move(loaded));
  });
}

void Adapters::unload(const std::string& name) {
  // In the loop's thread: so the memory is not freed under a step.
  loop_->between_steps([&] {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find(loaded_, name, [](const Loaded& l) { return l.listed.name; });
    if (found == loaded_.end())
      throw ApiError(404, fmt::format("the LoRA adapter '{}' cannot be found", name), "lora_name");
    loaded_.erase(found);
  });
}

std::optional<Adapters::Use> Adapters::use(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  for (const Loaded& loaded : loaded_) {
    if (loaded.listed.name == name) return loaded.use;
  }
  return std::nullopt;
}

std::vector<Adapters::Listed> Adapters::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Listed> listed;
  for (const Loaded& loaded : loaded_) listed.push_back(loaded.listed);
  return listed;
}

}  // namespace qgrpo::serve
