#include "softgpu/cublaslt/description.h"

#include <fmt/format.h>

namespace softgpu::cublaslt {
namespace {

bool is_known(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

std::string check_layout(const Layout& layout, const char* name) {
  if (!is_known(layout.type)) {
    return fmt::format("{}: data type {}; f32, f16 and bf16 are emulated", name,
                       static_cast<int>(layout.type));
  }
  if (layout.order != CUBLASLT_ORDER_COL && layout.order != CUBLASLT_ORDER_ROW) {
    return fmt::format("{}: order {}; columns and rows are emulated", name, layout.order);
  }
  const std::uint64_t line = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns;
  if (layout.ld < 0 || static_cast<std::uint64_t>(layout.ld) < line) {
    return fmt::format("{}: leading dimension {} is less than {}", name, layout.ld, line);
  }
  return {};
}

}  // namespace

Element element_of(cudaDataType type) {
  if (type == CUDA_R_16F) return Element::kF16;
  return type == CUDA_R_16BF ? Element::kBf16 : Element::kF32;
}

Matrix view(const Layout& layout, bool transposed, const std::byte* data) {
  const bool along_rows = (layout.order == CUBLASLT_ORDER_COL) != transposed;
  const auto ld = static_cast<std::size_t>(layout.ld);
  return {data, element_of(layout.type), along_rows ? 1 : ld, along_rows ? ld : 1};
}

std::string make_problem(const Description& description, const Layout& a, const Layout& b,
                         const Layout& c, const Layout& d, Problem& problem,
                         cublasStatus_t& status) {
  status = CUBLAS_STATUS_NOT_SUPPORTED;
  const bool f32_compute = description.compute == CUBLAS_COMPUTE_32F ||
                           description.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                           description.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                           description.compute == CUBLAS_COMPUTE_32F_FAST_16BF ||
                           description.compute == CUBLAS_COMPUTE_32F_FAST_16F;
  if (!f32_compute || description.scale != CUDA_R_32F) {
    return fmt::format("compute type {}, scale type {}; f32 is emulated",
                       static_cast<int>(description.compute), static_cast<int>(description.scale));
  }
  if (description.epilogue != CUBLASLT_EPILOGUE_DEFAULT &&
      description.epilogue != CUBLASLT_EPILOGUE_BIAS) {
    return fmt::format("epilogue {}; none and bias are emulated", description.epilogue);
  }
  if (description.bias_type >= 0 && !is_known(static_cast<cudaDataType>(description.bias_type))) {
    return fmt::format("bias of data type {}", description.bias_type);
  }
  if (description.pointer_mode != CUBLASLT_POINTER_MODE_HOST &&
      description.pointer_mode != CUBLASLT_POINTER_MODE_DEVICE) {
    return fmt::format("pointer mode {}; host and device are emulated", description.pointer_mode);
  }
  status = CUBLAS_STATUS_INVALID_VALUE;
  for (const auto& [layout, name] :
       {std::pair{&a, "A"}, std::pair{&b, "B"}, std::pair{&c, "C"}, std::pair{&d, "D"}}) {
    std::string problem_text = check_layout(*layout, name);
    if (!problem_text.empty()) return problem_text;
    if (layout->batch_count != d.batch_count) {
      return fmt::format("{}: {} batches, D has {}", name, layout->batch_count, d.batch_count);
    }
  }
  const bool ta = description.trans_a != CUBLAS_OP_N, tb = description.trans_b != CUBLAS_OP_N;
  const std::uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
  const std::uint64_t kb = tb ? b.columns : b.rows, n = tb ? b.rows : b.columns;
  if (k != kb || d.rows != m || d.columns != n || c.rows != m || c.columns != n) {
    return fmt::format("op(A) is {}x{}, op(B) {}x{}, C {}x{}, D {}x{}", m, k, kb, n, c.rows,
                       c.columns, d.rows, d.columns);
  }
  if (c.type != d.type) return "C and D differ in type";
  if (a.type != b.type) return "A and B differ in type";
  problem = {description, a, b, c, d, m, n, k};
  status = CUBLAS_STATUS_SUCCESS;
  return {};
}

}  // namespace softgpu::cublaslt
