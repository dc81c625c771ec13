#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <string>

#include "softgpu/cublaslt/matmul.h"

namespace softgpu::cublaslt {

// What lies behind cublasLtMatrixLayout_t, cublasLtMatmulDesc_t and cublasLtMatmulPreference_t.
struct Layout {
  cudaDataType type = CUDA_R_32F;
  std::uint64_t rows = 0, columns = 0;
  std::int64_t ld = 0;
  std::int32_t order = CUBLASLT_ORDER_COL;
  std::int32_t batch_count = 1;
  std::int64_t batch_stride = 0;  // elements
};

struct Description {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType scale = CUDA_R_32F;
  std::int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  std::int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  std::int32_t bias_type = -1;  // a cudaDataType; -1: that of D
  std::int64_t bias_stride = 0;
};

struct Preference {
  std::uint64_t workspace = 0;
};

// Everything a multiplication needs, checked: D = alpha op(A) op(B) + beta C (+ bias down columns).
struct Problem {
  Description description;
  Layout a, b, c, d;
  std::size_t m = 0, n = 0, k = 0;
};

// Combines descriptor and layouts. Returns an empty string, or why the combination is not one that
// is emulated (`status` says whether it is an error or merely unsupported).
std::string make_problem(const Description& description, const Layout& a, const Layout& b,
                         const Layout& c, const Layout& d, Problem& problem,
                         cublasStatus_t& status);

Element element_of(cudaDataType type);

// Elements between (r, c) and (r + 1, c), and (r, c + 1), of a layout; transposed on demand.
Matrix view(const Layout& layout, bool transposed, const std::byte* data);

}  // namespace softgpu::cublaslt
