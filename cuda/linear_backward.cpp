#include "cuda/linear_backward.h"

#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/linear.h"
#include "cuda/sizes/backward.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

constexpr const char* kName = "linear_backward";

// One adapter as bf16 operands, and its gradients where it is trained.
struct Adapter {
  std::int64_t rank = 0;  // 0: none
  float scale = 0.0f;
  const bf16* a = nullptr;  // (R, K)
  const bf16* b = nullptr;  // (N, R)
  float* da = nullptr;
  float* db = nullptr;
  bool trained() const { return da != nullptr; }
};

struct Call {
  Device& device;
  Gemm& gemm;
  const Linear& linear;
  const LinearGradients& gradients;
  std::int64_t n;
  std::int64_t k;
  bf16* dx;
  bool accumulate;
  const bf16* dy;
  const bf16* x;
};

// The shadow, or the master rounded into the slot.
const bf16* factor(Device& device, const char* what, ConstTensorView master, ConstTensorView shadow,
                   Slot slot, std::int64_t elements) {
  if (shadow) return halves(kName, what, shadow, elements);
  const float* from = floats(kName, what, master, elements);
  auto* to = device.scratch<bf16>(slot, elements);
  QGRPO_CUDA(kernels::to_bf16(device.handle(), to, from, 1.0f, elements));
  return to;
}

Adapter adapter_of(const Call& call, const AdapterRun& run) {
  const LoraFactors* f = adapter_factors(kName, call.linear, run.adapter);
  if (f == nullptr) return {};
  const auto index = static_cast<std::size_t>(run.adapter);
  Adapter out;
  const std::int64_t rank = f->a.shape[0];
  if (index < call.gradients.adapters.size()) {
    const LoraGradients& g = call.gradients.adapters[index];
    require(static_cast<bool>(g.da) == static_cast<bool>(g.db),
            "{}: adapter {} has a gradient of one factor only", kName, run.adapter);
    if (g.da) {
      out.da = floats(kName, "dA", g.da, rank * call.k);
      out.db = floats(kName, "dB", g.db, call.n * rank);
    }
  }
  if (!out.trained() && call.dx == nullptr) return {};  // its gradients are nobody's
  out.rank = rank;
  out.scale = f->scale;
  out.a = factor(call.device, "A", f->a, f->a_shadow, Slot::low_a, rank * call.k);
  out.b = factor(call.device, "B", f->b, f->b_shadow, Slot::low_b, call.n * rank);
  return out;
}

// The adapter's gradients and its part of dx, of one run's rows.
void low_rank(const Call& call, const AdapterRun& run, const Adapter& adapter) {
  Device& device = call.device;
  const std::int64_t rows = run.length, rank = adapter.rank;
  const bf16* dy = call.dy + run.begin * call.n;
  auto* sums = device.scratch<float>(Slot::low_sums, rows * rank);
  auto* u = device.scratch<bf16>(Slot::low, rows * rank);
  call.gemm.run_nn(sums, DType::f32, dy, adapter.b, rows, rank, call.n);
  QGRPO_CUDA(kernels::to_bf16(device.handle(), u, sums, adapter.scale, rows * rank));
  if (adapter.trained()) {
    const bf16* x = call.x + run.begin * call.k;
    auto* t = device.scratch<bf16>(Slot::low_x, rows * rank);
    call.gemm.run(sums, DType::f32, x, adapter.a, rows, rank, call.k);
    QGRPO_CUDA(kernels::to_bf16(device.handle(), t, sums, adapter.scale, rows * rank));
    call.gemm.run_tn(adapter.da, u, x, rank, call.k, rows, /*accumulate=*/true);
    call.gemm.run_tn(adapter.db, dy, t, call.n, rank, rows, /*accumulate=*/true);
  }
  if (call.dx != nullptr) {
    call.gemm.run_nn(call.dx + run.begin * call.k, DType::bf16, u, adapter.a, rows, call.k, rank,
                     call.accumulate);
  }
}

// dx (=|+=) dy W of rows [begin, end).
void base_rows(const Call& call, const bf16* weight, std::int64_t begin, std::int64_t end,
               bool accumulate) {
  call.gemm.run_nn(call.dx + begin * call.k, DType::bf16, call.dy + begin * call.n, weight,
                   end - begin, call.k, call.n, accumulate);
}

}  // namespace

void linear_backward(Device& device, Gemm& gemm, TensorView dx, bool accumulate,
                     const LinearGradients& gradients, ConstTensorView dy, ConstTensorView x,
                     const Linear& linear, std::span<const AdapterRun> runs) {
  const CudaWeight& weight = cuda_weight(*linear.weight);
  const std::int64_t rows = dy.shape[0], n = weight.rows(), k = weight.cols();
  // Then every row is 16-byte aligned, which the kernels' vector accesses take for granted.
  require(n % 8 == 0 && k % 8 == 0,
          "{}: a weight of {} x {}; the CUDA backend takes multiples of 8", kName, n, k);
  require_runs(kName, runs, rows);
  if (rows == 0) return;
  Call call{device, gemm, linear, gradients, n, k, nullptr, accumulate, nullptr, nullptr};
  call.dy = halves(kName, "dy", dy, rows * n);
  if (x) call.x = halves(kName, "x", x, rows * k);
  if (dx) call.dx = const_cast<bf16*>(halves(kName, "dx", dx, rows * k));

  // Rows whose dx is begun by an adapter, or holds something: base_rows() adds to them.
  std::vector<bool> begun;
  for (const AdapterRun& run : runs) {
    const Adapter adapter = run.length > 0 ? adapter_of(call, run) : Adapter{};
    require(!adapter.trained() || call.x != nullptr, "{}: x is needed for the gradients", kName);
    if (adapter.rank > 0) low_rank(call, run, adapter);
    begun.push_back(accumulate || adapter.rank > 0);
  }
  if (call.dx != nullptr) {
    const bf16* dense = weight.dense(device);
    for (std::size_t i = 0; i < runs.size();) {
      std::size_t end = i + 1;  // neighbours of a kind are one product
      while (end < runs.size() && begun[end] == begun[i]) ++end;
      base_rows(call, dense, runs[i].begin, runs[end - 1].begin + runs[end - 1].length, begun[i]);
      i = end;
    }
  }
  if (gradients.dweight) {
    require(call.x != nullptr, "{}: x is needed for the gradients", kName);
    gemm.run_tn(floats(kName, "dweight", gradients.dweight, n * k), call.dy, call.x, n, k, rows,
                /*accumulate=*/true);
  }
  if (gradients.dbias) {
    auto* partials = device.scratch<float>(
        Slot::partials, static_cast<std::int64_t>(partial_sums_bytes(rows, n) / sizeof(float)));
    QGRPO_CUDA(kernels::column_sums(device.handle(), floats(kName, "dbias", gradients.dbias, n),
                                    call.dy, rows, n, partials));
  }
}

}  // namespace qgrpo::cuda
