#include "cuda/views.h"

#include "model/ops/error.h"

namespace qgrpo::cuda {

const void* require_view(const char* op, const char* what, ConstTensorView x, DType dtype,
                         std::int64_t elements) {
  require(x.dtype == dtype && x.elements() == elements, "{}: {} is {} {}, expected {} {}", op, what,
          dtype_name(x.dtype), x.shape.str(), elements, dtype_name(dtype));
  require(reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0, "{}: {} is not 16-byte aligned", op,
          what);
  return x.data;
}

const kernels::bf16* halves(const char* op, const char* what, ConstTensorView x,
                            std::int64_t elements) {
  return static_cast<const kernels::bf16*>(require_view(op, what, x, DType::bf16, elements));
}
kernels::bf16* halves(const char* op, const char* what, TensorView x, std::int64_t elements) {
  require_view(op, what, x, DType::bf16, elements);
  return static_cast<kernels::bf16*>(x.data);
}
const float* floats(const char* op, const char* what, ConstTensorView x, std::int64_t elements) {
  return static_cast<const float*>(require_view(op, what, x, DType::f32, elements));
}
float* floats(const char* op, const char* what, TensorView x, std::int64_t elements) {
  require_view(op, what, x, DType::f32, elements);
  return x.f32();
}

}  // namespace qgrpo::cuda
