#include "train/evaluate.h"

#include <algorithm>

#include "engine/generator.h"
#include "train/rollout.h"

namespace qgrpo::train {

Evaluation evaluate(const model::Model& model, const Tokenizer& tokenizer,
                    const ChatTemplate& chat_template, std::span<const Example> examples,
                    std::span<const Reward> rewards, const EvaluationSettings& settings) {
  std::vector<Group> groups;
  std::int64_t longest = 1;
  for (const Example& example : examples) {
    Group group;
    group.question = example.question;
    group.answer = example.answer;
    group.prompt_ids = tokenizer.encode(
        chat_template.render(build_prompt(example.question, settings.prompt), true));
    longest = std::max(longest, static_cast<std::int64_t>(group.prompt_ids.size()));
    groups.push_back(std::move(group));
  }
  GeneratorCapacity capacity;
  capacity.max_sequences = static_cast<std::int32_t>(std::clamp<std::size_t>(groups.size(), 1, 64));
  capacity.num_blocks = static_cast<std::int32_t>(
      capacity.max_sequences *
      blocks_of_group(longest, settings.max_completion_length, 1, capacity.block_size));
  model::Arena count;
  GeneratorBuffers::place(count, model.config(), model.backend().activation_dtype(), capacity);
  const auto memory = model.backend().allocate(count.used());
  model::Arena arena(memory->data(), memory->bytes());
  Generator generator(model, arena, capacity);

  RolloutSettings rollout;
  rollout.num_generations = 1;
  rollout.max_completion_length = settings.max_completion_length;
  rollout.sampling.temperature = settings.temperature;
  rollout.eos_ids = model.config().eos_token_ids;
  rollout.adapter = settings.adapter;
  rollout.seed = settings.seed;
  sample_groups(generator, tokenizer, groups, 0, rollout);
  score_groups(groups, rewards);

  Evaluation out;
  for (const Group& group : groups) {
    const GroupCompletion& completion = group.completions.front();
    out.accuracy += extract_xml_answer(completion.text) == group.answer ? 1.0 : 0.0;
    out.mean_reward += completion.reward;
    out.completions.push_back(completion.text);
  }
  out.accuracy /= static_cast<double>(groups.size());
  out.mean_reward /= static_cast<double>(groups.size());
  return out;
}

}  // namespace qgrpo::train
