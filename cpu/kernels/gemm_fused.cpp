#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_nf4.h"

// Few rows (decoding): a weight is used once per row and comes from memory, so it is unpacked in
// registers on the way to the multiply-adds. One row alone takes several panels at a time: its two
// chains a panel would leave the multipliers waiting.

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

// How far ahead the weights are asked for, in bytes: a panel is read once and in order, but the
// hardware's own prefetching stops at each 4 KiB. Measured on one Zen 5 core, 8 rows from memory:
// nf4 from 63 to 80 % of the multiply-add peak, bf16 from 54 to 75 %.
constexpr std::int64_t kAhead = 2048;

void prefetch(const void* at) {
  _mm_prefetch(static_cast<const char*>(at) + kAhead, _MM_HINT_T0);
}

// Sources give the 32 values of (panel p, k). run_length(): k's that share what start_run() loads.
template <int PANELS>
class F32Source {
 public:
  F32Source(const PackedWeight& w, std::int64_t panel)
      : data_(static_cast<const float*>(w.data) + panel * w.cols * kPanel), cols_(w.cols) {}
  std::int64_t run_length() const { return cols_; }
  void start_run(std::int64_t) {}
  void get(int p, std::int64_t k, f32x16& lo, f32x16& hi) const {
    const float* at = data_ + (p * cols_ + k) * kPanel;
    prefetch(at);
    prefetch(at + 16);
    lo = load(at);
    hi = load(at + 16);
  }

 private:
  const float* data_;
  std::int64_t cols_;
};

template <int PANELS>
class Bf16Source {
 public:
  Bf16Source(const PackedWeight& w, std::int64_t panel)
      : data_(static_cast<const std::uint16_t*>(w.data) + panel * w.cols * kPanel), cols_(w.cols) {}
  std::int64_t run_length() const { return cols_; }
  void start_run(std::int64_t) {}
  void get(int p, std::int64_t k, f32x16& lo, f32x16& hi) const {
    const std::uint16_t* at = data_ + (p * cols_ + k) * kPanel;
    prefetch(at);
    lo = load_bf16(at);
    hi = load_bf16(at + 16);
  }

 private:
  const std::uint16_t* data_;
  std::int64_t cols_;
};

template <int PANELS>
class Nf4Source {
 public:
  Nf4Source(const PackedWeight& w, std::int64_t panel)
      : data_(static_cast<const std::uint8_t*>(w.data) + panel * w.cols * 16),
        scales_(w.scales + panel * (w.cols / w.run) * kPanel),
        cols_(w.cols),
        run_(w.run) {}
  std::int64_t run_length() const { return run_; }
  void start_run(std::int64_t run) {
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p) {
      const float* at = scales_ + (p * (cols_ / run_) + run) * kPanel;
      scale_[p][0] = load(at);
      scale_[p][1] = load(at + 16);
    }
  }
  void get(int p, std::int64_t k, f32x16& lo, f32x16& hi) const {
    f32x16 code_lo, code_hi;
    const std::uint8_t* at = data_ + (p * cols_ + k) * 16;
    prefetch(at);
    decoder_.decode(at, code_lo, code_hi);
    lo = code_lo * scale_[p][0];
    hi = code_hi * scale_[p][1];
  }

 private:
  Nf4Decoder decoder_;
  const std::uint8_t* data_;
  const float* scales_;
  std::int64_t cols_;
  std::int64_t run_;
  f32x16 scale_[PANELS][2];
};

template <template <int> class Source, int ROWS, int PANELS>
void fused_body(float* c, std::int64_t ldc, const float* x, std::int64_t ldx, const PackedWeight& w,
                std::int64_t panel) {
  Source<PANELS> source(w, panel);
  const std::int64_t length = source.run_length();
  f32x16 acc[ROWS][PANELS][2];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p) acc[i][p][0] = acc[i][p][1] = zero16();
  }
  constexpr int kPointers = (ROWS + 2) / 3;
  const float* row[kPointers];
#pragma GCC unroll 8
  for (int p = 0; p < kPointers; ++p) row[p] = x + 3 * p * ldx;
  std::int64_t k = 0;
  for (std::int64_t run = 0; k < w.cols; ++run) {
    source.start_run(run);
    for (const std::int64_t end = k + length; k < end; ++k) {
#pragma GCC unroll 4
      for (int p = 0; p < PANELS; ++p) {
        f32x16 lo, hi;
        source.get(p, k, lo, hi);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i) {
          const f32x16 xi = splat(row[i / 3][(i % 3) * ldx]);
          acc[i][p][0] = fma(xi, lo, acc[i][p][0]);
          acc[i][p][1] = fma(xi, hi, acc[i][p][1]);
        }
      }
#pragma GCC unroll 8
      for (int p = 0; p < kPointers; ++p) ++row[p];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p) {
      store(c + i * ldc + p * kPanel, acc[i][p][0]);
      store(c + i * ldc + p * kPanel + 16, acc[i][p][1]);
    }
  }
}

using Body = void (*)(float*, std::int64_t, const float*, std::int64_t, const PackedWeight&,
                      std::int64_t);

// [rows - 1]
template <template <int> class Source>
constexpr Body kBodies[] = {
    fused_body<Source, 1, 1>,  fused_body<Source, 2, 1>,
#if defined(__AVX512F__)
    fused_body<Source, 3, 1>,  fused_body<Source, 4, 1>,  fused_body<Source, 5, 1>,
    fused_body<Source, 6, 1>,  fused_body<Source, 7, 1>,  fused_body<Source, 8, 1>,
    fused_body<Source, 9, 1>,  fused_body<Source, 10, 1>, fused_body<Source, 11, 1>,
    fused_body<Source, 12, 1>,
#endif
};

template <template <int> class Source>
void fused_panels(float* c, std::int64_t ldc, const float* x, std::int64_t ldx,
                  const PackedWeight& w, std::int64_t panel, int panels, int rows) {
  int p = 0;
#if defined(__AVX512F__)
  if (rows == 1) {
    for (; p + 4 <= panels; p += 4) {
      fused_body<Source, 1, 4>(c + p * kPanel, ldc, x, ldx, w, panel + p);
    }
  }
  if (rows <= 2) {
    for (; p + 2 <= panels; p += 2) {
      const Body body = rows == 1 ? fused_body<Source, 1, 2> : fused_body<Source, 2, 2>;
      body(c + p * kPanel, ldc, x, ldx, w, panel + p);
    }
  }
#endif
  for (; p < panels; ++p) {
    kBodies<Source>[rows - 1](c + p * kPanel, ldc, x, ldx, w, panel + p);
  }
}

}  // namespace

void fused(float* c, std::int64_t ldc, const float* x, std::int64_t ldx, const PackedWeight& weight,
           std::int64_t panel, int panels, int rows) {
  switch (weight.format) {
    case PanelFormat::f32:
      return fused_panels<F32Source>(c, ldc, x, ldx, weight, panel, panels, rows);
    case PanelFormat::bf16:
      return fused_panels<Bf16Source>(c, ldc, x, ldx, weight, panel, panels, rows);
    case PanelFormat::nf4:
      return fused_panels<Nf4Source>(c, ldc, x, ldx, weight, panel, panels, rows);
  }
}

}  // namespace qgrpo::cpu::QGRPO_ISA
