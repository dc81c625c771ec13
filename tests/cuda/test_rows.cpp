#include "cuda/device_support.h"

// The operators that work on rows and on elements. Their inputs are bf16 and their sums float32, so
// the one rounding of the result is all that may differ (kRounding), unless stated.
namespace qgrpo::test {
namespace {

struct Size {
  std::int64_t rows;
  std::int64_t width;
};
constexpr Size kSizes[] = {{0, 64},  {1, 8},   {3, 5},    {7, 64},   {4, 63},
                           {9, 160}, {2, 896}, {5, 2048}, {200, 48}, {129, 13}};

TEST_CASE("cuda rmsnorm: forward and backward") {
  const Backends b = both_backends();
  if (!b) return;
  for (const auto [rows, width] : kSizes) {
    CAPTURE(rows);
    CAPTURE(width);
    const auto x = bf16_values(rows * width, 1), dy = bf16_values(rows * width, 2),
               dx = bf16_values(rows * width, 3), w = bf16_values(width, 4),
               dw = bf16_values(width, 5);
    std::vector<std::vector<float>> y, rstd, dxs, dws;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const OnBackend xs(*backend, x, {rows, width}), dys(*backend, dy, {rows, width}),
          ws(*backend, w, {width}, DType::f32), dx_out(*backend, dx, {rows, width}),
          dw_out(*backend, dw, {width}, DType::f32),
          y_out(*backend, std::vector<float>(x.size(), NAN), {rows, width}),
          rstd_out(*backend, std::vector<float>(static_cast<std::size_t>(rows), NAN), {rows},
                   DType::f32);
      backend->layer().rmsnorm_forward(y_out, rstd_out, xs, ws, 1e-6f);
      backend->layer().rmsnorm_backward(dx_out, dw_out, dys, xs, ws, rstd_out);
      y.push_back(y_out.values());
      rstd.push_back(rstd_out.values());
      dxs.push_back(dx_out.values());
      dws.push_back(dw_out.values());
    }
    CHECK(worst_difference(y[0], y[1]) < kRounding);
    CHECK(worst_difference(rstd[0], rstd[1]) < 1e-5);  // float32 sums in another order
    CHECK(worst_difference(dxs[0], dxs[1]) < kRounding);
    CHECK(worst_difference(dws[0], dws[1]) < 1e-5);
  }
}

TEST_CASE("cuda rope: forward, and backward undoes it") {
  const Backends b = both_backends();
  if (!b) return;
  const std::vector<std::int32_t> positions = {0, 1, 2, 511, 40, 3};
  for (const std::int32_t dim : {4, 16, 64, 128}) {
    CAPTURE(dim);
    const std::int64_t width = 3 * dim;
    const auto x = bf16_values(6 * width, 6);
    std::vector<std::vector<float>> forward, back;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const OnBackend xs(*backend, x, {6, width});
      backend->layer().rope_forward(xs, dim, 1e6, positions);
      forward.push_back(xs.values());
      backend->layer().rope_backward(xs, dim, 1e6, positions);
      back.push_back(xs.values());
    }
    CHECK(worst_difference(forward[0], forward[1]) < kRounding);
    CHECK(worst_difference(back[0], x) < 3 * kRounding);  // rounded twice, and the pair's partner
  }
}

TEST_CASE("cuda swiglu: forward and backward") {
  const Backends b = both_backends();
  if (!b) return;
  for (const std::int64_t n : {1, 7, 8, 2049, 4864}) {
    CAPTURE(n);
    auto gate = bf16_values(n, 7, 3.0f);
    gate[0] = -100.0f;  // exp overflows
    const auto up = bf16_values(n, 8), dy = bf16_values(n, 9);
    std::vector<std::vector<float>> y, dgate, dup;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const OnBackend gates(*backend, gate, {n}), ups(*backend, up, {n}), dys(*backend, dy, {n}),
          out(*backend, std::vector<float>(gate.size(), NAN), {n});
      backend->layer().swiglu_forward(out, gates, ups);
      backend->layer().swiglu_backward(gates, ups, dys, gates, ups);  // in place, as the model does
      y.push_back(out.values());
      dgate.push_back(gates.values());
      dup.push_back(ups.values());
    }
    CHECK(worst_difference(y[0], y[1]) < kRounding);
    CHECK(worst_difference(dgate[0], dgate[1]) < kRounding);
    CHECK(worst_difference(dup[0], dup[1]) < kRounding);
  }
}

TEST_CASE("cuda: embedding, gather, scatter, add, copy, zero") {
  const Backends b = both_backends();
  if (!b) return;
  const std::vector<std::int32_t> ids = {4, 0, 4, 9, 1, 4};
  for (const std::int64_t width : {8, 13, 64, 896}) {
    CAPTURE(width);
    const auto table = bf16_values(10 * width, 10), values = bf16_values(6 * width, 11);
    std::vector<std::vector<float>> exact, sums;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      LayerOps& ops = backend->layer();
      const auto weight =
          backend->prepare({table.data(), DType::f32, {10, width}}, WeightFormat::f32);
      const OnBackend x(*backend, table, {10, width}), v(*backend, values, {6, width}),
          embedded(*backend, std::vector<float>(values.size(), NAN), {6, width}),
          gathered(*backend, std::vector<float>(values.size(), NAN), {6, width}),
          copied(*backend, std::vector<float>(values.size(), NAN), {6, width});
      ops.embedding_forward(embedded, *weight, ids);
      ops.gather_rows(gathered, x, ids);
      ops.copy(copied, v);
      exact.push_back(embedded.values());
      exact.push_back(gathered.values());
      exact.push_back(copied.values());
      ops.scatter_add_rows(x, v, ids);
      ops.add(gathered, v);
      ops.zero(copied);
      sums.push_back(x.values());
      sums.push_back(gathered.values());
      exact.push_back(copied.values());
    }
    for (std::size_t i = 0; i < 4; ++i) CHECK(exact[i] == exact[i + 4]);
    for (std::size_t i = 0; i < 2; ++i) CHECK(worst_difference(sums[i], sums[i + 2]) < kRounding);
  }
  const OnBackend x(*b.cuda, bf16_values(80, 1), {10, 8});
  const OnBackend out(*b.cuda, bf16_values(8, 1), {1, 8});
  const std::vector<std::int32_t> bad = {10};
  CHECK_THROWS_WITH_AS(b.cuda->layer().gather_rows(out, x, bad),
                       "gather_rows: entry 0 names row 10, there are 10", Error);
}

TEST_CASE("cuda: the embedding's gradient, where tokens repeat") {
  const Backends b = both_backends();
  if (!b) return;
  const std::vector<std::int32_t> tokens = {4, 0, 4, 9, 1, 4, 4, 0, 7, 4};
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (const std::int64_t width : {8, 13, 64, 896}) {
    CAPTURE(width);
    auto table = bf16_values(10 * width, 12);
    for (float& x : table) x /= 3.0f;  // all bits in use: another order would round otherwise
    const auto dy = bf16_values(count * width, 13);
    std::vector<std::vector<float>> sums;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const OnBackend dtable(*backend, table, {10, width}, DType::f32),
          dys(*backend, dy, {count, width});
      backend->layer().embedding_backward(dtable, dys, tokens);
      backend->layer().embedding_backward(dtable, dys, {});
      sums.push_back(dtable.values());
    }
    CHECK(sums[0] == sums[1]);  // float32 sums in the order of the tokens on both
  }
  const OnBackend dtable(*b.cuda, bf16_values(80, 1), {10, 8}, DType::f32),
      dy(*b.cuda, bf16_values(8, 1), {1, 8});
  const std::vector<std::int32_t> bad = {-1};
  CHECK_THROWS_WITH_AS(b.cuda->layer().embedding_backward(dtable, dy, bad),
                       "embedding_backward: entry 0 names row -1, there are 10", Error);
  CHECK_THROWS_AS(b.cuda->layer().embedding_backward(dy, dy, std::vector<std::int32_t>{0}), Error);
}

}  // namespace
}  // namespace qgrpo::test
