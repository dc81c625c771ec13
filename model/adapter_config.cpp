#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/adapter_config.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "model/io/foreign_keys.h"
#include "model/io/notes.h"

namespace qgrpo::model {
namespace {

using io::JsonValue;

constexpr std::uint32_t kMatchLimit =
    1'000'000;  // names are short; only a runaway pattern needs it

// Keys of peft's LoraConfig that change what an adapter computes and are not honoured. ("bias" and
// init_lora_weights have texts of their own; what only training reads, such as lora_dropout, passes.)
using Neutral = io::ForeignKey::Neutral;
constexpr auto kForeignAdapterKeys = std::to_array<io::ForeignKey>({
    {"use_dora", Neutral::unset, "DoRA (peft merges it into its base)"},
    {"fan_in_fan_out", Neutral::unset,
     "weights stored the other way round, which no Qwen2 model has,"},
    {"lora_bias", Neutral::unset, "an adapter with biases"},
    {"modules_to_save", Neutral::unset, "whole modules beside the factors"},
    {"layer_replication", Neutral::unset, "a model of repeated layers"},
    {"target_parameters", Neutral::unset, "factors of parameters that are no linears"},
    {"trainable_token_indices", Neutral::unset, "rows of the embedding beside the factors"},
    {"alora_invocation_tokens", Neutral::unset, "an adapter that begins at a token"},
    {"arrow_config", Neutral::unset, "a router of adapters"},
    {"use_qalora", Neutral::unset, "QALoRA"},
    {"use_bdlora", Neutral::unset, "BD-LoRA"},
    {"kasa_config", Neutral::unset, "KaSA"},
    {"monteclora_config", Neutral::unset, "MonteCLoRA"},
});

// The member, or nothing where it is absent, null, false, or empty: peft's ways of "not used".
std::optional<JsonValue> find_set(const JsonValue& root, const char* key) {
  const auto value = root.find(key);
  if (!value || value->is_null()) return std::nullopt;
  if (value->is_bool() && !value->as_bool()) return std::nullopt;
  if (value->is_object() && value->as_object().empty()) return std::nullopt;
  if (value->is_array() && value->as_array().empty()) return std::nullopt;
  return value;
}

bool ends_with_path(const std::string& module, const std::string& name) {
  return module == name || module.ends_with("." + name);
}

}  // namespace

// ---------------------------------------------------------------- patterns

NamePattern::NamePattern(const std::string& expression, const std::string& where) : where_(where) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                    PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &offset, nullptr);
  if (code == nullptr) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof text);
    fail("{}: the pattern \"{}\" cannot be read: {} (at character {})", where, expression,
         reinterpret_cast<const char*>(text), offset);
  }
  code_ =
      std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
}

bool NamePattern::matches(const std::string& name) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), &pcre2_match_data_free);
  pcre2_set_match_limit(context.get(), kMatchLimit);
  const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                                 data.get(), context.get());
  require(result >= 0 || result == PCRE2_ERROR_NOMATCH,
          "{}: the pattern takes too long on the name \"{}\"", where_, name);
  return result >= 0;
}

// ---------------------------------------------------------------- the file

bool AdapterConfig::Selection::matches(const std::string& module) const {
  return std::any_of(names.begin(), names.end(),
                     [&](const auto& name) { return ends_with_path(module, name); }) ||
         std::any_of(patterns.begin(), patterns.end(),
                     [&](const auto& pattern) { return pattern.matches(module); });
}

AdapterConfig::Selection AdapterConfig::read_selection(const JsonValue& value) const {
  Selection out;
  if (value.is_string()) {
    out.patterns.emplace_back(value.as_string(), value.where());
    return out;
  }
  for (const auto& name : value.as_array()) out.names.push_back(name.as_string());
  return out;
}

void AdapterConfig::refuse_other_kinds(const JsonValue& root) const {
  io::refuse_keys(root, kForeignAdapterKeys);
  if (const auto bias = find_set(root, "bias"); bias && bias->as_string_view() != "none") {
    fail("{}: bias is \"{}\", expected \"none\"; adapters with biases are not supported", path_,
         bias->as_string_view());
  }
  // These change the base model's weights when the adapter is made, so that it belongs to others
  // than the base's; peft's path_initial_model_for_weight_conversion makes a plain one of it.
  if (const auto init = root.find("init_lora_weights"); init && init->is_string()) {
    const std::string name = init->as_string();
    for (const char* kind : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
      require(!name.starts_with(kind),
              "{}: init_lora_weights is \"{}\", which changes the base's weights; save the adapter "
              "converted to plain LoRA (peft's path_initial_model_for_weight_conversion)",
              path_, name);
    }
  }
}

AdapterConfig::AdapterConfig(const std::string& path) : path_(path) {
  io::JsonDocument document;
  const JsonValue root = document.parse_file(path);
  const std::string type = root.at("peft_type").as_string();
  require(type == "LORA", "{}: the peft_type is \"{}\", expected \"LORA\"", path, type);
  refuse_other_kinds(root);

  lora_.r = root.at("r").as_int();
  require(lora_.r > 0, "{}: r is {}, expected a positive rank", path, lora_.r);
  lora_.lora_alpha = root.at("lora_alpha").as_double();
  lora_.use_rslora = find_set(root, "use_rslora").has_value();
  const auto check = [&](const ModuleLora& m) {
    require(std::isfinite(lora_.scale(m)), "{}: lora_alpha is {}, too large for float32", path,
            m.alpha);
  };
  check({lora_.r, lora_.lora_alpha});
  if (const auto base = root.find("base_model_name_or_path"); base && base->is_string()) {
    lora_.base_model_name_or_path = base->as_string();
  }
  // The first key that matches counts.
  const auto pattern = [](const std::string& key, const JsonValue& value) {
    return NamePattern("(.*\\.)?(" + key + ")", value.where());
  };
  if (const auto ranks = find_set(root, "rank_pattern")) {
    for (const auto& [key, value] : ranks->as_object()) {
      const std::int64_t rank = value.as_int();
      require(rank > 0, "{}: found {}, expected a positive rank", value.where(), rank);
      ranks_.push_back({key, pattern(key, value), rank});
    }
  }
  if (const auto alphas = find_set(root, "alpha_pattern")) {
    for (const auto& [key, value] : alphas->as_object()) {
      alphas_.push_back({key, pattern(key, value), value.as_double()});
      check({lora_.r, value.as_double()});
    }
  }
  read_layers(root);
  if (const auto excluded = find_set(root, "exclude_modules"))
    excluded_ = read_selection(*excluded);

  const auto targets = find_set(root, "target_modules");
  if (!targets) return;
  targets_text_ = targets->minified();
  std::string lower = targets->is_string() ? targets->as_string() : "";
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "all-linear") return;
  all_ = false;
  targets_ = read_selection(*targets);
  for (const auto& name : targets_.names) {
    for (const char* module : {"model.embed_tokens", "lm_head"}) {
      require(!ends_with_path(module, name),
              "{}: names \"{}\"; LoRA on the embedding or the head is not supported",
              targets->where(), name);
    }
  }
}

// layers_to_transform, and layers_pattern: the name of the list of layers, "layers" in Qwen2.
void AdapterConfig::read_layers(const JsonValue& root) {
  const auto layers = find_set(root, "layers_to_transform");
  if (!layers) return;
  if (layers->is_array()) {
    for (const auto& layer : layers->as_array()) layers_.push_back(layer.as_int());
  } else {
    layers_.push_back(layers->as_int());
  }
  const auto patterns = find_set(root, "layers_pattern");
  if (!patterns) return;
  const auto add = [&](const JsonValue& value) {
    layer_patterns_.emplace_back(".*\\.(" + value.as_string() + ")", value.where());
  };
  if (!patterns->is_array()) return add(*patterns);
  for (const auto& value : patterns->as_array()) add(value);
}

bool AdapterConfig::selects(std::int64_t layer, Projection p) const {
  if (!layers_.empty() && std::find(layers_.begin(), layers_.end(), layer) == layers_.end()) {
    return false;
  }
  const std::string module = module_name(layer, p);
  // What stands before the layer's number.
  const std::string list = module.substr(0, module.find(fmt::format(".{}.", layer)));
  if (!layer_patterns_.empty() &&
      std::none_of(layer_patterns_.begin(), layer_patterns_.end(),
                   [&](const auto& pattern) { return pattern.matches(list); })) {
    return false;
  }
  return (all_ || targets_.matches(module)) && !excluded_.matches(module);
}

ModuleLora AdapterConfig::module(std::int64_t layer, Projection p) const {
  const std::string module = module_name(layer, p);
  ModuleLora out{lora_.r, lora_.lora_alpha};
  for (const auto& rule : ranks_) {
    if (!rule.pattern.matches(module)) continue;
    out.r = rule.value;
    break;
  }
  for (const auto& rule : alphas_) {
    if (!rule.pattern.matches(module)) continue;
    out.alpha = rule.value;
    break;
  }
  return out;
}

void AdapterConfig::note_unmatched(const std::vector<PerProjection<bool>>& has_factors) const {
  std::vector<std::string> adapted;
  std::vector<std::string> all = {"model.embed_tokens", "model.norm", "lm_head"};
  for (std::size_t l = 0; l < has_factors.size(); ++l) {
    for (const Projection p : kAllProjections) {
      all.push_back(module_name(static_cast<std::int64_t>(l), p));
      if (has_factors[l][p]) adapted.push_back(all.back());
    }
  }
  const auto any = [](const std::vector<std::string>& modules, const auto& matches) {
    return std::any_of(modules.begin(), modules.end(), matches);
  };
  const auto say = [&](const char* key, const std::vector<std::string>& names) {
    if (names.empty()) return;
    io::note(fmt::format("{}: {}: \"{}\" matches no linear that has factors, so it changes nothing",
                         path_, key, fmt::join(names, "\", \"")));
  };
  const auto unmatched = [&](const auto& rules) {
    std::vector<std::string> keys;
    for (const auto& rule : rules) {
      const auto matches = [&](const std::string& m) { return rule.pattern.matches(m); };
      if (!any(adapted, matches)) keys.push_back(rule.key);
    }
    return keys;
  };
  say("rank_pattern", unmatched(ranks_));
  say("alpha_pattern", unmatched(alphas_));
  std::vector<std::string> names;
  for (const auto& name : targets_.names) {
    if (!any(adapted, [&](const std::string& m) { return ends_with_path(m, name); })) {
      names.push_back(name);
    }
  }
  say("target_modules", names);
  names.clear();
  for (const auto layer : layers_) {
    if (layer >= static_cast<std::int64_t>(has_factors.size())) {
      names.push_back(fmt::format("{}", layer));
    }
  }
  say("layers_to_transform", names);
  const bool excludes = !excluded_.names.empty() || !excluded_.patterns.empty();
  if (excludes && !any(all, [&](const std::string& m) { return excluded_.matches(m); })) {
    io::note(fmt::format("{}: exclude_modules matches no module, so it changes nothing", path_));
  }
}

}  // namespace qgrpo::model
