#include "cpu/linear.h"

#include <algorithm>
#include <functional>

#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

// Up to this many rows, the rows themselves become the 32 lanes of the LoRA products, and A and B
// are read row by row as they lie: they change at each optimizer step, and turning them into panels
// would cost more than their use. The chains are the same.
constexpr std::int64_t kLaneRows = kPanel;

void require_f32(const char* name, ConstTensorView view, std::int64_t rows, std::int64_t cols) {
  require(view && view.dtype == DType::f32 && view.shape == Shape({rows, cols}),
          "linear: {} is {} {}, expected f32 [{}, {}]", name, dtype_name(view.dtype),
          view.shape.str(), rows, cols);
}

// The factors of a run, or null where it has none.
const LoraFactors* factors_of(const Linear& linear, const AdapterRun& run) {
  const LoraFactors* factors =
      run.length > 0 ? adapter_factors("linear", linear, run.adapter) : nullptr;
  if (factors == nullptr) return nullptr;
  const std::int64_t rank = factors->a.shape[0];
  require_f32("LoRA A", factors->a, rank, linear.weight->cols());
  require_f32("LoRA B", factors->b, linear.weight->rows(), rank);
  return factors;
}

Product product(std::int64_t rows, const float* a, std::int64_t lda, const Operand& b, float* out,
                std::int64_t ld, Into into, float scale = 1.0f) {
  Product p;
  p.rows = rows;
  p.a = a;
  p.a_row = lda;
  p.a_step = 1;
  p.b = b;
  p.out = out;
  p.ld = ld;
  p.into = into;
  p.scale = scale;
  return p;
}

// out(i, j) += sum over t of left(t, i) right(t, j), the chain over tokens; left has `rows`
// columns.
Product token_chain(const float* left, std::int64_t rows, const float* right, std::int64_t columns,
                    std::int64_t tokens, float* out, std::int64_t ld, bool transposed) {
  Product p;
  p.rows = rows;
  p.a = left;
  p.a_row = 1;
  p.a_step = rows;
  p.b = operand_rows(right, columns, columns, tokens);
  p.out = out;
  p.ld = ld;
  p.transposed = transposed;
  p.into = Into::chain;
  return p;
}

// Floats that t of a run takes: (rows, R), or (R, 32) where the rows are lanes.
std::int64_t t_floats(const AdapterRun& run, std::int64_t rank) {
  return run.length <= kLaneRows ? rank * kLaneRows : run.length * rank;
}

void sum_bias(GemmContext& context, TensorView dbias, ConstTensorView dy) {
  constexpr std::int64_t kColumns = 256;
  const std::int64_t tokens = dy.shape[0];
  const std::int64_t outputs = dy.shape[1];
  const auto sum_columns = [&](std::int64_t task, int) {
    const std::int64_t begin = task * kColumns;
    context.kernels().sum_rows(dbias.f32() + begin, dy.f32() + begin, outputs, tokens,
                               std::min(kColumns, outputs - begin));
  };
  context.pool().parallel_for((outputs + kColumns - 1) / kColumns, std::ref(sum_columns));
}

}  // namespace

void linear_forward(GemmContext& context, TensorView y, ConstTensorView x, const Linear& linear,
                    std::span<const AdapterRun> runs, bool accumulate) {
  const CpuWeight& weight = cpu_weight(*linear.weight);
  const std::int64_t tokens = x.shape[0];
  const std::int64_t inputs = weight.cols();
  const std::int64_t outputs = weight.rows();
  if (tokens == 0) return;
  require_f32("x", x, tokens, inputs);
  require_f32("y", y, tokens, outputs);
  require_runs("linear", runs, tokens);
  require(!linear.bias || linear.bias.elements() == outputs, "linear: {} biases for {} outputs",
          linear.bias.elements(), outputs);

  std::int64_t needed = 0;
  for (const AdapterRun& run : runs) {
    if (const LoraFactors* f = factors_of(linear, run)) needed += t_floats(run, f->a.shape[0]);
  }
  float* t = needed == 0 ? nullptr : context.scratch(GemmContext::Slot::lora_t, needed);

  std::vector<Product>& first = context.product_list();
  float* at = t;
  for (const AdapterRun& run : runs) {
    const LoraFactors* f = factors_of(linear, run);
    if (f == nullptr) continue;
    const std::int64_t rank = f->a.shape[0];
    const float* rows = x.f32() + run.begin * inputs;
    if (run.length <= kLaneRows) {
      const Operand lanes = operand_columns(rows, inputs, run.length, inputs);
      first.push_back(product(rank, f->a.f32(), inputs, lanes, at, kLaneRows, Into::overwrite));
    } else {
      const Operand a = operand_columns(f->a.f32(), inputs, rank, inputs);
      first.push_back(product(run.length, rows, inputs, a, at, rank, Into::overwrite));
    }
    at += t_floats(run, rank);
  }
  Product base = product(tokens, x.f32(), inputs, operand_weight(weight.packed()), y.f32(), outputs,
                         accumulate ? Into::accumulate : Into::overwrite);
  base.bias = linear.bias.f32();
  first.push_back(base);
  context.run(first);
  if (needed == 0) return;

  std::vector<Product>& second = context.product_list();
  at = t;
  for (const AdapterRun& run : runs) {
    const LoraFactors* f = factors_of(linear, run);
    if (f == nullptr) continue;
    const std::int64_t rank = f->a.shape[0];
    float* rows = y.f32() + run.begin * outputs;
    if (run.length <= kLaneRows) {
      const Operand lanes = operand_rows(at, kLaneRows, run.length, rank);
      Product p =
          product(outputs, f->b.f32(), rank, lanes, rows, outputs, Into::add_scaled, f->scale);
      p.transposed = true;
      second.push_back(p);
    } else {
      const Operand b = operand_columns(f->b.f32(), rank, outputs, rank);
      second.push_back(product(run.length, at, rank, b, rows, outputs, Into::add_scaled, f->scale));
    }
    at += t_floats(run, rank);
  }
  context.run(second);
}

void linear_backward(GemmContext& context, TensorView dx, bool accumulate,
                     const LinearGradients& gradients, ConstTensorView dy, ConstTensorView x,
                     const Linear& linear, std::span<const AdapterRun> runs) {
  const CpuWeight& weight = cpu_weight(*linear.weight);
  const std::int64_t tokens = dy.shape[0];
  const std::int64_t inputs = weight.cols();
  const std::int64_t outputs = weight.rows();
  if (tokens == 0) return;
  require_f32("dy", dy, tokens, outputs);
  if (dx) require_f32("dx", dx, tokens, inputs);
  if (gradients.dweight) require_f32("dweight", gradients.dweight, outputs, inputs);
  require(!gradients.dbias || gradients.dbias.elements() == outputs,
          "linear: {} bias gradients for {} outputs", gradients.dbias.elements(), outputs);
  require_runs("linear", runs, tokens);

  const auto trained = [&](const AdapterRun& run) {
    const auto index = static_cast<std::size_t>(run.adapter);
    return index < gradients.adapters.size() && gradients.adapters[index].da &&
           gradients.adapters[index].db;
  };
  std::int64_t needed = 0;
  bool needs_x = static_cast<bool>(gradients.dweight);
  for (const AdapterRun& run : runs) {
    const LoraFactors* f = factors_of(linear, run);
    if (f == nullptr) continue;
    needed += run.length * f->a.shape[0];
    needs_x = needs_x || trained(run);
  }
  if (needs_x) require_f32("x", x, tokens, inputs);
  float* t = needed == 0 ? nullptr : context.scratch(GemmContext::Slot::lora_t, needed);
  float* u = needed == 0 ? nullptr : context.scratch(GemmContext::Slot::lora_u, needed);

  std::vector<Product>& first = context.product_list();
  std::int64_t at = 0;
  for (const AdapterRun& run : runs) {
    const LoraFactors* f = factors_of(linear, run);
    if (f == nullptr) continue;
    const std::int64_t rank = f->a.shape[0];
    const Operand b = operand_rows(f->b.f32(), rank, rank, outputs);
    first.push_back(product(run.length, dy.f32() + run.begin * outputs, outputs, b, u + at, rank,
                            Into::scaled, f->scale));
    if (trained(run)) {
      const Operand a = operand_columns(f->a.f32(), inputs, rank, inputs);
      first.push_back(product(run.length, x.f32() + run.begin * inputs, inputs, a, t + at, rank,
                              Into::scaled, f->scale));
    }
    at += run.length * rank;
  }
  if (gradients.dweight) {
    first.push_back(token_chain(dy.f32(), outputs, x.f32(), inputs, tokens, gradients.dweight.f32(),
                                inputs, false));
  }
  if (dx) {
    first.push_back(product(tokens, dy.f32(), outputs, operand_weight_transposed(weight.packed()),
                            dx.f32(), inputs, accumulate ? Into::accumulate : Into::overwrite));
  }
  context.run(first);
  if (gradients.dbias) sum_bias(context, gradients.dbias, dy);

  // One region a run: two runs may add to the same adapter's gradients, in the order of the tokens.
  at = 0;
  for (const AdapterRun& run : runs) {
    const LoraFactors* f = factors_of(linear, run);
    if (f == nullptr) continue;
    const std::int64_t rank = f->a.shape[0];
    std::vector<Product>& second = context.product_list();
    if (dx) {
      const Operand a = operand_rows(f->a.f32(), inputs, inputs, rank);
      second.push_back(product(run.length, u + at, rank, a, dx.f32() + run.begin * inputs, inputs,
                               Into::accumulate));
    }
    if (trained(run)) {
      const LoraGradients& g = gradients.adapters[static_cast<std::size_t>(run.adapter)];
      require_f32("dA", g.da, rank, inputs);
      require_f32("dB", g.db, outputs, rank);
      second.push_back(token_chain(u + at, rank, x.f32() + run.begin * inputs, inputs, run.length,
                                   g.da.f32(), inputs, false));
      second.push_back(token_chain(t + at, rank, dy.f32() + run.begin * outputs, outputs,
                                   run.length, g.db.f32(), rank, true));
    }
    context.run(second);
    at += run.length * rank;
  }
}

std::size_t linear_workspace_bytes(std::int64_t tokens, std::int64_t rank, int threads) {
  const std::int64_t floats = std::max(tokens, kLaneRows) * rank * 2;  // t and u
  return static_cast<std::size_t>(floats) * sizeof(float) +
         static_cast<std::size_t>(threads) * GemmContext::bytes_per_thread();
}

}  // namespace qgrpo::cpu
