#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/adamw.h"
#include "cpu/backend.h"
#include "cpu/reference/adamw.h"
#include "cpu/reference/attention.h"
#include "cpu/reference/backend.h"
#include "cpu/reference/embedding.h"
#include "cpu/reference/head.h"
#include "cpu/reference/linear.h"
#include "cpu/reference/paged_attention.h"
#include "cpu/reference/rmsnorm.h"
#include "cpu/reference/rope.h"
#include "cpu/reference/sampling.h"
#include "cpu/reference/swiglu.h"

namespace qgrpo::cpu {
namespace {

class PlainBuffer : public Buffer {
 public:
  explicit PlainBuffer(std::size_t bytes) : memory_((bytes + 7) / 8) {
    data_ = memory_.data();
    bytes_ = bytes;
  }

 private:
  std::vector<double> memory_;
};

class PlainWeight : public Weight {
 public:
  PlainWeight(WeightFormat format, std::int64_t rows, std::int64_t cols, std::vector<float> w)
      : Weight(format, rows, cols), values(std::move(w)) {
    bytes_ = values.size() * sizeof(float);
  }
  std::vector<float> values;  // (N, K)
};

const PlainWeight& plain(const Weight& weight) {
  const auto* own = dynamic_cast<const PlainWeight*>(&weight);
  require(own != nullptr, "reference: the weight belongs to another backend");
  return *own;
}

// The adapters as the reference takes them; with the gradients' arrays, if given.
std::vector<reference::Lora<float>> loras(const Linear& linear, const LinearGradients* gradients) {
  std::vector<reference::Lora<float>> out;
  for (std::size_t i = 0; i < linear.adapters.size(); ++i) {
    const LoraFactors& f = linear.adapters[i];
    reference::Lora<float> lora{f.a.f32(), f.b.f32(), f.a ? f.a.shape[0] : 0, f.scale};
    if (gradients != nullptr && i < gradients->adapters.size()) {
      lora.da = gradients->adapters[i].da.f32();
      lora.db = gradients->adapters[i].db.f32();
    }
    out.push_back(lora);
  }
  return out;
}

class ReferenceBackend final : public Backend, LayerOps, RolloutOps, TrainOps {
 public:
  std::string name() const override { return "reference"; }
  std::string description() const override { return "reference: plain float32 loops"; }
  DType activation_dtype() const override { return DType::f32; }
  BackendPreferences preferences() const override { return kPreferences; }
  LayerOps& layer() override { return *this; }
  RolloutOps& rollout() override { return *this; }
  TrainOps& train() override { return *this; }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    return std::make_unique<PlainBuffer>(bytes);
  }
  std::unique_ptr<Weight> prepare(ConstTensorView host, WeightFormat format) override {
    const auto n = static_cast<std::size_t>(host.elements());
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
      values[i] = host.dtype == DType::f32    ? host.f32()[i]
                  : host.dtype == DType::bf16 ? bf16_to_f32(host.u16()[i])
                                              : f16_to_f32(host.u16()[i]);
      if (format == WeightFormat::bf16) values[i] = bf16_to_f32(f32_to_bf16(values[i]));
      require(std::isfinite(values[i]), "reference: weight {} is not finite", i);
    }
    if (format == WeightFormat::nf4) nf4_dequantize(values, nf4_quantize(values, host.shape));
    return std::make_unique<PlainWeight>(format, host.shape[0], host.shape[1], std::move(values));
  }
  std::unique_ptr<Weight> prepare(const Nf4Tensor& host) override {
    std::vector<float> values(static_cast<std::size_t>(host.shape.elements()));
    nf4_dequantize(values, host);
    return std::make_unique<PlainWeight>(WeightFormat::nf4, host.shape[0], host.shape[1],
                                         std::move(values));
  }
  std::size_t weight_bytes(std::int64_t rows, std::int64_t cols, WeightFormat) const override {
    return static_cast<std::size_t>(rows * cols) * sizeof(float);
  }
  void update(Weight& weight, ConstTensorView master) override {
    auto* own = dynamic_cast<PlainWeight*>(&weight);
    require(own != nullptr && own->format() == WeightFormat::f32 &&
                master.elements() == own->rows() * own->cols(),
            "reference: only an f32 weight of the same size can be updated");
    std::copy_n(master.f32(), master.elements(), own->values.begin());
  }
  void unpack(std::span<float> out, const Weight& weight) override {
    std::copy(plain(weight).values.begin(), plain(weight).values.end(), out.begin());
  }
  std::size_t workspace_bytes(const WorkspaceShape&) const override {
    return 0;  // vectors that live for one row
  }
  void convert(TensorView y, ConstTensorView x) override { copy(y, x); }
  void upload(TensorView to, const void* from_host) override {
    if (to.bytes() > 0) std::memcpy(to.data, from_host, to.bytes());
  }
  void download(void* to_host, ConstTensorView from) override {
    if (from.bytes() > 0) std::memcpy(to_host, from.data, from.bytes());
  }
  void synchronize() override {}

 private:
  // LayerOps
  void embedding_forward(TensorView y, const Weight& table,
                         std::span<const std::int32_t> tokens) override {
    reference::embedding_forward(y.f32(), plain(table).values.data(), tokens, table.cols());
  }
  void embedding_backward(TensorView dtable, ConstTensorView dy,
                          std::span<const std::int32_t> tokens) override {
    reference::scatter_add_rows(dtable.f32(), dy.f32(), tokens, dtable.shape[1]);
  }
  void rmsnorm_forward(TensorView y, TensorView rstd, ConstTensorView x, ConstTensorView weight,
                       float eps) override {
    reference::rmsnorm_forward(y.f32(), rstd.f32(), x.f32(), weight.f32(), rstd.elements(),
                               weight.elements(), eps);
  }
  void rmsnorm_backward(TensorView dx, TensorView dweight, ConstTensorView dy, ConstTensorView x,
                        ConstTensorView weight, ConstTensorView rstd) override {
    reference::rmsnorm_backward(dx.f32(), dweight.f32(), dy.f32(), x.f32(), weight.f32(),
                                rstd.f32(), rstd.elements(), weight.elements());
  }
  void rope_forward(TensorView x, const RopeFrequencies& rope,
                    std::span<const std::int32_t> positions) override {
    turn(x, rope, positions, 1.0f);
  }
  void rope_backward(TensorView dx, const RopeFrequencies& rope,
                     std::span<const std::int32_t> positions) override {
    turn(dx, rope, positions, -1.0f);
  }
  static void turn(TensorView x, const RopeFrequencies& rope,
                   std::span<const std::int32_t> positions, float sign) {
    if (positions.empty()) return;
    const std::int64_t heads =
        x.elements() / static_cast<std::int64_t>(positions.size()) / rope.head_dim();
    reference::rope(x.f32(), heads, rope, positions, sign);
  }
  void linear_forward(TensorView y, ConstTensorView x, const Linear& linear,
                      std::span<const AdapterRun> runs, ConstTensorView residual) override {
    const PlainWeight& w = plain(*linear.weight);
    if (residual && residual.data != y.data) copy(y, residual);
    reference::linear_forward<float>(y.f32(), x.f32(), w.values.data(), linear.bias.f32(),
                                     loras(linear, nullptr), runs, w.rows(), w.cols(),
                                     /*accumulate=*/static_cast<bool>(residual));
  }
  void linear_backward(TensorView dx, bool accumulate, const LinearGradients& gradients,
                       ConstTensorView dy, ConstTensorView x, const Linear& linear,
                       std::span<const AdapterRun> runs) override {
    const PlainWeight& w = plain(*linear.weight);
    reference::linear_backward<float>(dx.f32(), accumulate, gradients.dweight.f32(),
                                      gradients.dbias.f32(), dy.f32(), x.f32(), w.values.data(),
                                      loras(linear, &gradients), runs, w.rows(), w.cols());
  }
  void swiglu_forward(TensorView y, ConstTensorView gate, ConstTensorView up) override {
    reference::swiglu_forward(y.f32(), gate.f32(), up.f32(), y.elements());
  }
  void swiglu_backward(TensorView dgate, TensorView dup, ConstTensorView dy, ConstTensorView gate,
                       ConstTensorView up) override {
    reference::swiglu_backward(dgate.f32(), dup.f32(), dy.f32(), gate.f32(), up.f32(),
                               dy.elements());
  }
  void attention_forward(TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
                         ConstTensorView v, const AttentionShape& shape,
                         std::span<const Segment> segments) override {
    reference::attention_forward(o.f32(), lse.f32(), q.f32(), k.f32(), v.f32(), shape, segments);
  }
  void attention_backward(TensorView dq, TensorView dk, TensorView dv, ConstTensorView d_o,
                          ConstTensorView q, ConstTensorView k, ConstTensorView v,
                          ConstTensorView o, ConstTensorView lse, const AttentionShape& shape,
                          std::span<const Segment> segments) override {
    reference::attention_backward(dq.f32(), dk.f32(), dv.f32(), d_o.f32(), q.f32(), k.f32(),
                                  v.f32(), o.f32(), lse.f32(), shape, segments);
  }
  void add(TensorView y, ConstTensorView x) override {
    for (std::int64_t i = 0; i < y.elements(); ++i) y.f32()[i] += x.f32()[i];
  }
  void copy(TensorView y, ConstTensorView x) override {
    if (y.bytes() > 0) std::memcpy(y.data, x.data, y.bytes());
  }
  void zero(TensorView y) override {
    if (y.bytes() > 0) std::memset(y.data, 0, y.bytes());
  }
  void gather_rows(TensorView out, ConstTensorView x, std::span<const std::int32_t> rows) override {
    reference::embedding_forward(out.f32(), x.f32(), rows, x.shape[1]);
  }
  void scatter_add_rows(TensorView x, ConstTensorView values,
                        std::span<const std::int32_t> rows) override {
    reference::scatter_add_rows(x.f32(), values.f32(), rows, x.shape[1]);
  }

  // RolloutOps
  void kv_write(const KvCacheLayer& cache, ConstTensorView k, ConstTensorView v,
                std::span<const std::int32_t> slots) override {
    const std::int64_t width = cache.k.shape[2];
    for (std::size_t t = 0; t < slots.size(); ++t) {
      const auto from = static_cast<std::int64_t>(t) * width;
      std::copy_n(k.f32() + from, width, cache.k.f32() + slots[t] * width);
      std::copy_n(v.f32() + from, width, cache.v.f32() + slots[t] * width);
    }
  }
  void paged_attention(TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                       std::int32_t block_size, const AttentionShape& shape,
                       std::span<const PagedSequence> sequences) override {
    reference::paged_attention<float>(o.f32(), q.f32(), cache.k.f32(), cache.v.f32(), block_size,
                                      shape, sequences);
  }
  void rope_kv_write(const KvCacheLayer& cache, TensorView q, TensorView k, ConstTensorView v,
                     const RopeFrequencies& rope, std::span<const std::int32_t> positions,
                     std::span<const std::int32_t> slots) override {
    rope_forward(q, rope, positions);
    rope_forward(k, rope, positions);
    kv_write(cache, k, v, slots);
  }
  void copy_blocks(const KvCacheLayer& cache,
                   std::span<const std::pair<std::int32_t, std::int32_t>> pairs) override {
    const std::int64_t size = cache.k.shape[1] * cache.k.shape[2];
    for (const auto& [from, to] : pairs) {
      if (from == to) continue;
      std::copy_n(cache.k.f32() + from * size, size, cache.k.f32() + to * size);
      std::copy_n(cache.v.f32() + from * size, size, cache.v.f32() + to * size);
    }
  }
  // As the other backends: the same uniform number, so the same token but where it falls within
  // rounding of a boundary.
  void head_sample(std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                   std::span<const SampleRequest> requests) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const SampleRequest& request = requests[i];
      const float temperature = request.params.temperature;
      const std::vector<float> z = logits(hidden, head, request.row);
      const std::vector<double> p =
          reference::sampling_distribution(z, request.params, request.seen);
      double left = sampling_uniform(request);
      std::size_t token =
          static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
      for (std::size_t n = 0; n < p.size(); ++n) {
        left -= p[n];
        if (left < 0.0) {
          token = n;
          break;
        }
      }
      const auto logprob = [&](float t) {
        std::vector<float> scaled = z;
        for (float& value : scaled) value /= t;
        return reference::log_probability<float>(scaled, static_cast<std::int32_t>(token)).logprob;
      };
      out[i].token = static_cast<std::int32_t>(token);
      out[i].logprob = logprob(1.0f);
      out[i].policy_logprob = temperature == 0.0f ? out[i].logprob : logprob(temperature);
      out[i].sampled_logprob = static_cast<float>(std::log(p[token]));
    }
  }

  // TrainOps
  void head_logprob(std::span<HeadResult> out, ConstTensorView hidden, const Linear& head,
                    std::span<const HeadEntry> entries, float temperature) override {
    for (std::size_t e = 0; e < entries.size(); ++e) {
      std::vector<float> z = logits(hidden, head, entries[e].row);
      for (float& value : z) value /= temperature;
      const auto found = reference::log_probability<float>(z, entries[e].target);
      out[e] = {found.logprob, found.entropy};
    }
  }
  void head_objective(std::span<HeadResult> out, std::span<TokenObjective<float>> token,
                      TensorView dhidden, TensorView dweight, ConstTensorView hidden,
                      const Linear& head, std::span<const HeadEntry> entries,
                      std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                      float temperature) override {
    const PlainWeight& w = plain(*head.weight);
    require(!head.bias, "reference: a head with a bias has no objective here");
    std::vector<reference::LogProbability<float>> found(entries.size());
    std::vector<TokenObjective<float>> tokens(entries.size());
    reference::head_objective<float>(found, tokens, dhidden.f32(), dweight.f32(), hidden.f32(),
                                     w.values.data(), hidden.shape[0], w.rows(), w.cols(), entries,
                                     terms, params, temperature);
    for (std::size_t e = 0; e < entries.size(); ++e) {
      out[e] = {found[e].logprob, found[e].entropy};
      if (!token.empty()) token[e] = tokens[e];
    }
  }
  static std::vector<float> logits(ConstTensorView hidden, const Linear& head, std::int32_t row) {
    const PlainWeight& w = plain(*head.weight);
    std::vector<float> z = reference::scaled_logits(hidden.f32() + row * w.cols(), w.values.data(),
                                                    w.rows(), w.cols(), 1.0f);
    for (std::size_t n = 0; head.bias && n < z.size(); ++n) z[n] += head.bias.f32()[n];
    return z;
  }

  double sum_of_squares(ConstTensorView x) override {
    double sum = 0.0;
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      sum += static_cast<double>(x.f32()[i]) * static_cast<double>(x.f32()[i]);
    }
    return sum;
  }
  void adamw_32bit(TensorView param, TensorView m, TensorView v, ConstTensorView grad,
                   const AdamWParams& p) override {
    reference::adamw(param.f32(), m.f32(), v.f32(), grad.f32(), param.elements(), p);
  }
  void adamw_8bit(TensorView param, TensorView m, TensorView v, TensorView absmax_m,
                  TensorView absmax_v, ConstTensorView grad, const AdamWParams& params) override {
    const auto bytes = [](TensorView x) {
      return std::span(static_cast<std::uint8_t*>(x.data), static_cast<std::size_t>(x.elements()));
    };
    const auto floats = [](TensorView x) {
      return std::span(x.f32(), static_cast<std::size_t>(x.elements()));
    };
    cpu::adamw_8bit(floats(param), {bytes(m), bytes(v), floats(absmax_m), floats(absmax_v)},
                    std::span(grad.f32(), static_cast<std::size_t>(grad.elements())), params,
                    AdamwPath::portable);
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace qgrpo::cpu
