#pragma once

// Conformance tables. A row is one or more PTX instructions that make %0 of %1, %2, %3, and an
// expression in a, b, c that the host evaluates on the same bits:
//
//   #define OPS(X) X("add.u32 %0, %1, %2;", a + b) X("neg.s32 %0, %1;", 0u - a)
//   CONFORMANCE_TABLE(sums, OPS, r)
//   TEST_CASE("sums") { softgpu_test::run_table(sums::kernel, sums::rows, inputs); }
//
// The letter is the constraint of inline assembly and so the width: h, r or l for 16, 32 or 64
// bits. Every row sees every triple of inputs. Results must have the same bits; where both are
// NaNs, of the floating format that the row's table names, any NaN will do.

#include <cstdio>
#include <string>

#include "check.cuh"

namespace softgpu_test {

template <class T>
struct ConformanceRow {
  const char* text;
  T (*expected)(T a, T b, T c);
};

// Triples of the special values in all pairs, with a third one that goes round, then random ones.
template <class T>
std::vector<T> triples(const std::vector<T>& specials, std::size_t random_triples) {
  std::vector<T> values;
  std::size_t third = 0;
  for (const T a : specials) {
    for (const T b : specials) {
      for (int i = 0; i < 3; ++i) {
        values.insert(values.end(), {a, b, specials[third++ % specials.size()]});
      }
    }
    ++third;  // or the third would repeat with the period of the pairs
  }
  Random random(1);
  for (std::size_t i = 0; i < 3 * random_triples; ++i) {
    const std::uint64_t high = random.next();
    values.push_back(static_cast<T>(high << 32 | random.next()));
  }
  return values;
}

template <class T>
void check_rows(const std::vector<ConformanceRow<T>>& rows, const std::vector<T>& inputs,
                const std::vector<T>& results, bool (*same)(T, T)) {
  const std::size_t count = inputs.size() / 3;
  REQUIRE(results.size() == rows.size() * count);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    std::size_t wrong = 0;
    std::string first;
    for (std::size_t i = 0; i < count; ++i) {
      const T a = inputs[3 * i], b = inputs[3 * i + 1], c = inputs[3 * i + 2];
      const T expected = rows[row].expected(a, b, c);
      const T result = results[row * count + i];
      if (same(result, expected)) continue;
      if (wrong++ == 0) {
        char text[160];
        std::snprintf(text, sizeof text, "a=%llx b=%llx c=%llx: got %llx, expected %llx",
                      static_cast<unsigned long long>(a), static_cast<unsigned long long>(b),
                      static_cast<unsigned long long>(c), static_cast<unsigned long long>(result),
                      static_cast<unsigned long long>(expected));
        first = text;
      }
    }
    INFO(std::string(rows[row].text), " ", first);
    CHECK(wrong == 0);
  }
}

template <class T>
bool same_bits(T a, T b) {
  return a == b;
}

// `kernel` evaluates all rows on the triples of `inputs`, results row after row.
template <class T>
void run_table(void (*kernel)(const T*, T*, int), const std::vector<ConformanceRow<T>>& rows,
               const std::vector<T>& inputs, bool (*same)(T, T) = same_bits<T>) {
  const int count = static_cast<int>(inputs.size() / 3);
  const Buffer<T> device_inputs(inputs);
  const Buffer<T> results(rows.size() * static_cast<std::size_t>(count));
  kernel<<<(count + 127) / 128, 128>>>(device_inputs.get(), results.get(), count);
  LAUNCH_OK();
  check_rows(rows, inputs, results.host(), same);
}

}  // namespace softgpu_test

#define CONFORMANCE_TYPE_h std::uint16_t
#define CONFORMANCE_TYPE_r std::uint32_t
#define CONFORMANCE_TYPE_l std::uint64_t
#define CONFORMANCE_DEVICE_ROW_h(text, ...)                \
  {                                                        \
    value r;                                               \
    asm volatile(text : "=h"(r) : "h"(a), "h"(b), "h"(c)); \
    *out = r;                                              \
    out += count;                                          \
  }
#define CONFORMANCE_DEVICE_ROW_r(text, ...)                \
  {                                                        \
    value r;                                               \
    asm volatile(text : "=r"(r) : "r"(a), "r"(b), "r"(c)); \
    *out = r;                                              \
    out += count;                                          \
  }
#define CONFORMANCE_DEVICE_ROW_l(text, ...)                \
  {                                                        \
    value r;                                               \
    asm volatile(text : "=l"(r) : "l"(a), "l"(b), "l"(c)); \
    *out = r;                                              \
    out += count;                                          \
  }
#define CONFORMANCE_HOST_ROW(text, ...)                                                        \
  {text,                                                                                       \
   []([[maybe_unused]] value a, [[maybe_unused]] value b, [[maybe_unused]] value c) -> value { \
     return static_cast<value>(__VA_ARGS__);                                                   \
   }},

#define CONFORMANCE_TABLE(name, OPS, letter)                                                 \
  namespace name {                                                                           \
  using value = CONFORMANCE_TYPE_##letter;                                                   \
  __global__ void kernel(const value* inputs, value* out, int count) {                       \
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);                   \
    if (i >= count) return;                                                                  \
    const value a = inputs[3 * i], b = inputs[3 * i + 1], c = inputs[3 * i + 2];             \
    out += i;                                                                                \
    OPS(CONFORMANCE_DEVICE_ROW_##letter)                                                     \
  }                                                                                          \
  const std::vector<softgpu_test::ConformanceRow<value>> rows = {OPS(CONFORMANCE_HOST_ROW)}; \
  }  // namespace name
