#include "engine/generator.h"

namespace qgrpo {
namespace {

SchedulerOptions scheduler_options(const model::Model& model, const GeneratorCapacity& capacity) {
  SchedulerOptions options;
  options.num_blocks = capacity.num_blocks;
  options.block_size = capacity.block_size;
  options.max_sequences = capacity.max_sequences;
  options.max_tokens = capacity.max_tokens;
  options.max_context = static_cast<std::int32_t>(model.config().max_position_embeddings);
  return options;
}

}  // namespace

GeneratorBuffers GeneratorBuffers::place(model::Arena& arena, const model::Config& c, DType dtype,
                                         const GeneratorCapacity& capacity) {
  GeneratorBuffers b;
  const Shape blocks{capacity.num_blocks, capacity.block_size, c.kv_size()};
  for (std::int64_t l = 0; l < c.num_layers; ++l)
    b.cache.push_back({arena.take(dtype, blocks), arena.take(dtype, blocks)});
  b.x = arena.take(dtype, {capacity.max_tokens, c.hidden_size});
  b.scratch = model::BlockActivations::place(arena, c, dtype, capacity.max_tokens);
  b.head_x = arena.take(dtype, {capacity.max_sequences, c.hidden_size});
  b.head_norm = arena.take(dtype, {capacity.max_sequences, c.hidden_size});
  b.head_rstd = arena.take(DType::f32, {capacity.max_sequences});
  return b;
}

Generator::Generator(const model::Model& model, model::Arena& arena,
                     const GeneratorCapacity& capacity)
    : model_(&model),
      scheduler_(scheduler_options(model, capacity)),
      block_size_(capacity.block_size),
      buffers_(GeneratorBuffers::place(arena, model.config(), model.backend().activation_dtype(),
                                       capacity)) {}

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
  const Step step = scheduler_.schedule();
  if (step.empty()) return {};
  const model::Config& c = model_->config();
  LayerOps& layer_ops = model_->backend().layer();
  RolloutOps& ops = model_->backend().rollout();
  const auto tokens = static_cast<std::int64_t>(step.tokens.size());

  if (!step.copies.empty()) {
    for (const KvCacheLayer& cache : buffers_.cache) ops.copy_blocks(cache, step.copies);
  }
  const TensorView x = buffers_.x.rows(0, tokens);
  const model::BlockActivations scratch = buffers_.scratch.rows(tokens);
  layer_ops.embedding_forward(x, model_->embedding(), step.tokens);
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    const KvCacheLayer& cache = buffers_.cache[static_cast<std::size_t>(l)];
    const auto attention = [&](TensorView o, TensorView, TensorView q, TensorView k, TensorView v) {
      ops.rope_kv_write(cache, q, k, v, static_cast<std::int32_t>(c.head_dim), c.rope_theta,
                        step.positions, step.slots);
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
  auto events = scheduler_.commit(step, sampled);
  for (const TokenEvent& event : events) {
    Completion& completion = collected_.at(event.group)[static_cast<std::size_t>(event.sample)];
    completion.ids.push_back(event.sampled.token);
    completion.logprobs.push_back(event.sampled.logprob);
    completion.policy_logprobs.push_back(event.sampled.policy_logprob);
    completion.sampled_logprobs.push_back(event.sampled.sampled_logprob);
    completion.finish = event.finish;
  }
  return events;
}

void Generator::finish(GroupId group, std::int32_t sample) {
  if (!scheduler_.finish(group, sample)) return;
  collected_.at(group)[static_cast<std::size_t>(sample)].finish = FinishReason::stop;
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

}  // namespace qgrpo
