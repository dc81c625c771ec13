// cublasLt's matmul against a host product: transpositions, types, leading dimensions, alpha and
// beta, batches, a bias; an operand that is too small is an error.

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstdlib>

#include "check.cuh"

namespace {

using namespace softgpu_test;

void require_success(cublasStatus_t status) {
  REQUIRE(status == CUBLAS_STATUS_SUCCESS);
}

struct Shape {
  int m, n, k;
  bool transpose_a, transpose_b;
  int batches;
  bool bias;
};

std::vector<__nv_bfloat16> random_matrix(std::size_t size, std::uint32_t seed) {
  Random random(seed);
  std::vector<__nv_bfloat16> values;
  for (std::size_t i = 0; i < size; ++i) values.push_back(__float2bfloat16(random.unit()));
  return values;
}

// D = alpha op(A) op(B) + beta C (+ bias), column-major, with leading dimensions 3 beyond the rows.
class Problem {
 public:
  explicit Problem(const Shape& shape)
      : shape_(shape),
        lda_((shape.transpose_a ? shape.k : shape.m) + 3),
        ldb_((shape.transpose_b ? shape.n : shape.k) + 3),
        ldc_(shape.m + 3),
        stride_a_(lda_ * (shape.transpose_a ? shape.m : shape.k)),
        stride_b_(ldb_ * (shape.transpose_b ? shape.k : shape.n)),
        stride_c_(ldc_ * shape.n),
        a_(random_matrix(static_cast<std::size_t>(stride_a_) * shape.batches, 1)),
        b_(random_matrix(static_cast<std::size_t>(stride_b_) * shape.batches, 2)),
        bias_(random_matrix(static_cast<std::size_t>(shape.m), 3)),
        c_(static_cast<std::size_t>(stride_c_) * shape.batches) {
    Random random(4);
    for (float& value : c_) value = random.unit();
  }

  // The whole of D's memory after the call; `short_by` elements are missing from A.
  std::vector<float> run(float alpha, float beta, std::size_t short_by,
                         cublasStatus_t& status) const {
    cublasLtHandle_t handle;
    require_success(cublasLtCreate(&handle));
    cublasLtMatmulDesc_t operation;
    require_success(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const auto set = [&](cublasLtMatmulDescAttributes_t which, auto value) {
      require_success(cublasLtMatmulDescSetAttribute(operation, which, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, shape_.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, shape_.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    const Buffer<__nv_bfloat16> a(
        std::vector<__nv_bfloat16>(a_.begin(), a_.end() - static_cast<long>(short_by)));
    const Buffer<__nv_bfloat16> b(b_), bias(bias_);
    const Buffer<float> c(c_);
    if (shape_.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias.get()));
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_16BF);
    }
    const auto layout = [&](cudaDataType_t type, int rows, int columns, int leading, int stride) {
      cublasLtMatrixLayout_t made;
      require_success(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                                 static_cast<std::uint64_t>(columns), leading));
      const std::int64_t wide_stride = stride;
      require_success(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                       &shape_.batches, sizeof shape_.batches));
      require_success(cublasLtMatrixLayoutSetAttribute(
          made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &wide_stride, sizeof wide_stride));
      return made;
    };
    const Shape& s = shape_;
    const cublasLtMatrixLayout_t layout_a =
        layout(CUDA_R_16BF, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, lda_, stride_a_);
    const cublasLtMatrixLayout_t layout_b =
        layout(CUDA_R_16BF, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, ldb_, stride_b_);
    const cublasLtMatrixLayout_t layout_c = layout(CUDA_R_32F, s.m, s.n, ldc_, stride_c_);
    cublasLtMatmulPreference_t preference;
    require_success(cublasLtMatmulPreferenceCreate(&preference));
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    require_success(cublasLtMatmulAlgoGetHeuristic(handle, operation, layout_a, layout_b, layout_c,
                                                   layout_c, preference, 1, &found, &count));
    REQUIRE(count == 1);
    status = cublasLtMatmul(handle, operation, &alpha, a.get(), layout_a, b.get(), layout_b, &beta,
                            c.get(), layout_c, c.get(), layout_c, &found.algo, nullptr, 0, nullptr);
    std::vector<float> results;
    if (status == CUBLAS_STATUS_SUCCESS && short_by == 0) results = c.host();
    cublasLtMatmulPreferenceDestroy(preference);
    for (const cublasLtMatrixLayout_t made : {layout_a, layout_b, layout_c}) {
      cublasLtMatrixLayoutDestroy(made);
    }
    cublasLtMatmulDescDestroy(operation);
    cublasLtDestroy(handle);
    return results;
  }

  void check(float alpha, float beta) const {
    cublasStatus_t status;
    const std::vector<float> results = run(alpha, beta, 0, status);
    REQUIRE(status == CUBLAS_STATUS_SUCCESS);
    int wrong = 0;
    for (int batch = 0; batch < shape_.batches; ++batch) {
      for (int column = 0; column < shape_.n; ++column) {
        for (int row = 0; row < ldc_; ++row) {
          const int at = batch * stride_c_ + column * ldc_ + row;
          double expected = c_[at];  // between the columns: untouched
          if (row < shape_.m) expected = alpha * product(batch, row, column) + beta * c_[at];
          if (row < shape_.m && shape_.bias) expected += static_cast<float>(bias_[row]);
          // Products are exact; at most k roundings of a sum below k.
          wrong += !(std::fabs(results[at] - expected) <= shape_.k * shape_.k * 0x1p-24 + 1e-6);
        }
      }
    }
    CHECK(wrong == 0);
  }

 private:
  double product(int batch, int row, int column) const {
    double total = 0;
    for (int k = 0; k < shape_.k; ++k) {
      const int a = batch * stride_a_ + (shape_.transpose_a ? row * lda_ + k : k * lda_ + row);
      const int b =
          batch * stride_b_ + (shape_.transpose_b ? k * ldb_ + column : column * ldb_ + k);
      total += static_cast<double>(static_cast<float>(a_[a])) * static_cast<float>(b_[b]);
    }
    return total;
  }

  Shape shape_;
  int lda_, ldb_, ldc_, stride_a_, stride_b_, stride_c_;
  std::vector<__nv_bfloat16> a_, b_, bias_;
  std::vector<float> c_;
};

}  // namespace

TEST_CASE("matmul: transpositions, batches, bias, alpha and beta") {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      INFO("transposed ", transpose_a, " ", transpose_b);
      Problem({33, 17, 40, transpose_a, transpose_b, 1, false}).check(1.0F, 0.0F);
      Problem({8, 24, 64, transpose_a, transpose_b, 3, false}).check(0.5F, -2.0F);
    }
  }
  Problem({48, 16, 32, true, false, 1, true}).check(1.0F, 0.0F);
}

// Last: the context is lost. Hardware reads what lies behind an allocation and says nothing.
TEST_CASE("an operand that is too small is an error") {
  if (std::getenv("SOFTGPU_SMS") == nullptr) return;  // not run by softgpu/run
  cublasStatus_t status;
  Problem({33, 17, 40, false, false, 1, false}).run(1.0F, 0.0F, 30, status);
  CHECK((status != CUBLAS_STATUS_SUCCESS || cudaDeviceSynchronize() != cudaSuccess));
}
