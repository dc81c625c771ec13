#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "cpu/backend.h"
#include "export/export.h"
#include "export/output.h"
#include "export/pending_output.h"
#include "model/config_files.h"
#include "model/formats/checkpoint.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "support/program.h"
#include "support/tiny_models.h"
#include "support/vectors.h"

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

const std::string kIds = "{\"ids\":[5,17,200,3,99,42,7,7,250,11]}\n";

std::vector<double> scores(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"score"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const auto result = run_qgrpo(words, kIds);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  io::JsonDocument document;
  std::vector<double> out;
  for (const auto& value : document.parse(result.out, "score").at("logprobs").as_array()) {
    if (!value.is_null()) out.push_back(value.as_double());
  }
  return out;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

ProgramResult run_export(const std::string& model, const std::string& to, const std::string& output,
                         const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {"export", "--model", model, "--to", to, "--output", output};
  words.insert(words.end(), more.begin(), more.end());
  return run_qgrpo(words);
}

}  // namespace

TEST_CASE("export merged: the folder scores as the base with its adapter") {
  const ScratchFolder scratch;
  const std::string tiny = vector_path("tiny_qwen2");
  const std::string adapter = vector_path("lora/adapter");
  const auto result = run_export(tiny, "merged", scratch.path("merged"), {"--adapter", adapter});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(result.lines().back().starts_with("saved "));
  const auto with_adapter = scores({"--model", tiny, "--adapter", adapter, "--quantize", "none"});
  const auto merged = scores({"--model", scratch.path("merged"), "--quantize", "none"});
  CHECK(largest_difference(with_adapter, merged) < 1e-4);
  // The adapter does change something here.
  CHECK(largest_difference(scores({"--model", tiny, "--quantize", "none"}), merged) > 1e-2);
  // Without an adapter the tensors are the base's, in the base's type.
  for (const char* name : {"tiny_qwen2", "tiny_qwen2_bf16"}) {
    CAPTURE(name);
    const std::string copy = scratch.path(std::string("copy-") + name);
    REQUIRE(run_export(vector_path(name), "merged", copy).exit_code == 0);
    const io::SafetensorsFile from(vector_path(name) + "/model.safetensors");
    const io::SafetensorsFile to(copy + "/model.safetensors");
    for (const auto& tensor : to.names()) {
      CHECK(to.tensor(tensor).dtype == from.tensor(tensor).dtype);
      CHECK(io::to_float(to.tensor(tensor)) == io::to_float(from.tensor(tensor)));
    }
  }
}

TEST_CASE("export merged: shards") {
  const ScratchFolder scratch;
  const std::string tiny = vector_path("tiny_qwen2_untied");
  const std::string whole = scratch.path("whole"), parts = scratch.path("parts");
  REQUIRE(run_export(tiny, "merged", whole).exit_code == 0);
  REQUIRE(run_export(tiny, "merged", parts, {"--max-shard-size", "100KB"}).exit_code == 0);
  CHECK(std::filesystem::exists(parts + "/model.safetensors.index.json"));
  CHECK_FALSE(std::filesystem::exists(parts + "/model.safetensors"));
  CHECK(scores({"--model", whole}) == scores({"--model", parts}));
}

TEST_CASE("export bnb-4bit: the folder scores as --quantize nf4, exactly") {
  const ScratchFolder scratch;
  std::vector<std::string> names = {"tiny_qwen2_bf16"};
  for (const TinyModel& tiny : kTinyModels) names.emplace_back(tiny.folder);
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::string model = vector_path(name);
    const std::string out = scratch.path(name);
    const auto result = run_export(model, "bnb-4bit", out, {"--max-shard-size", "60KB"});
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    const auto expected = scores({"--model", model, "--quantize", "nf4"});
    CHECK(scores({"--model", out, "--quantize", "nf4"}) == expected);
    CHECK(scores({"--model", out, "--quantize", "none"}) == expected);  // 4 bits are what it has
    // And back to plain weights: what the codes stand for.
    const std::string plain = scratch.path("plain-" + name);
    REQUIRE(run_export(out, "merged", plain).exit_code == 0);
    CHECK(largest_difference(scores({"--model", plain, "--quantize", "none"}), expected) < 0.2);
    CHECK(read_text(plain + "/config.json").find("quantization_config") == std::string::npos);
  }
}

TEST_CASE("export: every family's files score as the model, and say what it is") {
  const ScratchFolder scratch;
  for (const TinyModel& tiny : kTinyModels) {
    const std::string name = tiny.folder;
    CAPTURE(name);
    const std::string model = vector_path(name);
    std::vector<std::string> source = {"--model", model, "--quantize", "none"};
    std::vector<std::string> adapter;
    if (tiny.lora != nullptr) adapter = {"--adapter", vector_path(tiny.of_lora("adapter"))};
    source.insert(source.end(), adapter.begin(), adapter.end());
    const auto expected = scores(source);
    const std::string merged = scratch.path(name), gguf = scratch.path(name + ".gguf");
    auto result = run_export(model, "merged", merged, adapter);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(largest_difference(scores({"--model", merged, "--quantize", "none"}), expected) < 1e-4);
    adapter.insert(adapter.end(), {"--gguf-type", "F16"});
    result = run_export(model, "gguf", gguf, adapter);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(largest_difference(scores({"--model", gguf, "--quantize", "none"}), expected) < 0.03);
    // And back: a folder made of the GGUF file is the same model.
    const std::string back = scratch.path("back-" + name);
    result = run_export(gguf, "merged", back);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(largest_difference(scores({"--model", back, "--quantize", "none"}),
                             scores({"--model", gguf, "--quantize", "none"})) < 1e-4);
    const model::Config before = model::load_config(model), after = model::load_config(back);
    CHECK(after.family->gguf == before.family->gguf);
    CHECK(after.rope().per_pair.size() == before.rope().per_pair.size());
    CHECK(after.rope_scaling.type == before.rope_scaling.type);
    CHECK(after.rope_scaling.original_max_position_embeddings ==
          before.rope_scaling.original_max_position_embeddings);
  }
}

TEST_CASE("export gguf: each type is read back by the same program") {
  const ScratchFolder scratch;
  const std::string tiny = vector_path("tiny_qwen2_untied");
  const auto source = scores({"--model", tiny, "--quantize", "none"});
  for (const auto& [type, limit] :
       {std::pair{"F16", 0.01}, std::pair{"BF16", 0.05}, std::pair{"Q8_0", 0.1},
        std::pair{"Q6_K", 0.1}, std::pair{"Q5_K_M", 1.0}, std::pair{"Q5_K_S", 1.0},
        std::pair{"Q4_K_M", 2.0}, std::pair{"q4_k_s", 2.0}, std::pair{"Q4_0", 2.0}}) {
    const auto& type_shown = type;
    CAPTURE(type_shown);
    const std::string out = scratch.path(std::string(type) + ".gguf");
    const auto result = run_export(tiny, "gguf", out, {"--gguf-type", type});
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(result.out.find("greedy agreement") != std::string::npos);
    CHECK(largest_difference(scores({"--model", out, "--quantize", "none"}), source) < limit);
    scores({"--model", out, "--quantize", "nf4"});
    check_refused(run_qgrpo({"score", "--model", out}, "{\"text\":\"x\"}\n"), 1, {"tokenizer"});
  }
  // Of an adapter's merge, too.
  const std::string merged = scratch.path("merged.gguf");
  const auto result = run_export(vector_path("tiny_qwen2"), "gguf", merged,
                                 {"--gguf-type", "F16", "--adapter", vector_path("lora/adapter")});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  CHECK(largest_difference(scores({"--model", merged, "--quantize", "none"}),
                           scores({"--model", vector_path("tiny_qwen2"), "--quantize", "none",
                                   "--adapter", vector_path("lora/adapter")})) < 0.02);
}

TEST_CASE("export: generation_config.json and all chat templates go with the model") {
  const ScratchFolder scratch;
  for (const char* name : {"config.json", "model.safetensors"}) {
    scratch.write(std::string("base/") + name,
                  read_text(vector_path(std::string("tiny_qwen2/") + name)));
  }
  scratch.write("base/generation_config.json",
                R"({"do_sample": true, "temperature": 0.5, "top_p": 0.75, "top_k": 20,
      "repetition_penalty": 1.25, "pad_token_id": 316, "eos_token_id": [318, 316]})");
  scratch.write("base/chat_template.jinja", "main");
  scratch.write("base/chat_templates/tool_use.jinja", "tools");
  scratch.write("base/chat_template.json", R"({"chat_template": "other"})");
  REQUIRE(run_export(scratch.path("base"), "merged", scratch.path("merged")).exit_code == 0);
  for (const char* name : {"generation_config.json", "chat_template.jinja", "chat_template.json",
                           "chat_templates/tool_use.jinja"}) {
    CAPTURE(name);
    CHECK(read_text(scratch.path(std::string("merged/") + name)) ==
          read_text(scratch.path(std::string("base/") + name)));
  }
  // Through GGUF, the defaults have llama.cpp's names.
  REQUIRE(run_export(scratch.path("base"), "gguf", scratch.path("x.gguf")).exit_code == 0);
  const auto sampling = model::load_generation_defaults(scratch.path("x.gguf")).sampling;
  CHECK(sampling.temperature == 0.5f);
  CHECK(sampling.top_p == 0.75f);
  CHECK(sampling.top_k == 20);
  CHECK(sampling.repetition_penalty == 1.25f);
  REQUIRE(run_export(scratch.path("x.gguf"), "merged", scratch.path("back")).exit_code == 0);
  const auto back = model::load_generation_defaults(scratch.path("back")).sampling;
  CHECK(back.temperature == 0.5f);
  CHECK(back.top_k == 20);
  CHECK(model::load_config(scratch.path("back")).pad_token_id == 316);
}

TEST_CASE("export: nf4 as the merge's base is what training on nf4 saw") {
  const ScratchFolder scratch;
  const std::string tiny = vector_path("tiny_qwen2");
  const std::string adapter = vector_path("lora/adapter");
  REQUIRE(
      run_export(tiny, "merged", scratch.path("m"), {"--adapter", adapter, "--merge-into", "nf4"})
          .exit_code == 0);
  CHECK(largest_difference(scores({"--model", scratch.path("m"), "--quantize", "none"}),
                           scores({"--model", tiny, "--quantize", "nf4", "--adapter", adapter})) <
        1e-4);
}

TEST_CASE("export: bad requests leave nothing behind") {
  const ScratchFolder scratch;
  const std::string tiny = vector_path("tiny_qwen2");
  const auto refuse = [&](const std::vector<std::string>& arguments,
                          const std::vector<std::string>& names, int exit_code = 1) {
    std::vector<std::string> words = {"export"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    check_refused(run_qgrpo(words), exit_code, names);
  };
  const std::string out = scratch.path("out");
  refuse({"--model", tiny, "--to", "onnx", "--output", out}, {"--to", "onnx"}, 2);
  refuse({"--model", tiny, "--to", "gguf", "--gguf-type", "Q5_1", "--output", out}, {"Q5_1"}, 2);
  refuse({"--model", "/nowhere", "--to", "merged", "--output", out}, {"/nowhere"});
  refuse({"--model", tiny, "--adapter", tiny, "--to", "merged", "--output", out},
         {"adapter_config.json"});
  refuse({"--model", tiny, "--to", "merged", "--output", tiny}, {"is the model itself"});
  refuse({"--model", tiny, "--to", "merged", "--max-shard-size", "big", "--output", out}, {"big"});
  CHECK(std::filesystem::is_empty(scratch.path()));

  // What is there stays, unless asked for; what no export wrote stays in any case.
  scratch.write("notes/text.txt", "mine");
  const std::string notes = scratch.path("notes");
  refuse({"--model", tiny, "--to", "merged", "--output", notes}, {"notes", "--overwrite"});
  refuse({"--model", tiny, "--to", "merged", "--output", notes, "--overwrite"}, {"config.json"});
  CHECK(read_text(notes + "/text.txt") == "mine");
  REQUIRE(run_export(tiny, "merged", out).exit_code == 0);
  CHECK(run_export(tiny, "merged", out).exit_code == 1);
  CHECK(run_export(tiny, "bnb-4bit", out, {"--overwrite"}).exit_code == 0);
  CHECK(model::Checkpoint(out).bnb4bit());
  scratch.write("out/notes.txt", "mine");
  refuse({"--model", tiny, "--to", "merged", "--output", out, "--overwrite"}, {"notes.txt"});
  CHECK(read_text(out + "/notes.txt") == "mine");
  // A model that another program wrote.
  std::filesystem::copy(tiny, scratch.path("theirs"), std::filesystem::copy_options::recursive);
  refuse({"--model", tiny, "--to", "merged", "--output", scratch.path("theirs"), "--overwrite"},
         {"was not written by an export"});
  scratch.write("text.gguf", "mine");
  refuse({"--model", tiny, "--to", "gguf", "--output", scratch.path("text.gguf"), "--overwrite"},
         {"is no GGUF file"});
  CHECK(read_text(scratch.path("text.gguf")) == "mine");
}

TEST_CASE(
    "export: a comparison beyond the limits is an error, and a damaged model is beyond them") {
  using namespace qgrpo::exporting;
  const auto backend = cpu::make_cpu_backend(2);
  const auto load = [&](const char* name) {
    return model::Model::load(*backend, vector_path(name), model::Quantize::none);
  };
  const model::Model tiny = load("tiny_qwen2");
  const Recording recording = record(tiny, -1, {{1, 2, 3}, {300, 4}}, 8);
  const Comparison same = compare(recording, tiny);
  CHECK(same.tokens > 5);
  CHECK(same.mean_kl < 1e-7);
  CHECK(same.greedy_agreement == 1.0);
  ExportOptions options;
  const ExportLimits limits = limits_of(options);
  check_comparison(same, limits, "out");

  Comparison bad = same;
  bad.mean_kl = NAN;
  CHECK_THROWS_AS(check_comparison(bad, limits, "out"), Error);
  bad = same;
  bad.greedy_agreement = 0.5;
  CHECK_THROWS_AS(check_comparison(bad, limits, "out"), Error);

  // Another model in its place.
  ScratchFolder scratch;
  REQUIRE(run_export(vector_path("tiny_qwen2"), "merged", scratch.path("other"),
                     {"--adapter", vector_path("lora/adapter")})
              .exit_code == 0);
  const model::Model other =
      model::Model::load(*backend, scratch.path("other"), model::Quantize::none);
  options.target = Target::gguf;
  options.gguf_format = GgufFormat::f16;
  CHECK_THROWS_AS(check_comparison(compare(recording, other), limits_of(options), "out"), Error);
}

TEST_CASE("export: what is not finished is removed") {
  using namespace qgrpo::exporting;
  const ScratchFolder scratch;
  {
    const PendingOutput pending(scratch.path("x"), true, false);
    SafetensorsFolder writer(pending.temporary(), 1000);
    const float one = 1.0f;
    writer.add({{"t", {&one, DType::f32, {1}}}});
    CHECK_FALSE(std::filesystem::is_empty(scratch.path()));
  }
  CHECK(std::filesystem::is_empty(scratch.path()));
  CHECK(parse_size("--s", "5GB") == 5'000'000'000u);
  CHECK(parse_size("--s", "123") == 123u);
  for (const char* text : {"", "GB", "-1", "0", "5XB", "99999999999999999999", "1 GB"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_size("--s", text), Error);
  }
}

TEST_CASE("export: what a killed export left is removed by the next, and nothing else") {
  using namespace qgrpo::exporting;
  namespace fs = std::filesystem;
  const ScratchFolder scratch;
  scratch.write("x.tmp-1/shard-0", "half");
  scratch.write("x.tmp-1/tokenizer.json.tmp", "{");
  scratch.write("x.tmp-2/notes.txt", "the user's own");
  scratch.write("x.tmp-3/shard-0", "of an export that lives");
  scratch.write("x.tmp-old/config.json", "the user's own");
  scratch.write("y.tmp-1/shard-0", "of another output");
  const int living = open(scratch.path("x.tmp-3").c_str(), O_RDONLY);
  REQUIRE(flock(living, LOCK_EX) == 0);
  {
    const PendingOutput pending(scratch.path("x"), true, false);
    CHECK_FALSE(fs::exists(scratch.path("x.tmp-1")));
    for (const char* kept : {"x.tmp-2", "x.tmp-3", "x.tmp-old", "y.tmp-1"})
      CHECK_MESSAGE(fs::exists(scratch.path(kept)), kept);
    // A second one beside it leaves this one alone: it is locked.
    CHECK_THROWS_AS(PendingOutput(scratch.path("x"), true, false), Error);
    CHECK(fs::exists(pending.temporary()));
  }
  close(living);

  // Killed between two renames, where names cannot be exchanged: the earlier export goes back.
  scratch.write("z.tmp-7.old/config.json", "{}");
  CHECK_THROWS_WITH_AS(PendingOutput(scratch.path("z"), true, false),
                       doctest::Contains("is there already"), Error);
  CHECK(read_text(scratch.path("z/config.json")) == "{}");

  scratch.write("g.gguf.tmp-5", "GGUF...");
  scratch.write("g.gguf.tmp-6", "the user's own");
  const PendingOutput file(scratch.path("g.gguf"), false, false);
  CHECK_FALSE(fs::exists(scratch.path("g.gguf.tmp-5")));
  CHECK(fs::exists(scratch.path("g.gguf.tmp-6")));
}

TEST_CASE("export: a folder that cannot be written is noticed before the model is read") {
  const ScratchFolder scratch;
  scratch.write("file", "");
  check_refused(run_export("no-model", "merged", scratch.path("file/out")), 1,
                {"--output", "Not a directory"});
  if (geteuid() == 0) return;  // who may write everywhere
  std::filesystem::permissions(
      scratch.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  check_refused(run_export("no-model", "merged", scratch.path("out")), 1,
                {"--output", "Permission denied"});
  std::filesystem::permissions(scratch.path(), std::filesystem::perms::owner_all);
}
