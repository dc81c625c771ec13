#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "model/lora.h"
#include "model/model.h"
#include "serve/engine_loop.h"

namespace qgrpo::serve {

// The LoRA adapters that requests name as their model. They come and go while others run.
class Adapters {
 public:
  // Marks an adapter as used while it lives: unloading waits for the last one.
  class Use {
   public:
    std::int32_t index() const { return index_; }  // of the model's adapters; -1: the base model
    std::uint64_t key() const { return key_; }     // never given twice: GroupRequest::prefix_key

   private:
    friend class Adapters;
    std::int32_t index_ = -1;
    std::uint64_t key_ = 1;
    std::shared_ptr<const model::LoraAdapter> adapter_;
  };
  struct Listed {
    std::string name;
    std::string path;
    std::int64_t created = 0;  // seconds since 1970
  };

  // Both must outlive it.
  Adapters(model::Model& model, EngineLoop& loop) : model_(&model), loop_(&loop) {}

  // Reads a peft folder. Throws ApiError: 400 where the name is taken or the folder is no adapter of this
  // model, 404 where there is none.
  void load(const std::string& name, const std::string& path);
  // Requests that have begun with it go on. Throws ApiError 404 where there is none of the name.
  void unload(const std::string& name);
  std::optional<Use> use(const std::string& name) const;
  std::vector<Listed> list() const;  // in the order of loading

 private:
  struct Loaded {
    Listed listed;
    Use use;
  };
  std::int32_t free_slot();
  void set_adapters();

  model::Model* model_;
  EngineLoop* loop_;
  mutable std::mutex mutex_;
  std::vector<Loaded> loaded_;
  std::vector<std::weak_ptr<const model::LoraAdapter>> slots_;  // in the loop's thread alone
  std::uint64_t keys_ = 1;                                      // likewise
};

}  // namespace qgrpo::serve
