#pragma once

#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/attention_runs.h"
#include "support/case_runs.h"

// What holds of an operator whatever its sizes, on any backend: rows in another order, alone and
// without the others, zeros, twice the input, sums of parts. Shapes and values are of a seed that a
// failure prints; QGRPO_PROPERTY_SEED in the environment repeats it.
namespace qgrpo::test {

inline std::uint32_t property_seed() {
  const char* given = std::getenv("QGRPO_PROPERTY_SEED");
  return given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                          : std::random_device{}();
}

using Values = std::vector<float>;
using Lists = std::vector<Values>;  // tensors of the same number of rows

inline Values taken_rows(const Values& x, std::int64_t width,
                         const std::vector<std::int32_t>& rows) {
  Values out;
  for (const std::int32_t r : rows)
    out.insert(out.end(), x.begin() + r * width, x.begin() + (r + 1) * width);
  return out;
}

inline Values times(const Values& x, float factor) {
  Values out = x;
  for (float& value : out) value *= factor;
  return out;
}

// An operator that makes rows of rows, each of its own.
struct RowOperator {
  std::string name;
  std::vector<std::int64_t> widths;    // of the inputs
  std::vector<std::size_t> linear_in;  // inputs: twice the input is twice the output, exactly
  // inputs, and the numbers of their rows (a row's position, say, is of its number)
  std::function<Lists(const Lists&, const std::vector<std::int32_t>&)> run;
};

// Even sizes, multiples of 8: what every backend takes.
struct PropertyShapes {
  Rng rng;
  explicit PropertyShapes(std::uint32_t seed) : rng(seed, RngStream::test) {}
  std::int64_t multiple_of_8(std::uint32_t most) {
    return 8 * (1 + static_cast<std::int64_t>(rng.below(most / 8)));
  }
  std::int64_t up_to(std::uint32_t most) { return 1 + static_cast<std::int64_t>(rng.below(most)); }
};

inline auto rows_on(Backend& backend) {
  return [&backend](const Values& values, std::int64_t w) {
    return OnBackend(backend, values, {static_cast<std::int64_t>(values.size()) / w, w});
  };
}

inline std::vector<RowOperator> elementwise_operators(Backend& backend, std::int64_t width) {
  LayerOps& ops = backend.layer();
  std::vector<RowOperator> out;
  const auto matrix = rows_on(backend);
  const auto norm_weight = bf16_values(width, 90);
  out.push_back(
      {"rmsnorm_forward", {width}, {}, [=, &backend, &ops](const Lists& in, const auto& rows) {
         const auto n = static_cast<std::int64_t>(rows.size());
         const OnBackend x = matrix(in[0], width), y(backend, unset(n * width), {n, width}),
                         rstd(backend, unset(n), {n}, DType::f32),
                         weight(backend, norm_weight, {width}, DType::f32);
         ops.rmsnorm_forward(y, rstd, x, weight, 1e-6f);
         return Lists{y.values(), rstd.values()};
       }});
  out.push_back({"rmsnorm_backward",
                 {width, width},
                 {1},
                 [=, &backend, &ops](const Lists& in, const auto& rows) {
                   const auto n = static_cast<std::int64_t>(rows.size());
                   const OnBackend x = matrix(in[0], width), dy = matrix(in[1], width),
                                   y(backend, unset(n * width), {n, width}),
                                   rstd(backend, unset(n), {n}, DType::f32),
                                   weight(backend, norm_weight, {width}, DType::f32),
                                   dx(backend, Values(in[0].size()), {n, width}),
                                   dweight(backend, Values(norm_weight.size()), {width},
                                           DType::f32);
                   ops.rmsnorm_forward(y, rstd, x, weight, 1e-6f);
                   ops.rmsnorm_backward(dx, dweight, dy, x, weight, rstd);
                   return Lists{dx.values()};
                 }});
  const std::int32_t dim = 16;
  for (const bool back : {false, true}) {
    out.push_back({back ? "rope_backward" : "rope_forward",
                   {3 * dim},
                   {0},
                   [=, &ops](const Lists& in, const auto& rows) {
                     const OnBackend x = matrix(in[0], 3 * dim);
                     std::vector<std::int32_t> positions;
                     for (const std::int32_t r : rows) positions.push_back(r * 37);
                     (ops.*(back ? &LayerOps::rope_backward : &LayerOps::rope_forward))(
                         x, rope_frequencies(dim, cases::kRopeTheta), positions);
                     return Lists{x.values()};
                   }});
  }
  out.push_back(
      {"swiglu_forward", {width, width}, {1}, [=, &backend, &ops](const Lists& in, const auto&) {
         const OnBackend gate = matrix(in[0], width), up = matrix(in[1], width),
                         y(backend, unset(static_cast<std::int64_t>(in[0].size())),
                           gate.view().shape);
         ops.swiglu_forward(y, gate, up);
         return Lists{y.values()};
       }});
  out.push_back(
      {"swiglu_backward", {width, width, width}, {2}, [=, &ops](const Lists& in, const auto&) {
         const OnBackend gate = matrix(in[0], width), up = matrix(in[1], width),
                         dy = matrix(in[2], width);
         ops.swiglu_backward(gate, up, dy, gate, up);
         return Lists{gate.values(), up.values()};
       }});
  return out;
}

inline std::vector<RowOperator> linear_operators(Backend& backend, std::int64_t width,
                                                 std::int64_t inner, std::int64_t rank) {
  LayerOps& ops = backend.layer();
  std::vector<RowOperator> out;
  const auto matrix = rows_on(backend);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::nf4}) {
    LinearCase c;
    c.n = inner;
    c.k = width;
    c.format = format;
    c.ranks = {rank};
    const std::string of = format == WeightFormat::nf4 ? ", NF4" : ", bf16";
    out.push_back({"linear_backward" + of,
                   {width, inner},
                   {1},
                   [c, &backend](const Lists& in, const auto& rows) {
                     LinearCase sized = c;
                     sized.rows = static_cast<std::int64_t>(rows.size());
                     sized.runs = {{0, static_cast<std::int32_t>(sized.rows), 0}};
                     LinearBackwardInputs inputs(sized);
                     inputs.x = in[0];
                     inputs.dy = in[1];
                     return Lists{run_linear_backward(backend, sized, inputs).dx};
                   }});
    const auto w = bf16_values(inner * width, 91, 0.1f), a = bf16_values(rank * width, 92, 0.1f),
               b = bf16_values(inner * rank, 93);
    out.push_back(
        {"linear_forward" + of,
         {width},
         {0},
         [=, &backend, &ops](const Lists& in, const auto& rows) {
           const auto n = static_cast<std::int64_t>(rows.size());
           const auto weight = backend.prepare({w.data(), DType::f32, {inner, width}}, format);
           const OnBackend x = matrix(in[0], width), y(backend, unset(n * inner), {n, inner}),
                           fa(backend, a, {rank, width}, DType::f32),
                           fb(backend, b, {inner, rank}, DType::f32);
           const std::vector<LoraFactors> adapters = {{fa, fb, 0.5f}};
           const std::vector<AdapterRun> runs = {{0, static_cast<std::int32_t>(n), 0}};
           Linear linear;
           linear.weight = weight.get();
           linear.adapters = adapters;
           ops.linear_forward(y, x, linear, runs, {});
           return Lists{y.values()};
         }});
  }
  return out;
}

inline std::vector<RowOperator> row_operators(Backend& backend, PropertyShapes& shapes) {
  const std::int64_t width = shapes.multiple_of_8(200), inner = shapes.multiple_of_8(160),
                     rank = shapes.up_to(20);
  auto out = elementwise_operators(backend, width);
  for (RowOperator& op : linear_operators(backend, width, inner, rank))
    out.push_back(std::move(op));
  return out;
}

inline void check_row_operator(const RowOperator& op, PropertyShapes& shapes) {
  CAPTURE(op.name);
  const std::int64_t count = 2 + shapes.up_to(70);
  CAPTURE(count);
  std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), 0);
  Lists in;
  for (const std::int64_t width : op.widths)
    in.push_back(bf16_values(count * width, shapes.rng.below(1u << 30)));
  const Lists all = op.run(in, rows);
  const auto equal_rows = [&](const Lists& got, const std::vector<std::int32_t>& of) {
    for (std::size_t i = 0; i < got.size(); ++i) {
      const auto width = static_cast<std::int64_t>(all[i].size()) / count;
      CHECK(same_bits(got[i], taken_rows(all[i], width, of)));
    }
  };
  const auto run_rows = [&](const std::vector<std::int32_t>& of) {
    Lists some;
    for (std::size_t i = 0; i < in.size(); ++i) some.push_back(taken_rows(in[i], op.widths[i], of));
    return op.run(some, of);
  };
  // Another order; some of them; one alone.
  std::vector<std::int32_t> order = rows;
  for (std::size_t i = order.size() - 1; i > 0; --i)
    std::swap(order[i], order[shapes.rng.below(static_cast<std::uint32_t>(i + 1))]);
  equal_rows(run_rows(order), order);
  order.resize(static_cast<std::size_t>(shapes.up_to(static_cast<std::uint32_t>(count - 1))));
  equal_rows(run_rows(order), order);
  order.resize(1);
  equal_rows(run_rows(order), order);

  for (const std::size_t which : op.linear_in) {
    CAPTURE(which);
    Lists other = in;
    for (const float factor : {2.0f, -1.0f, 0.25f}) {
      other[which] = times(in[which], factor);
      const Lists scaled = op.run(other, rows);
      for (std::size_t i = 0; i < all.size(); ++i) CHECK(scaled[i] == times(all[i], factor));
    }
    other[which].assign(in[which].size(), 0.0f);
    for (const Values& zeros : op.run(other, rows)) CHECK(zeros == Values(zeros.size()));
  }
}

// Gradients of weights: over rows in two parts, the second added to the first, as over all.
inline void check_sums_of_parts(Backend& backend, PropertyShapes& shapes) {
  LinearCase c;
  c.n = shapes.multiple_of_8(100);
  c.k = shapes.multiple_of_8(100);
  c.format = WeightFormat::f32;
  c.ranks = {shapes.up_to(12)};
  c.full = true;
  c.rows = 1 + shapes.up_to(140);
  c.runs = {{0, static_cast<std::int32_t>(c.rows), 0}};
  const LinearBackwardInputs whole(c);
  const LinearBackwardResults expected = run_linear_backward(backend, c, whole);
  const std::int64_t cut = shapes.up_to(static_cast<std::uint32_t>(c.rows - 1));
  CAPTURE(c.rows);
  CAPTURE(cut);
  LinearBackwardInputs part = whole;
  LinearBackwardResults got;
  for (const auto& [begin, end] : {std::pair{std::int64_t{0}, cut}, {cut, c.rows}}) {
    LinearCase some = c;
    some.rows = end - begin;
    some.runs = {{0, static_cast<std::int32_t>(some.rows), 0}};
    part.x.assign(whole.x.begin() + begin * c.k, whole.x.begin() + end * c.k);
    part.dy.assign(whole.dy.begin() + begin * c.n, whole.dy.begin() + end * c.n);
    part.dx.assign(static_cast<std::size_t>(some.rows * c.k), 0.0f);
    got = run_linear_backward(backend, some, part);
    part.dweight = got.dweight;
    part.dbias = got.dbias;
    part.da = got.da;
    part.db = got.db;
  }
  // The same float32 terms in two sums: a walk of roundings of 2^-24.
  const double bound = 2e-5;
  CHECK(worst_difference(got.dweight, expected.dweight) < bound);
  CHECK(worst_difference(got.dbias, expected.dbias) < bound);
  CHECK(worst_difference(got.da[0], expected.da[0]) < bound);
  CHECK(worst_difference(got.db[0], expected.db[0]) < bound);
}

// Twice the values are twice the result, twice its gradient twice all gradients; families in
// another order keep their bits.
inline void check_attention(Backend& backend, PropertyShapes& shapes) {
  const auto length = [&] { return static_cast<int>(shapes.up_to(70)); };
  AttentionCase c{"", {4, 2, 32}, {{length(), -1}, {length(), 0}, {length(), 0}}};
  const AttentionProblem p(c);
  const AttentionInputs in = p.inputs(shapes.rng.below(1u << 30));
  AttentionInputs doubled = in;
  doubled.v = times(in.v, 2.0f);
  const AttentionResults one = run_both(backend, p, in), two = run_both(backend, p, doubled);
  CHECK(two.o == times(one.o, 2.0f));
  CHECK(two.lse == one.lse);
  CHECK(two.dv == one.dv);
  CHECK(two.dq == times(one.dq, 2.0f));
  CHECK(two.dk == times(one.dk, 2.0f));
  doubled = in;
  doubled.d_o = times(in.d_o, -2.0f);
  const AttentionResults turned = run_both(backend, p, doubled);
  CHECK(turned.dq == times(one.dq, -2.0f));
  CHECK(turned.dk == times(one.dk, -2.0f));
  CHECK(turned.dv == times(one.dv, -2.0f));
  doubled.d_o.assign(in.d_o.size(), 0.0f);
  const AttentionResults none = run_both(backend, p, doubled);
  CHECK(none.dq == Values(in.q.size()));
  CHECK(none.dk == Values(in.k.size()));
  CHECK(none.dv == Values(in.k.size()));
}

// The shares of all tokens are one; hidden rows and temperature may grow together.
inline void check_head(Backend& backend, PropertyShapes& shapes) {
  const std::int64_t width = shapes.multiple_of_8(80), vocab = shapes.up_to(600),
                     rows = shapes.up_to(5);
  CAPTURE(width);
  CAPTURE(vocab);
  const auto w = bf16_values(vocab * width, 94, 0.2f), hidden = bf16_values(rows * width, 95);
  std::vector<HeadEntry> entries;
  for (std::int32_t r = 0; r < rows; ++r) {
    for (std::int32_t id = 0; id < vocab; ++id) entries.push_back({r, id});
  }
  const auto results = run_head(backend, w, hidden, width, entries, 0.75f);
  const auto grown = run_head(backend, w, times(hidden, 2.0f), width, entries, 1.5f);
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = 0.0, entropy = 0.0;
    for (std::int64_t id = 0; id < vocab; ++id) {
      const HeadResult& result = results[static_cast<std::size_t>(r * vocab + id)];
      sum += std::exp(double{result.logprob});
      entropy -= std::exp(double{result.logprob}) * double{result.logprob};
      CHECK(grown[static_cast<std::size_t>(r * vocab + id)].logprob ==
            doctest::Approx(result.logprob).epsilon(1e-5));
    }
    CHECK(sum == doctest::Approx(1.0).epsilon(1e-5));
    CHECK(results[static_cast<std::size_t>(r * vocab)].entropy ==
          doctest::Approx(entropy).epsilon(1e-4));
  }
}

// AdamW goes element by element: another order of the elements is another order of the results.
inline void check_adamw(Backend& backend, PropertyShapes& shapes) {
  const std::int64_t n = shapes.up_to(3000);
  CAPTURE(n);
  Lists tensors = {bf16_values(n, 96), bf16_values(n, 97, 0.1f), bf16_values(n, 98, 0.1f),
                   bf16_values(n, 99)};
  for (float& v : tensors[2]) v = std::abs(v);
  const auto step = [&](const Lists& from) {
    const OnBackend param(backend, from[0], {n}, DType::f32), m(backend, from[1], {n}, DType::f32),
        v(backend, from[2], {n}, DType::f32), grad(backend, from[3], {n}, DType::f32);
    AdamWParams p;
    p.lr = 1e-2;
    p.step = 3;
    backend.train().adamw_32bit(param, m, v, grad, p);
    return Lists{param.values(), m.values(), v.values()};
  };
  std::vector<std::int32_t> order(static_cast<std::size_t>(n));
  std::iota(order.rbegin(), order.rend(), 0);
  Lists reversed;
  for (const Values& tensor : tensors) reversed.push_back(taken_rows(tensor, 1, order));
  const Lists there = step(tensors), back = step(reversed);
  for (std::size_t i = 0; i < there.size(); ++i) CHECK(back[i] == taken_rows(there[i], 1, order));
  // Without a gradient, momentum or decay nothing moves.
  Lists still = {tensors[0], Values(tensors[0].size()), Values(tensors[0].size()),
                 Values(tensors[0].size())};
  CHECK(step(still)[0] == tensors[0]);
}

inline void check_properties(Backend& backend, int rounds) {
  const std::uint32_t seed = property_seed();
  INFO("QGRPO_PROPERTY_SEED=", seed);
  PropertyShapes shapes(seed);
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    for (const RowOperator& op : row_operators(backend, shapes)) check_row_operator(op, shapes);
    check_sums_of_parts(backend, shapes);
    check_attention(backend, shapes);
    check_head(backend, shapes);
    check_adamw(backend, shapes);
  }
}

}  // namespace qgrpo::test
