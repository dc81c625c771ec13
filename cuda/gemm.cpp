#include "cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <tuple>

namespace qgrpo::cuda {
namespace {

// The functions of libcublasLt that are used, opened by name.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmul) matmul;

  static const Library& get() {
    static const Library library;
    return library;
  }

 private:
  Library() {
    const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) fail("CUDA: {} cannot be opened: {}", name, dlerror());
    const auto find = [&](auto& function, const char* symbol) {
      void* address = dlsym(handle, symbol);
      require(address != nullptr, "CUDA: {} has no {}", name, symbol);
      function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
    };
    find(create, "cublasLtCreate");
    find(destroy, "cublasLtDestroy");
    find(desc_create, "cublasLtMatmulDescCreate");
    find(desc_destroy, "cublasLtMatmulDescDestroy");
    find(desc_set, "cublasLtMatmulDescSetAttribute");
    find(layout_create, "cublasLtMatrixLayoutCreate");
    find(layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(preference_create, "cublasLtMatmulPreferenceCreate");
    find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(matmul, "cublasLtMatmul");
  }
};

void check_cublas(cublasStatus_t status, const char* call, int line) {
  require(status == CUBLAS_STATUS_SUCCESS, "CUDA: cuBLASLt status {} (gemm.cpp:{} {})",
          static_cast<int>(status), line, call);
}
#define QGRPO_CUBLAS(function, ...) \
  check_cublas(Library::get().function(__VA_ARGS__), #function, __LINE__)

// Owns an opaque object of the library.
template <typename T>
class Handle {
 public:
  Handle(T object, cublasStatus_t (*destroy)(T)) : object_(object), destroy_(destroy) {}
  ~Handle() { destroy_(object_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  T get() const { return object_; }

 private:
  T object_;
  cublasStatus_t (*destroy_)(T);
};

using Layout = Handle<cublasLtMatrixLayout_t>;

Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t cols) {
  cublasLtMatrixLayout_t layout = nullptr;
  QGRPO_CUBLAS(layout_create, &layout, type, static_cast<std::uint64_t>(rows),
               static_cast<std::uint64_t>(cols), rows);
  return {layout, Library::get().layout_destroy};
}

constexpr std::int64_t kPlanRows = 1024;

// The alignment that rows of `elements` and a 16-byte aligned start guarantee.
std::uint32_t row_alignment(std::int64_t elements, std::size_t size) {
  std::uint32_t alignment = 16;
  while (static_cast<std::size_t>(elements) * size % alignment != 0) alignment /= 2;
  return alignment;
}

}  // namespace

// cuBLASLt is column-major: y^T (n, rows) = w^T's transpose (n, k) x^T (k, rows), all leading
// dimensions those of the row-major arrays.
class Gemm::Implementation {
 public:
  explicit Implementation(Device& device) : device_(device), workspace_(kWorkspaceBytes) {
    QGRPO_CUBLAS(create, &handle_);
    QGRPO_CUBLAS(desc_create, &product_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    QGRPO_CUBLAS(desc_set, product_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
  }
  ~Implementation() {
    Library::get().desc_destroy(product_);
    Library::get().destroy(handle_);
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  void run(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w, std::int64_t rows,
           std::int64_t n, std::int64_t k, bool accumulate) {
    if (rows == 0 || n == 0) return;
    const cudaDataType_t y_type = type == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
    const cublasLtMatmulAlgo_t& algorithm = plan(y_type, n, k);
    const Layout a = make_layout(CUDA_R_16BF, k, n);
    const Layout b = make_layout(CUDA_R_16BF, k, rows);
    const Layout c = make_layout(y_type, n, rows);
    const float one = 1.0f;
    const float beta = accumulate ? 1.0f : 0.0f;
    QGRPO_CUBLAS(matmul, handle_, product_, &one, w, a.get(), x, b.get(), &beta, y, c.get(), y,
                 c.get(), &algorithm, workspace_.data(), kWorkspaceBytes, device_.handle());
  }

 private:
  const cublasLtMatmulAlgo_t& plan(cudaDataType_t y_type, std::int64_t n, std::int64_t k) {
    const auto key = std::tuple(y_type, n, k);
    const auto known = plans_.find(key);
    if (known != plans_.end()) return known->second;
    cublasLtMatmulPreference_t raw = nullptr;
    QGRPO_CUBLAS(preference_create, &raw);
    const Handle<cublasLtMatmulPreference_t> preference(raw, Library::get().preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      QGRPO_CUBLAS(preference_set, raw, attribute, &value, sizeof value);
    };
    const std::uint32_t of_k = row_alignment(k, 2);
    const std::uint32_t of_n = row_alignment(n, y_type == CUDA_R_32F ? 4 : 2);
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_k);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_k);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_n);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_n);
    const Layout a = make_layout(CUDA_R_16BF, k, n);
    const Layout b = make_layout(CUDA_R_16BF, k, kPlanRows);
    const Layout c = make_layout(y_type, n, kPlanRows);
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    QGRPO_CUBLAS(heuristic, handle_, product_, a.get(), b.get(), c.get(), c.get(), raw, 1, &found,
                 &count);
    require(count == 1, "CUDA: cuBLASLt has no algorithm for a matrix of {} x {}", n, k);
    return plans_.emplace(key, found.algo).first->second;
  }

  Device& device_;
  DeviceMemory workspace_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  std::map<std::tuple<cudaDataType_t, std::int64_t, std::int64_t>, cublasLtMatmulAlgo_t> plans_;
};

Gemm::Gemm(Device& device) : implementation_(std::make_unique<Implementation>(device)) {}
Gemm::~Gemm() = default;

void Gemm::run(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w,
               std::int64_t rows, std::int64_t n, std::int64_t k, bool accumulate) {
  implementation_->run(y, type, x, w, rows, n, k, accumulate);
}

}  // namespace qgrpo::cuda
