#include "train/dataset.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"
#include "train/python_text.h"

namespace qgrpo::train {

std::optional<std::string> extract_hash_answer(std::string_view text) {
  constexpr std::string_view mark = "####";
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  return std::string(python_strip(python_split_first(text.substr(at + mark.size()), mark)));
}

std::vector<Example> read_gsm8k(const std::string& path) {
  const std::string content = io::read_file(path);
  std::vector<Example> examples;
  io::JsonDocument document;
  std::size_t line_number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    const std::string where = fmt::format("{} line {}", path, ++line_number);
    require(!python_strip(line).empty(),
            "{}: empty line, expected a JSON object with \"question\" and \"answer\"; remove it",
            where);
    const io::JsonValue value = document.parse(line, where);
    Example example;
    example.question = value.at("question").as_string();
    require(!python_strip(example.question).empty(), "{}: \"question\" is empty", where);
    const std::string answer = value.at("answer").as_string();
    std::optional<std::string> final_answer = extract_hash_answer(answer);
    require(final_answer.has_value(),
            "{}: \"answer\" has no \"####\", expected the final answer behind it as in GSM8K",
            where);
    example.answer = std::move(*final_answer);
    examples.push_back(std::move(example));
  }
  require(!examples.empty(), "{}: the file is empty, expected one JSON object a line", path);
  return examples;
}

std::vector<std::uint32_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::uint32_t> order(size);
  std::iota(order.begin(), order.end(), 0u);
  Rng rng(seed, RngStream::data_order, static_cast<std::uint32_t>(epoch),
          static_cast<std::uint32_t>(epoch >> 32));
  for (std::size_t i = size; i > 1; --i) {
    std::swap(order[i - 1], order[rng.below(static_cast<std::uint32_t>(i))]);
  }
  return order;
}

DataCursor::DataCursor(std::size_t size, std::uint64_t seed, bool shuffle)
    : size_(size), seed_(seed), shuffle_(shuffle) {
  require(size > 0, "the dataset is empty, expected at least one example");
  require(size <= std::numeric_limits<std::uint32_t>::max(),
          "the dataset has {} examples, expected at most {}", size,
          std::numeric_limits<std::uint32_t>::max());
}

std::size_t DataCursor::sample(std::uint64_t position) {
  const std::uint64_t within = position % size_;
  if (!shuffle_) return static_cast<std::size_t>(within);
  if (cached_epoch_ != epoch(position)) {
    cached_epoch_ = epoch(position);
    order_ = epoch_order(size_, seed_, *cached_epoch_);
  }
  return order_[static_cast<std::size_t>(within)];
}

}  // namespace qgrpo::train
