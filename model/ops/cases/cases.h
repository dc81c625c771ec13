#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/batch.h"
#include "model/ops/head.h"
#include "model/ops/objective.h"
#include "model/ops/sampling_types.h"
#include "model/ops/weight.h"

// The one table of operator cases: the sizes at which each operator is tested on every backend, how
// far results may be apart and why, and the work that a benchmark holds its time against. (The idea
// is that of ggml's tests/test-backend-ops.cpp.)
//
// To add a case: a line in the operator's list, model/ops/cases/<operator>.cpp. The tests of both
//   backends go through the lists: tests/cpu checks the fast operators against cpu/reference,
//   tests/cuda the device's against the CPU's. Where the device does not take a size
//   (cuda_takes), its test checks that it says so.
// To add an operator: its struct and list here, its bounds and its work; a run_... of it in
//   tests/support/case_runs.h (one function for all backends); a loop over the list in
//   tests/cpu/test_cases.cpp and in tests/cuda/test_<operator>.cpp.
namespace qgrpo::cases {

enum class Kind : std::uint8_t {
  tiny,  // the least there is: nothing, one element, one row
  odd,   // no multiple of any vector or tile
  edge,  // at, below and above a boundary of a kernel
  real   // a model's
};

// How far results may lie apart, as |a - b| / (1 + |b|) unless the reason says otherwise; 0: the
// same bits. `cpu`: the fast CPU operator from the plain one in cpu/reference; `cuda`: the device
// (bf16 activations) from the CPU (float32) with the same inputs, rounded to bf16 beforehand.
struct Bound {
  double cpu = 0.0;
  double cuda = 0.0;
  const char* reason = "";
};

// One rounding to bf16, which keeps 8 bits: half a unit in the last place is at most 2^-8 of the
// value. What float32 sums in another order add is far below.
inline constexpr double kBf16Rounding = 0x1p-8;

// The least work that a case is: floating-point operations of its products, and bytes with every
// weight, input and output moved once. `activation` bytes an element: 4 on the CPU, 2 on a GPU.
struct Work {
  double flops = 0.0;
  double bytes = 0.0;
};

// ---------------------------------------------------------------- embedding, gather, scatter

struct EmbeddingCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int64_t vocab = 0, width = 0;
  std::vector<std::int32_t> tokens;  // with repetitions
};
const std::vector<EmbeddingCase>& embedding();
inline constexpr Bound kEmbeddingRows{0.0, 0.0, "rows are copied"};
inline constexpr Bound kEmbeddingSums{0.0, 0.0,
                                      "float32 sums in the order of the tokens on all backends"};
inline constexpr Bound kScatterSums{0.0, kBf16Rounding, "the device's sums are rounded to bf16"};

// ---------------------------------------------------------------- rmsnorm

struct RowCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int64_t rows = 0, width = 0;
};
const std::vector<RowCase>& rmsnorm();
// dx of a single element is 0 by cancellation of terms of size rstd dy: `cpu` is then relative to
// max(1, rstd).
inline constexpr Bound kRmsnormY{1e-6, kBf16Rounding, "a few roundings; one to bf16"};
inline constexpr Bound kRmsnormRstd{1e-6, 1e-5, "float32 sums in another order"};
inline constexpr Bound kRmsnormDx{2e-6, kBf16Rounding, "as y, on values of up to ~10"};
inline constexpr Bound kRmsnormDweight{5e-6, 1e-5, "up to 300 rows are summed one by one"};
Work rmsnorm_forward_work(const RowCase& c, int activation);
Work rmsnorm_backward_work(const RowCase& c, int activation);  // without dweight

// ---------------------------------------------------------------- rope

struct RopeCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int32_t heads = 0, dim = 0;
  std::vector<std::int32_t> positions;  // one a token
};
const std::vector<RopeCase>& rope();
bool cuda_takes(const RopeCase& c);  // D a multiple of 4
inline constexpr double kRopeTheta = 1e6;
inline constexpr Bound kRopeForward{
    5e-7, kBf16Rounding, "cosines and sines in float32, two products and a sum of values up to ~4"};
inline constexpr Bound kRopeThereAndBack{
    1e-6, 3 * kBf16Rounding, "rounded twice, and the pair's partner; from what it was before"};
Work rope_work(const RopeCase& c, int activation);

// ---------------------------------------------------------------- swiglu, add, copy, zero

const std::vector<RowCase>& swiglu();
inline constexpr Bound kSwiglu{1e-6, kBf16Rounding, "about eight roundings; one to bf16"};
inline constexpr Bound kAdd{0.0, kBf16Rounding, "one rounding; to bf16 on the device"};
Work swiglu_forward_work(const RowCase& c, int activation);
Work swiglu_backward_work(const RowCase& c, int activation);

// ---------------------------------------------------------------- linear

struct LinearCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int64_t rows = 0, n = 0, k = 0;
  WeightFormat format = WeightFormat::nf4;
  std::vector<std::int64_t> ranks = {};  // of the adapters
  std::vector<AdapterRun> runs = {};
  bool bias = false;
  bool residual = false;  // forward: y = residual + ...; backward: dx += ...
  bool shadows = false;   // a GPU gets the factors' bf16 shadows alone
  // Of the backward:
  bool dx = true;
  bool full = false;               // dweight and dbias
  std::int64_t trained = 1 << 20;  // adapters that have gradients
};
const std::vector<LinearCase>& linear();           // prompts and training
const std::vector<LinearCase>& linear_few_rows();  // decode steps: of 65 rows, or a model's
const std::vector<LinearCase>& linear_backward();
bool cuda_takes(const LinearCase& c);  // N and K multiples of 8
// The result is rounded once. With an adapter, so is each of its R values t_r: before the sum with
// |B_r| about 1 they add like a random walk of R steps of up to 2^-9 (R <= 24 in linear(), t below
// 1), of 0.3 * 2^-9 seen at 5 deviations (few rows, t about 0.5).
Bound linear_bound(const LinearCase& c);
Bound linear_few_rows_bound(const LinearCase& c);
// Of the weight's bytes: nf4's codes and maxima, 2 or 4 an element.
double weight_bytes(std::int64_t n, std::int64_t k, WeightFormat format);
Work linear_forward_work(const LinearCase& c, int activation);
Work linear_backward_work(const LinearCase& c, int activation);  // dx, da and db

// ---------------------------------------------------------------- attention

// Segments by their lengths and parents, and the heads.
struct AttentionCase {
  std::string name;
  AttentionShape shape;
  std::vector<std::pair<int, int>> segments;  // (length, parent)
  Kind kind = Kind::edge;
};
const std::vector<AttentionCase>& attention();
bool cuda_takes(const AttentionCase& c);  // D = 16, 32, 64 or 128
std::vector<Segment> make_segments(const AttentionCase& c);
// A score is a chain of D <= 128 products of up to ~2 sqrt(D) in all: partial sums of up to ~20 are
// rounded 128 times by 2^-24 of their size and a walk of such errors is a few 1e-6, which exp
// passes on as the relative error of p; o and dq average over the keys.
inline constexpr Bound kAttentionO{
    5e-6, 1.0, "cuda: of 2^-8 (the sum of the terms' sizes + its own): p is rounded, and the sum"};
inline constexpr Bound kAttentionLse{5e-6, 1e-5, "float32 throughout"};
inline constexpr Bound kAttentionDq{5e-6, 1.0, "as o"};
Bound attention_dkv_bound(const AttentionCase& c);
Work attention_forward_work(const AttentionCase& c, int activation);
Work attention_backward_work(const AttentionCase& c, int activation);

// ---------------------------------------------------------------- attention over the cache

// A step's sequences: completions of a shared prompt with one decode row each, or the last rows of
// one context.
struct PagedPart {
  std::int32_t prompt = 0;
  std::vector<std::int32_t> own = {};   // a group: keys behind the prompt of each completion
  std::int32_t context = 0, query = 0;  // or else a chunk
};
struct PagedCase {
  std::string name;
  AttentionShape shape;
  std::int32_t block_size = 16, blocks = 0;
  std::vector<PagedPart> parts;
  std::vector<std::pair<int, int>> contexts = {};  // (sequence, another context length)
  Kind kind = Kind::edge;
};
const std::vector<PagedCase>& paged_attention();
inline constexpr Bound kPagedAttention{5e-6, 2 * kBf16Rounding,
                                       "two float32 softmaxes; cuda: p and the result are rounded"};
// A decode step of `rows` completions of `context` tokens, `prompt` of them shared.
Work paged_decode_work(const AttentionShape& shape, std::int64_t rows, std::int64_t context,
                       std::int64_t prompt, int activation);

// ---------------------------------------------------------------- kv_cache

struct KvWriteCase {
  std::string name;
  Kind kind = Kind::edge;
  std::int64_t width = 0;
  std::vector<std::int32_t> slots;  // of a cache of blocks of 8
  std::int64_t blocks = 6;
};
const std::vector<KvWriteCase>& kv_write();
struct RopeKvCase {
  std::string name;
  Kind kind = Kind::edge;
  std::int32_t heads = 0, kv_heads = 0, dim = 0;
  std::vector<std::int32_t> positions, slots;  // of a cache of 6 blocks of 8
};
const std::vector<RopeKvCase>& rope_kv_write();
struct CopyBlocksCase {
  std::string name;
  Kind kind = Kind::edge;
  std::int64_t width = 0;
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;  // of a cache of 6 blocks of 16
};
const std::vector<CopyBlocksCase>& copy_blocks();
inline constexpr Bound kKvCache{0.0, 0.0, "rows are copied"};
Work rope_kv_write_work(std::int64_t rows, std::int64_t q_width, std::int64_t kv_width,
                        int activation);

// ---------------------------------------------------------------- head

struct HeadCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int64_t rows = 0, width = 0, vocab = 0;
  float temperature = 1.0f;
  WeightFormat format = WeightFormat::bf16;
  // Entries spread evenly over the rows; or, where negative, rows 3 and 4 of every 7 without one
  // and row 0 of them with `several` of them, like a prompt's last row (the fourth repeats the
  // third's target).
  std::int64_t entries = -1;
  int several = 3;
  // Of the objective:
  ObjectiveParams params = {};
  bool train_head = false;
};
const std::vector<HeadCase>& head_logprob();
const std::vector<HeadCase>& head_objective();
std::vector<HeadEntry> head_entries(const HeadCase& c);
std::vector<ObjectiveEntry> head_terms(const HeadCase& c, std::size_t entries);
inline constexpr Bound kHeadLogprob{
    5e-6, 2e-5, "chains of up to 128 products and sums of exponentials in float32; absolute"};
inline constexpr Bound kHeadToken{2e-3, 2e-3,
                                  "exp(log-prob - old), a ratio of up to e^4; absolute"};
inline constexpr Bound kHeadGradient{
    1.0, 1.0, "of 2^-8 of every term's size, as d loss / d logits is rounded to bf16"};
Work head_work(std::int64_t rows, std::int64_t vocab, std::int64_t width, int activation);

// ---------------------------------------------------------------- sampling

struct SamplingCase {
  std::string name;
  SamplingParams params;
};
const std::vector<SamplingCase>& sampling();
// Rows of logits: normal numbers times `scale`, then what `shape` does to them.
struct LogitsCase {
  std::string name;
  Kind kind = Kind::odd;
  std::int64_t vocab = 0;
  std::uint32_t seed = 0;
  float scale = 1.0f;
  std::uint32_t draws = 0;  // of each setting
  enum class Shape : std::uint8_t { normal, ties, equal, raised, peaks } shape = Shape::normal;
  bool seen = true;
};
const std::vector<LogitsCase>& sampling_logits();
std::vector<float> make_logits(const LogitsCase& c);
inline constexpr Bound kSampledLogprob{
    1e-5, 1e-5, "logits of up to ~20 and float32 sums of exponentials: units of 2^-24 of 20"};

// ---------------------------------------------------------------- adamw

struct AdamWCase {
  std::string name;
  Kind kind = Kind::edge;
  std::int64_t elements = 0;
};
const std::vector<AdamWCase>& adamw();           // in 32 and in 8 bits
const std::vector<AdamWCase>& sum_of_squares();  // alone, and all together
inline constexpr Bound kAdamW{1e-6, 0.0, "each operation rounded by itself in the CPU's order"};
inline constexpr Bound kSumOfSquares{1e-13, 0.0, "512 additions in a lane, of positive numbers"};
Work adamw_8bit_work(std::int64_t n);

}  // namespace qgrpo::cases
