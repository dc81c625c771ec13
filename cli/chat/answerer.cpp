#include "cli/chat/answerer.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "engine/capacity.h"

namespace qgrpo::cli {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::string speed_text(const ChatAnswer& a) {
  const double drawing = a.seconds - a.first_seconds;
  const std::string rate =
      a.tokens > 1 && drawing > 0.0
          ? fmt::format(", {:.1f} tokens/s", static_cast<double>(a.tokens - 1) / drawing)
          : std::string();
  return fmt::format("{} token{}{}; prompt of {} ({} of them known), first token after {:.2f} s",
                     a.tokens, a.tokens == 1 ? "" : "s", rate, a.prompt_tokens, a.reused_tokens,
                     a.first_seconds);
}

// The cache of the conversation so far is kept where it is large enough, and else begun anew with twice the
// room, as far as the memory goes.
void Answerer::make_room(const engine::GroupRequest& request) {
  const std::int64_t needed = engine::blocks_of_group(
      std::ssize(request.prompt), request.max_new_tokens, 1, engine::kBlockSize);
  if (generator_ && generator_->capacity().num_blocks >= needed) return;
  generator_.reset();
  engine::GeneratorLoad load;
  load.group_blocks =
      std::max(needed, std::min(2 * needed, engine::affordable_blocks(*loaded_->model)));
  // Someone who reads along sees each token at once.
  if (isatty(STDOUT_FILENO) == 1) load.window = 1;
  generator_.emplace(*loaded_->model, engine::generator_capacity(*loaded_->backend, load));
}

ChatAnswer Answerer::answer(engine::GroupRequest request, const std::atomic<bool>& stop,
                            const std::function<void(const std::string&)>& show) {
  make_room(request);
  engine::Generator& generator = **generator_;
  // The base model and an adapter have different keys and values.
  request.prefix_key = static_cast<std::uint64_t>(request.adapter + 2);
  ChatAnswer out;
  out.prompt_tokens = std::ssize(request.prompt);
  const std::int64_t known = generator.scheduler().prefix_hits();
  const auto start = std::chrono::steady_clock::now();
  const engine::GroupId group = generator.add(std::move(request));
  tokenizer::StreamDecoder decoder(tokenizer_->get(), /*skip_special_tokens=*/true);
  const auto add = [&](const std::string& piece) {
    out.text += piece;
    show(piece);
  };
  while (generator.has_work() && !stop) {
    for (const engine::TokenEvent& event : generator.step()) {
      if (out.tokens++ == 0) out.first_seconds = seconds_since(start);
      out.cut = event.finish == engine::FinishReason::length;
      const std::int32_t id = event.sampled.token;
      if (event.finish != engine::FinishReason::stop && tokenizer_->has_token(id))
        add(decoder.push(id));
    }
  }
  out.stopped = stop;
  out.seconds = seconds_since(start);
  out.reused_tokens = generator.scheduler().prefix_hits() - known;
  if (generator.has_work()) generator.cancel(group);
  generator.take(group);
  add(decoder.flush());
  return out;
}

}  // namespace qgrpo::cli
