#include "model/ops/cases/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/ops/nf4.h"

namespace qgrpo::cases {
namespace {

std::vector<AdapterRun> all_rows(std::int64_t rows, std::int32_t adapter) {
  return {{0, static_cast<std::int32_t>(rows), adapter}};
}

// Rows without adapter, with the first, with the second, the first again: across the limit (32
// rows) at which the CPU's LoRA products change their layout.
std::vector<AdapterRun> mixed_runs() {
  return {{0, 3, -1}, {3, 40, 0}, {43, 5, 1}, {48, 6, 0}};
}

// Sizes around the CPU's panels (32 outputs) and NF4's blocks (64 elements), in every format, with
// a bias and two adapters, the second of rank 1.
std::vector<LinearCase> in_every_format() {
  struct Size {
    const char* name;
    Kind kind;
    std::int64_t n, k, rows, rank;
    std::vector<AdapterRun> runs;
  };
  const Size sizes[] = {
      {"one element", Kind::tiny, 1, 1, 1, 1, all_rows(1, 0)},
      {"two rows", Kind::odd, 17, 50, 2, 3, all_rows(2, 0)},
      {"one output more than a panel", Kind::edge, 33, 63, 5, 8, all_rows(5, 1)},
      {"whole blocks", Kind::edge, 160, 64, 13, 16, all_rows(13, 0)},
      {"blocks that cross rows", Kind::edge, 64, 160, 33, 5, all_rows(33, 0)},
      {"two adapters and none", Kind::odd, 130, 65, 54, 33, mixed_runs()},
      {"no adapter", Kind::edge, 40, 320, 12, 4, all_rows(12, -1)},
  };
  std::vector<LinearCase> out;
  for (const auto& [format, name] : {std::pair{WeightFormat::f32, "f32"},
                                     {WeightFormat::bf16, "bf16"},
                                     {WeightFormat::nf4, "nf4"}}) {
    for (const Size& s : sizes) {
      LinearCase c{std::string(s.name) + ", " + name, s.kind, s.rows, s.n, s.k, format};
      c.ranks = {s.rank, 1};
      c.runs = s.runs;
      c.bias = true;
      out.push_back(c);
    }
  }
  return out;
}

LinearCase make(std::string name, Kind kind, std::int64_t rows, std::int64_t n, std::int64_t k,
                WeightFormat format, std::vector<std::int64_t> ranks, std::vector<AdapterRun> runs,
                bool bias = false, bool residual = false) {
  LinearCase c{std::move(name), kind, rows, n, k, format};
  c.ranks = std::move(ranks);
  c.runs = std::move(runs);
  c.bias = bias;
  c.residual = residual;
  return c;
}

// An adapter's rows below, at and above the 2048 that a GPU sums in float32 at once, and the rows of
// the GSM8K notebook's step, 256 of the prompt and 8 x 512, of which not all have one.
void add_row_chunks(std::vector<LinearCase>& out) {
  constexpr auto nf4 = WeightFormat::nf4;
  const auto add = [&](std::int32_t rows, std::vector<AdapterRun> runs) {
    out.push_back(make(fmt::format("{} rows", rows), Kind::edge, rows, 8, 32, nf4, {8},
                       std::move(runs), true, true));
  };
  for (const std::int32_t rows : {2047, 2048, 2049}) add(rows, all_rows(rows, 0));
  add(4352, {{0, 256, -1}, {256, 4092, 0}, {4348, 4, -1}});
  out.push_back(make("4352 rows, bf16, no adapter", Kind::edge, 4352, 16, 8, WeightFormat::bf16, {},
                     all_rows(4352, -1), true));
}

// Below, at and above every size at which a backend begins another turn, the other two tiny.
void add_turns(std::vector<LinearCase>& out) {
  constexpr auto nf4 = WeightFormat::nf4;
  const auto add = [&](const char* what, std::int64_t rows, std::int64_t n, std::int64_t k) {
    const std::int64_t size = *what == 'r' ? rows : *what == 'o' ? n : k;
    out.push_back(make(fmt::format("{} {}", size, what), Kind::edge, rows, n, k, nf4, {8},
                       all_rows(static_cast<std::int32_t>(rows), 0), true, true));
  };
  // The CPU's tiles of 6 and 14 rows, 2 and 12 fused; its blocks of 240 and 960; cuBLASLt's plans.
  for (const std::int64_t rows :
       {2, 3, 6, 7, 11, 12, 14, 15, 239, 240, 241, 959, 960, 961, 1023, 1024, 1025})
    add("rows at a turn", rows, 8, 64);
  // Four of the CPU's panels; the columns of a task that sums a bias' gradient.
  for (const std::int64_t n : {127, 128, 129, 136, 255, 256, 257, 264}) add("outputs", 3, n, 8);
  // The CPU's depth; NF4's steps of 128 and the others' of 32.
  for (const std::int64_t k : {120, 128, 136, 248, 255, 256, 257, 264}) add("inputs", 3, 8, k);
}

}  // namespace

const std::vector<LinearCase>& linear() {
  static const std::vector<LinearCase> cases = [] {
    constexpr auto nf4 = WeightFormat::nf4;
    std::vector<LinearCase> out = in_every_format();
    const LinearCase more[] = {
        make("one row", Kind::edge, 1, 64, 64, nf4, {}, all_rows(1, -1)),
        make("five rows, blocks that cross rows", Kind::edge, 5, 72, 160, nf4, {8}, all_rows(5, 0),
             true),
        make("16 rows, two adapters and none, residual", Kind::edge, 16, 40, 896, nf4, {8, 24},
             {{0, 3, 1}, {3, 9, -1}, {12, 4, 0}}, true, true),
        make("many outputs", Kind::edge, 3, 8192, 64, nf4, {}, all_rows(3, -1)),
        make("17 rows", Kind::edge, 17, 64, 160, nf4, {8}, all_rows(17, 0), true),
        make("no bias, no adapter, residual: rounded by cuBLASLt", Kind::edge, 40, 72, 64, nf4, {},
             all_rows(40, -1), false, true),
        make("inputs that are no multiple of 32", Kind::odd, 4, 64, 40, nf4, {}, all_rows(4, -1)),
        make("bf16, two runs", Kind::edge, 33, 48, 128, WeightFormat::bf16, {16},
             {{0, 20, 0}, {20, 13, -1}}, true),
        make("no rows", Kind::tiny, 0, 64, 64, nf4, {}, {}),
    };
    out.insert(out.end(), std::begin(more), std::end(more));
    add_row_chunks(out);
    add_turns(out);
    return out;
  }();
  return cases;
}

const std::vector<LinearCase>& linear_few_rows() {
  static const std::vector<LinearCase> cases = [] {
    constexpr auto nf4 = WeightFormat::nf4;
    constexpr auto bf16 = WeightFormat::bf16;
    std::vector<LinearCase> out = {
        make("one step, one output tile", Kind::tiny, 65, 8, 32, nf4, {}, all_rows(65, -1)),
        make("blocks that cross rows", Kind::edge, 65, 72, 160, nf4, {}, all_rows(65, -1), true,
             true),
        make("two adapters and none, one of an odd rank", Kind::odd, 65, 40, 896, nf4, {8, 12},
             {{0, 3, 1}, {3, 9, -1}, {12, 4, 0}, {16, 40, 0}, {56, 9, 1}}, true, true),
        make("K is split, rank over several warps, shadows", Kind::edge, 65, 48, 2048, nf4,
             {72, 12}, {{0, 40, 0}, {40, 25, 1}}, true, true),
        make("more runs than a launch takes", Kind::edge, 65, 24, 64, nf4, {8},
             {{0, 1, 0},
              {1, 1, -1},
              {2, 5, 0},
              {7, 1, -1},
              {8, 8, 0},
              {16, 1, -1},
              {17, 1, 0},
              {18, 1, -1},
              {19, 46, 0}}),
        make("as many runs as a launch takes", Kind::edge, 65, 24, 64, nf4, {8, 16},
             {{0, 1, 0}, {1, 30, 1}, {31, 2, 0}, {33, 32, 1}}),
        make("one run more than a launch takes", Kind::edge, 65, 24, 64, nf4, {8, 16},
             {{0, 1, 0}, {1, 30, 1}, {31, 2, 0}, {33, 30, 1}, {63, 2, 0}}),
        make("NF4 rows that are no whole pieces", Kind::odd, 65, 64, 40, nf4, {8}, all_rows(65, 0),
             true, true),
        make("bf16", Kind::edge, 65, 48, 128, bf16, {}, all_rows(65, -1), true),
        make("bf16, K is split and ends within a step", Kind::odd, 65, 104, 1032, bf16, {16},
             {{0, 33, 0}, {33, 32, -1}}, false, true),
        make("0.5B, down", Kind::real, 8, 896, 4864, nf4, {16}, all_rows(8, 0), false, true),
        make("0.5B, k", Kind::real, 3, 128, 896, nf4, {16}, all_rows(3, 0), true),
        make("3B, k", Kind::real, 8, 256, 2048, nf4, {64}, all_rows(8, 0), true),
        make("3B, down", Kind::real, 8, 2048, 11008, nf4, {64}, all_rows(8, 0), false, true),
    };
    for (LinearCase& c : out) c.shadows = c.kind == Kind::real;
    out[3].shadows = true;
    return out;
  }();
  return cases;
}

const std::vector<LinearCase>& linear_backward() {
  static const std::vector<LinearCase> cases = [] {
    constexpr auto nf4 = WeightFormat::nf4;
    constexpr auto bf16 = WeightFormat::bf16;
    constexpr auto f32 = WeightFormat::f32;
    std::vector<LinearCase> out = in_every_format();
    for (LinearCase& c : out) {
      c.residual = true;
      c.full = c.format == f32;
    }
    const std::vector<AdapterRun> many = {{0, 3, 1},  {3, 9, -1},  {12, 20, 0},
                                          {32, 0, 1}, {32, 6, -1}, {38, 5, 0}};
    std::vector<LinearCase> more = {
        make("one row", Kind::edge, 1, 64, 64, nf4, {8}, all_rows(1, 0)),
        make("five rows, blocks that cross rows", Kind::edge, 5, 72, 160, nf4, {8}, all_rows(5, 0),
             false, true),
        make("two adapters and none, the first again", Kind::edge, 43, 40, 128, nf4, {24, 8}, many),
        make("the same, accumulated", Kind::edge, 43, 40, 128, nf4, {24, 8}, many, false, true),
        make("no adapter: rounded once", Kind::edge, 17, 64, 160, nf4, {}, all_rows(17, -1)),
        make("no adapter, accumulated", Kind::edge, 33, 48, 64, bf16, {}, all_rows(33, -1), false,
             true),
        make("a rank that is no multiple of 8", Kind::odd, 9, 64, 64, bf16, {5}, all_rows(9, 0)),
        make("dx not wanted", Kind::edge, 20, 64, 96, nf4, {16}, all_rows(20, 0)),
        make("a frozen adapter passes gradients on", Kind::edge, 12, 64, 96, bf16, {8, 8},
             {{0, 6, 0}, {6, 6, 1}}),
        make("full parameters", Kind::edge, 70, 48, 56, f32, {}, all_rows(70, -1), false, true),
        make("full parameters and an adapter", Kind::edge, 129, 24, 40, f32, {8},
             {{0, 100, 0}, {100, 29, -1}}),
        make("no rows", Kind::tiny, 0, 64, 64, nf4, {8}, {}),
        make("0.5B, down", Kind::real, 6, 896, 4864, nf4, {64}, all_rows(6, 0)),
        make("0.5B, k", Kind::real, 10, 128, 896, nf4, {8}, {{0, 7, 0}, {7, 3, -1}}, false, true),
        make("3B, o", Kind::real, 4, 2048, 2048, nf4, {64}, all_rows(4, 0), false, true),
    };
    for (LinearCase& c : more) {
      c.dx = c.name != "dx not wanted";
      c.full = c.name.starts_with("full parameters");
      if (c.name.starts_with("a frozen adapter")) c.trained = 1;
    }
    out.insert(out.end(), more.begin(), more.end());
    const std::size_t chunks = out.size();
    add_row_chunks(out);
    add_turns(out);
    for (std::size_t i = chunks; i < out.size(); ++i) out[i].dx = true;
    return out;
  }();
  return cases;
}

bool cuda_takes(const LinearCase& c) {
  return c.n % 8 == 0 && c.k % 8 == 0;
}

Bound linear_bound(const LinearCase& c) {
  return {1e-5, kBf16Rounding + (c.ranks.empty() ? 0.0 : std::sqrt(24.0) * 0x1p-9),
          "one rounding, and a random walk of an adapter's rounded values"};
}

Bound linear_few_rows_bound(const LinearCase& c) {
  std::int64_t rank = 0;
  for (const std::int64_t r : c.ranks) rank = std::max(rank, r);
  return {1e-5, kBf16Rounding + 1.5 * std::sqrt(static_cast<double>(rank)) * 0x1p-9,
          "one rounding, and a random walk of an adapter's rounded values"};
}

double weight_bytes(std::int64_t n, std::int64_t k, WeightFormat format) {
  const std::int64_t elements = n * k;
  switch (format) {
    case WeightFormat::f32:
      return static_cast<double>(4 * elements);
    case WeightFormat::bf16:
      return static_cast<double>(2 * elements);
    case WeightFormat::nf4:
      break;
  }
  // Codes, and per block of 64 a byte, per 256 of these a float.
  const std::int64_t blocks = elements / kNf4Block;
  const std::int64_t bytes = elements / 2 + blocks + 4 * (blocks / kNf4NestedBlock);
  return static_cast<double>(bytes);
}

namespace {

double rank_of(const LinearCase& c) {
  std::int64_t rank = 0;
  for (const std::int64_t r : c.ranks) rank += r;
  return static_cast<double>(rank);
}

}  // namespace

Work linear_forward_work(const LinearCase& c, int activation) {
  const auto rows = static_cast<double>(c.rows), n = static_cast<double>(c.n),
             k = static_cast<double>(c.k), a = static_cast<double>(activation);
  const double rank = rank_of(c);
  const double outputs = c.residual ? 2.0 : 1.0;
  return {2.0 * rows * (n * k + rank * (n + k)),
          weight_bytes(c.n, c.k, c.format) + a * rank * (n + k) + a * rows * (outputs * n + k) +
              (c.bias ? 4.0 * n : 0.0)};
}

Work linear_backward_work(const LinearCase& c, int activation) {
  const auto rows = static_cast<double>(c.rows), n = static_cast<double>(c.n),
             k = static_cast<double>(c.k), a = static_cast<double>(activation);
  const double rank = rank_of(c);
  // The base once, three products with the factors beside x A^T again; the factors' gradients are
  // read and written.
  return {2.0 * rows * (n * k + 3.0 * rank * (n + k)),
          weight_bytes(c.n, c.k, c.format) + a * rank * (n + k) + 8.0 * rank * (n + k) +
              a * rows * (n + 2.0 * k)};
}

}  // namespace qgrpo::cases
