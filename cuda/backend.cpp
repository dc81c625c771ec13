#include "cuda/backend.h"

#include <numeric>

#include "cuda/attention.h"
#include "cuda/head.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/rmsnorm.h"
#include "cuda/kernels/rows.h"
#include "cuda/linear.h"
#include "cuda/rope.h"
#include "cuda/unsupported.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

class CudaBuffer : public Buffer {
 public:
  CudaBuffer(const Device& device, std::size_t bytes) : memory_(bytes) {
    data_ = memory_.data();
    bytes_ = bytes;
    if (bytes > 0) QGRPO_CUDA(cudaMemsetAsync(data_, 0, bytes, device.handle()));
  }

 private:
  DeviceMemory memory_;
};

// Views as kernel arguments, checked.
const bf16* halves(const char* op, const char* what, ConstTensorView x, std::int64_t elements) {
  return static_cast<const bf16*>(require_view(op, what, x, DType::bf16, elements));
}
bf16* halves(const char* op, const char* what, TensorView x, std::int64_t elements) {
  require_view(op, what, x, DType::bf16, elements);
  return static_cast<bf16*>(x.data);
}
const float* floats(const char* op, const char* what, ConstTensorView x, std::int64_t elements) {
  return static_cast<const float*>(require_view(op, what, x, DType::f32, elements));
}
float* floats(const char* op, const char* what, TensorView x, std::int64_t elements) {
  require_view(op, what, x, DType::f32, elements);
  return x.f32();
}

void require_rows(const char* op, std::span<const std::int32_t> rows, std::int64_t count) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    require(rows[i] >= 0 && rows[i] < count, "{}: entry {} names row {}, there are {}", op, i,
            rows[i], count);
  }
}

// Bound of what a model can have, for the size of the scratch alone.
constexpr std::int64_t kWorkspaceRank = 256;

class CudaBackend final : public Backend, UnsupportedOps {
 public:
  CudaBackend() : gemm_(device_) {}

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    return fmt::format("cuda: {}, {} SMs", device_.name(), device_.processors());
  }
  DType activation_dtype() const override { return DType::bf16; }
  LayerOps& layer() override { return *this; }
  RolloutOps& rollout() override { return *this; }
  TrainOps& train() override { return *this; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    return std::make_unique<CudaBuffer>(device_, bytes);
  }
  std::optional<std::size_t> free_bytes() const override { return device_.free_bytes(); }
  std::unique_ptr<Weight> prepare(ConstTensorView host, WeightFormat format) override {
    return CudaWeight::prepare(device_, host, format);
  }
  std::unique_ptr<Weight> prepare(const Nf4Tensor& host) override {
    return CudaWeight::prepare(device_, host);
  }
  std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                           WeightFormat format) const override {
    return CudaWeight::device_bytes(rows, cols, format);
  }
  void update(Weight& weight, ConstTensorView master) override {
    auto* own = dynamic_cast<CudaWeight*>(&weight);
    require(own != nullptr, "cuda: the weight to update belongs to another backend");
    own->update(device_, master);
  }
  void unpack(std::span<float> out, const Weight& weight) override {
    cuda_weight(weight).unpack(device_, out);
  }
  std::size_t workspace_bytes(const WorkspaceShape& shape) const override {
    return linear_workspace_bytes(shape.tokens, shape.ffn, shape.hidden, kWorkspaceRank) +
           Head::workspace_bytes(shape.tokens, shape.hidden, shape.vocab);
  }
  void convert(TensorView y, ConstTensorView x) override {
    const std::int64_t n = y.elements();
    QGRPO_CUDA(kernels::to_bf16(stream(), halves("convert", "y", y, n),
                                floats("convert", "x", x, n), 1.0f, n));
  }
  void upload(TensorView to, const void* from_host) override {
    if (to.bytes() == 0) return;
    QGRPO_CUDA(
        cudaMemcpyAsync(to.data, from_host, to.bytes(), cudaMemcpyHostToDevice, device_.handle()));
    device_.stream().synchronize();
  }
  void download(void* to_host, ConstTensorView from) override {
    if (from.bytes() == 0) return;
    QGRPO_CUDA(cudaMemcpyAsync(to_host, from.data, from.bytes(), cudaMemcpyDeviceToHost,
                               device_.handle()));
  }
  void synchronize() override { device_.stream().synchronize(); }

 private:
  cudaStream_t stream() const { return device_.handle(); }

  void embedding_forward(TensorView y, const Weight& table,
                         std::span<const std::int32_t> tokens) override {
    const CudaWeight& weight = cuda_weight(table);
    require(weight.format() != WeightFormat::nf4, "embedding: an nf4 table is not supported");
    require_rows("embedding", tokens, weight.rows());
    const auto count = static_cast<std::int64_t>(tokens.size());
    if (count == 0) return;
    QGRPO_CUDA(kernels::gather_rows(stream(), halves("embedding", "y", y, count * weight.cols()),
                                    weight.dense(device_), tokens_.upload(device_.stream(), tokens),
                                    count, weight.cols()));
  }

  void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x, ConstTensorView weight,
                       float eps) override {
    const std::int64_t width = weight.elements();
    const std::int64_t rows = rstd.elements();
    QGRPO_CUDA(kernels::rmsnorm_forward(
        stream(), halves("rmsnorm", "y", y, rows * width), floats("rmsnorm", "rstd", rstd, rows),
        halves("rmsnorm", "x", x, rows * width), floats("rmsnorm", "weight", weight, width), rows,
        width, eps));
  }
  void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy, ConstTensorView x,
                        ConstTensorView weight, ConstTensorView rstd) override {
    const char* op = "rmsnorm_backward";
    const std::int64_t width = weight.elements();
    const std::int64_t rows = rstd.elements();
    const bf16* dys = halves(op, "dy", dy, rows * width);
    const bf16* xs = halves(op, "x", x, rows * width);
    const float* rstds = floats(op, "rstd", rstd, rows);
    if (dweight) {
      QGRPO_CUDA(kernels::rmsnorm_dweight(stream(), floats(op, "dweight", dweight, width), dys, xs,
                                          rstds, rows, width));
    }
    QGRPO_CUDA(kernels::rmsnorm_backward(stream(), halves(op, "dx", dx, rows * width), dys, xs,
                                         floats(op, "weight", weight, width), rstds, rows, width));
  }

  void rope_forward(TensorView x, std::int32_t head_dim, double theta,
                    std::span<const std::int32_t> positions) override {
    rope_.apply(device_, x, head_dim, theta, positions, 1.0f);
  }
  void rope_backward(TensorView dx, std::int32_t head_dim, double theta,
                     std::span<const std::int32_t> positions) override {
    rope_.apply(device_, dx, head_dim, theta, positions, -1.0f);
  }

  void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                      std::span<const AdapterRun> runs, ConstTensorView residual) override {
    if (residual && residual.data != y.data) copy(y, residual);
    cuda::linear_forward(device_, gemm_, y, x, linear, runs, static_cast<bool>(residual));
  }

  void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) override {
    const std::int64_t n = y.elements();
    QGRPO_CUDA(kernels::swiglu_forward(stream(), halves("swiglu", "y", y, n),
                                       halves("swiglu", "gate", gate, n),
                                       halves("swiglu", "up", up, n), n));
  }
  void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy, ConstTensorView gate,
                       ConstTensorView up) override {
    const char* op = "swiglu_backward";
    const std::int64_t n = dy.elements();
    QGRPO_CUDA(kernels::swiglu_backward(stream(), halves(op, "dgate", dgate, n),
                                        halves(op, "dup", dup, n), halves(op, "dy", dy, n),
                                        halves(op, "gate", gate, n), halves(op, "up", up, n), n));
  }

  void attention_forward(TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
                         ConstTensorView v, const AttentionShape& shape,
                         std::span<const Segment> segments) override {
    attention_.forward(device_, o, lse, q, k, v, shape, segments);
  }

  void add(TensorView y, ConstTensorView x) override {
    const std::int64_t n = y.elements();
    if (y.dtype == DType::f32) {
      QGRPO_CUDA(kernels::add(stream(), floats("add", "y", y, n), floats("add", "x", x, n), n));
    } else {
      QGRPO_CUDA(kernels::add(stream(), halves("add", "y", y, n), halves("add", "x", x, n), n));
    }
  }
  void copy(TensorView y, ConstTensorView x) override {
    require(x.dtype == y.dtype && x.elements() == y.elements(), "copy: from {} {} to {} {}",
            dtype_name(x.dtype), x.shape.str(), dtype_name(y.dtype), y.shape.str());
    if (y.bytes() == 0) return;
    QGRPO_CUDA(cudaMemcpyAsync(y.data, x.data, y.bytes(), cudaMemcpyDeviceToDevice, stream()));
  }
  void zero(TensorView y) override {
    if (y.bytes() > 0) QGRPO_CUDA(cudaMemsetAsync(y.data, 0, y.bytes(), stream()));
  }
  void gather_rows(TensorView out, ConstTensorView x, std::span<const std::int32_t> rows) override {
    if (rows.empty()) return;
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t width = x.shape[1];
    require_rows("gather_rows", rows, x.shape[0]);
    QGRPO_CUDA(kernels::gather_rows(stream(), halves("gather_rows", "out", out, count * width),
                                    halves("gather_rows", "x", x, x.shape[0] * width),
                                    rows_.upload(device_.stream(), rows), count, width));
  }
  void scatter_add_rows(TensorView x, ConstTensorView values,
                        std::span<const std::int32_t> rows) override {
    if (rows.empty()) return;
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t width = x.shape[1];
    require_rows("scatter_add_rows", rows, x.shape[0]);
    // A block adds all values of one row: sorted by row, in their order within it.
    std::vector<std::int32_t> index(rows.size());
    std::iota(index.begin(), index.end(), 0);
    const auto row_of = [&](std::int32_t i) { return rows[static_cast<std::size_t>(i)]; };
    std::stable_sort(index.begin(), index.end(),
                     [&](std::int32_t a, std::int32_t b) { return row_of(a) < row_of(b); });
    std::vector<std::int32_t> distinct, first;
    for (std::size_t i = 0; i < index.size(); ++i) {
      if (!distinct.empty() && distinct.back() == row_of(index[i])) continue;
      distinct.push_back(row_of(index[i]));
      first.push_back(static_cast<std::int32_t>(i));
    }
    first.push_back(static_cast<std::int32_t>(count));
    const auto list = [&](DeviceArray<std::int32_t>& array, const std::vector<std::int32_t>& v) {
      return array.upload(device_.stream(), std::span<const std::int32_t>(v));
    };
    QGRPO_CUDA(
        kernels::scatter_add_rows(stream(), halves("scatter_add_rows", "x", x, x.shape[0] * width),
                                  halves("scatter_add_rows", "values", values, count * width),
                                  list(rows_, distinct), list(first_, first), list(index_, index),
                                  static_cast<std::int64_t>(distinct.size()), width));
  }

  void head_logprob(std::span<HeadResult> out, ConstTensorView hidden, const Linear& head,
                    std::span<const HeadEntry> entries, float temperature) override {
    head_.logprob(device_, gemm_, out, hidden, head, entries, temperature);
  }

  Device device_;
  Gemm gemm_;
  Attention attention_;
  Head head_;
  Rope rope_;
  DeviceArray<std::int32_t> tokens_;
  DeviceArray<std::int32_t> rows_;
  DeviceArray<std::int32_t> first_;
  DeviceArray<std::int32_t> index_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend() {
  const Availability found = availability();
  require(found.problem.empty(), "CUDA: {}", found.problem);
  QGRPO_CUDA(cudaSetDevice(0));
  return std::make_unique<CudaBackend>();
}

}  // namespace qgrpo::cuda
