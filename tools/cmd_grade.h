#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace qgrpo::tools {

struct GradeOptions {
  std::string input;                 // a file; empty or "-": standard input
  std::vector<std::string> rewards;  // "name[:weight]"; empty: all five with weight 1
};

// Scores completions: JSON lines {"completion": .., "answer": ..} in (other keys are ignored), for
// each, in order, one line out with every reward before its weight, and the weighted sum:
//   {"xmlcount":..,"soft_format":..,"strict_format":..,"int":..,"correctness":..,"total":..}
// Numbers are the shortest decimals that read back as the same double. Throws Error that names the
// file and the line on anything else than such an object, and where the output cannot be written.
// Lines before a bad one have been answered. Returns 0.
int run_grade(const GradeOptions& options, std::istream& standard_input, std::ostream& output);

}  // namespace qgrpo::tools
