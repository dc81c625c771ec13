#include "cuda/backend.h"

#include "cuda/adamw.h"
#include "cuda/attention.h"
#include "cuda/decode.h"
#include "cuda/device/host_store.h"
#include "cuda/embedding.h"
#include "cuda/head.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kv_cache.h"
#include "cuda/linear.h"
#include "cuda/linear_backward.h"
#include "cuda/paged_attention.h"
#include "cuda/rmsnorm.h"
#include "cuda/rope.h"
#include "cuda/sampling.h"
#include "cuda/sizes/sizes.h"
#include "cuda/swiglu.h"
#include "cuda/views.h"

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

class CudaBackend final : public Backend, LayerOps, RolloutOps, TrainOps {
 public:
  CudaBackend() : gemm_(device_) {}

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    return fmt::format("cuda: {}, {} SMs", device_.name(), device_.processors());
  }
  DType activation_dtype() const override { return sizes_.activation_dtype(); }
  BackendPreferences preferences() const override { return sizes_.preferences(); }
  LayerOps& layer() override { return *this; }
  RolloutOps& rollout() override { return *this; }
  TrainOps& train() override { return *this; }
  DecodeOps* decode() override { return &decode_; }

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
    return sizes_.weight_bytes(rows, cols, format);
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
    return sizes_.workspace_bytes(shape);
  }
  std::vector<NamedBytes> workspace_parts(const WorkspaceShape& shape) const override {
    return sizes_.workspace_parts(shape);
  }
  std::size_t pinned_bytes(const WorkspaceShape& shape) const override {
    return sizes_.pinned_bytes(shape);
  }
  std::size_t runtime_bytes() const override { return sizes_.runtime_bytes(); }
  bool has_host_store() const override { return sizes_.has_host_store(); }
  void reserve(std::size_t weights, const WorkspaceShape& shape) override {
    device_.reserve(weights, slot_bytes(shape));
    decode_.reserve(shape);
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
  std::unique_ptr<HostStore> make_host_store(std::int64_t slots, std::size_t bytes) override {
    return cuda::make_host_store(device_, slots, bytes);
  }
  void synchronize() override { device_.stream().synchronize(); }
  Device& device() { return device_; }

 private:
  cudaStream_t stream() const { return device_.handle(); }

  void embedding_forward(TensorView y, const Weight& table,
                         std::span<const std::int32_t> tokens) override {
    embedding_.forward(device_, y, table, tokens);
  }

  void embedding_backward(TensorView dtable, ConstTensorView dy,
                          std::span<const std::int32_t> tokens) override {
    embedding_.backward(device_, dtable, dy, tokens);
  }

  void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x, ConstTensorView weight,
                       float eps) override {
    cuda::rmsnorm_forward(device_, y, rstd, x, weight, eps);
  }
  void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy, ConstTensorView x,
                        ConstTensorView weight, ConstTensorView rstd) override {
    cuda::rmsnorm_backward(device_, dx, dweight, dy, x, weight, rstd);
  }

  void rope_forward(TensorView x, const RopeFrequencies& rope,
                    std::span<const std::int32_t> positions) override {
    rope_.apply(device_, x, rope, positions, 1.0f);
  }
  void rope_backward(TensorView dx, const RopeFrequencies& rope,
                     std::span<const std::int32_t> positions) override {
    rope_.apply(device_, dx, rope, positions, -1.0f);
  }

  void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                      std::span<const AdapterRun> runs, ConstTensorView residual) override {
    cuda::linear_forward(device_, gemm_, y, x, linear, runs, residual);
  }
  void linear_forward_group(std::span<const TensorView> y, ConstTensorView x,
                            std::span<const Linear> linears,
                            std::span<const AdapterRun> runs) override {
    cuda::linear_forward_group(device_, gemm_, y, x, linears, runs);
  }
  void swiglu_linear_forward(TensorView act, TensorView gate, TensorView up, ConstTensorView x,
                             const Linear& gate_linear, const Linear& up_linear,
                             std::span<const AdapterRun> runs, bool keep) override {
    cuda::swiglu_linear_forward(device_, gemm_, act, gate, up, x, gate_linear, up_linear, runs,
                                keep);
  }

  void linear_backward(TensorView dx, bool accumulate, const LinearGradients& gradients,
                       ConstTensorView dy, ConstTensorView x, const Linear& linear,
                       std::span<const AdapterRun> runs) override {
    cuda::linear_backward(device_, gemm_, dx, accumulate, gradients, dy, x, linear, runs);
  }

  void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) override {
    cuda::swiglu_forward(device_, y, gate, up);
  }
  void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy, ConstTensorView gate,
                       ConstTensorView up) override {
    cuda::swiglu_backward(device_, dgate, dup, dy, gate, up);
  }

  void attention_forward(TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
                         ConstTensorView v, const AttentionShape& shape,
                         std::span<const Segment> segments) override {
    attention_.forward(device_, o, lse, q, k, v, shape, segments);
  }
  void attention_backward(TensorView dq, TensorView dk, TensorView dv, ConstTensorView d_o,
                          ConstTensorView q, ConstTensorView k, ConstTensorView v,
                          ConstTensorView o, ConstTensorView lse, const AttentionShape& shape,
                          std::span<const Segment> segments) override {
    attention_.backward(device_, dq, dk, dv, d_o, q, k, v, o, lse, shape, segments);
  }

  void kv_write(const KvCacheLayer& cache, ConstTensorView k, ConstTensorView v,
                std::span<const std::int32_t> slots) override {
    cache_writer_.write(device_, cache, k, v, slots);
  }
  void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                     const RopeFrequencies& rope, std::span<const std::int32_t> positions,
                     std::span<const std::int32_t> slots) override {
    cache_writer_.rope_write(device_, rope_, cache, q, k, v, rope, positions, slots);
  }
  void copy_blocks(const KvCacheLayer& cache,
                   std::span<const std::pair<std::int32_t, std::int32_t>> pairs) override {
    cache_writer_.copy_blocks(device_, cache, pairs);
  }
  void paged_attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                       std::int32_t block_size, const AttentionShape& shape,
                       std::span<const PagedSequence> sequences) override {
    paged_attention_.attend(device_, o, q, cache, block_size, shape, sequences);
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
    embedding_.gather_rows(device_, out, x, rows);
  }
  void scatter_add_rows(TensorView x, ConstTensorView values,
                        std::span<const std::int32_t> rows) override {
    embedding_.scatter_add_rows(device_, x, values, rows);
  }

  void head_sample(std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                   std::span<const SampleRequest> requests) override {
    sampler_.sample(device_, out, hidden, head, requests);
  }

  void head_logprob(std::span<HeadResult> out, ConstTensorView hidden, const Linear& head,
                    std::span<const HeadEntry> entries, float temperature) override {
    head_.logprob(device_, gemm_, out, hidden, head, entries, temperature);
  }
  void head_objective(std::span<HeadResult> out, std::span<TokenObjective<float>> token,
                      TensorView dhidden, TensorView dweight, ConstTensorView hidden,
                      const Linear& head, std::span<const HeadEntry> entries,
                      std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                      float temperature) override {
    head_.objective(device_, gemm_, out, token, dhidden, dweight, hidden, head, entries, terms,
                    params, temperature);
  }

  double sum_of_squares(ConstTensorView x) override { return sum_of_squares_all({&x, 1}); }
  double sum_of_squares_all(std::span<const ConstTensorView> tensors) override {
    return optimizer_.sum_of_squares(device_, tensors);
  }
  void adamw_32bit(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                   const AdamWParams& params) override {
    optimizer_.adamw_32bit(device_, param, m, v, grad, params);
  }
  void adamw_8bit(TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                  TensorView absmax_v, ConstTensorView grad, const AdamWParams& params) override {
    optimizer_.adamw_8bit(device_, param, m, v, absmax_m, absmax_v, grad, params);
  }

  CudaSizes sizes_;
  Device device_;
  Gemm gemm_;
  Attention attention_;
  Head head_;
  HeadSampler sampler_;
  Rope rope_;
  Decode decode_{device_, rope_};
  CacheWriter cache_writer_;
  PagedAttention paged_attention_;
  OptimizerOps optimizer_{device_};
  Embedding embedding_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend() {
  const Availability found = availability();
  require(found.problem.empty(), "CUDA: {}", found.problem);
  QGRPO_CUDA(cudaSetDevice(0));
  return std::make_unique<CudaBackend>();
}

Device& device_of(Backend& backend) {
  auto* own = dynamic_cast<CudaBackend*>(&backend);
  require(own != nullptr, "cuda: the device of another backend ({}) was asked for", backend.name());
  return own->device();
}

void* stream_of(Backend& backend) {
  return device_of(backend).handle();
}

}  // namespace qgrpo::cuda
