#include "cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <tuple>

#include "cuda/plugin/cuda_libraries.h"

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
  decltype(&cublasLtMatmulAlgoCheck) algo_check;
  decltype(&cublasLtMatmul) matmul;

  static const Library& get() {
    static const Library library;
    return library;
  }

 private:
  Library() {
    const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
    std::string reason;
    void* handle = open_cuda_library(name, CUBLAS_VER_MAJOR, reason);
    if (handle == nullptr)
      fail("CUDA: {}; {}", reason, cuda_library_remedy("cuBLAS", CUBLAS_VER_MAJOR));
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
    find(algo_check, "cublasLtMatmulAlgoCheck");
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

Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  QGRPO_CUBLAS(layout_create, &layout, type, static_cast<std::uint64_t>(rows),
               static_cast<std::uint64_t>(cols), stride);
  return {layout, Library::get().layout_destroy};
}

constexpr std::int64_t kPlanRows = 1024;
constexpr std::int64_t kAnyRows = -1;

cudaDataType_t cuda_type(DType type) {
  return type == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The alignment that rows of `elements` and a 16-byte aligned start guarantee.
std::uint32_t row_alignment(std::int64_t elements, std::size_t size) {
  std::uint32_t alignment = 16;
  while (static_cast<std::size_t>(elements) * size % alignment != 0) alignment /= 2;
  return alignment;
}

// A product y (m, n) of row-major operands. cuBLASLt is column-major and sees all of them
// transposed, so y^T (n, m) = first second, where the second operand of y's product comes first:
//   nt  y = x (m, k) w (n, k)^T    first: w, transposed     second: x as it is
//   nn  y = x (m, k) w (k, n)      first: w as it is        second: x as it is
//   tn  y = a (k, m)^T b (k, n)    first: b as it is        second: a, transposed
// All leading dimensions are those of the row-major arrays; x's or a's rows may lie `stride` apart.
enum class Form { nt, nn, tn };
struct Product {
  Form form;
  cudaDataType_t y_type;
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  std::int64_t stride;
  Layout first() const {
    return form == Form::nt ? make_layout(CUDA_R_16BF, k, n, k) : make_layout(CUDA_R_16BF, n, k, n);
  }
  Layout second() const {
    return form == Form::tn ? make_layout(CUDA_R_16BF, m, k, stride)
                            : make_layout(CUDA_R_16BF, k, m, stride);
  }
  Layout result() const { return make_layout(y_type, n, m, n); }
};

}  // namespace

class Gemm::Implementation {
 public:
  explicit Implementation(Device& device) : device_(device) {
    QGRPO_CUBLAS(create, &handle_);
    const auto transposed = [](cublasOperation_t first, cublasOperation_t second) {
      cublasLtMatmulDesc_t product = nullptr;
      QGRPO_CUBLAS(desc_create, &product, CUBLAS_COMPUTE_32F, CUDA_R_32F);
      QGRPO_CUBLAS(desc_set, product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
      QGRPO_CUBLAS(desc_set, product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
      return product;
    };
    products_[static_cast<int>(Form::nt)] = transposed(CUBLAS_OP_T, CUBLAS_OP_N);
    products_[static_cast<int>(Form::nn)] = transposed(CUBLAS_OP_N, CUBLAS_OP_N);
    products_[static_cast<int>(Form::tn)] = transposed(CUBLAS_OP_N, CUBLAS_OP_T);
  }
  ~Implementation() {
    for (const cublasLtMatmulDesc_t product : products_) Library::get().desc_destroy(product);
    Library::get().destroy(handle_);
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  // y = c + the product; c may be y, or null for zeros.
  void run(const Product& p, void* y, const kernels::bf16* first, const kernels::bf16* second,
           const void* added) {
    if (p.m == 0 || p.n == 0) return;
    if (p.k == 0) {
      const auto bytes = static_cast<std::size_t>(p.m * p.n) * (p.y_type == CUDA_R_32F ? 4 : 2);
      if (added == nullptr) {
        QGRPO_CUDA(cudaMemsetAsync(y, 0, bytes, device_.handle()));
      } else if (added != y) {
        QGRPO_CUDA(cudaMemcpyAsync(y, added, bytes, cudaMemcpyDeviceToDevice, device_.handle()));
      }
      return;
    }
    const cublasLtMatmulAlgo_t& algorithm = plan(p);
    const float one = 1.0f;
    const float beta = added != nullptr ? 1.0f : 0.0f;
    const Layout a = p.first(), b = p.second(), c = p.result();
    QGRPO_CUBLAS(matmul, handle_, products_[static_cast<int>(p.form)], &one, first, a.get(), second,
                 b.get(), &beta, added != nullptr ? added : y, c.get(), y, c.get(), &algorithm,
                 device_.scratch<std::byte>(Device::Slot::gemm, kGemmWorkspaceBytes),
                 kGemmWorkspaceBytes, device_.handle());
  }

 private:
  using Shape = std::tuple<Form, cudaDataType_t, std::int64_t, std::int64_t, std::int64_t>;

  // The algorithm of the shape, or where cuBLASLt says that it does not suit this number of rows, the
  // one for exactly these.
  const cublasLtMatmulAlgo_t& plan(const Product& p) {
    // The batch's rows are m, or in a product that sums over them k.
    const Shape shape(p.form, p.y_type, p.n, p.form == Form::tn ? p.m : p.k, p.stride);
    const std::int64_t rows = p.form == Form::tn ? p.k : p.m;
    const auto known = plans_.find({shape, rows});
    if (known != plans_.end()) return known->second;
    auto typical = plans_.find({shape, kAnyRows});
    if (typical == plans_.end()) {
      Product q = p;
      (p.form == Form::tn ? q.k : q.m) = kPlanRows;
      typical = plans_.emplace(std::pair(shape, kAnyRows), choose(q)).first;
    }
    const bool suits = rows == kPlanRows || is_suitable(typical->second, p);
    return plans_.emplace(std::pair(shape, rows), suits ? typical->second : choose(p))
        .first->second;
  }

  bool is_suitable(const cublasLtMatmulAlgo_t& algorithm, const Product& p) const {
    const Layout a = p.first(), b = p.second(), c = p.result();
    cublasLtMatmulHeuristicResult_t found{};
    return Library::get().algo_check(handle_, products_[static_cast<int>(p.form)], a.get(), b.get(),
                                     c.get(), c.get(), &algorithm,
                                     &found) == CUBLAS_STATUS_SUCCESS &&
           found.state == CUBLAS_STATUS_SUCCESS && found.workspaceSize <= kGemmWorkspaceBytes;
  }

  cublasLtMatmulAlgo_t choose(const Product& p) const {
    cublasLtMatmulPreference_t raw = nullptr;
    QGRPO_CUBLAS(preference_create, &raw);
    const Handle<cublasLtMatmulPreference_t> preference(raw, Library::get().preference_destroy);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      QGRPO_CUBLAS(preference_set, raw, attribute, &value, sizeof value);
    };
    const std::uint32_t of_y = row_alignment(p.n, p.y_type == CUDA_R_32F ? 4 : 2);
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kGemmWorkspaceBytes});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        row_alignment(p.form == Form::nt ? p.k : p.n, 2));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, row_alignment(p.stride, 2));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_y);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_y);
    const Layout a = p.first(), b = p.second(), c = p.result();
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    QGRPO_CUBLAS(heuristic, handle_, products_[static_cast<int>(p.form)], a.get(), b.get(), c.get(),
                 c.get(), raw, 1, &found, &count);
    require(count == 1, "CUDA: cuBLASLt has no algorithm for a product of {} x {} x {}", p.m, p.n,
            p.k);
    return found.algo;
  }

  Device& device_;
  cublasLtHandle_t handle_ = nullptr;
  std::array<cublasLtMatmulDesc_t, 3> products_{};  // by Form
  // By shape and rows; kAnyRows: the shape's own. Some hundreds of numbers of rows at most in a run.
  std::map<std::pair<Shape, std::int64_t>, cublasLtMatmulAlgo_t> plans_;
};

Gemm::Gemm(Device& device) : implementation_(std::make_unique<Implementation>(device)) {}
Gemm::~Gemm() = default;

void Gemm::run(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w,
               std::int64_t rows, std::int64_t n, std::int64_t k, bool accumulate) {
  implementation_->run({Form::nt, cuda_type(type), rows, n, k, k}, y, w, x,
                       accumulate ? y : nullptr);
}

void Gemm::run_added(void* y, DType type, const void* added, const kernels::bf16* x,
                     const kernels::bf16* w, std::int64_t rows, std::int64_t n, std::int64_t k) {
  implementation_->run({Form::nt, cuda_type(type), rows, n, k, k}, y, w, x, added);
}

void Gemm::run_nn(void* y, DType type, const kernels::bf16* x, const kernels::bf16* w,
                  std::int64_t rows, std::int64_t n, std::int64_t k, bool accumulate,
                  std::int64_t x_stride) {
  implementation_->run({Form::nn, cuda_type(type), rows, n, k, x_stride > 0 ? x_stride : k}, y, w,
                       x, accumulate ? y : nullptr);
}

void Gemm::run_tn(float* y, const kernels::bf16* a, const kernels::bf16* b, std::int64_t m,
                  std::int64_t n, std::int64_t k, bool accumulate, std::int64_t a_stride) {
  implementation_->run({Form::tn, CUDA_R_32F, m, n, k, a_stride > 0 ? a_stride : m}, y, b, a,
                       accumulate ? y : nullptr);
}

}  // namespace qgrpo::cuda
