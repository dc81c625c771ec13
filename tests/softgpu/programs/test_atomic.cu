// Atomic operations: results under contention of many blocks, returned values, every operand type,
// in global and in shared memory.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <limits>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;
using u64 = unsigned long long;

constexpr int threads = 128, blocks = 6, total = threads * blocks;

struct Cells {
  u32 add, sub, exch, inc, dec, conjunction, disjunction, parity, umin, umax, cas;
  int imin, imax;
  u64 add64, cas64, max64, exch64;
  float fadd;
  double dadd;
  __half2 hadd;
  __nv_bfloat162 badd;
  unsigned short cas16;
};

__device__ void touch(Cells* cells, u32 i, u32* tickets) {
  tickets[i] = atomicAdd(&cells->add, 1);
  atomicSub(&cells->sub, 2);
  atomicInc(&cells->inc, 99);
  atomicDec(&cells->dec, 49);
  atomicAnd(&cells->conjunction, ~(1u << (i % 20)));
  atomicOr(&cells->disjunction, 1u << (i % 24));
  atomicXor(&cells->parity, i);
  atomicMin(&cells->umin, 0x80000000u - i);
  atomicMax(&cells->umax, 0x80000000u + i);
  atomicMin(&cells->imin, 5 - static_cast<int>(i));
  atomicMax(&cells->imax, static_cast<int>(i) - 5);
  atomicExch(&cells->exch, i + 1000);
  // A product, modulo 2^32, by compare and swap; the first guess need not be right.
  u32 seen = 1, assumed = 0;
  while (seen != assumed) {
    assumed = seen;
    seen = atomicCAS(&cells->cas, assumed, assumed * (2 * i + 1));
  }
  atomicAdd(&cells->add64, 0x100000001ull);
  atomicMax(&cells->max64, static_cast<u64>(i) << 33);
  atomicExch(&cells->exch64, static_cast<u64>(i) << 40);
  atomicCAS(&cells->cas64, static_cast<u64>(total) + 5, static_cast<u64>(i));
  atomicAdd(&cells->fadd, 0.5F);
  atomicAdd(&cells->dadd, 0.25);
  atomicAdd(&cells->hadd, __floats2half2_rn(1.0F, -1.0F));
  atomicAdd(&cells->badd, __floats2bfloat162_rn(i % 128 ? 0.0F : 1.0F, 0.0F));
  unsigned short previous = 0, guess = 1;
  while (previous != guess) {
    guess = previous;
    previous = atomicCAS(&cells->cas16, guess, static_cast<unsigned short>(guess + 3));
  }
}

__global__ void global_atomics(Cells* cells, u32* tickets) {
  touch(cells, blockIdx.x * blockDim.x + threadIdx.x, tickets);
}

__global__ void shared_atomics(Cells* cells, u32* tickets) {
  __shared__ Cells shared;
  if (threadIdx.x == 0) shared = cells[blockIdx.x];
  __syncthreads();
  for (u32 i = threadIdx.x; i < total; i += blockDim.x)
    touch(&shared, i, tickets + blockIdx.x * total);
  __syncthreads();
  if (threadIdx.x == 0) cells[blockIdx.x] = shared;
}

Cells initial() {
  Cells cells{};
  cells.conjunction = cells.umin = 0xffffffff;
  cells.imin = 1000;
  cells.imax = -1000;
  cells.cas = 1;
  cells.cas64 = total + 5;
  cells.hadd = __floats2half2_rn(0.0F, 0.0F);
  cells.badd = __floats2bfloat162_rn(0.0F, 0.0F);
  return cells;
}

void check_cells(const Cells& cells, std::vector<u32> tickets) {
  u32 product = 1, parity = 0;
  for (u32 i = 0; i < total; ++i) product *= 2 * i + 1, parity ^= i;
  CHECK(cells.add == total);
  CHECK(cells.sub == 0u - 2 * total);
  CHECK(cells.inc == total % 100);
  CHECK(cells.dec == (50 - total % 50) % 50);
  CHECK(cells.conjunction == 0xfff00000);
  CHECK(cells.disjunction == 0x00ffffff);
  CHECK(cells.parity == parity);
  CHECK(cells.umin == 0x80000000u - (total - 1));
  CHECK(cells.umax == 0x80000000u + (total - 1));
  CHECK(cells.imin == 5 - (total - 1));
  CHECK(cells.imax == total - 1 - 5);
  CHECK(cells.exch >= 1000);
  CHECK(cells.exch < 1000 + total);
  CHECK(cells.cas == product);
  CHECK(cells.add64 == 0x100000001ull * total);
  CHECK(cells.max64 == static_cast<u64>(total - 1) << 33);
  CHECK((cells.exch64 & 0xffffffffff) == 0);
  CHECK(cells.cas64 < total);
  CHECK(cells.fadd == 0.5F * total);
  CHECK(cells.dadd == 0.25 * total);
  CHECK(__low2float(cells.hadd) == total);
  CHECK(__high2float(cells.hadd) == -total);
  CHECK(__low2float(cells.badd) == total / 128);
  CHECK(cells.cas16 == static_cast<unsigned short>(3 * total));
  std::sort(tickets.begin(), tickets.end());  // each value is handed out once
  for (u32 i = 0; i < total; ++i) REQUIRE(tickets[i] == i);
}

__device__ int counter_variable = 40;
__constant__ int step_constant = 2;

__global__ void variables(int* out) {
  out[threadIdx.x] = atomicAdd(&counter_variable, step_constant);
}

}  // namespace

TEST_CASE("atomics on global memory by many blocks") {
  const Buffer<Cells> cells(std::vector<Cells>{initial()});
  const Buffer<u32> tickets(total);
  global_atomics<<<blocks, threads>>>(cells.get(), tickets.get());
  LAUNCH_OK();
  check_cells(cells.host()[0], tickets.host());
}

TEST_CASE("atomics on shared memory") {
  const Buffer<Cells> cells(std::vector<Cells>(2, initial()));
  const Buffer<u32> tickets(2 * total);
  shared_atomics<<<2, threads>>>(cells.get(), tickets.get());
  LAUNCH_OK();
  const std::vector<u32> all = tickets.host();
  for (int block = 0; block < 2; ++block) {
    check_cells(cells.host()[block],
                {all.begin() + block * total, all.begin() + (block + 1) * total});
  }
}

TEST_CASE("device and constant variables, their initial values and copies by symbol") {
  const Buffer<int> out(32);
  variables<<<1, 32>>>(out.get());
  LAUNCH_OK();
  int counter = 0;
  CUDA_OK(cudaMemcpyFromSymbol(&counter, counter_variable, sizeof counter));
  CHECK(counter == 40 + 64);
  const int step = 5;
  CUDA_OK(cudaMemcpyToSymbol(step_constant, &step, sizeof step));
  variables<<<1, 32>>>(out.get());
  LAUNCH_OK();
  CUDA_OK(cudaMemcpyFromSymbol(&counter, counter_variable, sizeof counter));
  CHECK(counter == 104 + 160);
}
