#include "cuda/adamw.h"

#include "cuda/kernels/adamw.h"
#include "cuda/sizes/backward.h"
#include "cuda/views.h"
#include "model/ops/nf4.h"

namespace qgrpo::cuda {
namespace {

static_assert(kSquarePartial == kernels::kSquareChunk);
static_assert(sizeof(kernels::SquaresTensor) == 24);

// The boundaries between neighbouring codes, as DynamicMaps' tree. In order they are sorted: node i
// of level l is boundary i 2^(8-l) + 2^(7-l) - 1.
void fill_tree(float* tree, std::span<const float, 256> map) {
  tree[0] = 0.0f;
  for (std::size_t level = 0; level < 8; ++level) {
    for (std::size_t i = 0; i < std::size_t{1} << level; ++i) {
      const std::size_t code = (i << (8 - level)) + (std::size_t{1} << (7 - level)) - 1;
      tree[(std::size_t{1} << level) + i] = code_boundary(map, code);
    }
  }
}

std::uint8_t* codes(const char* op, const char* what, TensorView x, std::int64_t elements) {
  require_view(op, what, x, DType::u8, elements);
  return static_cast<std::uint8_t*>(x.data);
}

}  // namespace

OptimizerOps::OptimizerOps(Device& device) : maps_(sizeof(kernels::DynamicMaps)) {
  kernels::DynamicMaps maps{};
  const auto of_first = dynamic_map_signed();
  const auto of_second = dynamic_map_unsigned();
  std::copy(of_first.begin(), of_first.end(), maps.signed_map);
  std::copy(of_second.begin(), of_second.end(), maps.unsigned_map);
  fill_tree(maps.signed_tree, of_first);
  fill_tree(maps.unsigned_tree, of_second);
  QGRPO_CUDA(
      cudaMemcpyAsync(maps_.data(), &maps, sizeof maps, cudaMemcpyHostToDevice, device.handle()));
  device.stream().synchronize();
}

void OptimizerOps::adamw_32bit(Device& device, TensorView param, TensorView m, TensorView v,
                               ConstTensorView grad, const AdamWParams& params) {
  const char* op = "adamw_32bit";
  const AdamWCoefficients c = adamw_coefficients(params);
  const std::int64_t n = param.elements();
  QGRPO_CUDA(kernels::adamw_32bit(device.handle(), floats(op, "param", param, n),
                                  floats(op, "m", m, n), floats(op, "v", v, n),
                                  floats(op, "the gradient", grad, n), n, c));
}

void OptimizerOps::adamw_8bit(Device& device, TensorView param, TensorView m, TensorView v,
                              TensorView absmax_m, TensorView absmax_v, ConstTensorView grad,
                              const AdamWParams& params) {
  const char* op = "adamw_8bit";
  const AdamWCoefficients c = adamw_coefficients(params);
  const std::int64_t n = param.elements();
  const std::int64_t blocks = optimizer_blocks(n);
  QGRPO_CUDA(kernels::adamw_8bit(
      device.handle(), floats(op, "param", param, n), codes(op, "m", m, n), codes(op, "v", v, n),
      floats(op, "absmax_m", absmax_m, blocks), floats(op, "absmax_v", absmax_v, blocks),
      floats(op, "the gradient", grad, n), n, c,
      static_cast<const kernels::DynamicMaps*>(maps_.data()), device.processors()));
}

double OptimizerOps::sum_of_squares(Device& device, std::span<const ConstTensorView> tensors) {
  if (tensors.empty()) return 0.0;
  std::vector<kernels::SquaresTensor> list;
  std::int64_t chunks = 0;
  for (const ConstTensorView& x : tensors) {
    const std::int64_t n = x.elements();
    list.push_back({floats("sum_of_squares", "the tensor", x, n), n, chunks});
    chunks += square_partials(n);
  }
  const auto count = static_cast<std::int64_t>(list.size());
  auto* sums = device.scratch<double>(
      Slot::squares, static_cast<std::int64_t>(squares_bytes(chunks, count) / sizeof(double)));
  QGRPO_CUDA(kernels::squares(
      device.handle(), sums, tensors_.upload(device, std::span<const kernels::SquaresTensor>(list)),
      static_cast<int>(count), chunks, sums + count));
  std::vector<double> host(list.size());
  QGRPO_CUDA(cudaMemcpyAsync(host.data(), sums, host.size() * sizeof(double),
                             cudaMemcpyDeviceToHost, device.handle()));
  device.stream().synchronize();
  double total = 0.0;
  for (const double sum : host) total += sum;
  return total;
}

}  // namespace qgrpo::cuda
