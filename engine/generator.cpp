#include "engine/generator.h"

#include <algorithm>
#include <atomic>
#include <bit>

namespace qgrpo::engine {
namespace {

SchedulerOptions scheduler_options(const model::Model& model, const GeneratorCapacity& capacity) {
  SchedulerOptions options;
  options.num_blocks = capacity.num_blocks;
  options.block_size = capacity.block_size;
  options.max_sequences = capacity.max_sequences;
  options.max_tokens = capacity.max_tokens;
  options.max_context = static_cast<std::int32_t>(model.config().context_length());
  return options;
}

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

GeneratorBuffers GeneratorBuffers::place(model::Arena& arena, const model::Config& c, DType dtype,
                                         const GeneratorCapacity& capacity) {
  GeneratorBuffers b;
  const Shape blocks{capacity.num_blocks, capacity.block_size, c.kv_size()};
  for (std::int64_t l = 0; l < c.num_layers; ++l)
    b.cache.push_back({arena.take(dtype, blocks), arena.take(dtype, blocks)});
  const std::int64_t head_rows = decode_rows(capacity.max_sequences);
  const std::int64_t rows = std::max<std::int64_t>(capacity.max_tokens, head_rows);
  b.x = arena.take(dtype, {rows, c.hidden_size});
  b.scratch = model::BlockActivations::place(arena, c, dtype, rows);
  b.head_x = arena.take(dtype, {head_rows, c.hidden_size});
  b.head_norm = arena.take(dtype, {head_rows, c.hidden_size});
  b.head_rstd = arena.take(DType::f32, {head_rows});
  return b;
}

Generator::Generator(const model::Model& model, model::Arena& arena,
                     const GeneratorCapacity& capacity)
    : model_(&model),
      scheduler_(scheduler_options(model, capacity)),
      block_size_(capacity.block_size),
      window_(model.backend().decode() != nullptr ? capacity.window : 0),
      id_(next_id()),
      buffers_(GeneratorBuffers::place(arena, model.config(), model.backend().activation_dtype(),
                                       capacity)) {
  require(capacity.window >= 1, "generator: a window of {} tokens, expected at least 1",
          capacity.window);
}

GroupId Generator::add(GroupRequest request) {
  for (std::size_t i = 0; i < request.prompt.size(); ++i) {
    const std::int32_t id = request.prompt[i];
    require(id >= 0 && id < model_->config().vocab_size,
            "token id {} (at {} of the prompt) is outside the vocabulary of {}", id, i,
            model_->config().vocab_size);
  }
  const auto samples = static_cast<std::size_t>(request.samples);
  const GroupId group = scheduler_.add(std::move(request));
  collected_[group].resize(samples);
  return group;
}

std::vector<TokenEvent> Generator::step() {
  if (!undelivered_.empty()) return deliver();
  // A window's hidden rows are gone when the host looks: those that want more of them draw one by one.
  const Step step = scheduler_.schedule(scheduler_.wants_top_logprobs() ? 0 : window_);
  if (step.empty()) return {};
  copy_blocks(step);
  if (step.window > 0) {
    for (auto& events : scheduler_.commit_window(step, decode(step))) {
      undelivered_.push_back(std::move(events));
    }
  } else {
    auto events = scheduler_.commit(step, forward(step));
    add_top_logprobs(step, events);
    if (!events.empty()) undelivered_.push_back(std::move(events));
  }
  return deliver();
}

std::vector<TokenEvent> Generator::deliver() {
  if (undelivered_.empty()) return {};
  const std::vector<TokenEvent> events = std::move(undelivered_.front());
  undelivered_.pop_front();
  for (const TokenEvent& event : events) {
    Completion& completion = collected_.at(event.group)[event.sample];
    completion.ids.push_back(event.sampled.token);
    completion.logprobs.push_back(event.sampled.logprob);
    completion.policy_logprobs.push_back(event.sampled.policy_logprob);
    completion.sampled_logprobs.push_back(event.sampled.sampled_logprob);
    completion.finish = event.finish;
  }
  return events;
}

void Generator::copy_blocks(const Step& step) {
  if (step.copies.empty()) return;
  RolloutOps& ops = model_->backend().rollout();
  for (const KvCacheLayer& cache : buffers_.cache) ops.copy_blocks(cache, step.copies);
}

// Rows of prompts, and on a backend without DecodeOps of samples: the tokens of step.requests.
std::vector<SampledToken> Generator::forward(const Step& step) {
  const model::Config& c = model_->config();
  LayerOps& layer_ops = model_->backend().layer();
  RolloutOps& ops = model_->backend().rollout();
  const auto tokens = static_cast<std::int64_t>(step.tokens.size());
  const TensorView x = buffers_.x.rows(0, tokens);
  const model::BlockActivations scratch = buffers_.scratch.rows(tokens);
  layer_ops.embedding_forward(x, model_->embedding(), step.tokens);
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    const KvCacheLayer& cache = buffers_.cache[l];
    const auto attention = [&](TensorView o, TensorView, TensorView q, TensorView k, TensorView v) {
      ops.rope_kv_write(cache, q, k, v, model_->rope(), step.positions, step.slots);
      ops.paged_attention(o, q, cache, block_size_, c.attention(), step.sequences);
    };
    model::block_forward(*model_, l, scratch, x, step.adapter_runs, attention,
                         model::BlockExtent::rollout);
  }

  std::vector<SampledToken> sampled(step.requests.size());
  if (!step.head_rows.empty()) {
    const auto rows = static_cast<std::int64_t>(step.head_rows.size());
    const TensorView gathered = buffers_.head_x.rows(0, rows);
    const TensorView hidden = buffers_.head_norm.rows(0, rows);
    layer_ops.gather_rows(gathered, x, step.head_rows);
    layer_ops.rmsnorm_forward(hidden, buffers_.head_rstd.rows(0, rows), gathered,
                              model_->final_norm(), c.rms_norm_eps);
    ops.head_sample(sampled, hidden, model_->head_linear(), step.requests);
  }
  return sampled;
}

// After forward(): the head's hidden rows are still there.
void Generator::add_top_logprobs(const Step& step, std::vector<TokenEvent>& events) {
  std::vector<std::int32_t> rows;
  std::vector<std::int32_t> counts;
  std::vector<std::size_t> place(step.requests.size());  // of each request's row among them
  for (std::size_t i = 0; i < step.requests.size(); ++i) {
    if (step.top_logprobs[i] == 0) continue;
    if (rows.empty() || rows.back() != step.requests[i].row) {
      rows.push_back(step.requests[i].row);
      counts.push_back(step.top_logprobs[i]);
    }
    place[i] = rows.size() - 1;
  }
  if (rows.empty()) return;
  const auto head_rows = static_cast<std::int64_t>(step.head_rows.size());
  const auto likeliest =
      top_logprobs(model_->backend().train(), buffers_.head_norm.rows(0, head_rows),
                   model_->head_linear(), rows, counts);
  // Events come in the order of the requests, without those of samples that have ended.
  std::size_t i = 0;
  for (TokenEvent& event : events) {
    while (step.targets[i].group != event.group || step.targets[i].sample != event.sample) ++i;
    if (step.top_logprobs[i] > 0) event.top = likeliest[place[i]];
  }
}

// A decode window: the tokens of step.decode.
std::vector<std::vector<SampledToken>> Generator::decode(const Step& step) {
  const model::Config& c = model_->config();
  LayerOps& layer_ops = model_->backend().layer();
  DecodeOps& ops = *model_->backend().decode();
  ops.begin(step.decode, step.window, block_size_);
  ops.run(decode_key(), [&] {
    const TensorView x = buffers_.x.rows(0, ops.rows());
    const model::BlockActivations scratch = buffers_.scratch.rows(ops.rows());
    ops.embedding(x, model_->embedding());
    for (std::int64_t l = 0; l < c.num_layers; ++l) {
      const KvCacheLayer& cache = buffers_.cache[l];
      const auto attention = [&](TensorView o, TensorView, TensorView q, TensorView k,
                                 TensorView v) {
        ops.rope_kv_write(cache, q, k, v, model_->rope());
        ops.attention(o, q, cache, c.attention());
      };
      model::block_forward(*model_, l, scratch, x, ops.runs(), attention,
                           model::BlockExtent::rollout);
    }
    const TensorView hidden = buffers_.head_norm.rows(0, ops.rows());
    layer_ops.rmsnorm_forward(hidden, buffers_.head_rstd.rows(0, ops.rows()), x,
                              model_->final_norm(), c.rms_norm_eps);
    ops.sample(hidden, model_->head_linear());
  });
  return ops.finish();
}

// A hash of what the step of a window refers to apart from this generator's own buffers: the
// model's memory, which changes when its adapters are set anew.
std::uint64_t Generator::decode_key() const {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](std::uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  };
  const auto add_pointer = [&](const void* p) { add(reinterpret_cast<std::uintptr_t>(p)); };
  add(id_);
  add_pointer(model_->head_linear().weight);
  for (std::int64_t l = 0; l < model_->config().num_layers; ++l) {
    for (const model::Projection p : model::kAllProjections) {
      const Linear linear = model_->linear(l, p);
      add_pointer(linear.weight);
      for (const LoraFactors& f : linear.adapters) {
        for (const ConstTensorView& view : {f.a, f.b, f.a_shadow, f.b_shadow}) {
          add_pointer(view.data);
        }
        add(f.a ? static_cast<std::uint64_t>(f.a.shape[0]) : 0);
        add(std::bit_cast<std::uint32_t>(f.scale));
      }
    }
  }
  return hash;
}

void Generator::finish(GroupId group, std::int32_t sample) {
  bool live = scheduler_.finish(group, sample);
  for (auto& events : undelivered_) {
    live |= std::erase_if(events, [&](const TokenEvent& event) {
              return event.group == group && event.sample == sample;
            }) > 0;
  }
  std::erase_if(undelivered_, [](const auto& events) { return events.empty(); });
  if (live) collected_.at(group)[sample].finish = FinishReason::stop;
}

void Generator::cancel(GroupId group) {
  scheduler_.cancel(group);
  for (auto& events : undelivered_)
    std::erase_if(events, [&](const TokenEvent& event) { return event.group == group; });
  std::erase_if(undelivered_, [](const auto& events) { return events.empty(); });
  collected_.erase(group);
}

std::map<GroupId, std::vector<Completion>> Generator::run(const OnStep& on_step) {
  while (has_work()) {
    const auto events = step();
    if (on_step && !on_step(events)) {
      cancel_all();
      collected_.clear();
      return {};
    }
  }
  return std::exchange(collected_, {});
}

}  // namespace qgrpo::engine
