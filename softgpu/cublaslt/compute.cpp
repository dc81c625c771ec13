#include "softgpu/cublaslt/compute.h"

#include <fmt/format.h>

#include <algorithm>

namespace softgpu::cublaslt {
namespace {

// An operand in device memory: `lines` contiguous runs of `line` elements, `ld` apart.
struct Operand {
  std::uint64_t address = 0;
  std::size_t bytes = 0;  // an element
  std::size_t line = 0, lines = 0, ld = 0;

  std::uint64_t extent() const {
    return line == 0 || lines == 0 ? 0 : ((lines - 1) * ld + line) * bytes;
  }
};

Operand operand(const Layout& layout, std::uint64_t address, std::int32_t batch) {
  const bool columns = layout.order == CUBLASLT_ORDER_COL;
  Operand o;
  o.bytes = size_of(element_of(layout.type));
  o.line = columns ? layout.rows : layout.columns;
  o.lines = columns ? layout.columns : layout.rows;
  o.ld = static_cast<std::size_t>(layout.ld);
  o.address = address + static_cast<std::uint64_t>(batch * layout.batch_stride) * o.bytes;
  return o;
}

// Host address of an operand that will be read.
const std::byte* readable(const DeviceMemory& memory, const Operand& o, const char* name) {
  if (o.extent() == 0) return nullptr;
  if (o.address % o.bytes != 0) {
    throw MemoryError(
        fmt::format("{}: address 0x{:x} is not a multiple of {}", name, o.address, o.bytes));
  }
  try {
    const std::byte* host = memory.host_pointer(o.address, o.extent());
    for (std::size_t i = 0; i < o.lines; ++i) {
      const std::uint64_t begin = o.address + i * o.ld * o.bytes;
      const std::uint64_t missing = memory.count_uninitialised(begin, o.line * o.bytes);
      if (missing != 0) {
        throw MemoryError(fmt::format("column {} has {} bytes that nothing has written; {}", i,
                                      missing, memory.diagnose(begin, o.line * o.bytes)));
      }
    }
    return host;
  } catch (const MemoryError& error) {
    throw MemoryError(fmt::format("{}: {}", name, error.what()));
  }
}

std::byte* writable(const DeviceMemory& memory, const Operand& o) {
  try {
    return memory.host_pointer(o.address, o.extent());
  } catch (const MemoryError& error) {
    throw MemoryError(fmt::format("D: {}", error.what()));
  }
}

void run_batch(const Call& call, DeviceMemory& memory, std::int32_t batch, float alpha,
               float beta) {
  const Problem& p = call.problem;
  const Operand d = operand(p.d, call.d, batch);
  if (d.extent() == 0) return;
  std::byte* out = writable(memory, d);
  const bool ta = p.description.trans_a != CUBLAS_OP_N, tb = p.description.trans_b != CUBLAS_OP_N;
  const std::byte* a = readable(memory, operand(p.a, call.a, batch), "A");
  const std::byte* b = readable(memory, operand(p.b, call.b, batch), "B");
  const std::byte* c = beta == 0 ? nullptr : readable(memory, operand(p.c, call.c, batch), "C");
  const std::vector<float> product =
      multiply(view(p.a, ta, a), view(p.b, tb, b), p.m, p.n, p.k, call.threads);

  Operand bias_operand;
  const std::byte* bias = nullptr;
  const auto bias_type =
      p.description.bias_type < 0 ? p.d.type : static_cast<cudaDataType>(p.description.bias_type);
  if (p.description.epilogue == CUBLASLT_EPILOGUE_BIAS) {
    const std::size_t bytes = size_of(element_of(bias_type));
    const auto begin = reinterpret_cast<std::uint64_t>(p.description.bias) +
                       static_cast<std::uint64_t>(batch * p.description.bias_stride) * bytes;
    bias_operand = {begin, bytes, p.m, 1, p.m};
    bias = readable(memory, bias_operand, "bias");
  }
  const Matrix c_view = view(p.c, false, c), d_view = view(p.d, false, out);
  for (std::size_t j = 0; j < p.n; ++j) {
    for (std::size_t i = 0; i < p.m; ++i) {
      float value = alpha * product[j * p.m + i];
      if (c != nullptr) {
        value += beta * load(c, c_view.element, i * c_view.row_step + j * c_view.column_step);
      }
      if (bias != nullptr) value += load(bias, element_of(bias_type), i);
      store(out, d_view.element, i * d_view.row_step + j * d_view.column_step, value);
    }
  }
  for (std::size_t i = 0; i < d.lines; ++i) {
    memory.mark_initialised(d.address + i * d.ld * d.bytes, d.line * d.bytes);
  }
}

}  // namespace

std::string run(const Call& call, DeviceMemory& memory) {
  try {
    float alpha = call.alpha, beta = call.beta;
    if (call.alpha_address != 0) memory.read(&alpha, call.alpha_address, sizeof alpha);
    if (call.beta_address != 0) memory.read(&beta, call.beta_address, sizeof beta);
    for (std::int32_t batch = 0; batch < call.problem.d.batch_count; ++batch) {
      run_batch(call, memory, batch, alpha, beta);
    }
    return {};
  } catch (const MemoryError& error) {
    return error.what();
  }
}

}  // namespace softgpu::cublaslt
