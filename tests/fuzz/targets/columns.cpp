// The bytes of data sets that are no JSON: CSV, Parquet, packed files, a card's configurations. The first byte says which.
#include "fuzz/target.h"
#include "hub/dataset.h"
#include "model/io/json.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "train/data/files/csv.h"
#include "train/data/files/parquet.h"
#include "train/data/files/snappy.h"
#include "train/data/files/unpack.h"

using namespace qgrpo;

namespace {

constexpr std::size_t kMost = std::size_t{1} << 24;

// What is made of a row is JSON; columns of the same name cannot be told apart in it.
void check_row(std::string_view json) {
  io::JsonDocument document;
  fuzz::check(document.parse(json, "a row").is_object(), "a row is no object");
}

}  // namespace

QGRPO_FUZZ_TARGET(columns) {
  if (input.empty()) return;
  const char who = input[0];
  const std::string content(input.substr(1));
  if (who == 'c' || who == 't') {
    const bool valid = utf8::is_valid(content);  // checked by who calls it
    train::read_csv(content, who == 'c' ? ',' : '\t', "input",
                    [&](std::string_view json, std::size_t) {
                      if (valid) check_row(json);
                    });
  } else if (who == 'p') {
    train::read_parquet(content, "input", kMost,
                        [](std::string_view json, std::size_t) { check_row(json); });
  } else if (who == 's') {
    train::unsnappy(content, 1000);
  } else if (who == 'h') {
    hub::dataset_files({{"main/train-0.csv", 1, "", "", ""}, {"a.jsonl", 1, "", "", ""}},
                       hub::read_dataset_configs(content, "input"), {});
  } else {
    train::unpack(content, train::packing_of(content), "input", kMost);
  }
}
