#include "train/eval/evaluate.h"

#include <algorithm>

#include "model/arena.h"
#include "model/ops/error.h"
#include "train/reward/answer.h"
#include "train/reward/math_answer.h"
#include "train/reward/numeric.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

// What answers are compared with each other by.
struct Extracted {
  std::string text;
  MathAnswer value;  // not for exact
};

Extracted extract(std::string_view text, AnswerMatch match) {
  if (match == AnswerMatch::exact) return {std::string(extract_xml_answer(text)), {}};
  Extracted out;
  out.value = match == AnswerMatch::numeric ? numeric_answer(text) : math_answer(text);
  if (out.value.node || match == AnswerMatch::math) out.text = out.value.text;
  return out;
}

bool agree(const Extracted& a, const Extracted& b, AnswerMatch match) {
  if (match == AnswerMatch::exact) return a.text == b.text;
  if (match == AnswerMatch::numeric) return same_numeric_answer(a.value, b.value);
  return same_math_answer(a.value, b.value);
}

// The reward's own answer to it.
bool is_right(std::string_view completion, std::string_view answer, AnswerMatch match) {
  const RewardFunction reward = match == AnswerMatch::exact     ? correctness_reward
                                : match == AnswerMatch::numeric ? numeric_reward
                                                                : math_reward;
  return reward(completion, answer) > 0.0;
}

// The first of the answers that most agree with.
std::optional<std::size_t> majority_of(std::span<const Extracted> answers, AnswerMatch match) {
  std::vector<std::pair<std::size_t, std::size_t>> votes;  // first to give it, how many
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (answers[i].text.empty()) continue;
    const auto same = std::find_if(votes.begin(), votes.end(), [&](const auto& vote) {
      return agree(answers[vote.first], answers[i], match);
    });
    if (same == votes.end()) {
      votes.emplace_back(i, 1);
    } else {
      ++same->second;
    }
  }
  const auto most = std::max_element(
      votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == votes.end()) return std::nullopt;
  return most->first;
}

}  // namespace

Evaluation judge(std::span<const Group> groups, AnswerMatch match) {
  Evaluation out;
  double completions = 0.0;
  for (const Group& group : groups) {
    JudgedQuestion question;
    std::vector<Extracted> extracted;
    for (const GroupCompletion& c : group.completions) {
      JudgedAnswer answer;
      extracted.push_back(extract(c.text, match));
      answer.text = c.text;
      answer.extracted = extracted.back().text;
      answer.correct = is_right(c.text, group.answer, match);
      answer.terminated = c.terminated;
      answer.tokens = static_cast<std::int64_t>(c.ids.size());
      answer.reward = c.reward;
      out.accuracy += answer.correct ? 1.0 : 0.0;
      out.mean_reward += answer.reward;
      out.mean_length += static_cast<double>(answer.tokens);
      out.clipped_ratio += answer.terminated ? 0.0 : 1.0;
      question.any_correct = question.any_correct || answer.correct;
      question.answers.push_back(std::move(answer));
      completions += 1.0;
    }
    question.majority = majority_of(extracted, match);
    question.majority_correct =
        question.majority.has_value() && question.answers[*question.majority].correct;
    out.majority_accuracy += question.majority_correct ? 1.0 : 0.0;
    out.any_accuracy += question.any_correct ? 1.0 : 0.0;
    if (!question.answers.empty()) out.completions.push_back(question.answers.front().text);
    out.questions.push_back(std::move(question));
  }
  for (double* mean : {&out.accuracy, &out.mean_reward, &out.mean_length, &out.clipped_ratio})
    *mean /= std::max(completions, 1.0);
  const double questions = std::max(static_cast<double>(groups.size()), 1.0);
  out.majority_accuracy /= questions;
  out.any_accuracy /= questions;
  return out;
}

std::vector<Group> question_groups(const tokenizer::Tokenizer& tokenizer,
                                   const tokenizer::ChatTemplate& chat_template,
                                   std::span<const Example> examples,
                                   const EvaluationSettings& settings, std::int64_t& truncated) {
  std::vector<Group> groups;
  for (const Example& example : examples) {
    Group group;
    group.question = example.question;
    group.answer = example.answer;
    group.prompt_ids = prompt_ids(example, settings.prompt, tokenizer, chat_template);
    if (truncate_prompt(group.prompt_ids, static_cast<std::size_t>(settings.max_prompt_length)) > 0)
      ++truncated;
    groups.push_back(std::move(group));
  }
  return groups;
}

bool answer_questions(engine::Generator& generator, const tokenizer::Tokenizer& tokenizer,
                      std::span<Group> groups, const EvaluationSettings& settings,
                      const EvaluationProgress& progress) {
  std::vector<engine::GroupId> ids;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    engine::GroupRequest request;
    request.prompt = groups[g].prompt_ids;
    request.samples = settings.samples;
    request.max_new_tokens = static_cast<std::int32_t>(settings.max_completion_length);
    request.sampling = settings.sampling;
    request.eos_ids = settings.eos_ids;
    request.adapter = settings.adapter;
    request.seed = settings.seed;
    request.prompt_key = static_cast<std::uint32_t>(g);
    ids.push_back(generator.add(std::move(request)));
  }
  std::int64_t tokens = 0;
  std::size_t finished = 0;  // completions
  while (generator.has_work()) {
    for (const engine::TokenEvent& event : generator.step()) {
      ++tokens;
      if (event.finish != engine::FinishReason::none) ++finished;
    }
    if (progress && !progress(finished / static_cast<std::size_t>(settings.samples), tokens)) {
      generator.cancel_all();
      for (const engine::GroupId id : ids) generator.take(id);
      return false;
    }
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    groups[g].completions.clear();
    for (engine::Completion& completion : generator.take(ids[g])) {
      GroupCompletion out;
      out.terminated = completion.finish == engine::FinishReason::stop;
      tokenizer::StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
      for (const std::int32_t id : completion.ids) {
        // A model's embedding may have more rows than its tokenizer has tokens.
        if (tokenizer.id_to_token(id)) out.text += decoder.push(id);
      }
      out.text += decoder.flush();
      out.ids = std::move(completion.ids);
      groups[g].completions.push_back(std::move(out));
    }
  }
  return true;
}

Evaluation evaluate(const model::Model& model, const tokenizer::Tokenizer& tokenizer,
                    const tokenizer::ChatTemplate& chat_template, std::span<const Example> examples,
                    std::span<const Reward> rewards, const EvaluationSettings& settings) {
  std::int64_t truncated = 0;
  std::vector<Group> groups =
      question_groups(tokenizer, chat_template, examples, settings, truncated);
  std::int64_t longest = 1;
  for (const Group& group : groups)
    longest = std::max(longest, static_cast<std::int64_t>(group.prompt_ids.size()));
  const std::int64_t at_once =
      std::clamp<std::int64_t>(settings.max_sequences / settings.samples, 1,
                               std::max<std::int64_t>(1, static_cast<std::int64_t>(groups.size())));
  engine::GeneratorLoad load;
  load.sequences = at_once * settings.samples;
  load.samples = settings.samples;
  load.group_blocks = engine::most_blocks_of_group(longest, settings.max_completion_length,
                                                   settings.samples, engine::kBlockSize);
  const engine::GeneratorCapacity capacity = engine::generator_capacity(model.backend(), load);
  model::Arena count;
  engine::GeneratorBuffers::place(count, model.config(), model.backend().activation_dtype(),
                                  capacity);
  const auto memory = model.backend().allocate(count.used());
  model::Arena arena(memory->data(), memory->bytes());
  engine::Generator generator(model, arena, capacity);
  answer_questions(generator, tokenizer, groups, settings);
  for (Group& group : groups) {
    for (GroupCompletion& completion : group.completions) {
      if (!rewards.empty()) completion.reward = score(rewards, completion.text, group.answer).total;
    }
  }
  Evaluation out = judge(groups, settings.match);
  out.prompts_truncated = truncated;
  return out;
}

}  // namespace qgrpo::train
