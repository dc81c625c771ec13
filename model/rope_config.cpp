#include "model/rope_config.h"

#include <array>
#include <cmath>
#include <optional>

#include "model/io/foreign_keys.h"

namespace qgrpo::model {
namespace {

using io::JsonValue;
using Type = RopeScaling::Type;
using Neutral = io::ForeignKey::Neutral;

double positive(const JsonValue& in, const char* key, std::optional<double> otherwise) {
  const auto value = in.find_value(key);
  if (!value && otherwise) return *otherwise;
  const double number = in.at(key).as_double();
  require(std::isfinite(number) && number > 0, "{}: {} is {}, expected a positive number",
          in.where(), key, number);
  return number;
}

// YaRN's factor on cosines and sines: attention_factor, or DeepSeek's pair of mscales, or the
// paper's.
double attention_factor(const JsonValue& in, double factor) {
  if (in.find_value("attention_factor")) return positive(in, "attention_factor", {});
  const double mscale = in.find_value("mscale") ? in.at("mscale").as_double() : 0.0;
  const double all = in.find_value("mscale_all_dim") ? in.at("mscale_all_dim").as_double() : 0.0;
  if (mscale == 0.0 || all == 0.0) return yarn_attention_factor(factor);
  const auto scaled = [&](double m) {
    return factor <= 1.0 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
  };
  return scaled(mscale) / scaled(all);
}

RopeScaling read_scaling(const JsonValue& in, std::int64_t max_positions) {
  auto type = in.find_value("rope_type");
  if (!type) type = in.find_value("type");
  const std::string name = type ? type->as_string() : "default";
  RopeScaling s;
  const bool scaled = in.find_value("factor") && in.at("factor").as_double() != 1.0;
  require(type || !scaled,
          "{}: factor is {} without a \"rope_type\" that says how to scale; expected \"default\" "
          "and no factor",
          in.where(), scaled ? in.at("factor").as_double() : 1.0);
  io::refuse_keys(in, std::to_array<io::ForeignKey>({{"partial_rotary_factor", Neutral::one,
                                                      "rotating a part of each head"}}));
  if (name != "yarn") {
    io::refuse_keys(in, std::to_array<io::ForeignKey>(
                            {{"attention_factor", Neutral::one,
                              "scaling the attention with this type of rotary embedding"}}));
  }
  if (name == "default") return s;
  require(name == "linear" || name == "llama3" || name == "yarn",
          "{}: the rotary embedding type \"{}\" is not supported, expected \"default\", "
          "\"linear\", \"llama3\" or \"yarn\"",
          in.where(), name);
  s.factor = positive(in, "factor", name == "linear" ? std::optional(1.0) : std::nullopt);
  if (name == "linear") {
    s.type = s.factor == 1.0 ? Type::none : Type::linear;
    return s;
  }
  s.type = name == "yarn" ? Type::yarn : Type::llama3;
  const bool yarn = s.type == Type::yarn;
  s.original_max_position_embeddings = static_cast<std::int64_t>(
      positive(in, "original_max_position_embeddings",
               yarn ? std::optional(static_cast<double>(max_positions)) : std::nullopt));
  if (yarn) {
    s.beta_fast = positive(in, "beta_fast", s.beta_fast);
    s.beta_slow = positive(in, "beta_slow", s.beta_slow);
    if (const auto truncate = in.find_value("truncate")) s.truncate = truncate->as_bool();
    s.attention_factor = attention_factor(in, s.factor);
  } else {
    s.low_freq_factor = positive(in, "low_freq_factor", {});
    s.high_freq_factor = positive(in, "high_freq_factor", {});
    require(s.high_freq_factor > s.low_freq_factor,
            "{}: high_freq_factor is {}, expected more than low_freq_factor, {}", in.where(),
            s.high_freq_factor, s.low_freq_factor);
  }
  return s;
}

const char* type_name(Type type) {
  switch (type) {
    case Type::linear:
      return "linear";
    case Type::llama3:
      return "llama3";
    case Type::yarn:
      return "yarn";
    case Type::none:
      break;
  }
  return "default";
}

}  // namespace

void read_rope(Config& config, const JsonValue& root) {
  const auto theta = root.find_value("rope_theta");
  config.rope_theta = theta ? theta->as_double() : 10000.0;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    auto rope = root.find_value(key);
    if (!rope) continue;
    if (const auto full = rope->find("full_attention")) rope = full;
    config.rope_scaling = read_scaling(*rope, config.max_position_embeddings);
    if (const auto own = rope->find_value("rope_theta")) {
      config.rope_theta = own->as_double();
      return;
    }
  }
}

void write_rope(io::JsonWriter& w, const Config& config) {
  w.member("rope_theta", config.rope_theta);
  const RopeScaling& s = config.rope_scaling;
  if (s.type == Type::none) return;
  w.key("rope_scaling");
  w.begin_object();
  w.member("rope_type", type_name(s.type));
  w.member("factor", s.factor);
  if (s.type != Type::linear) {
    w.member("original_max_position_embeddings", s.original_max_position_embeddings);
  }
  if (s.type == Type::llama3) {
    w.member("low_freq_factor", s.low_freq_factor);
    w.member("high_freq_factor", s.high_freq_factor);
  }
  if (s.type == Type::yarn) {
    w.member("beta_fast", s.beta_fast);
    w.member("beta_slow", s.beta_slow);
    w.member("truncate", s.truncate);
    w.member("attention_factor", s.attention_factor);
  }
  w.end_object();
}

}  // namespace qgrpo::model
