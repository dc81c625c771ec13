#pragma once

#include <span>

#include "cuda/gemm.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// TrainOps::head_logprob. Chunks of up to kHeadRows distinct rows: logits in float32 (cuBLASLt),
// then max, log-sum-exp and entropy of each row, and the entries' values. 1024 rows of 151,936
// logits are 622 MB.
class Head {
 public:
  static constexpr std::int64_t kHeadRows = 1024;

  void logprob(Device& device, Gemm& gemm, std::span<HeadResult> out, ConstTensorView hidden,
               const Linear& head, std::span<const HeadEntry> entries, float temperature);

  // Most scratch for up to `rows` hidden rows.
  static std::size_t workspace_bytes(std::int64_t rows, std::int64_t hidden, std::int64_t vocab);

 private:
  DeviceArray<std::int32_t> gather_;
  DeviceArray<std::int32_t> rows_;
  DeviceArray<std::int32_t> targets_;
};

}  // namespace qgrpo::cuda
