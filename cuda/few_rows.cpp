#include "cuda/few_rows.h"

#include <algorithm>

#include "cuda/kernels/elementwise.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;
using kernels::FewRowsArgs;
using kernels::FewRowsLow;
using kernels::FewRowsMatrix;
using kernels::FewRowsOutput;
using kernels::FewRowsPart;

static_assert(kernels::kFewRowsParts == kFewRowsGroup * kFewRowsRuns);

// An adapter of one target for one run of the chunk's rows.
struct Term {
  const LoraFactors* factors;
  std::int64_t target;
  std::int64_t n;
  std::int64_t k;
  std::int64_t row_begin;  // in the chunk
  std::int64_t rows;
  const bf16* a = nullptr;  // (R, K)
  const bf16* b = nullptr;  // (N, padded R)
  bf16* t = nullptr;        // (rows, padded R)

  std::int64_t rank() const { return factors->a.shape[0]; }
  std::int64_t padded() const { return padded_rank(rank()); }
  bool rounds_a() const { return !factors->a_shadow; }
  bool pads_b() const { return !factors->b_shadow || rank() != padded(); }
};

const bf16* shadow(const char* what, ConstTensorView x, std::int64_t elements) {
  return static_cast<const bf16*>(require_view("linear", what, x, DType::bf16, elements));
}
const float* master(const char* what, ConstTensorView x, std::int64_t elements) {
  return static_cast<const float*>(require_view("linear", what, x, DType::f32, elements));
}

// Rows [begin, begin + rows) of the call, and the parts of its runs that lie in them.
struct Chunk {
  std::int64_t begin = 0;
  std::int64_t rows = 0;
  std::vector<AdapterRun> runs;  // with an adapter; relative to `begin`
};

// The longest chunk from `begin` on.
Chunk next_chunk(std::int64_t begin, std::int64_t rows, std::span<const AdapterRun> runs) {
  Chunk chunk{begin, std::min(kFewRows, rows - begin), {}};
  for (const AdapterRun& run : runs) {
    const std::int64_t from = std::max<std::int64_t>(run.begin, begin);
    const std::int64_t to =
        std::min<std::int64_t>(std::int64_t{run.begin} + run.length, begin + chunk.rows);
    if (run.adapter < 0 || to <= from) continue;
    if (static_cast<std::int64_t>(chunk.runs.size()) == kFewRowsRuns) {
      chunk.rows = from - begin;
      break;
    }
    chunk.runs.push_back({static_cast<std::int32_t>(from - begin),
                          static_cast<std::int32_t>(to - from), run.adapter});
  }
  return chunk;
}

class Launches {
 public:
  Launches(Device& device, std::span<const FewRowsTarget> targets, FewRowsOutput output,
           const bf16* x)
      : device_(device), targets_(targets), output_(output), x_(x) {}

  void run(const Chunk& chunk) {
    collect_terms(chunk);
    prepare_factors();
    down(chunk);
    products(chunk);
  }

 private:
  const CudaWeight& weight(std::size_t target) const {
    return cuda_weight(*targets_[target].linear->weight);
  }
  std::int64_t k() const { return weight(0).cols(); }

  void collect_terms(const Chunk& chunk) {
    terms_.clear();
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const Linear& linear = *targets_[i].linear;
      for (const AdapterRun& run : chunk.runs) {
        const LoraFactors* factors = adapter_factors("linear", linear, run.adapter);
        if (factors == nullptr) continue;
        const LoraFactors& f = *factors;
        terms_.push_back(
            {&f, static_cast<std::int64_t>(i), weight(i).rows(), k(), run.begin, run.length});
      }
    }
  }

  // The factors as bf16: their shadows, or rounded (and padded) into scratch.
  void prepare_factors() {
    std::int64_t a_size = 0, b_size = 0, t_size = 0;
    for (const Term& term : terms_) {
      if (term.rounds_a()) a_size += term.rank() * k();
      if (term.pads_b()) b_size += term.n * term.padded();
      t_size += term.rows * term.padded();
    }
    bf16* a = a_size > 0 ? device_.scratch<bf16>(Slot::low_a, a_size) : nullptr;
    bf16* b = b_size > 0 ? device_.scratch<bf16>(Slot::low_b, b_size) : nullptr;
    bf16* t = t_size > 0 ? device_.scratch<bf16>(Slot::low, t_size) : nullptr;
    const cudaStream_t stream = device_.handle();
    for (Term& term : terms_) {
      const LoraFactors& f = *term.factors;
      const std::int64_t rank = term.rank(), padded = term.padded(), n = term.n;
      if (!term.rounds_a()) {
        term.a = shadow("A's shadow", f.a_shadow, rank * k());
      } else {
        term.a = a;
        QGRPO_CUDA(kernels::to_bf16(stream, a, master("A", f.a, rank * k()), 1.0f, rank * k()));
        a += rank * k();
      }
      if (!term.pads_b()) {
        term.b = shadow("B's shadow", f.b_shadow, n * rank);
      } else {
        term.b = b;
        if (f.b_shadow) {
          const bf16* from = shadow("B's shadow", f.b_shadow, n * rank);
          QGRPO_CUDA(kernels::pad_factor(stream, b, from, n, rank, padded));
        } else {
          QGRPO_CUDA(kernels::pad_factor(stream, b, master("B", f.b, n * rank), n, rank, padded));
        }
        b += n * padded;
      }
      term.t = t;
      t += term.rows * padded;
    }
  }

  // t = bf16(scale x A^T) of all terms.
  void down(const Chunk& chunk) {
    if (terms_.empty()) return;
    FewRowsArgs args;
    args.output = FewRowsOutput::scaled;
    std::int64_t sums = 0;
    for (const Term& term : terms_) {
      FewRowsPart part;
      part.matrix[0] = FewRowsMatrix::of(term.a, term.rank(), nullptr);
      part.y = term.t;
      part.scale = term.factors->scale;
      part.outputs = static_cast<int>(term.padded());
      part.row_begin = static_cast<int>(term.row_begin);
      part.rows = static_cast<int>(term.rows);
      part.splits = splits(term.padded(), false);
      sums += split_sums_elements(term.padded(), k(), false, term.rows, device_.processors());
      args.part[args.parts++] = part;
    }
    launch(args, chunk, sums, false);
  }

  void products(const Chunk& chunk) {
    const bool nf4 = weight(0).format() == WeightFormat::nf4;
    FewRowsArgs args;
    args.output = output_;
    if (nf4) args.map = weight(0).nf4().map;
    const bool pair = output_ == FewRowsOutput::swiglu;
    std::int64_t sums = 0;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      const std::int64_t n = weight(i).rows();
      sums += split_sums_elements(n, k(), nf4, chunk.rows, device_.processors());
      if (pair && i == 1) {
        args.part[0].matrix[1] = matrix(i);
        args.part[0].up = kept(i, chunk);
        add_terms(args, args.part[0], 1, 1);
        continue;
      }
      const FewRowsTarget& target = targets_[i];
      FewRowsPart& part = args.part[args.parts++];
      part.matrix[0] = matrix(i);
      const std::int64_t element = output_ == FewRowsOutput::floats ? 4 : 2;
      part.y = static_cast<std::byte*>(target.y) + chunk.begin * n * element;
      part.gate = kept(i, chunk);
      if (target.residual != nullptr) part.residual = target.residual + chunk.begin * n;
      part.outputs = static_cast<int>(n);
      part.rows = static_cast<int>(chunk.rows);
      part.splits = splits(n, nf4);
      part.low_begin = part.low_end = lows_;
      add_terms(args, part, static_cast<std::int64_t>(i), 0);
    }
    lows_ = 0;
    launch(args, chunk, sums, nf4);
  }

  void add_terms(FewRowsArgs& args, FewRowsPart& part, std::int64_t target, int matrix) {
    for (const Term& term : terms_) {
      if (term.target != target) continue;
      FewRowsLow& low = args.low[lows_++];
      low = {term.t,
             term.b,
             static_cast<int>(term.padded()),
             static_cast<int>(term.row_begin),
             static_cast<int>(term.row_begin + term.rows),
             matrix};
      part.low_end = lows_;
    }
  }

  FewRowsMatrix matrix(std::size_t target) const {
    const CudaWeight& w = weight(target);
    const ConstTensorView view = targets_[target].linear->bias;
    const float* bias = view ? master("the bias", view, w.rows()) : nullptr;
    if (w.format() == WeightFormat::nf4) return FewRowsMatrix::of(w.nf4(), bias);
    return FewRowsMatrix::of(w.dense(device_), w.rows(), bias);
  }
  bf16* kept(std::size_t target, const Chunk& chunk) const {
    bf16* to = targets_[target].kept;
    return to == nullptr ? nullptr : to + chunk.begin * weight(target).rows();
  }
  int splits(std::int64_t n, bool nf4) const {
    return static_cast<int>(few_rows_splits(n, k(), nf4, device_.processors()));
  }

  void launch(FewRowsArgs& args, const Chunk& chunk, std::int64_t sums, bool nf4) {
    args.x = x_ + chunk.begin * k();
    args.cols = static_cast<int>(k());
    if (sums > 0) {
      args.partial = device_.scratch<float>(Slot::split_sums, sums);
      args.counters = device_.zeroed_scratch<std::uint32_t>(Slot::split_counters, kSplitCounters);
    }
    QGRPO_CUDA(kernels::few_rows(device_.handle(), args, nf4));
  }

  Device& device_;
  std::span<const FewRowsTarget> targets_;
  FewRowsOutput output_;
  const bf16* x_;
  std::vector<Term> terms_;
  int lows_ = 0;
};

}  // namespace

bool few_rows_fit(std::span<const FewRowsTarget> targets) {
  const CudaWeight& first = cuda_weight(*targets[0].linear->weight);
  const auto nf4 = [](const CudaWeight& w) { return w.format() == WeightFormat::nf4; };
  for (const FewRowsTarget& target : targets) {
    const CudaWeight& w = cuda_weight(*target.linear->weight);
    if (nf4(w) != nf4(first) || w.cols() != first.cols()) return false;
  }
  return static_cast<std::int64_t>(targets.size()) <= kFewRowsGroup &&
         (!nf4(first) || few_rows_nf4(first.cols(), true));
}

void few_rows_products(Device& device, std::span<const FewRowsTarget> targets, FewRowsOutput output,
                       const bf16* x, std::int64_t rows, std::span<const AdapterRun> runs) {
  Launches launches(device, targets, output, x);
  for (std::int64_t done = 0; done < rows;) {
    const Chunk chunk = next_chunk(done, rows, runs);
    launches.run(chunk);
    done += chunk.rows;
  }
}

}  // namespace qgrpo::cuda
