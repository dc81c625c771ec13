#pragma once

#include <cstdint>
#include <span>

#include "model/ops/batch.h"
#include "model/ops/tensor.h"
#include "model/ops/weight.h"

// What LayerOps' linear operators take.
namespace qgrpo {

// One adapter of a linear: adds scale * B (A x). A: (R, K) f32, B: (N, R) f32, the masters. A
// backend whose activations are bf16 computes with the shadows, bf16(a) and bf16(b), which whoever
// changes the masters makes anew with Backend::convert; null shadows: it rounds the masters where
// it uses them. Rank 0 (null views) adds nothing.
struct LoraFactors {
  ConstTensorView a;
  ConstTensorView b;
  float scale = 0.0f;
  ConstTensorView a_shadow = {};  // (R, K) bf16 or null
  ConstTensorView b_shadow = {};  // (N, R) bf16 or null
};

// y = W x + bias + scale_s B_s (A_s x), s = the adapter of the row's segment.
struct Linear {
  const Weight* weight = nullptr;
  ConstTensorView bias;                   // (N) f32 or null
  std::span<const LoraFactors> adapters;  // indexed by Segment::adapter
};

struct LoraGradients {
  TensorView da;  // (R, K) f32, +=; null = not trained
  TensorView db;  // (N, R) f32, +=
};

struct LinearGradients {
  std::span<const LoraGradients>
      adapters;        // indexed like Linear::adapters; shorter = the rest is not trained
  TensorView dweight;  // (N, K) f32, +=; null = frozen
  TensorView dbias;    // (N) f32, +=; null = frozen
};

// Throws Error naming `op` unless the runs cover rows 0..rows in order.
void require_runs(const char* op, std::span<const AdapterRun> runs, std::int64_t rows);

// The factors of an adapter; null for -1 and for rank 0, which add nothing. Throws Error naming
// `op` unless the linear has it.
const LoraFactors* adapter_factors(const char* op, const Linear& linear, std::int32_t adapter);

}  // namespace qgrpo
