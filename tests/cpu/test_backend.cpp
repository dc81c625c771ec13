// The backend as a whole, through the interface: fast against reference.

#include "cpu/backend.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "cpu/op_support.h"
#include "cpu/reference/backend.h"
#include "model/ops/adamw.h"

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

// Runs the same script of operators on a backend; everything that it computes, in order.
using Results = std::vector<std::vector<float>>;

// One decoder layer of a tiny Qwen2, forward and backward, on a prompt with two completions, with
// two adapters and NF4, bf16 and f32 weights; then head, optimizer and sampling.
Results run_layer(Backend& backend) {
  Results out;
  const std::int64_t hidden = 48, ffn = 80, vocab = 130, rank = 4;
  const AttentionShape shape{3, 1, 16};
  Batch batch;
  const std::vector<std::int32_t> prompt{5, 9, 129, 0, 77}, a{1, 2, 3, 4}, b{100, 5};
  const std::int32_t root = batch.add(prompt, 0);
  batch.add(a, 0, root);
  batch.add(b, 1, root);
  const std::int64_t tokens = batch.size();
  const auto runs = adapter_runs(batch.segments);
  std::vector<std::int32_t> positions;
  for (const Segment& s : batch.segments) {
    for (std::int32_t i = 0; i < s.length; ++i) positions.push_back(s.position + i);
  }

  std::uint32_t seed = 1;
  const auto weight = [&](std::int64_t n, std::int64_t k, WeightFormat format) {
    const auto w = random_values(static_cast<std::size_t>(n * k), seed++, 0.15);
    return backend.prepare(view(w, {n, k}), format);
  };
  std::vector<std::vector<float>> kept;
  kept.reserve(64);
  const auto constant = [&](Shape s, double scale) {
    kept.push_back(random_values(static_cast<std::size_t>(s.elements()), seed++, scale));
    return view(kept.back(), s);
  };
  std::vector<std::unique_ptr<Buffer>> buffers;
  const auto tensor = [&](Shape s) {
    buffers.push_back(backend.allocate(static_cast<std::size_t>(s.elements()) * 4));
    return TensorView{buffers.back()->data(), DType::f32, s};
  };
  const auto keep = [&](TensorView t) {
    std::vector<float> host(static_cast<std::size_t>(t.elements()));
    backend.download(host.data(), t);
    backend.synchronize();
    out.push_back(host);
  };
  LayerOps& layer = backend.layer();

  const auto table = weight(vocab, hidden, WeightFormat::bf16);
  const auto wq = weight(hidden, hidden, WeightFormat::nf4);
  const auto wkv = weight(16, hidden, WeightFormat::nf4);
  const auto wgate = weight(ffn, hidden, WeightFormat::f32);
  const auto wdown = weight(hidden, ffn, WeightFormat::nf4);
  const std::vector<LoraFactors> factors{
      {constant({rank, hidden}, 0.2), constant({hidden, rank}, 0.2), 2.0f},
      {constant({rank, hidden}, 0.2), constant({hidden, rank}, 0.2), 0.5f}};
  const Linear q_linear{wq.get(), constant({hidden}, 0.1), factors};
  const Linear kv_linear{wkv.get(), {}, {}};
  const Linear gate_linear{wgate.get(), {}, {}};
  const Linear down_linear{wdown.get(), {}, {}};
  const auto norm = constant({hidden}, 1.0);

  const Shape th{tokens, hidden}, tk{tokens, 16}, tf{tokens, ffn};
  const TensorView x = tensor(th), n = tensor(th), rstd = tensor({tokens}), q = tensor(th),
                   k = tensor(tk), v = tensor(tk), o = tensor(th), lse = tensor({tokens, 3}),
                   gate = tensor(tf), up = tensor(tf), act = tensor(tf), y = tensor(th);
  std::vector<AdapterRun> base_runs{{0, static_cast<std::int32_t>(tokens), -1}};
  layer.embedding_forward(x, *table, batch.tokens);
  layer.rmsnorm_forward(n, rstd, x, norm, 1e-6f);
  layer.linear_forward(q, n, q_linear, runs);
  layer.linear_forward(k, n, kv_linear, base_runs);
  layer.copy(v, k);
  const RopeFrequencies rope = rope_frequencies(16, 1e4);
  layer.rope_forward(q, rope, positions);
  layer.rope_forward(k, rope, positions);
  layer.attention_forward(o, lse, q, k, v, shape, batch.segments);
  layer.linear_forward(gate, o, gate_linear, base_runs);
  layer.copy(up, gate);
  layer.swiglu_forward(act, gate, up);
  layer.copy(y, x);
  layer.linear_forward(y, act, down_linear, base_runs, /*residual=*/y);
  for (const TensorView t : {x, n, rstd, q, k, o, lse, act, y}) keep(t);

  // Head: the prompt's last row predicts both completions' first tokens.
  const auto head_weight = weight(vocab, hidden, WeightFormat::f32);
  const Linear head{head_weight.get(), {}, {}};
  const std::vector<HeadEntry> entries{{4, 1}, {4, 100}, {5, 2}, {6, 3}, {7, 4}, {9, 5}};
  const std::vector<ObjectiveEntry> terms{{0.1f, 1.0f, -5.0f, -4.0f}, {0.2f, -1.0f, -4.0f, -5.0f},
                                          {0.1f, 1.0f, -5.0f, -4.5f}, {0.3f, 1.0f, -4.0f, -6.0f},
                                          {0.1f, 1.0f, -5.0f, -5.0f}, {0.2f, -1.0f, -3.0f, -3.0f}};
  ObjectiveParams objective;
  objective.beta = 0.04f;
  std::vector<HeadResult> results(entries.size());
  std::vector<TokenObjective<float>> token(entries.size());
  const TensorView dy = tensor(th), dhead = tensor({vocab, hidden});
  backend.train().head_objective(results, token, dy, dhead, y, head, entries, terms, objective,
                                 0.9f);
  std::vector<float> flat;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    flat.insert(flat.end(), {results[i].logprob, results[i].entropy, token[i].loss, token[i].kl});
  }
  out.push_back(flat);
  keep(dy);
  keep(dhead);
  std::vector<HeadResult> again(entries.size());
  backend.train().head_logprob(again, y, head, entries, 0.9f);
  for (std::size_t i = 0; i < entries.size(); ++i) CHECK(again[i].logprob == results[i].logprob);

  // Backward of the layer.
  const TensorView dact = tensor(th), d_act = tensor(tf), dgate = tensor(tf), dup = tensor(tf),
                   d_o = tensor(th), dq = tensor(th), dk = tensor(tk), dv = tensor(tk),
                   dn = tensor(th), dnorm = tensor({hidden}), dtable = tensor({vocab, hidden});
  const TensorView da0 = tensor({rank, hidden}), db0 = tensor({hidden, rank}),
                   da1 = tensor({rank, hidden}), db1 = tensor({hidden, rank}),
                   dbias = tensor({hidden}), dgate_w = tensor({ffn, hidden});
  layer.linear_backward(d_act, false, {}, dy, act, down_linear, base_runs);
  layer.swiglu_backward(dgate, dup, d_act, gate, up);
  layer.add(dgate, dup);
  layer.linear_backward(d_o, false, {{}, dgate_w, {}}, dgate, o, gate_linear, base_runs);
  layer.attention_backward(dq, dk, dv, d_o, q, k, v, o, lse, shape, batch.segments);
  layer.rope_backward(dq, rope, positions);
  layer.rope_backward(dk, rope, positions);
  layer.add(dk, dv);
  const std::vector<LoraGradients> lora{{da0, db0}, {da1, db1}};
  layer.linear_backward(dn, false, {lora, {}, dbias}, dq, n, q_linear, runs);
  layer.linear_backward(dn, true, {}, dk, n, kv_linear, base_runs);
  layer.copy(dact, dy);
  layer.rmsnorm_backward(dact, dnorm, dn, x, norm, rstd);
  layer.embedding_backward(dtable, dact, batch.tokens);
  for (const TensorView t :
       {d_act, dgate_w, d_o, dq, dk, dn, da0, db0, da1, db1, dbias, dnorm, dtable}) {
    keep(t);
  }
  const std::vector<std::int32_t> rows{3, 3, 1};
  const TensorView some = tensor({3, hidden});
  layer.gather_rows(some, dact, rows);
  layer.scatter_add_rows(dact, some, rows);
  keep(dact);
  layer.zero(dact);
  keep(dact);

  // AdamW in both widths, on the head, with a gradient of its own: it divides a gradient by its own
  // size, which would blow up rounding differences of tiny ones.
  const TensorView grad = tensor({vocab, hidden});
  backend.upload(grad, constant({vocab, hidden}, 0.1).data);
  AdamWParams adamw;
  adamw.lr = 1e-2;
  adamw.weight_decay = 0.1;
  adamw.grad_scale = std::min(1.0, 0.5 / (std::sqrt(backend.train().sum_of_squares(grad)) + 1e-6));
  out.push_back({static_cast<float>(adamw.grad_scale)});
  const TensorView master = tensor({vocab, hidden}), m = tensor({vocab, hidden}),
                   s = tensor({vocab, hidden});
  std::vector<float> host(static_cast<std::size_t>(vocab * hidden));
  backend.unpack(host, *head_weight);
  backend.upload(master, host.data());
  for (adamw.step = 1; adamw.step <= 2; ++adamw.step) {
    backend.train().adamw_32bit(master, m, s, grad, adamw);
  }
  keep(master);
  backend.update(*head_weight, master);
  const std::int64_t blocks = (vocab * hidden + kOptimizerBlock - 1) / kOptimizerBlock;
  const TensorView absmax_m = tensor({blocks}), absmax_v = tensor({blocks});
  const auto u8 = [&] {
    TensorView t = tensor({(vocab * hidden + 3) / 4});
    return TensorView{t.data, DType::u8, {vocab, hidden}};
  };
  const TensorView m8 = u8(), s8 = u8();
  adamw.step = 1;
  backend.train().adamw_8bit(master, m8, s8, absmax_m, absmax_v, grad, adamw);
  keep(master);
  keep(absmax_m);

  // A rollout: prefill into the cache, copy on write, one decode step of two completions, and the
  // draw of their next tokens.
  const KvCacheLayer cache{tensor({6, 4, 16}), tensor({6, 4, 16})};
  const std::vector<std::int32_t> slots{8, 9, 10, 11, 4};  // blocks 2, 1
  backend.rollout().kv_write(cache, k.rows(0, 5), v.rows(0, 5), slots);
  const std::pair<std::int32_t, std::int32_t> pair{1, 5};
  backend.rollout().copy_blocks(cache, {&pair, 1});
  const std::vector<std::int32_t> new_slots{5, 21};
  const std::vector<std::int32_t> picked{5, 9};
  const TensorView qs = tensor({2, hidden}), ks = tensor({2, 16}), vs = tensor({2, 16}),
                   os = tensor({2, hidden});
  layer.gather_rows(qs, q, picked);
  layer.gather_rows(ks, k, picked);
  layer.gather_rows(vs, v, picked);
  backend.rollout().kv_write(cache, ks, vs, new_slots);
  const std::vector<std::int32_t> table_a{2, 1}, table_b{2, 5};
  const std::vector<PagedSequence> sequences{{0, 1, 6, 5, 0, table_a}, {1, 1, 6, 5, 0, table_b}};
  backend.rollout().paged_attention(os, qs, cache, 4, shape, sequences);
  keep(os);
  std::vector<SampleRequest> requests;
  for (std::uint32_t i = 0; i < 40; ++i) {
    SampleRequest r;
    r.row = static_cast<std::int32_t>(i % 2);
    r.position = i;
    r.params.temperature = i % 5 == 0 ? 0.0f : 0.8f;
    r.params.top_p = i % 3 == 0 ? 0.9f : 1.0f;
    r.params.top_k = i % 4 == 0 ? 20 : 0;
    r.params.repetition_penalty = i % 7 == 0 ? 1.2f : 1.0f;
    r.seen = picked;
    requests.push_back(r);
  }
  std::vector<SampledToken> sampled(requests.size());
  backend.rollout().head_sample(sampled, os, head, requests);
  for (const SampledToken& t : sampled) {
    out.push_back({static_cast<float>(t.token), t.logprob, t.policy_logprob, t.sampled_logprob});
  }
  return out;
}

}  // namespace

TEST_CASE("a whole layer, its gradients, head, optimizer and sampling: fast equals reference") {
  const auto plain = cpu::make_reference_backend();
  const auto fast = cpu::make_cpu_backend(1);
  const Results expected = run_layer(*plain);
  const Results got = run_layer(*fast);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    double size = 0;
    for (const float x : expected[i]) size = std::max(size, std::abs(static_cast<double>(x)));
    // About ten operators in a row, each adding a few 1e-7 relative to its largest values; the KL
    // term is an exponential of a difference of log-probabilities of size ~5.
    CHECK(difference(got[i], expected[i]) < 1e-5);
    for (std::size_t j = 0; j < got[i].size(); ++j) {
      REQUIRE(std::abs(got[i][j] - expected[i][j]) <= 1e-5 * size + 1e-12);
    }
  }
  for (int threads = 2; threads <= 3; ++threads) {
    const Results again = run_layer(*cpu::make_cpu_backend(threads));
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(again[i], got[i]));
    }
  }
}

TEST_CASE("names, sizes, memory") {
  const auto backend = cpu::make_cpu_backend(2);
  CHECK(backend->name() == "cpu");
  CHECK(backend->description().starts_with("cpu: AVX"));
  CHECK(backend->description().ends_with(", 2 threads"));
  CHECK(cpu::make_cpu_backend(1)->description().ends_with(", 1 thread"));
  CHECK(backend->activation_dtype() == DType::f32);
  CHECK_THROWS_AS(cpu::make_cpu_backend(-1), Error);
#if !defined(__SANITIZE_ADDRESS__)  // which ends the program instead
  CHECK_THROWS_AS(backend->allocate(std::size_t{1} << 60), Error);
#endif
  const auto buffer = backend->allocate(1000);
  CHECK(buffer->bytes() == 1000);
  const auto* bytes = static_cast<const unsigned char*>(buffer->data());
  CHECK(std::all_of(bytes, bytes + 1000, [](unsigned char b) { return b == 0; }));
  const auto w = random_values(33 * 70, 1);
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::nf4}) {
    const auto weight = backend->prepare(view(w, {33, 70}), format);
    CHECK(weight->bytes() == backend->weight_bytes(33, 70, format));
    // Both backends agree on what the format keeps.
    std::vector<float> a(w.size()), b(w.size());
    backend->unpack(a, *weight);
    const auto plain = cpu::make_reference_backend();
    const auto plain_weight = plain->prepare(view(w, {33, 70}), format);
    plain->unpack(b, *plain_weight);
    CHECK(same_bits(a, b));
    // A weight of one backend is refused by the other.
    CHECK_THROWS_AS(backend->unpack(a, *plain_weight), Error);
    CHECK_THROWS_AS(plain->unpack(a, *weight), Error);
  }
  const auto workspace = [&](std::int64_t tokens, std::int64_t vocab) {
    WorkspaceShape shape;
    shape.tokens = tokens;
    shape.hidden = 896;
    shape.ffn = 4864;
    shape.vocab = vocab;
    return backend->workspace_bytes(shape);
  };
  CHECK(workspace(1000, 151936) > workspace(10, 32000));
}

TEST_CASE("the sum of squares does not depend on the threads") {
  for (const std::size_t n : {std::size_t{1}, std::size_t{4095}, std::size_t{70001}}) {
    const auto x = random_values(n, 5);
    double exact = 0;
    for (const float v : x) exact += static_cast<double>(v) * static_cast<double>(v);
    const double one =
        cpu::make_cpu_backend(1)->train().sum_of_squares(view(x, {static_cast<std::int64_t>(n)}));
    CHECK(one == doctest::Approx(exact).epsilon(1e-12));
    for (int threads = 2; threads <= 3; ++threads) {
      CHECK(cpu::make_cpu_backend(threads)->train().sum_of_squares(
                view(x, {static_cast<std::int64_t>(n)})) == one);
    }
  }
}
