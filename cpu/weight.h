#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "model/ops/nf4.h"
#include "model/ops/ops.h"

namespace qgrpo::cpu {

// A matrix (N, K) in panels of 32 outputs (PackedWeight, cpu/kernels.h). A value is the same
// float32 wherever it is used: forward, backward, embedding, unpack. Of nf4 it is one product,
//   kNf4Code[index] * block_scale
// Scales lie in memory as float32, expanded from their 8 bits, so an nf4 matrix takes 4.5 bits a
// weight where K is a multiple of 64 (and 4 + 32 / gcd(K, 64) elsewhere).
class CpuWeight : public Weight {
 public:
  // Repacks a host matrix of f32, f16 or bf16. nf4 quantizes with nf4_quantize's bytes; bf16 rounds
  // to nearest even. Error where a value is not finite, or not so after rounding.
  static std::unique_ptr<CpuWeight> prepare(ConstTensorView host, WeightFormat format,
                                            ThreadPool& pool, Isa isa = active_isa());
  static std::unique_ptr<CpuWeight> prepare(const Nf4Tensor& host, ThreadPool& pool);

  // Bytes that prepare takes, without doing it.
  static std::size_t packed_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format);

  // Replaces the values of an f32 weight by master (N, K) f32.
  void update(ConstTensorView master, ThreadPool& pool);

  // out (N, K) = the dequantized matrix.
  void unpack(std::span<float> out, ThreadPool& pool) const;
  // out (K) = row n, dequantized.
  void unpack_row(float* out, std::int64_t n) const;

  const PackedWeight& packed() const { return packed_; }

 private:
  CpuWeight(WeightFormat format, std::int64_t rows, std::int64_t cols);
  std::int64_t panels() const;
  void pack_f32(const float* from, ThreadPool& pool);
  void pack_bf16(ConstTensorView from, ThreadPool& pool);
  void pack_nf4(const Nf4Tensor& from, ThreadPool& pool);

  AlignedBuffer data_;
  AlignedBuffer scales_;
  PackedWeight packed_;
};

// nf4_quantize (the same bytes) with all threads, from f32, f16 or bf16.
Nf4Tensor nf4_quantize_parallel(ConstTensorView host, ThreadPool& pool, Isa isa = active_isa());

// The weight behind the interface's type; Error where another backend made it.
const CpuWeight& cpu_weight(const Weight& weight);

}  // namespace qgrpo::cpu
