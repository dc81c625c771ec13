#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/io/json.h"
#include "model/lora_config.h"

namespace qgrpo::model {

// A regular expression as peft applies it to the names of modules (Python's re, by PCRE2).
class NamePattern {
 public:
  // Throws Error naming `where` for an expression that PCRE2 does not accept.
  NamePattern(const std::string& expression, const std::string& where);
  // Whether the expression matches the whole name. Throws Error where that takes too long.
  bool matches(const std::string& name) const;

 private:
  std::shared_ptr<void> code_;
  std::string where_;
};

// adapter_config.json of a peft folder: which linears have factors, of which rank and scale.
class AdapterConfig {
 public:
  // Throws Error, naming file and key, for what changes the result and is not plain LoRA on the
  // linears of the blocks: DoRA, biases, modules_to_save, factors of the embedding or the head, ...
  explicit AdapterConfig(const std::string& path);

  // r, lora_alpha, use_rslora, base_model_name_or_path.
  const LoraConfig& lora() const { return lora_; }
  // Whether target_modules (names, a pattern, or "all-linear") with exclude_modules and
  // layers_to_transform names the linear. True for all where the file does not say.
  bool selects(std::int64_t layer, Projection p) const;
  // Rank and alpha by rank_pattern and alpha_pattern.
  ModuleLora module(std::int64_t layer, Projection p) const;
  // Says in notes, as peft warns, what of the file matches none of the linears that have factors,
  // and so changes nothing: names of target_modules, keys of rank_pattern and alpha_pattern,
  // exclude_modules, layers_to_transform. `has_factors`: by layer.
  void note_unmatched(const std::vector<PerProjection<bool>>& has_factors) const;
  // target_modules as the file has it, for messages.
  const std::string& targets() const { return targets_text_; }

 private:
  // A list of names, each of a module or the end of its path; or a pattern for the whole path.
  struct Selection {
    std::vector<std::string> names;
    std::vector<NamePattern> patterns;  // at most one
    bool matches(const std::string& module) const;
  };
  // A key of rank_pattern or alpha_pattern: an expression for the end of a module's path.
  template <typename T>
  struct Rule {
    std::string key;
    NamePattern pattern;
    T value;
  };
  Selection read_selection(const io::JsonValue& value) const;
  void read_layers(const io::JsonValue& root);
  void refuse_other_kinds(const io::JsonValue& root) const;

  std::string path_;
  LoraConfig lora_;
  bool all_ = true;  // no restriction by target_modules
  Selection targets_;
  Selection excluded_;
  std::vector<std::int64_t> layers_;         // empty: all
  std::vector<NamePattern> layer_patterns_;  // layers_pattern: what may stand before the number
  std::vector<Rule<std::int64_t>> ranks_;
  std::vector<Rule<double>> alphas_;
  std::string targets_text_;
};

}  // namespace qgrpo::model
