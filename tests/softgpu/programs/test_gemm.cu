// Tensor-core products: each mma shape and type on fragments against a host product, and a whole
// GEMM with ldmatrix and double-buffered cp.async.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

// --- One mma on matrices in global memory: A (M, K) row-major, B (N, K) row-major (so column-major
// K x N).

template <class T>
__device__ u32 pair_at(const T* row, int k) {  // two neighbouring elements as one register
  return *reinterpret_cast<const u32*>(row + k);
}

template <class T>
__global__ void mma_m16n8k16(const T* a, const T* b, float* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const u32 a0 = pair_at(a + g * 16, 2 * t), a1 = pair_at(a + (g + 8) * 16, 2 * t);
  const u32 a2 = pair_at(a + g * 16, 2 * t + 8), a3 = pair_at(a + (g + 8) * 16, 2 * t + 8);
  const u32 b0 = pair_at(b + g * 16, 2 * t), b1 = pair_at(b + g * 16, 2 * t + 8);
  float d[4] = {1.0F, 2.0F, 3.0F, 4.0F};
  if constexpr (sizeof(T) == 2 && !std::is_same_v<T, __half>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
  c[g * 8 + 2 * t] = d[0] - 1.0F;
  c[g * 8 + 2 * t + 1] = d[1] - 2.0F;
  c[(g + 8) * 8 + 2 * t] = d[2] - 3.0F;
  c[(g + 8) * 8 + 2 * t + 1] = d[3] - 4.0F;
}

template <class T>
__global__ void mma_m16n8k8(const T* a, const T* b,
                            float* c) {  // of a (16, 16) and b (8, 16): k < 8 only
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const u32 a0 = pair_at(a + g * 16, 2 * t), a1 = pair_at(a + (g + 8) * 16, 2 * t);
  const u32 b0 = pair_at(b + g * 16, 2 * t);
  float d[4];
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%7,%7,%7,%7};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a0), "r"(a1), "r"(b0), "f"(0.0F));
  c[g * 8 + 2 * t] = d[0];
  c[g * 8 + 2 * t + 1] = d[1];
  c[(g + 8) * 8 + 2 * t] = d[2];
  c[(g + 8) * 8 + 2 * t + 1] = d[3];
}

__global__ void mma_f16_accumulator(const __half* a, const __half* b, __half* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const u32 a0 = pair_at(a + g * 16, 2 * t), a1 = pair_at(a + (g + 8) * 16, 2 * t);
  const u32 a2 = pair_at(a + g * 16, 2 * t + 8), a3 = pair_at(a + (g + 8) * 16, 2 * t + 8);
  const u32 b0 = pair_at(b + g * 16, 2 * t), b1 = pair_at(b + g * 16, 2 * t + 8);
  u32 d0, d1;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%8};"
      : "=r"(d0), "=r"(d1)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(0));
  *reinterpret_cast<u32*>(c + g * 8 + 2 * t) = d0;
  *reinterpret_cast<u32*>(c + (g + 8) * 8 + 2 * t) = d1;
}

// int8: A (16, 32), B (8, 32); four elements a register.
template <bool is_signed>
__global__ void mma_int8(const std::uint8_t* a, const std::uint8_t* b, int* c) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const auto four = [](const std::uint8_t* row, int k) {
    return *reinterpret_cast<const u32*>(row + k);
  };
  const u32 a0 = four(a + g * 32, 4 * t), a1 = four(a + (g + 8) * 32, 4 * t);
  const u32 a2 = four(a + g * 32, 4 * t + 16), a3 = four(a + (g + 8) * 32, 4 * t + 16);
  const u32 b0 = four(b + g * 32, 4 * t), b1 = four(b + g * 32, 4 * t + 16);
  int d[4] = {10, 20, 30, 40};
  if constexpr (is_signed) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
  c[g * 8 + 2 * t] = d[0] - 10;
  c[g * 8 + 2 * t + 1] = d[1] - 20;
  c[(g + 8) * 8 + 2 * t] = d[2] - 30;
  c[(g + 8) * 8 + 2 * t + 1] = d[3] - 40;
}

// --- A GEMM: C (M, N) f32 = A (M, K) bf16 times B (N, K) bf16 transposed. Tiles of 64 x 64 x 32,
// four warps of 32 x 32, two stages; 16-byte chunks are swizzled so that ldmatrix meets no bank
// conflict.

constexpr int tile_rows = 64, tile_depth = 32;

// Where chunk `chunk` (of 8 elements) of a row lies: 64-byte rows, so two rows share the 128 bytes
// of banks.
__device__ int swizzled(int row, int chunk) {
  return row * tile_depth + ((chunk ^ (row >> 1 & 3)) << 3);
}

__device__ void load_tile(__nv_bfloat16* shared, const __nv_bfloat16* global, int rows, int columns,
                          int first_row, int first_column) {
  for (int i = static_cast<int>(threadIdx.x); i < tile_rows * 4; i += 128) {
    const int row = i / 4, chunk = i % 4, r = first_row + row, k = first_column + chunk * 8;
    const int present = r < rows ? min(max(columns - k, 0), 8) * 2 : 0;
    const __nv_bfloat16* from =
        present ? global + static_cast<std::size_t>(r) * columns + k : global;
    const u32 to = static_cast<u32>(__cvta_generic_to_shared(shared + swizzled(row, chunk)));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present)
                 : "memory");
  }
}

__device__ void ldmatrix_x4(u32 (&r)[4], const __nv_bfloat16* address) {
  const u32 from = static_cast<u32>(__cvta_generic_to_shared(address));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

__global__ void __launch_bounds__(128)
    gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int depth) {
  __shared__ alignas(128) __nv_bfloat16 tile_a[2][tile_rows * tile_depth];
  __shared__ alignas(128) __nv_bfloat16 tile_b[2][tile_rows * tile_depth];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int row0 = static_cast<int>(blockIdx.y) * tile_rows,
            column0 = static_cast<int>(blockIdx.x) * tile_rows;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const int steps = (depth + tile_depth - 1) / tile_depth;
  const auto start = [&](int step) {
    if (step < steps) {
      load_tile(tile_a[step & 1], a, m, depth, row0, step * tile_depth);
      load_tile(tile_b[step & 1], b, n, depth, column0, step * tile_depth);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float accumulator[2][4][4] = {};
  start(0);
  for (int step = 0; step < steps; ++step) {
    start(step + 1);
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();
    for (int k = 0; k < tile_depth; k += 16) {
      u32 fragment_a[2][4], fragment_b[2][4];
      for (int i = 0; i < 2; ++i) {
        // Matrices: rows 0-7 and 8-15 of the low 8 columns, then of the high 8.
        const int ra = warp_row + 16 * i + lane % 16;
        ldmatrix_x4(fragment_a[i], &tile_a[step & 1][swizzled(ra, k / 8 + lane / 16)]);
        const int rb = warp_column + 16 * i + lane % 8 + lane / 16 * 8;
        ldmatrix_x4(fragment_b[i], &tile_b[step & 1][swizzled(rb, k / 8 + lane / 8 % 2)]);
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) {
          float(&d)[4] = accumulator[i][j];
          const u32* fb = &fragment_b[j / 2][j % 2 * 2];
          asm volatile(
              "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
              "{%8,%9}, {%0,%1,%2,%3};"
              : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
              : "r"(fragment_a[i][0]), "r"(fragment_a[i][1]), "r"(fragment_a[i][2]),
                "r"(fragment_a[i][3]), "r"(fb[0]), "r"(fb[1]));
        }
      }
    }
    __syncthreads();  // before the next copy overwrites this stage
  }
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + warp_row + 16 * i + g + e / 2 * 8;
        const int column = column0 + warp_column + 8 * j + 2 * t + e % 2;
        if (row < m && column < n)
          c[static_cast<std::size_t>(row) * n + column] = accumulator[i][j][e];
      }
    }
  }
}

// ldmatrix with 1, 2 and 4 matrices and transposition: every lane's registers as they come.
__global__ void matrix_loads(u32* out) {
  __shared__ alignas(16) std::uint16_t tile[32 * 8];
  const u32 lane = threadIdx.x;
  for (u32 i = lane; i < 256; i += 32) tile[i] = static_cast<std::uint16_t>(i);
  __syncwarp();
  const u32 address = static_cast<u32>(__cvta_generic_to_shared(tile + lane * 8));
  u32 r[10];
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r[0])
               : "r"(address)
               : "memory");
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(r[1])
               : "r"(address)
               : "memory");
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7])
               : "r"(address)
               : "memory");
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[8]), "=r"(r[9])
               : "r"(address)
               : "memory");
  for (u32 i = 0; i < 10; ++i) out[i * 32 + lane] = r[i];
}

template <class T>
T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half(x);
  } else {
    return __float2bfloat16(x);
  }
}
template <class T>
std::vector<T> random_matrix(std::size_t size, u32 seed, std::vector<float>& values) {
  Random random(seed);
  std::vector<T> matrix;
  values.clear();
  for (std::size_t i = 0; i < size; ++i) {
    matrix.push_back(from_float<T>(random.unit()));
    values.push_back(static_cast<float>(matrix.back()));
  }
  return matrix;
}

double dot(const std::vector<float>& a, const std::vector<float>& b, int row, int column,
           int stride, int depth) {
  double total = 0;
  for (int k = 0; k < depth; ++k)
    total += static_cast<double>(a[row * stride + k]) * b[column * stride + k];
  return total;
}

template <class T>
void check_mma(void (*kernel)(const T*, const T*, float*), int depth) {
  std::vector<float> a, b;
  const Buffer<T> device_a(random_matrix<T>(256, 1, a)), device_b(random_matrix<T>(128, 2, b));
  const Buffer<float> c(128);
  kernel<<<1, 32>>>(device_a.get(), device_b.get(), c.get());
  LAUNCH_OK();
  const std::vector<float> results = c.host();
  for (int i = 0; i < 128;
       ++i) {  // products are exact; a float sum of 16 terms below 1 and the 4 added
    CHECK(std::fabs(results[i] - dot(a, b, i / 8, i % 8, 16, depth)) < 1e-5);
  }
}

template <bool is_signed>
void check_int8() {
  Random random(4);
  std::vector<std::uint8_t> a(16 * 32), b(8 * 32);
  for (std::uint8_t& x : a) x = static_cast<std::uint8_t>(random.next());
  for (std::uint8_t& x : b) x = static_cast<std::uint8_t>(random.next());
  const Buffer<std::uint8_t> device_a(a), device_b(b);
  const Buffer<int> c(128);
  mma_int8<is_signed><<<1, 32>>>(device_a.get(), device_b.get(), c.get());
  LAUNCH_OK();
  const std::vector<int> results = c.host();
  const auto value = [](std::uint8_t x) {
    return is_signed ? static_cast<std::int8_t>(x) : int{x};
  };
  for (int i = 0; i < 128; ++i) {
    int expected = 0;
    for (int k = 0; k < 32; ++k) expected += value(a[i / 8 * 32 + k]) * value(b[i % 8 * 32 + k]);
    CHECK(results[i] == expected);
  }
}

void check_gemm(int m, int n, int depth) {
  INFO("gemm ", m, " x ", n, " x ", depth);
  std::vector<float> a, b;
  const Buffer<__nv_bfloat16> device_a(
      random_matrix<__nv_bfloat16>(static_cast<std::size_t>(m) * depth, 5, a));
  const Buffer<__nv_bfloat16> device_b(
      random_matrix<__nv_bfloat16>(static_cast<std::size_t>(n) * depth, 6, b));
  const Buffer<float> c(static_cast<std::size_t>(m) * n, 0xff);
  gemm<<<dim3((n + 63) / 64, (m + 63) / 64), 128>>>(device_a.get(), device_b.get(), c.get(), m, n,
                                                    depth);
  LAUNCH_OK();
  const std::vector<float> results = c.host();
  double worst = 0;
  for (int i = 0; i < m * n; ++i) {
    const double error = std::fabs(results[i] - dot(a, b, i / n, i % n, depth, depth));
    if (!(error <= worst)) worst = error;
  }
  // Products are exact in float; a partial sum is below `depth` and is rounded `depth` times.
  CHECK(worst < depth * std::sqrt(depth) * 0x1p-22);
}

}  // namespace

TEST_CASE("mma of each type and shape") {
  check_mma<__nv_bfloat16>(mma_m16n8k16<__nv_bfloat16>, 16);
  check_mma<__half>(mma_m16n8k16<__half>, 16);
  check_mma<__nv_bfloat16>(mma_m16n8k8<__nv_bfloat16>, 8);
  check_int8<true>();
  check_int8<false>();
  std::vector<float> a, b;
  const Buffer<__half> device_a(random_matrix<__half>(256, 1, a)),
      device_b(random_matrix<__half>(128, 2, b));
  const Buffer<__half> c(128);
  mma_f16_accumulator<<<1, 32>>>(device_a.get(), device_b.get(), c.get());
  LAUNCH_OK();
  const std::vector<__half> results = c.host();
  for (int i = 0; i < 128; ++i) {  // the sum is below 16: 2^-7 is its unit in f16
    CHECK(std::fabs(static_cast<float>(results[i]) - dot(a, b, i / 8, i % 8, 16, 16)) < 0x1p-7);
  }
}

TEST_CASE("ldmatrix of one, two and four matrices, also transposed") {
  const Buffer<u32> out(320);
  matrix_loads<<<1, 32>>>(out.get());
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  const auto element = [](u32 matrix, u32 row, u32 column) {
    return matrix * 64 + row * 8 + column;
  };
  for (u32 lane = 0; lane < 32; ++lane) {
    const u32 g = lane / 4, t = lane % 4;
    const auto plain = [&](u32 m) { return element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16; };
    const auto turned = [&](u32 m) {
      return element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16;
    };
    const u32 expected[10] = {plain(0), turned(0), turned(0), turned(1), plain(0),
                              plain(1), plain(2),  plain(3),  plain(0),  plain(1)};
    for (u32 i = 0; i < 10; ++i) CHECK(results[i * 32 + lane] == expected[i]);
  }
}

TEST_CASE("a GEMM with ldmatrix, mma and double-buffered cp.async") {
  check_gemm(64, 64, 32);
  check_gemm(64, 64, 96);
  if (!debug_build) {
    check_gemm(128, 64, 256);
    check_gemm(77, 91, 72);  // edges in all three
    check_gemm(1, 8, 8);
  }
}
