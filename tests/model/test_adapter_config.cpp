#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "model/adapter_config.h"
#include "model/io/notes.h"

using namespace qgrpo;
using namespace qgrpo::model;

namespace {

AdapterConfig read(const std::string& members) {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("qgrpo-adapter-{}.json", ::getpid()))
          .string();
  std::ofstream(path) << R"({"peft_type":"LORA","r":8,"lora_alpha":16,)" << members << "}";
  struct Remove {
    const std::string& path;
    ~Remove() { std::filesystem::remove(path); }
  } remove{path};
  return AdapterConfig(path);
}

}  // namespace

TEST_CASE("adapter_config.json: which linears have factors") {
  const auto list = read(R"("target_modules":["q_proj","layers.1.mlp.up_proj"])");
  CHECK(list.selects(0, Projection::q));
  CHECK(list.selects(1, Projection::up));
  CHECK_FALSE(list.selects(0, Projection::up));
  CHECK_FALSE(list.selects(11, Projection::up));  // a whole part of the path, not its end
  const auto pattern = read(R"("target_modules":".*layers\\.(0|3)\\..*\\.(v|o)_proj")");
  CHECK(pattern.selects(3, Projection::o));
  CHECK_FALSE(pattern.selects(2, Projection::o));
  CHECK_FALSE(pattern.selects(3, Projection::down));
  const auto all = read(
      R"("target_modules":"All-Linear","exclude_modules":["o_proj"],"layers_to_transform":[2])");
  CHECK(all.selects(2, Projection::down));
  CHECK_FALSE(all.selects(2, Projection::o));
  CHECK_FALSE(all.selects(1, Projection::down));
  CHECK_THROWS_AS(read(R"("target_modules":"(q_proj")"), Error);
  // A pattern that takes exponential time is stopped.
  const auto runaway = read(R"("target_modules":"(([a-z._0-9]+)+)+[^a-z._0-9]")");
  CHECK_THROWS_AS(runaway.selects(0, Projection::gate), Error);
}

TEST_CASE("adapter_config.json: layers_pattern names the list of layers, as peft reads it") {
  const auto with = [](const char* pattern) {
    return read(fmt::format(
        R"("target_modules":["q_proj"],"layers_to_transform":[1],"layers_pattern":{})", pattern));
  };
  for (const char* pattern : {"null", "\"layers\"", "[\"h\",\"layers\"]", "[]"}) {
    CAPTURE(pattern);
    CHECK(with(pattern).selects(1, Projection::q));
    CHECK_FALSE(with(pattern).selects(0, Projection::q));
  }
  CHECK_FALSE(with("\"h\"").selects(1, Projection::q));
}

TEST_CASE("adapter_config.json: what matches nothing is said, as peft warns") {
  std::vector<std::string> notes;
  io::set_note_sink([&](const std::string& text) { notes.push_back(text); });
  std::vector<PerProjection<bool>> factors(2);
  factors[0][Projection::q] = true;
  factors[1][Projection::q] = true;
  const auto said = [&](const std::string& members) {
    notes.clear();
    read(members).note_unmatched(factors);
    return notes.empty() ? std::string() : notes.front();
  };
  CHECK(said(R"("target_modules":["q_proj"],"rank_pattern":{"0.self_attn.q_proj":4},
      "exclude_modules":["lm_head"],"layers_to_transform":[0,1])") == "");
  const auto contains = [](const std::string& text, const std::string& part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  contains(said(R"("rank_pattern":{"q_proj":4,"query":2})"), "rank_pattern: \"query\" matches no");
  contains(said(R"("alpha_pattern":{"v_proj":4})"), "alpha_pattern: \"v_proj\" matches no");
  contains(said(R"("target_modules":["q_proj","c_attn"])"), "target_modules: \"c_attn\"");
  contains(said(R"("exclude_modules":["c_proj"])"), "exclude_modules matches no module");
  contains(said(R"("layers_to_transform":[0,40])"), "layers_to_transform: \"40\"");
  io::set_note_sink({});
}

TEST_CASE("adapter_config.json: ranks and scales") {
  const auto c = read(R"("use_rslora":true,"target_modules":"all-linear",
      "rank_pattern":{"q_proj":2,"layers.1.mlp.up_proj":32},"alpha_pattern":{"1\\..*_proj":5})");
  CHECK(c.module(0, Projection::q) == ModuleLora{2, 16.0});
  CHECK(c.module(1, Projection::up) == ModuleLora{32, 5.0});
  CHECK(c.module(11, Projection::up) == ModuleLora{8, 16.0});
  CHECK(c.lora().scale({4, 8.0}) == 4.0f);
  CHECK_THROWS_AS(read(R"("rank_pattern":{"q_proj":0})"), Error);
}

TEST_CASE("adapter_config.json: other kinds of adapters are refused by name") {
  for (const auto& [members, name] : {
           std::pair{R"("use_dora":true)", "DoRA"},
           std::pair{R"("bias":"lora_only")", "bias"},
           std::pair{R"("modules_to_save":["lm_head"])", "modules_to_save"},
           std::pair{R"("fan_in_fan_out":true)", "fan_in_fan_out"},
           std::pair{R"("lora_bias":true)", "lora_bias"},
           std::pair{R"("trainable_token_indices":[1])", "trainable_token_indices"},
           std::pair{R"("target_modules":["embed_tokens"])", "embedding"},
           std::pair{R"("init_lora_weights":"pissa_niter_16")", "pissa"},
       }) {
    const auto& members_shown = members;
    CAPTURE(members_shown);
    try {
      read(members);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(name) != std::string::npos);
    }
  }
}
