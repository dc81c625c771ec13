#include "cpu/weight.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>

namespace qgrpo::cpu {
namespace {

std::size_t data_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  const auto places = static_cast<std::size_t>(ceil_div(rows, kPanel) * cols);  // (panel, k)
  switch (format) {
    case WeightFormat::f32:
      return places * kPanel * sizeof(float);
    case WeightFormat::bf16:
      return places * kPanel * sizeof(std::uint16_t);
    case WeightFormat::nf4:
      return places * kPanel / 2;
  }
  return 0;
}

std::size_t scale_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  if (format != WeightFormat::nf4) return 0;
  const std::int64_t runs = cols / std::gcd(cols, std::int64_t{kNf4Block});
  return static_cast<std::size_t>(ceil_div(rows, kPanel) * runs) * kPanel * sizeof(float);
}

bool finite_bf16(std::uint16_t bits) {
  return (bits & 0x7f80u) != 0x7f80u;
}

// One element of an f32, f16 or bf16 matrix.
float element(ConstTensorView m, std::int64_t i) {
  switch (m.dtype) {
    case DType::f32:
      return m.f32()[i];
    case DType::bf16:
      return bf16_to_f32(m.u16()[i]);
    default:
      return f16_to_f32(m.u16()[i]);
  }
}

void require_matrix(ConstTensorView m) {
  require(m.shape.rank() == 2 && m.shape[0] > 0 && m.shape[1] > 0,
          "a weight has the shape {}, expected two dimensions above 0", m.shape.str());
  require(m.dtype == DType::f32 || m.dtype == DType::f16 || m.dtype == DType::bf16,
          "a weight of type {}, expected f32, f16 or bf16", dtype_name(m.dtype));
}

[[noreturn]] void fail_not_finite(ConstTensorView m) {
  for (std::int64_t i = 0; i < m.elements(); ++i) {
    const float value = element(m, i);
    if (!std::isfinite(value)) {
      fail("a weight {} holds {} at row {}, column {}; weights must be finite", m.shape.str(),
           value, i / m.shape[1], i % m.shape[1]);
    }
  }
  fail("a weight {} of type {} holds a value beyond the largest bf16 number", m.shape.str(),
       dtype_name(m.dtype));
}

}  // namespace

CpuWeight::CpuWeight(WeightFormat format, std::int64_t rows, std::int64_t cols)
    : Weight(format, rows, cols),
      data_(data_bytes(rows, cols, format)),
      scales_(scale_bytes(rows, cols, format)) {
  bytes_ = packed_bytes(rows, cols, format);
  packed_.format = format == WeightFormat::f32    ? PanelFormat::f32
                   : format == WeightFormat::bf16 ? PanelFormat::bf16
                                                  : PanelFormat::nf4;
  packed_.rows = rows;
  packed_.cols = cols;
  packed_.data = data_.data();
  packed_.scales = scales_.as<float>();
  packed_.run = format == WeightFormat::nf4 ? std::gcd(cols, std::int64_t{kNf4Block}) : cols;
}

std::int64_t CpuWeight::panels() const {
  return ceil_div(rows_, kPanel);
}

std::size_t CpuWeight::packed_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  return data_bytes(rows, cols, format) + scale_bytes(rows, cols, format);
}

std::unique_ptr<CpuWeight> CpuWeight::prepare(ConstTensorView host, WeightFormat format,
                                              ThreadPool& pool, Isa isa) {
  require_matrix(host);
  if (format == WeightFormat::nf4) return prepare(nf4_quantize_parallel(host, pool, isa), pool);
  std::unique_ptr<CpuWeight> out(new CpuWeight(format, host.shape[0], host.shape[1]));
  if (format == WeightFormat::bf16) {
    out->pack_bf16(host, pool);
    return out;
  }
  if (host.dtype == DType::f32) {
    out->pack_f32(host.f32(), pool);
    return out;
  }
  std::vector<float> wide(static_cast<std::size_t>(host.elements()));
  const std::int64_t cols = host.shape[1];
  pool.parallel_for(host.shape[0], [&](std::int64_t row, int) {
    for (std::int64_t i = row * cols; i < (row + 1) * cols; ++i) {
      wide[static_cast<std::size_t>(i)] = element(host, i);
    }
  });
  out->pack_f32(wide.data(), pool);
  return out;
}

std::unique_ptr<CpuWeight> CpuWeight::prepare(const Nf4Tensor& host, ThreadPool& pool) {
  require(host.shape.rank() == 2 && host.shape[0] > 0 && host.shape[1] > 0,
          "an nf4 weight has the shape {}, expected two dimensions above 0", host.shape.str());
  const auto blocks = static_cast<std::size_t>(host.blocks());
  const auto bytes = static_cast<std::size_t>((host.shape.elements() + 1) / 2);
  const std::size_t nested = (blocks + kNf4NestedBlock - 1) / kNf4NestedBlock;
  require(host.packed.size() == bytes && host.absmax.size() == blocks &&
              host.nested_absmax.size() == nested,
          "an nf4 weight {} has {} bytes, {} scales, {} second-level scales; expected {}, {}, {}",
          host.shape.str(), host.packed.size(), host.absmax.size(), host.nested_absmax.size(),
          bytes, blocks, nested);
  std::unique_ptr<CpuWeight> out(new CpuWeight(WeightFormat::nf4, host.shape[0], host.shape[1]));
  out->pack_nf4(host, pool);
  return out;
}

void CpuWeight::pack_f32(const float* from, ThreadPool& pool) {
  std::atomic<bool> finite{true};
  pool.parallel_for(panels(), [&](std::int64_t panel, int) {
    float* to = data_.as<float>() + panel * cols_ * kPanel;
    bool good = true;
    for (std::int64_t j = 0; j < kPanel; ++j) {
      const std::int64_t n = panel * kPanel + j;
      for (std::int64_t k = 0; k < cols_; ++k) {
        const float value = n < rows_ ? from[n * cols_ + k] : 0.0f;
        good = good && std::isfinite(value);
        to[k * kPanel + j] = value;
      }
    }
    if (!good) finite = false;
  });
  if (!finite) fail_not_finite({from, DType::f32, {rows_, cols_}});
}

void CpuWeight::pack_bf16(ConstTensorView from, ThreadPool& pool) {
  std::atomic<bool> finite{true};
  pool.parallel_for(panels(), [&](std::int64_t panel, int) {
    std::uint16_t* to = data_.as<std::uint16_t>() + panel * cols_ * kPanel;
    bool good = true;
    for (std::int64_t j = 0; j < kPanel; ++j) {
      const std::int64_t n = panel * kPanel + j;
      for (std::int64_t k = 0; k < cols_; ++k) {
        std::uint16_t value = 0;
        if (n < rows_) {
          const std::int64_t i = n * cols_ + k;
          value = from.dtype == DType::bf16 ? from.u16()[i] : f32_to_bf16(element(from, i));
        }
        good = good && finite_bf16(value);
        to[k * kPanel + j] = value;
      }
    }
    if (!good) finite = false;
  });
  if (!finite) fail_not_finite(from);
}

void CpuWeight::pack_nf4(const Nf4Tensor& from, ThreadPool& pool) {
  const std::int64_t run = packed_.run;
  const std::int64_t runs = cols_ / run;
  pool.parallel_for(panels(), [&](std::int64_t panel, int) {
    auto* to = data_.as<std::uint8_t>() + panel * cols_ * (kPanel / 2);
    float* scales = scales_.as<float>() + panel * runs * kPanel;
    std::memset(to, 0, static_cast<std::size_t>(cols_) * kPanel / 2);
    for (std::int64_t j = 0; j < kPanel; ++j) {
      const std::int64_t n = panel * kPanel + j;
      const int shift = j < kPanel / 2 ? 0 : 4;
      std::uint8_t* at = to + j % (kPanel / 2);
      for (std::int64_t r = 0; r < runs; ++r) {
        // Outputs past the end have scale 0, so whatever their index they are 0.
        scales[r * kPanel + j] =
            n < rows_ ? from.block_scale((n * cols_ + r * run) / kNf4Block) : 0.0f;
      }
      if (n >= rows_) continue;
      for (std::int64_t k = 0; k < cols_; ++k) {
        const int index = from.index(n * cols_ + k);
        at[k * (kPanel / 2)] = static_cast<std::uint8_t>(at[k * (kPanel / 2)] | index << shift);
      }
    }
  });
}

void CpuWeight::update(ConstTensorView master, ThreadPool& pool) {
  require(format_ == WeightFormat::f32, "only an f32 weight can be updated, not bf16 or nf4");
  require(master.dtype == DType::f32 && master.shape == Shape({rows_, cols_}),
          "update of a weight [{}, {}] from a {} tensor {}, expected f32 of the same shape", rows_,
          cols_, dtype_name(master.dtype), master.shape.str());
  pack_f32(master.f32(), pool);
}

void CpuWeight::unpack(std::span<float> out, ThreadPool& pool) const {
  require(static_cast<std::int64_t>(out.size()) == rows_ * cols_,
          "unpack of a weight [{}, {}] into {} values", rows_, cols_, out.size());
  pool.parallel_for(rows_, [&](std::int64_t n, int) { unpack_row(out.data() + n * cols_, n); });
}

void CpuWeight::unpack_row(float* out, std::int64_t n) const {
  const std::int64_t panel = n / kPanel;
  const std::int64_t j = n % kPanel;
  const std::int64_t first = panel * cols_ * kPanel + j;
  switch (format_) {
    case WeightFormat::f32: {
      const float* at = data_.as<float>() + first;
      for (std::int64_t k = 0; k < cols_; ++k) out[k] = at[k * kPanel];
      return;
    }
    case WeightFormat::bf16: {
      const std::uint16_t* at = data_.as<std::uint16_t>() + first;
      for (std::int64_t k = 0; k < cols_; ++k) out[k] = bf16_to_f32(at[k * kPanel]);
      return;
    }
    case WeightFormat::nf4: {
      constexpr std::int64_t kHalf = kPanel / 2;
      const std::uint8_t* at = data_.as<std::uint8_t>() + panel * cols_ * kHalf + j % kHalf;
      const float* scales = packed_.scales + panel * (cols_ / packed_.run) * kPanel + j;
      const int shift = j < kHalf ? 0 : 4;
      for (std::int64_t k = 0; k < cols_; ++k) {
        const auto index = static_cast<std::size_t>(at[k * kHalf] >> shift & 15);
        out[k] = kNf4Code[index] * scales[k / packed_.run * kPanel];
      }
      return;
    }
  }
}

Nf4Tensor nf4_quantize_parallel(ConstTensorView host, ThreadPool& pool, Isa isa) {
  require_matrix(host);
  const std::int64_t elements = host.elements();
  Nf4Tensor out;
  out.shape = host.shape;
  out.packed.resize(static_cast<std::size_t>((elements + 1) / 2));
  const std::int64_t blocks = out.blocks();
  std::vector<float> absmax(static_cast<std::size_t>(blocks));

  const GemmKernels& kernels = gemm_kernels(isa);
  constexpr std::int64_t kChunk = 64 * kNf4Block;
  std::atomic<bool> finite{true};
  pool.parallel_for(ceil_div(elements, kChunk), [&](std::int64_t chunk, int) {
    const std::int64_t begin = chunk * kChunk;
    const std::int64_t count = std::min(kChunk, elements - begin);
    float wide[kChunk];
    const float* values = wide;
    if (host.dtype == DType::f32) {
      values = host.f32() + begin;
    } else if (host.dtype == DType::bf16) {
      kernels.widen_bf16(wide, host.u16() + begin, count);
    } else {
      for (std::int64_t i = 0; i < count; ++i) wide[i] = f16_to_f32(host.u16()[begin + i]);
    }
    if (!kernels.nf4_blocks(out.packed.data() + begin / 2, absmax.data() + begin / kNf4Block,
                            values, count)) {
      finite = false;
    }
  });
  if (!finite) fail_not_finite(host);

  out.offset = nf4_offset(absmax);
  out.absmax.resize(static_cast<std::size_t>(blocks));
  out.nested_absmax.resize(static_cast<std::size_t>(ceil_div(blocks, kNf4NestedBlock)));
  pool.parallel_for(ceil_div(blocks, kNf4NestedBlock), [&](std::int64_t group, int) {
    const std::int64_t begin = group * kNf4NestedBlock;
    const std::int64_t end = std::min(begin + kNf4NestedBlock, blocks);
    const auto centred = [&](std::int64_t b) {
      return absmax[static_cast<std::size_t>(b)] - out.offset;
    };
    float largest = 0.0f;
    for (std::int64_t b = begin; b < end; ++b) largest = std::max(largest, std::fabs(centred(b)));
    out.nested_absmax[static_cast<std::size_t>(group)] = largest;
    const bool partial = end - begin < kNf4NestedBlock;
    const float inverse = 1.0f / largest;
    for (std::int64_t b = begin; b < end; ++b) {
      float x = 0.0f;
      if (largest > 0.0f) {
        x = std::clamp(partial ? centred(b) / largest : centred(b) * inverse, -1.0f, 1.0f);
      }
      out.absmax[static_cast<std::size_t>(b)] =
          static_cast<std::uint8_t>(nearest_code(dynamic_map_signed(), x));
    }
  });
  return out;
}

const CpuWeight& cpu_weight(const Weight& weight) {
  const auto* out = dynamic_cast<const CpuWeight*>(&weight);
  require(out != nullptr, "a weight of another backend was given to the CPU backend");
  return *out;
}

}  // namespace qgrpo::cpu
