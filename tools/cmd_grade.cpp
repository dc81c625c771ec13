#include "tools/cmd_grade.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <istream>
#include <ostream>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/rewards.h"

namespace qgrpo::tools {
namespace {

std::string grade_line(std::span<const train::Reward> rewards, const io::JsonValue& line) {
  const train::RewardScores scores = train::score(rewards, line.at("completion").as_string_view(),
                                                  line.at("answer").as_string_view());
  io::JsonWriter json;
  json.begin_object();
  for (std::size_t i = 0; i < rewards.size(); ++i) json.member(rewards[i].name, scores.values[i]);
  json.member("total", scores.total);
  json.end_object();
  return json.str();
}

}  // namespace

int run_grade(const GradeOptions& options, std::istream& standard_input, std::ostream& output) {
  const std::vector<train::Reward> rewards = train::parse_rewards(options.rewards);
  const bool from_file = !options.input.empty() && options.input != "-";
  const std::string name = from_file ? options.input : "standard input";
  std::ifstream file;
  if (from_file) {
    file.open(options.input, std::ios::binary);
    require(file.is_open(), "{}: {}, expected a file of JSON lines", name, std::strerror(errno));
  }
  std::istream& input = from_file ? static_cast<std::istream&>(file) : standard_input;

  io::JsonDocument document;
  std::string line;
  for (std::size_t number = 1; std::getline(input, line); ++number) {
    const std::string where = fmt::format("{} line {}", name, number);
    require(line.find_first_not_of(" \t\r") != std::string::npos,
            "{}: empty line, expected {{\"completion\": .., \"answer\": ..}}", where);
    output << grade_line(rewards, document.parse(line, where)) << '\n';
    require(output.good(), "cannot write the scores: {}", std::strerror(errno));
  }
  require(!input.bad(), "{}: {} while reading", name, std::strerror(errno));
  output.flush();
  require(output.good(), "cannot write the scores: {}", std::strerror(errno));
  return 0;
}

}  // namespace qgrpo::tools
