#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <random>
#include <thread>

#include "model/io/file.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/load.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

const std::string kSmall = vector_path("tokenizer/small");

}  // namespace

TEST_CASE("the small tokenizer gives the ids of Hugging Face's tokenizers") {
  const auto tokenizer = load_tokenizer(kSmall);
  CHECK(tokenizer->vocab_size() == 1000);
  check_encodings(*tokenizer, Vectors("small/encodings.json").root());
  CHECK(tokenizer->token_to_id("<|im_end|>") == 999);
  CHECK(tokenizer->id_to_token(999) == "<|im_end|>");
  CHECK(tokenizer->is_special(999));
  CHECK_FALSE(tokenizer->is_special(0));
  CHECK_FALSE(tokenizer->token_to_id("not a token").has_value());
  CHECK_FALSE(tokenizer->id_to_token(1000).has_value());
  CHECK_FALSE(tokenizer->id_to_token(-1).has_value());
}

TEST_CASE("Qwen2.5: tokenizer.json gives the golden ids and texts") {
  const auto folder = qwen_folder();
  if (!folder) return;
  const auto tokenizer = load_tokenizer(*folder);
  CHECK(tokenizer->vocab_size() == 151665);
  check_encodings(*tokenizer, Vectors("encodings.json").root());
  Vectors decodings("decodings.json");
  for (const auto& entry : decodings.root().as_array()) {
    const auto ids = entry.at("ids").as_ids();
    const auto decoded = entry.at("decoded").as_string();
    CHECK(tokenizer->decode(ids) == decoded);
    CHECK(tokenizer->decode(ids, true) == entry.at("decoded_skip_special").as_string());
    check_stream(*tokenizer, ids, false, decoded);
  }
}

TEST_CASE("Qwen2.5: vocab.json and merges.txt give the golden ids") {
  const auto folder = qwen_folder();
  if (!folder) return;
  const TemporaryFolder older;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    std::filesystem::copy(*folder + "/" + name, older.path() + "/" + name);
  }
  check_encodings(*load_tokenizer(older.path()), Vectors("encodings.json").root());
}

TEST_CASE("vocab.json and merges.txt of the small tokenizer, with each source of added tokens") {
  Vectors whole("small/tokenizer.json");
  const auto model = whole.root().at("model");
  std::string merges = "#version: 0.2\n";
  for (const auto& merge : model.at("merges").as_array()) merges += merge.as_string() + "\r\n";
  io::JsonWriter vocab;
  vocab.begin_object();
  for (const auto& [token, id] : model.at("vocab").as_object()) vocab.member(token, id.as_int());
  vocab.end_object();
  const TemporaryFolder folder;
  folder.write("vocab.json", vocab.str());
  folder.write("merges.txt", merges);

  // Without any, Hugging Face's Qwen2Tokenizer adds <|endoftext|>.
  const auto bare = load_tokenizer(folder.path());
  CHECK(bare->encode("<|endoftext|>") == std::vector<std::int32_t>{997});
  CHECK(bare->encode("<|im_end|>").size() > 1);

  folder.write("added_tokens.json",
               R"({"<|endoftext|>": 997, "<|im_start|>": 998, "<|im_end|>": 999})");
  check_encodings(*load_tokenizer(folder.path()), Vectors("small/encodings.json").root());

  std::filesystem::remove(folder.path() + "/added_tokens.json");
  folder.write("tokenizer_config.json", io::read_file(kSmall + "/tokenizer_config.json"));
  check_encodings(*load_tokenizer(folder.path()), Vectors("small/encodings.json").root());
}

TEST_CASE("special tokens in text can be read as plain characters") {
  const auto tokenizer = load_tokenizer(kSmall);
  const std::string text = "a<|im_end|>b";
  const auto plain = tokenizer->encode(text, SpecialText::kPlain);
  CHECK(tokenizer->encode(text).size() == 3);
  CHECK(plain.size() > 3);
  for (const auto id : plain) CHECK_FALSE(tokenizer->is_special(id));
  CHECK(tokenizer->decode(plain) == text);
}

TEST_CASE("random text comes back as its NFC form, random bytes of ids as Python decodes them") {
  const auto tokenizer = load_tokenizer(kSmall);
  std::mt19937 random(17);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (int round = 0; round < 2000; ++round) {
    // Without combining characters NFC changes nothing.
    std::string text;
    for (std::uint32_t n = below(40); n > 0; --n) {
      const std::uint32_t kind = below(5);
      if (kind == 0) text.append(1 + below(4), " \n\t'a1"[below(6)]);
      if (kind == 1) utf8::append(text, below(0x80));
      if (kind == 2) utf8::append(text, 0x400 + below(0x50));
      if (kind == 3) utf8::append(text, 0x4E00 + below(0x5000));
      if (kind == 4) utf8::append(text, 0x1F600 + below(0x40));
    }
    const auto ids = tokenizer->encode(text);
    CHECK(tokenizer->decode(ids) == text);
    check_stream(*tokenizer, ids, false, text);
  }
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::int32_t> ids(below(12));
    for (auto& id : ids) id = static_cast<std::int32_t>(below(256));
    const std::string text = tokenizer->decode(ids);
    CHECK(utf8::is_valid(text));
    check_stream(*tokenizer, ids, false, text);
  }
}

TEST_CASE("bytes that are not UTF-8 become U+FFFD once for each maximal part") {
  // Expected values: Python's bytes.decode("utf-8", "replace").
  const std::string mark = "\xEF\xBF\xBD";
  const std::pair<std::string, std::string> cases[] = {
      {"a\xE4\xBD", "a" + mark},
      {"\xE4\xBD"
       "a",
       mark + "a"},
      {"\xF0\x9F\x98", mark},
      {"\xF0\x80\x80", mark + mark + mark},
      {"\xED\xA0\x80", mark + mark + mark},
      {"\xC0\xAF", mark + mark},
      {"\xF4\x90\x80\x80", mark + mark + mark + mark},
      {"\xE4\xE4\xBD\xA0", mark + "\xE4\xBD\xA0"},
      {"\x80\xFF", mark + mark},
  };
  for (const auto& [bytes, expected] : cases) {
    std::string pending = bytes;
    std::string whole;
    utf8::decode(pending, whole, utf8::Replacement::kMaximalPart, true);
    CHECK(whole == expected);
    std::string streamed;
    for (const char c : bytes) {
      pending += c;
      utf8::decode(pending, streamed, utf8::Replacement::kMaximalPart, false);
      CHECK(pending.size() <= 3);
    }
    utf8::decode(pending, streamed, utf8::Replacement::kMaximalPart, true);
    CHECK(streamed == expected);
  }
}

TEST_CASE("long words: the heap and the plain scan agree") {
  // A word longer than 64 bytes takes the heap. In a text of one letter every word is one run, so a
  // definition without a pattern and one word per run give the same merges.
  const auto tokenizer = load_tokenizer(kSmall);
  std::mt19937 random(23);
  Vectors file("small/tokenizer.json");
  std::array<std::int32_t, 256> bytes;
  bytes.fill(-1);
  for (int c = 'a'; c <= 'z'; ++c) {
    bytes[static_cast<std::size_t>(c)] = *tokenizer->token_to_id(std::string(1, char(c)));
  }
  std::vector<BpeMerges::Merge> merges;
  for (const auto& merge : file.root().at("model").at("merges").as_array()) {
    const auto text = merge.as_string();
    const auto space = text.find(' ');
    const auto left = text.substr(0, space);
    const auto right = text.substr(space + 1);
    merges.push_back({*tokenizer->token_to_id(left), *tokenizer->token_to_id(right),
                      *tokenizer->token_to_id(left + right)});
  }
  const BpeMerges bpe(bytes, merges, "small");
  BpeMerges::Scratch scratch;
  // The rule itself, spelled out.
  const auto reference = [&](const std::string& word) {
    std::vector<std::int32_t> ids;
    for (const char c : word) ids.push_back(bytes[static_cast<std::uint8_t>(c)]);
    for (;;) {
      std::size_t best_rank = merges.size();
      std::size_t best = 0;
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        for (std::size_t rank = 0; rank < best_rank; ++rank) {
          if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) {
            best_rank = rank;
            best = i;
          }
        }
      }
      if (best_rank == merges.size()) return ids;
      ids[best] = merges[best_rank].result;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  };
  for (int round = 0; round < 60; ++round) {
    std::string word;
    for (std::size_t n = 40 + random() % 60; n > 0; --n) word += "etaoinshr"[random() % 9];
    std::vector<std::int32_t> ids;
    bpe.encode_word(word, scratch, ids);
    CHECK(ids == reference(word));
  }
}

TEST_CASE("very long inputs do not fail") {
  const auto tokenizer = load_tokenizer(kSmall);
  for (const char* unit : {" ", "\n", "a", " a", "1", "!", "\xE4\xBD\xA0"}) {
    std::string text;
    while (text.size() < 2'000'000) text += unit;
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  }
}

TEST_CASE("a tokenizer may be used by several threads, and its cache never changes the result") {
  const auto tokenizer = load_tokenizer(kSmall);
  Vectors file("small/encodings.json");
  const auto entries = file.root().as_array();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (const auto& entry : entries) {
          if (tokenizer->encode(entry.at("text").as_string()) != entry.at("ids").as_ids()) ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  // More different words than the cache holds.
  std::string words;
  for (int i = 0; i < 40000; ++i) {
    words += ' ';
    for (int n = i; n > 0; n /= 26) words += static_cast<char>('a' + n % 26);
  }
  const auto first = tokenizer->encode(words);
  CHECK(tokenizer->encode(words) == first);
  CHECK(load_tokenizer(kSmall)->encode(words) == first);
}

}  // namespace qgrpo::test
