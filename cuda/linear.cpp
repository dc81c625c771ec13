#include "cuda/linear.h"

#include <optional>

#include "cuda/few_rows.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/linear.h"
#include "cuda/kernels/swiglu.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;
using kernels::FewRowsOutput;

// An adapter's factors as bf16; rank 0: none.
struct Factors {
  const bf16* a = nullptr;
  const bf16* b = nullptr;
  float scale = 0.0f;
  std::int64_t rank = 0;
};

// The shadow, or the master rounded into the slot.
const bf16* factor(Device& device, const char* what, ConstTensorView master, ConstTensorView shadow,
                   Slot slot, std::int64_t elements) {
  if (shadow) return halves("linear", what, shadow, elements);
  const float* from = floats("linear", what, master, elements);
  auto* to = device.scratch<bf16>(slot, elements);
  QGRPO_CUDA(kernels::to_bf16(device.handle(), to, from, 1.0f, elements));
  return to;
}

Factors factors_of(Device& device, const Linear& linear, std::int32_t adapter) {
  const LoraFactors* f = adapter_factors("linear", linear, adapter);
  if (f == nullptr) return {};
  const std::int64_t rank = f->a.shape[0];
  const std::int64_t n = linear.weight->rows(), k = linear.weight->cols();
  return {factor(device, "A", f->a, f->a_shadow, Slot::low_a, rank * k),
          factor(device, "B", f->b, f->b_shadow, Slot::low_b, n * rank), f->scale, rank};
}

struct Operands {
  bf16* y;
  const bf16* x;
  const bf16* residual;  // or null; may be y
  std::int64_t n;
  std::int64_t k;
  const float* bias;

  const bf16* residual_at(std::int64_t row) const {
    return residual == nullptr ? nullptr : residual + row * n;
  }
};

Operands operands_of(TensorView y, ConstTensorView x, const Linear& linear,
                     ConstTensorView residual) {
  const std::int64_t n = linear.weight->rows(), k = linear.weight->cols();
  require(x.shape.rank() == 2, "linear: x is {}, expected rows of {}", x.shape.str(), k);
  const std::int64_t rows = x.shape[0];
  // Then every row is 16-byte aligned, which the kernels' vector accesses take for granted.
  require(n % 8 == 0 && k % 8 == 0,
          "linear: a weight of {} x {}; the CUDA backend takes multiples of 8", n, k);
  const auto halves = [](const char* what, ConstTensorView view, std::int64_t elements) {
    return static_cast<const bf16*>(require_view("linear", what, view, DType::bf16, elements));
  };
  return {const_cast<bf16*>(halves("y", y, rows * n)),
          halves("x", x, rows * k),
          residual ? halves("the residual", residual, rows * n) : nullptr,
          n,
          k,
          linear.bias ? static_cast<const float*>(
                            require_view("linear", "the bias", linear.bias, DType::f32, n))
                      : nullptr};
}

// One chunk of a run with a bias or an adapter: the sums meet in float32 before the one rounding.
void run_sums(Device& device, Gemm& gemm, const Operands& p, const bf16* dense, std::int64_t begin,
              std::int64_t rows, const Factors& f) {
  const bf16* x = p.x + begin * p.k;
  auto* sums = device.scratch<float>(Slot::sums, linear_sums_elements(rows, p.n));
  gemm.run(sums, DType::f32, x, dense, rows, p.n, p.k);
  if (f.rank > 0) {
    auto* low_sums = device.scratch<float>(Slot::low_sums, linear_low_elements(rows, f.rank));
    auto* low = device.scratch<bf16>(Slot::low, linear_low_elements(rows, f.rank));
    gemm.run(low_sums, DType::f32, x, f.a, rows, f.rank, p.k);
    QGRPO_CUDA(kernels::to_bf16(device.handle(), low, low_sums, f.scale, rows * f.rank));
    gemm.run(sums, DType::f32, low, f.b, rows, p.n, f.rank, /*accumulate=*/true);
  }
  QGRPO_CUDA(kernels::finish_linear(device.handle(), p.y + begin * p.n, sums, p.bias,
                                    p.residual_at(begin), rows, p.n));
}

void run_many(Device& device, Gemm& gemm, const Operands& p, const bf16* dense,
              const Linear& linear, const AdapterRun& run) {
  const Factors f = factors_of(device, linear, run.adapter);
  if (p.bias == nullptr && f.rank == 0) {
    gemm.run_added(p.y + run.begin * p.n, DType::bf16, p.residual_at(run.begin),
                   p.x + run.begin * p.k, dense, run.length, p.n, p.k);
    return;
  }
  for (std::int64_t done = 0; done < run.length; done += kSumRows) {
    const std::int64_t rows = std::min<std::int64_t>(kSumRows, run.length - done);
    run_sums(device, gemm, p, dense, run.begin + done, rows, f);
  }
}

// A matrix that the kernels for few rows cannot read as it is.
void run_dequantized(Device& device, const CudaWeight& weight, FewRowsTarget target, const bf16* x,
                     std::int64_t rows, std::span<const AdapterRun> runs) {
  const CudaWeight dense = weight.dense_view(device);
  Linear linear = *target.linear;
  linear.weight = &dense;
  target.linear = &linear;
  few_rows_products(device, {&target, 1}, FewRowsOutput::halves, x, rows, runs);
}

}  // namespace

void linear_forward(Device& device, Gemm& gemm, TensorView y, ConstTensorView x,
                    const Linear& linear, std::span<const AdapterRun> runs,
                    ConstTensorView residual) {
  const CudaWeight& weight = cuda_weight(*linear.weight);
  const Operands p = operands_of(y, x, linear, residual);
  const std::int64_t rows = x.shape[0];
  require_runs("linear", runs, rows);
  if (rows == 0) return;
  if (device.few_rows()) {
    const FewRowsTarget target{&linear, p.y, nullptr, p.residual};
    if (few_rows_fit({&target, 1})) {
      few_rows_products(device, {&target, 1}, FewRowsOutput::halves, p.x, rows, runs);
    } else {
      run_dequantized(device, weight, target, p.x, rows, runs);
    }
    return;
  }
  const bf16* dense = weight.dense(device);
  for (const AdapterRun& run : runs) run_many(device, gemm, p, dense, linear, run);
}

void linear_forward_group(Device& device, Gemm& gemm, std::span<const TensorView> y,
                          ConstTensorView x, std::span<const Linear> linears,
                          std::span<const AdapterRun> runs) {
  require(y.size() == linears.size(), "linear: {} results of {} matrices", y.size(),
          linears.size());
  std::vector<FewRowsTarget> targets;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const Operands p = operands_of(y[i], x, linears[i], {});
    targets.push_back({&linears[i], p.y, nullptr, nullptr});
  }
  if (!targets.empty() && device.few_rows() && few_rows_fit(targets)) {
    require_runs("linear", runs, x.shape[0]);
    few_rows_products(device, targets, FewRowsOutput::halves, static_cast<const bf16*>(x.data),
                      x.shape[0], runs);
    return;
  }
  for (std::size_t i = 0; i < y.size(); ++i) {
    linear_forward(device, gemm, y[i], x, linears[i], runs, {});
  }
}

void swiglu_linear_forward(Device& device, Gemm& gemm, TensorView act, TensorView gate,
                           TensorView up, ConstTensorView x, const Linear& gate_linear,
                           const Linear& up_linear, std::span<const AdapterRun> runs, bool keep) {
  const std::int64_t rows = x.shape[0], n = gate_linear.weight->rows();
  require(up_linear.weight->rows() == n, "linear: {} gates of {} values", n,
          up_linear.weight->rows());
  const Operands of_act = operands_of(act, x, gate_linear, {});
  const Operands of_gate = operands_of(gate, x, gate_linear, {});
  const Operands of_up = operands_of(up, x, up_linear, {});
  const FewRowsTarget targets[2] = {{&gate_linear, of_act.y, keep ? of_gate.y : nullptr, nullptr},
                                    {&up_linear, nullptr, keep ? of_up.y : nullptr, nullptr}};
  if (device.few_rows() && few_rows_fit(targets)) {
    require_runs("linear", runs, rows);
    few_rows_products(device, targets, FewRowsOutput::swiglu, of_act.x, rows, runs);
    return;
  }
  linear_forward(device, gemm, gate, x, gate_linear, runs, {});
  linear_forward(device, gemm, up, x, up_linear, runs, {});
  QGRPO_CUDA(kernels::swiglu_forward(device.handle(), of_act.y, of_gate.y, of_up.y, rows * n));
}

void few_row_logits(Device& device, float* logits, const bf16* x, const CudaWeight& weight,
                    std::int64_t rows) {
  require(weight.cols() % 8 == 0, "head: {} inputs; the CUDA backend takes a multiple of 8",
          weight.cols());
  const CudaWeight* own = &weight;
  std::optional<CudaWeight> dense;
  if (weight.format() == WeightFormat::nf4 && !few_rows_nf4(weight.cols(), true)) {
    dense.emplace(weight.dense_view(device));
    own = &*dense;
  }
  Linear linear;
  linear.weight = own;
  const FewRowsTarget target{&linear, logits, nullptr, nullptr};
  few_rows_products(device, {&target, 1}, FewRowsOutput::floats, x, rows, {});
}

}  // namespace qgrpo::cuda
