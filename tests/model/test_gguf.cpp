#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "model/formats/gguf_names.h"
#include "model/gguf_config.h"
#include "model/io/gguf.h"
#include "model/io/gguf_quants.h"
#include "model/io/safetensors.h"
#include "support/vectors.h"

using namespace qgrpo;
using io::GgmlType;

namespace {

// A file in the temporary folder, removed with this object.
struct TemporaryFile {
  std::string path;
  explicit TemporaryFile(const std::string& content) {
    path = (std::filesystem::temp_directory_path() / "qgrpo-gguf-XXXXXX").string();
    const int fd = mkstemp(path.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
};

const io::SafetensorsFile& vectors() {
  static const io::SafetensorsFile file(test::vector_path("gguf/quants.safetensors"));
  return file;
}

// Two keys and two tensors, F32 (2, 3) and Q8_0 (1, 32).
std::string small_file() {
  io::GgufHeader header;
  header.add("general.architecture", "qwen2");
  header.add("a.list", std::vector<std::string>{"x", "", "yz"});
  header.add("a.number", std::uint32_t{7});
  header.add_tensor("first", GgmlType::f32, {2, 3});
  header.add_tensor("second", GgmlType::q8_0, {1, 32});
  std::string file = header.finish();
  const float values[6] = {1, 2, 3, 4, 5, 6};
  file.append(reinterpret_cast<const char*>(values), sizeof values);
  file.append(8, '\0');
  file.append(34, '\1');
  return file;
}

std::string error_of(const std::string& content) {
  const TemporaryFile file(content);
  try {
    const io::GgufFile read(file.path);
    read.tensor("first");
    read.at("a.number").as_int();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("gguf: every block format gives the gguf package's values, bit for bit") {
  const std::pair<const char*, GgmlType> kinds[] = {
      {"F32", GgmlType::f32},   {"F16", GgmlType::f16},       {"BF16", GgmlType::bf16},
      {"Q4_0", GgmlType::q4_0}, {"Q4_1", GgmlType::q4_1},     {"Q5_0", GgmlType::q5_0},
      {"Q5_1", GgmlType::q5_1}, {"Q8_0", GgmlType::q8_0},     {"Q2_K", GgmlType::q2_k},
      {"Q3_K", GgmlType::q3_k}, {"Q4_K", GgmlType::q4_k},     {"Q5_K", GgmlType::q5_k},
      {"Q6_K", GgmlType::q6_k}, {"IQ4_NL", GgmlType::iq4_nl}, {"IQ4_XS", GgmlType::iq4_xs}};
  for (const auto& [name, type] : kinds) {
    const auto& name_shown = name;
    CAPTURE(name_shown);
    const auto bytes = vectors().tensor(std::string(name) + ".bytes");
    const auto expected = io::to_float(vectors().tensor(std::string(name) + ".values"));
    REQUIRE(bytes.bytes() == io::ggml_bytes(type, static_cast<std::int64_t>(expected.size())));
    std::vector<float> values(expected.size());
    io::ggml_dequantize(values, type, static_cast<const std::byte*>(bytes.data));
    CHECK(values == expected);
  }
}

TEST_CASE("gguf: what is written has ggml's bytes") {
  const std::pair<const char*, GgmlType> kinds[] = {
      {"F32", GgmlType::f32},   {"F16", GgmlType::f16},   {"BF16", GgmlType::bf16},
      {"Q8_0", GgmlType::q8_0}, {"Q4_0", GgmlType::q4_0}, {"Q5_0", GgmlType::q5_0},
      {"Q5_1", GgmlType::q5_1}, {"Q4_K", GgmlType::q4_k}, {"Q5_K", GgmlType::q5_k},
      {"Q6_K", GgmlType::q6_k}};
  // "hard": zeros, equal values, outliers, groups of very different size.
  for (const std::string set : {"", "hard."}) {
    const auto source = io::to_float(vectors().tensor(set.empty() ? "source" : "hard"));
    for (const auto& [name, type] : kinds) {
      if (type == GgmlType::f32 && !set.empty()) continue;
      CAPTURE(set + name);
      const auto expected = vectors().tensor(set + name + ".bytes");
      std::vector<std::byte> bytes(expected.bytes());
      io::ggml_quantize(bytes, type, source);
      const auto* want = static_cast<const std::byte*>(expected.data);
      std::size_t different = 0;
      for (std::size_t i = 0; i < bytes.size(); ++i) different += bytes[i] != want[i] ? 1 : 0;
      CHECK(different == 0);
    }
  }
  // numpy's rounding to half: subnormals, ties, overflow.
  const auto edges = io::to_float(vectors().tensor("half.f32"));
  const auto bits = vectors().tensor("half.bits");
  for (std::size_t i = 0; i < edges.size(); ++i) {
    CAPTURE(edges[i]);
    std::uint16_t expected = 0;
    std::memcpy(&expected, static_cast<const char*>(bits.data) + 2 * i, 2);
    CHECK(io::f32_to_f16(edges[i]) == expected);
  }
  std::vector<float> bad(32, 0.0f);
  bad[3] = INFINITY;
  std::vector<std::byte> to(34);
  CHECK_THROWS_AS(io::ggml_quantize(to, GgmlType::q8_0, bad), Error);
  bad[3] = 1e9f;  // a scale beyond half
  CHECK_THROWS_AS(io::ggml_quantize(to, GgmlType::q8_0, bad), Error);
}

TEST_CASE("gguf: a file is read as it was written") {
  const TemporaryFile file(small_file());
  const io::GgufFile read(file.path);
  CHECK(read.at("general.architecture").as_string() == "qwen2");
  CHECK(read.at("a.number").as_int() == 7);
  const auto list = read.at("a.list").as_strings();
  REQUIRE(list.size() == 3);
  CHECK(list[2] == "yz");
  CHECK(read.find("absent") == nullptr);
  const auto& first = read.tensor("first");
  CHECK(first.shape == Shape({2, 3}));
  float last = 0.0f;
  std::memcpy(&last, read.data(first).data() + 20, 4);
  CHECK(last == 6.0f);
  CHECK(read.data(read.tensor("second")).size() == 34);
}

TEST_CASE("gguf: damaged files are refused, at every length") {
  const std::string good = small_file();
  CHECK(error_of(good).empty());
  for (std::size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(error_of(good.substr(0, size)).empty());
  }
  const auto changed = [&](std::size_t at, char value) {
    std::string file = good;
    file[at] = value;
    return error_of(file);
  };
  CHECK(changed(0, 'X').find("is not a GGUF file") != std::string::npos);
  CHECK(changed(4, 1).find("version") != std::string::npos);
  CHECK(changed(15, 0x7f).find("corrupt") != std::string::npos);    // the number of tensors
  CHECK(changed(31, 0x7f).find("truncated") != std::string::npos);  // a key's length
  const auto type_at = good.find("first") + 5 + 4 + 16;
  CHECK(changed(type_at, 3).find("Q4_1") != std::string::npos);
  CHECK(changed(type_at, 99).find("type 99") != std::string::npos);
  // No change of a byte of the header makes the reader crash.
  for (std::size_t at = 0; at < good.find("second") + 40; ++at) {
    for (const char value : {'\0', '\1', '\x7f', '\xff'}) changed(at, value);
  }
}

TEST_CASE("gguf: names of tensors") {
  using model::gguf_name;
  using model::hugging_face_name;
  CHECK(gguf_name("model.embed_tokens.weight") == "token_embd.weight");
  CHECK(gguf_name("model.layers.12.self_attn.q_proj.bias") == "blk.12.attn_q.bias");
  CHECK(gguf_name("model.layers.1.self_attn.q_norm.weight") == "blk.1.attn_q_norm.weight");
  CHECK(hugging_face_name("blk.0.ffn_down.weight") == "model.layers.0.mlp.down_proj.weight");
  for (const char* name : {"model.layers.x.mlp.up_proj.weight", "model.layers.1",
                           "model.layers.1.mlp.up_proj.other", "rope_freqs.weight", ""}) {
    CAPTURE(name);
    CHECK_FALSE(gguf_name(name).has_value());
  }
}

// The configuration of a file of no more than its keys, one more, and the embedding.
model::Config config_with(const std::function<void(io::GgufHeader&)>& add,
                          const std::vector<float>& divisors = {}) {
  io::GgufHeader header;
  header.add("general.architecture", "qwen2");
  for (const auto& [key, value] : {std::pair{"block_count", 1u},
                                   {"embedding_length", 8u},
                                   {"feed_forward_length", 8u},
                                   {"attention.head_count", 2u},
                                   {"context_length", 64u}}) {
    header.add(std::string("qwen2.") + key, value);
  }
  header.add("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
  add(header);
  header.add_tensor("token_embd.weight", GgmlType::f32, {4, 8});
  if (!divisors.empty()) {
    header.add_tensor(model::kRopeDivisors, GgmlType::f32, {std::ssize(divisors)});
  }
  std::string content = header.finish();
  content.append(std::size_t{4} * 8 * 4, '\0');
  content.append(reinterpret_cast<const char*>(divisors.data()), divisors.size() * sizeof(float));
  content.append((32 - content.size() % 32) % 32, '\0');
  const TemporaryFile file(content);
  return model::gguf_config(io::GgufFile(file.path));
}

std::string config_error(const std::function<void(io::GgufHeader&)>& add) {
  try {
    config_with(add);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST_CASE("gguf: a scaled rotary embedding is read as llama.cpp reads it") {
  using Type = model::RopeScaling::Type;
  const auto scaling = [](const char* type, float factor) {
    return config_with([&](io::GgufHeader& header) {
             if (type != nullptr) header.add("qwen2.rope.scaling.type", type);
             header.add("qwen2.rope.scaling.factor", factor);
           })
        .rope_scaling;
  };
  CHECK(scaling(nullptr, 4.0f).type == Type::linear);  // where a factor has no type
  CHECK(scaling("linear", 4.0f).factor == 4.0);
  CHECK(scaling("linear", 1.0f).type == Type::none);
  CHECK(scaling("none", 4.0f).type == Type::none);
  const auto yarn = scaling("yarn", 4.0f);
  CHECK(yarn.type == Type::yarn);
  CHECK(yarn.original_max_position_embeddings == 64);
  CHECK(yarn.attention_factor == doctest::Approx(0.1 * std::log(4.0) + 1.0));

  model::RopeScaling llama3{
      .type = Type::llama3, .factor = 8.0, .original_max_position_embeddings = 16};
  const auto divisors = model::rope_divisors(4, 1e4, llama3);
  const auto read = config_with([](io::GgufHeader&) {}, divisors).rope_scaling;
  CHECK(read.type == Type::llama3);
  CHECK(model::rope_divisors(4, 1e4, read) == divisors);
  CHECK_THROWS_WITH_AS(config_with([](io::GgufHeader&) {}, {3.0f, 2.0f}),
                       doctest::Contains("rope_freqs.weight"), Error);
  CHECK_THROWS_WITH_AS(config_with([](io::GgufHeader&) {}, {1.0f, 2.0f, 3.0f}),
                       doctest::Contains("expected [2]"), Error);
}

TEST_CASE("gguf: metadata that changes the result is honoured or refused by name") {
  const auto with = [](const std::string& key, auto value) {
    return config_error([&](io::GgufHeader& header) { header.add(key, value); });
  };
  const auto refused = [&](const std::string& key, auto value) {
    CAPTURE(key);
    const std::string error = with(key, value);
    CAPTURE(error);
    CHECK(error.find(key + " is ") != std::string::npos);
  };
  CHECK(config_error([](io::GgufHeader&) {}) == "");
  refused("qwen2.rope.scale_linear", 4.0f);
  refused("qwen2.rope.scaling.attn_factor", 1.5f);
  refused("qwen2.attention.causal", false);
  refused("qwen2.attention.sliding_window", 32u);
  refused("qwen2.attention.scale", 0.1f);
  refused("qwen2.attn_logit_softcapping", 50.0f);
  refused("qwen2.final_logit_softcapping", 30.0f);
  refused("qwen2.logit_scale", 0.5f);
  refused("qwen2.expert_count", 8u);
  refused("general.type", "adapter");
  refused("qwen2.rope.scaling.yarn_log_multiplier", 0.1f);
  refused("qwen2.rope.scaling.type", "longrope");

  CHECK(with("qwen2.rope.scaling.factor", 1.0f) == "");
  CHECK(with("qwen2.rope.scale_linear", 1.0f) == "");
  CHECK(with("qwen2.attention.causal", true) == "");
  CHECK(with("qwen2.attention.sliding_window", 64u) == "");
  CHECK(with("qwen2.attention.scale", 0.5f) == "");
  CHECK(with("qwen2.some_new_key", 3u) == "");
  CHECK(with("general.type", "model") == "");
}

TEST_CASE("gguf: an end token that is no token id is refused by its key") {
  const auto end_token = [](std::uint32_t value) {
    return config_error(
        [&](io::GgufHeader& header) { header.add("tokenizer.ggml.eos_token_id", value); });
  };
  CHECK(end_token(2u) == "");
  for (const std::string& error : {end_token(1u << 31), end_token(0xffffffffu)}) {
    CAPTURE(error);
    CHECK(error.find("tokenizer.ggml.eos_token_id is ") != std::string::npos);
    CHECK(error.find("which is not a token id") != std::string::npos);
  }
}
