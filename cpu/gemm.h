#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"
#include "cpu/threads.h"

// The one matrix product of the CPU backend. Every output element is a single chain of fused
// multiply-adds in the order of the reduction index, in every path: so a row's result does not
// depend on the other rows, the number of threads or the instruction set.

namespace qgrpo::cpu {

// out(i, j) from c = sum over k of A(i, k) B(k, j), as `into` says; i < rows, j < b.columns,
// k < b.depth. A(i, k) = a[i * a_row + k * a_step], one of the two strides 1. out(i, j) is
// out[i * ld + j], or out[j * ld + i] when transposed (then without bias). out must not overlap an
// input.
struct Product {
  std::int64_t rows = 0;
  const float* a = nullptr;
  std::int64_t a_row = 0;
  std::int64_t a_step = 1;
  Operand b;
  float* out = nullptr;
  std::int64_t ld = 0;
  bool transposed = false;
  Into into = Into::overwrite;
  const float* bias = nullptr;  // (b.columns) or null; with overwrite and accumulate
  float scale = 1.0f;           // with scaled and add_scaled
};

// B(k, j) = m[k * ld + j].
Operand operand_rows(const float* m, std::int64_t ld, std::int64_t columns, std::int64_t depth);
// B(k, j) = m[j * ld + k].
Operand operand_columns(const float* m, std::int64_t ld, std::int64_t columns, std::int64_t depth);
// B = W^T, the linear forward: columns N, depth K.
Operand operand_weight(const PackedWeight& weight);
// B = W, its backward: columns K, depth N.
Operand operand_weight_transposed(const PackedWeight& weight);

// The threads, the kernels and the scratch of the operators. Scratch grows to the largest size
// asked for and stays; one operator at a time uses a context.
class GemmContext {
 public:
  // What shared scratch is for; each slot is one growing buffer.
  enum class Slot : std::uint8_t { lora_t, lora_u, logits, hidden, dhidden, count };

  explicit GemmContext(ThreadPool& pool, Isa isa = active_isa());

  // Computes the products, whose outputs do not depend on one another, in one parallel region.
  void run(std::span<const Product> products);

  // At least `floats` floats; contents undefined, valid until the slot is asked for again.
  float* scratch(Slot slot, std::int64_t floats);
  // An empty list that keeps its memory from call to call.
  std::vector<Product>& product_list();

  ThreadPool& pool() { return pool_; }
  const GemmKernels& kernels() const { return kernels_; }
  Isa isa() const { return isa_; }
  // Scratch held now.
  std::size_t bytes() const;
  // Scratch that run() uses for each thread, whatever the sizes.
  static std::size_t bytes_per_thread();

 private:
  struct Plan {
    std::int64_t first_task = 0;
    std::int64_t group = 1;       // panels a task
    std::int64_t row_blocks = 1;  // tasks a group of panels
    std::int64_t tasks = 0;
    bool fused = false;
  };
  Plan plan(const Product& product) const;
  void run_task(const Product& product, const Plan& plan, std::int64_t task, int thread);
  void run_fused(const Product& product, std::int64_t panel, std::int64_t panels, int thread);
  void run_tiles(const Product& product, std::int64_t panel, std::int64_t panels,
                 std::int64_t row_begin, std::int64_t row_end, int thread);

  ThreadPool& pool_;
  Isa isa_;
  const GemmKernels& kernels_;
  std::vector<AlignedBuffer> thread_scratch_;
  AlignedBuffer shared_[static_cast<std::size_t>(Slot::count)];
  std::vector<Plan> plans_;
  std::vector<Product> products_;
};

}  // namespace qgrpo::cpu
