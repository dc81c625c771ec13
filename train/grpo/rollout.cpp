#include "train/grpo/rollout.h"

#include <algorithm>

namespace qgrpo::train {

bool sample_groups(engine::Generator& generator, const tokenizer::Tokenizer& tokenizer,
                   std::span<Group> groups, std::uint32_t step, const RolloutSettings& settings,
                   const std::function<bool(std::int64_t)>& on_tokens) {
  std::vector<engine::GroupId> ids;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    engine::GroupRequest request;
    request.prompt = groups[g].prompt_ids;
    request.samples = static_cast<std::int32_t>(settings.num_generations);
    request.max_new_tokens = static_cast<std::int32_t>(settings.max_completion_length);
    request.sampling = settings.sampling;
    request.eos_ids = settings.eos_ids;
    request.adapter = settings.adapter;
    request.seed = settings.seed;
    request.step = step;
    request.prompt_key = settings.first_prompt + static_cast<std::uint32_t>(g);
    ids.push_back(generator.add(std::move(request)));
  }
  std::int64_t tokens = 0;
  auto results = generator.run([&](std::span<const engine::TokenEvent> events) {
    tokens += static_cast<std::int64_t>(events.size());
    return !on_tokens || on_tokens(tokens);
  });
  if (results.empty()) return false;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g].completions.clear();
    for (engine::Completion& completion : results.at(ids[g])) {
      GroupCompletion out;
      out.terminated = completion.finish == engine::FinishReason::stop;
      tokenizer::StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
      for (const std::int32_t id : completion.ids) out.text += decoder.push(id);
      out.text += decoder.flush();
      out.sampling_logprobs = settings.logprobs_at_temperature_one
                                  ? std::move(completion.logprobs)
                                  : std::move(completion.policy_logprobs);
      out.ids = std::move(completion.ids);
      groups[g].completions.push_back(std::move(out));
    }
  }
  return true;
}

}  // namespace qgrpo::train
