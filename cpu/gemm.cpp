#include "cpu/gemm.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

// A task unpacks kGroup panels x kDepth into 128 KiB (second-level cache), then takes kSubRows rows
// of A x kDepth (240 KiB) through each of them, a tile of rows at a time. Chains that are not done
// wait in a block of kRows x kGroup panels.
constexpr std::int64_t kGroup = 4;
constexpr std::int64_t kDepth = 256;
constexpr std::int64_t kSubRows = 240;
constexpr std::int64_t kRows = 960;
constexpr std::int64_t kPanelFloats = kGroup * kDepth * kPanel;
constexpr std::int64_t kChainFloats = kRows * kGroup * kPanel;

}  // namespace

Operand operand_rows(const float* m, std::int64_t ld, std::int64_t columns, std::int64_t depth) {
  Operand b;
  b.kind = Operand::Kind::rows;
  b.data = m;
  b.ld = ld;
  b.columns = columns;
  b.depth = depth;
  return b;
}

Operand operand_columns(const float* m, std::int64_t ld, std::int64_t columns, std::int64_t depth) {
  Operand b = operand_rows(m, ld, columns, depth);
  b.kind = Operand::Kind::columns;
  return b;
}

Operand operand_weight(const PackedWeight& weight) {
  Operand b;
  b.kind = Operand::Kind::weight;
  b.weight = weight;
  b.columns = weight.rows;
  b.depth = weight.cols;
  return b;
}

Operand operand_weight_transposed(const PackedWeight& weight) {
  Operand b;
  b.kind = Operand::Kind::weight_transposed;
  b.weight = weight;
  b.columns = weight.cols;
  b.depth = weight.rows;
  return b;
}

GemmContext::GemmContext(ThreadPool& pool, Isa isa)
    : pool_(pool), isa_(isa), kernels_(gemm_kernels(isa)) {
  for (int t = 0; t < pool.threads(); ++t) thread_scratch_.emplace_back(bytes_per_thread());
}

std::size_t GemmContext::bytes_per_thread() {
  return static_cast<std::size_t>(kPanelFloats + kChainFloats) * sizeof(float);
}

std::size_t GemmContext::bytes() const {
  std::size_t bytes = 0;
  for (const AlignedBuffer& b : thread_scratch_) bytes += b.bytes();
  for (const AlignedBuffer& b : shared_) bytes += b.bytes();
  return bytes;
}

float* GemmContext::scratch(Slot slot, std::int64_t floats) {
  AlignedBuffer& buffer = shared_[static_cast<std::size_t>(slot)];
  buffer.reserve(static_cast<std::size_t>(floats) * sizeof(float));
  return buffer.as<float>();
}

std::vector<Product>& GemmContext::product_list() {
  products_.clear();
  return products_;
}

// Several panels a task save reads of A; enough tasks keep the threads equally busy. Where there
// are few panels, the rows are shared out as well, at the price of unpacking B once per block of
// rows.
GemmContext::Plan GemmContext::plan(const Product& product) const {
  Plan plan;
  const std::int64_t threads = pool_.threads();
  const std::int64_t panels = ceil_div(product.b.columns, kPanel);
  plan.fused = product.b.kind == Operand::Kind::weight && product.rows <= kernels_.fused_rows &&
               product.a_step == 1 && !product.transposed && product.into != Into::chain;
  if (panels >= 16 * threads) {
    plan.group = kGroup;
  } else {
    plan.group = std::min<std::int64_t>(2, panels);
  }
  const std::int64_t groups = ceil_div(panels, plan.group);
  const std::int64_t wanted = (product.rows >= 256 ? 2 : 1) * threads;
  if (!plan.fused && groups < wanted) {
    plan.row_blocks =
        std::clamp<std::int64_t>(ceil_div(wanted, groups), 1, ceil_div(product.rows, 8));
  }
  plan.tasks = groups * plan.row_blocks;
  return plan;
}

void GemmContext::run(std::span<const Product> products) {
  plans_.clear();
  std::int64_t tasks = 0;
  for (const Product& p : products) {
    Plan next;
    if (p.rows > 0 && p.b.columns > 0) next = plan(p);
    next.first_task = tasks;
    tasks += next.tasks;
    plans_.push_back(next);
  }
  struct Region {  // one pointer to capture: a larger closure would be allocated
    GemmContext& context;
    std::span<const Product> products;
  } region{*this, products};
  pool_.parallel_for(tasks, [&region](std::int64_t task, int thread) {
    GemmContext& context = region.context;
    std::size_t i = context.plans_.size() - 1;
    while (context.plans_[i].first_task > task || context.plans_[i].tasks == 0) --i;
    context.run_task(region.products[i], context.plans_[i], task - context.plans_[i].first_task,
                     thread);
  });
}

void GemmContext::run_task(const Product& product, const Plan& plan, std::int64_t task,
                           int thread) {
  const std::int64_t panels = ceil_div(product.b.columns, kPanel);
  const std::int64_t first = task / plan.row_blocks * plan.group;
  const std::int64_t count = std::min(plan.group, panels - first);
  if (plan.fused) return run_fused(product, first, count, thread);
  const std::int64_t block = task % plan.row_blocks;
  const std::int64_t begin = product.rows * block / plan.row_blocks;
  const std::int64_t end = product.rows * (block + 1) / plan.row_blocks;
  for (std::int64_t row = begin; row < end; row += kRows) {
    run_tiles(product, first, count, row, std::min(row + kRows, end), thread);
  }
}

void GemmContext::run_fused(const Product& p, std::int64_t panel, std::int64_t panels, int thread) {
  float* c = thread_scratch_[static_cast<std::size_t>(thread)].as<float>();
  const std::int64_t ldc = panels * kPanel;
  kernels_.fused(c, ldc, p.a, p.a_row, p.b.weight, panel, static_cast<int>(panels),
                 static_cast<int>(p.rows));
  const std::int64_t column = panel * kPanel;
  kernels_.finish(p.out + column, p.ld, false, c, ldc, p.rows, std::min(ldc, p.b.columns - column),
                  p.into, p.bias == nullptr ? nullptr : p.bias + column, p.scale);
}

void GemmContext::run_tiles(const Product& p, std::int64_t panel, std::int64_t panels,
                            std::int64_t row_begin, std::int64_t row_end, int thread) {
  float* unpacked = thread_scratch_[static_cast<std::size_t>(thread)].as<float>();
  float* chains = unpacked + kPanelFloats;
  const std::int64_t ldc = panels * kPanel;
  const std::int64_t rows = row_end - row_begin;
  const std::int64_t column = panel * kPanel;
  const std::int64_t columns = std::min(ldc, p.b.columns - column);
  float* out = p.transposed ? p.out + column * p.ld + row_begin : p.out + row_begin * p.ld + column;
  const bool chained = p.into == Into::chain;
  if (chained) kernels_.begin_chain(chains, ldc, out, p.ld, p.transposed, rows, columns);

  const float* b[kGroup] = {};
  int lanes[kGroup] = {};
  for (std::int64_t g = 0; g < panels; ++g) {
    lanes[g] = p.b.columns - (panel + g) * kPanel <= 16 ? 16 : 32;
  }
  const std::int64_t tile_rows = kernels_.tile_rows;
  // A depth of 0 still makes one pass, which sets the chains to 0.
  std::int64_t k = 0;
  do {
    const std::int64_t depth = std::min(kDepth, p.b.depth - k);
    for (std::int64_t g = 0; g < panels; ++g) {
      b[g] = kernels_.fill(unpacked + g * kDepth * kPanel, p.b, panel + g, k, depth);
    }
    for (std::int64_t sub = 0; sub < rows; sub += kSubRows) {
      const std::int64_t sub_rows = std::min(kSubRows, rows - sub);
      const std::int64_t tiles = ceil_div(sub_rows, tile_rows);
      for (std::int64_t g = 0; g < panels; ++g) {
        for (std::int64_t i = 0; i < tiles; ++i) {
          const std::int64_t begin = sub + sub_rows * i / tiles;
          const std::int64_t end = sub + sub_rows * (i + 1) / tiles;
          const float* a = p.a + (row_begin + begin) * p.a_row + k * p.a_step;
          kernels_.tile(chains + begin * ldc + g * kPanel, ldc, a, p.a_row, p.a_step, b[g], depth,
                        static_cast<int>(end - begin), lanes[g], k == 0 && !chained);
        }
      }
    }
    k += kDepth;
  } while (k < p.b.depth);

  kernels_.finish(out, p.ld, p.transposed, chains, ldc, rows, columns, p.into,
                  p.bias == nullptr ? nullptr : p.bias + column, p.scale);
}

const GemmKernels& gemm_kernels(Isa isa) {
  return isa == Isa::avx512 ? avx512::gemm_kernels() : avx2::gemm_kernels();
}

}  // namespace qgrpo::cpu
