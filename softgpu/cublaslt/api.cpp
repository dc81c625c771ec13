// The entry points of cuBLASLt that programs link for matrix multiplication.

#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "softgpu/cublaslt/compute.h"
#include "softgpu/cublaslt/description.h"
#include "softgpu/runtime/extension.h"

using namespace softgpu::cublaslt;

namespace {

cublasStatus_t refuse(const char* name, cublasStatus_t status, const std::string& message) {
  std::fprintf(stderr, "softgpu: %s: %s\n", name, message.c_str());
  return status;
}

template <typename T, typename Handle>
T* object(Handle handle) {
  return reinterpret_cast<T*>(handle);
}

// Copies an attribute's value in, if it has the expected size.
template <typename T>
cublasStatus_t assign(const char* name, T& field, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) {
    return refuse(name, CUBLAS_STATUS_INVALID_VALUE,
                  "an attribute of " + std::to_string(bytes) + " bytes, expected " +
                      std::to_string(sizeof(T)));
  }
  std::memcpy(&field, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t unknown(const char* name, int attribute) {
  return refuse(name, CUBLAS_STATUS_NOT_SUPPORTED,
                "attribute " + std::to_string(attribute) + " is not emulated");
}

cublasStatus_t describe(const char* name, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                        cublasLtMatrixLayout_t d, Problem& problem) {
  if (desc == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr) {
    return refuse(name, CUBLAS_STATUS_INVALID_VALUE, "a descriptor is null");
  }
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  const std::string text =
      make_problem(*object<Description>(desc), *object<Layout>(a), *object<Layout>(b),
                   *object<Layout>(c), *object<Layout>(d), problem, status);
  return text.empty() ? CUBLAS_STATUS_SUCCESS : refuse(name, status, text);
}

// What the one algorithm here carries: that it is one, and the columns of D that it suits. With
// SOFTGPU_CUBLASLT_COLUMNS=N it suits N, and those that it was asked for: programs that use one for
// other sizes have to ask.
constexpr std::uint64_t kAlgorithm = 0x736f6674;
std::uint64_t most_columns(std::uint64_t asked) {
  const char* text = std::getenv("SOFTGPU_CUBLASLT_COLUMNS");
  return text == nullptr ? UINT64_MAX
                         : std::max<std::uint64_t>(asked, std::strtoull(text, nullptr, 10));
}
bool suits(const cublasLtMatmulAlgo_t* algorithm, const Problem& problem) {
  return algorithm->data[0] == kAlgorithm && problem.n <= algorithm->data[1];
}

unsigned worker_count() {
  const char* text = std::getenv("SOFTGPU_THREADS");
  const int given = text == nullptr ? 0 : std::atoi(text);
  return given > 0 ? static_cast<unsigned>(given) : std::thread::hardware_concurrency();
}

}  // namespace

namespace {

// The product's operations, and each operand once: the least that any algorithm moves.
softgpu::runtime::LibraryCost cost_of(const Problem& problem) {
  const auto bytes = [](const Layout& layout, std::uint64_t rows, std::uint64_t columns) {
    return rows * columns * size_of(element_of(layout.type)) *
           static_cast<std::uint64_t>(layout.batch_count);
  };
  softgpu::runtime::LibraryCost cost;
  cost.flops =
      2 * problem.m * problem.n * problem.k * static_cast<std::uint64_t>(problem.d.batch_count);
  cost.bytes_read = bytes(problem.a, problem.m, problem.k) + bytes(problem.b, problem.k, problem.n);
  cost.bytes_written = bytes(problem.d, problem.m, problem.n);
  return cost;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new char);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete object<char>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}
size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
      return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR:
      return "CUBLAS_STATUS_LICENSE_ERROR";
  }
  return "CUBLAS_STATUS_UNKNOWN";
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return cublasLtGetStatusName(status);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  auto* made = new Layout;
  made->type = type;
  made->rows = rows;
  made->columns = columns;
  made->ld = ld;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete object<Layout>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  constexpr const char* kName = "cublasLtMatrixLayoutSetAttribute";
  Layout& layout = *object<Layout>(handle);
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return assign(kName, layout.type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return assign(kName, layout.order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return assign(kName, layout.rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return assign(kName, layout.columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return assign(kName, layout.ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return assign(kName, layout.batch_count, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return assign(kName, layout.batch_stride, value, bytes);
    default:
      return unknown(kName, static_cast<int>(attribute));
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  auto* made = new Description;
  made->compute = compute;
  made->scale = scale;
  *desc = reinterpret_cast<cublasLtMatmulDesc_t>(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete object<Description>(desc);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  constexpr const char* kName = "cublasLtMatmulDescSetAttribute";
  Description& desc = *object<Description>(handle);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return assign(kName, desc.compute, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return assign(kName, desc.scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return assign(kName, desc.pointer_mode, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(kName, desc.trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(kName, desc.trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(kName, desc.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(kName, desc.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return assign(kName, desc.bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return assign(kName, desc.bias_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM:
      return CUBLAS_STATUS_SUCCESS;
    default:
      return unknown(kName, static_cast<int>(attribute));
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete object<Preference>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
// Preferences guide the choice of an algorithm; here there is one.
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    return assign("cublasLtMatmulPreferenceSetAttribute", object<Preference>(preference)->workspace,
                  value, bytes);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  if (requested < 1 || results == nullptr || returned == nullptr) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *returned = 0;
  Problem problem;
  const cublasStatus_t status =
      describe("cublasLtMatmulAlgoGetHeuristic", desc, a, b, c, d, problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1.0f;
  results[0].algo.data[0] = kAlgorithm;
  results[0].algo.data[1] = most_columns(problem.n);
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoInit(cublasLtHandle_t, cublasComputeType_t, cudaDataType_t,
                                      cudaDataType_t, cudaDataType_t, cudaDataType_t,
                                      cudaDataType_t, int, cublasLtMatmulAlgo_t* algorithm) {
  *algorithm = {};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  int returned = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, c, d, nullptr, 1, result, &returned);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  Problem problem;
  describe("cublasLtMatmulAlgoCheck", desc, a, b, c, d, problem);
  if (!suits(algorithm, problem)) return CUBLAS_STATUS_NOT_SUPPORTED;
  result->algo = *algorithm;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t,
                              cudaStream_t stream) {
  constexpr const char* kName = "cublasLtMatmul";
  Call call;
  const cublasStatus_t status =
      describe(kName, desc, a_layout, b_layout, c_layout, d_layout, call.problem);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (algorithm != nullptr && !suits(algorithm, call.problem)) {
    return refuse(kName, CUBLAS_STATUS_NOT_SUPPORTED, "the algorithm does not suit this product");
  }
  if (alpha == nullptr || beta == nullptr) {
    return refuse(kName, CUBLAS_STATUS_INVALID_VALUE, "alpha or beta is null");
  }
  call.a = reinterpret_cast<std::uint64_t>(a);
  call.b = reinterpret_cast<std::uint64_t>(b);
  call.c = reinterpret_cast<std::uint64_t>(c);
  call.d = reinterpret_cast<std::uint64_t>(d);
  call.threads = worker_count();
  if (call.problem.description.pointer_mode == CUBLASLT_POINTER_MODE_HOST) {
    std::memcpy(&call.alpha, alpha, sizeof call.alpha);
    std::memcpy(&call.beta, beta, sizeof call.beta);
  } else {
    call.alpha_address = reinterpret_cast<std::uint64_t>(alpha);
    call.beta_address = reinterpret_cast<std::uint64_t>(beta);
  }
  const cudaError_t error = cudaSoftgpuSubmit(
      stream, kName, [call](softgpu::DeviceMemory& memory) { return run(call, memory); },
      cost_of(call.problem));
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
