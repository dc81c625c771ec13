#include "cuda/linear.h"

#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/nf4.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;
using Slot = Device::Slot;

// Rows whose float32 sums are kept at once: 90 MB at N = 11008.
constexpr std::int64_t kSumRows = 2048;

struct Factors {
  const float* a = nullptr;
  const float* b = nullptr;
  float scale = 0.0f;
  std::int64_t rank = 0;
};

Factors factors_of(const Linear& linear, std::int32_t adapter) {
  if (adapter < 0) return {};
  require(static_cast<std::size_t>(adapter) < linear.adapters.size(),
          "linear: a run names adapter {} of {}", adapter, linear.adapters.size());
  const LoraFactors& f = linear.adapters[static_cast<std::size_t>(adapter)];
  if (!f.a) return {};
  const std::int64_t rank = f.a.shape[0];
  return {static_cast<const float*>(
              require_view("linear", "A", f.a, DType::f32, rank * linear.weight->cols())),
          static_cast<const float*>(
              require_view("linear", "B", f.b, DType::f32, rank * linear.weight->rows())),
          f.scale, rank};
}

struct Operands {
  bf16* y;
  const bf16* x;
  const CudaWeight& weight;
  const float* bias;
  bool accumulate;
  std::int64_t n() const { return weight.rows(); }
  std::int64_t k() const { return weight.cols(); }
};

void run_fused(Device& device, const Operands& p, const AdapterRun& run, const Factors& f) {
  const bf16* x = p.x + run.begin * p.k();
  kernels::LowRank low;
  if (f.rank > 0) {
    auto* t = device.scratch<bf16>(Slot::low, kernels::kNf4LinearRows * f.rank);
    QGRPO_CUDA(
        kernels::low_rank_down(device.handle(), t, x, f.a, f.scale, run.length, f.rank, p.k()));
    low = {t, f.b, static_cast<int>(f.rank)};
  }
  QGRPO_CUDA(kernels::nf4_linear(device.handle(), p.y + run.begin * p.n(), x, run.length,
                                 p.weight.nf4(), p.bias, low, p.accumulate, device.processors()));
}

// One chunk of a run with a bias or an adapter: the sums meet in float32 before the one rounding.
void run_sums(Device& device, Gemm& gemm, const Operands& p, const bf16* dense, std::int64_t begin,
              std::int64_t rows, const Factors& f, const bf16* a, const bf16* b) {
  const bf16* x = p.x + begin * p.k();
  auto* sums = device.scratch<float>(Slot::sums, rows * p.n());
  gemm.run(sums, DType::f32, x, dense, rows, p.n(), p.k());
  if (f.rank > 0) {
    auto* low_sums = device.scratch<float>(Slot::low_sums, rows * f.rank);
    auto* low = device.scratch<bf16>(Slot::low, rows * f.rank);
    gemm.run(low_sums, DType::f32, x, a, rows, f.rank, p.k());
    QGRPO_CUDA(kernels::to_bf16(device.handle(), low, low_sums, f.scale, rows * f.rank));
    gemm.run(sums, DType::f32, low, b, rows, p.n(), f.rank, /*accumulate=*/true);
  }
  QGRPO_CUDA(kernels::finish_linear(device.handle(), p.y + begin * p.n(), sums, p.bias, rows, p.n(),
                                    p.accumulate));
}

void run_many(Device& device, Gemm& gemm, const Operands& p, const bf16* dense,
              const AdapterRun& run, const Factors& f) {
  if (p.bias == nullptr && f.rank == 0) {
    gemm.run(p.y + run.begin * p.n(), DType::bf16, p.x + run.begin * p.k(), dense, run.length,
             p.n(), p.k(), p.accumulate);
    return;
  }
  bf16* a = nullptr;
  bf16* b = nullptr;
  if (f.rank > 0) {
    a = device.scratch<bf16>(Slot::low_a, f.rank * p.k());
    b = device.scratch<bf16>(Slot::low_b, f.rank * p.n());
    QGRPO_CUDA(kernels::to_bf16(device.handle(), a, f.a, 1.0f, f.rank * p.k()));
    QGRPO_CUDA(kernels::to_bf16(device.handle(), b, f.b, 1.0f, f.rank * p.n()));
  }
  for (std::int64_t done = 0; done < run.length; done += kSumRows) {
    const std::int64_t rows = std::min<std::int64_t>(kSumRows, run.length - done);
    run_sums(device, gemm, p, dense, run.begin + done, rows, f, a, b);
  }
}

}  // namespace

void linear_forward(Device& device, Gemm& gemm, TensorView y, ConstTensorView x,
                    const Linear& linear, std::span<const AdapterRun> runs, bool accumulate) {
  const CudaWeight& weight = cuda_weight(*linear.weight);
  const std::int64_t rows = x.shape[0];
  const Operands p{
      const_cast<bf16*>(static_cast<const bf16*>(
          require_view("linear", "y", y, DType::bf16, rows * weight.rows()))),
      static_cast<const bf16*>(require_view("linear", "x", x, DType::bf16, rows * weight.cols())),
      weight,
      linear.bias ? static_cast<const float*>(
                        require_view("linear", "the bias", linear.bias, DType::f32, weight.rows()))
                  : nullptr,
      accumulate};
  // Then every row is 16-byte aligned, which the kernels' vector accesses take for granted.
  require(p.n() % 8 == 0 && p.k() % 8 == 0,
          "linear: a weight of {} x {}; the CUDA backend takes multiples of 8", p.n(), p.k());
  std::int64_t covered = 0;
  for (const AdapterRun& run : runs) {
    require(run.begin == covered && run.length >= 0, "linear: a run begins at row {}, expected {}",
            run.begin, covered);
    covered += run.length;
  }
  require(covered == rows, "linear: the runs cover {} of {} rows", covered, rows);
  if (rows == 0) return;
  const bool fused = weight.format() == WeightFormat::nf4 && rows <= kernels::kNf4LinearRows &&
                     weight.cols() % 32 == 0;
  const bf16* dense = fused ? nullptr : weight.dense(device);
  for (const AdapterRun& run : runs) {
    const Factors f = factors_of(linear, run.adapter);
    if (fused) {
      run_fused(device, p, run, f);
    } else {
      run_many(device, gemm, p, dense, run, f);
    }
  }
}

std::size_t linear_workspace_bytes(std::int64_t tokens, std::int64_t n, std::int64_t k,
                                   std::int64_t rank) {
  const std::int64_t rows = std::min(tokens, kSumRows);
  const std::int64_t floats = rows * (n + rank);
  const std::int64_t halves = n * k + rank * (n + k) + rows * rank;
  return static_cast<std::size_t>(4 * floats + 2 * halves) + Gemm::kWorkspaceBytes;
}

}  // namespace qgrpo::cuda
