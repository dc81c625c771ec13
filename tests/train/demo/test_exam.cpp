#include "train/demo/exam.h"

#include <doctest/doctest.h>

namespace qgrpo::train {

TEST_CASE("demo exam: a completion with an equation works the sum out") {
  Evaluation e;
  CHECK(worked_out(e) == 0.0);
  e.completions = {"<reasoning>\n3+4=7\n</reasoning>", "<reasoning>\nThat is easy.\n</reasoning>",
                   "", "1+1=2"};
  CHECK(worked_out(e) == 0.5);
}

}  // namespace qgrpo::train
