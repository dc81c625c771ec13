#include "serve/engine_loop.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "model/ops/error.h"
#include "serve/api_error.h"

namespace qgrpo::serve {
namespace {

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

EngineLoop::EngineLoop(const model::Model& model, const tokenizer::Tokenizer& tokenizer,
                       const engine::GeneratorCapacity& capacity, std::size_t most_waiting)
    : tokenizer_(&tokenizer),
      generator_(model, capacity),
      scorer_(model),
      most_waiting_(most_waiting) {
  update_metrics();
  thread_ = std::thread([this] { run(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void EngineLoop::submit(std::vector<Job> jobs) {
  {
    const std::lock_guard lock(mutex_);
    const std::size_t now = submitted_.size() + waiting_;
    if (now > 0 && now + jobs.size() > most_waiting_)
      throw ApiError(429,
                     fmt::format("{} requests are waiting, expected at most {} (--max-waiting): "
                                 "try again later",
                                 now, most_waiting_));
    for (Job& job : jobs) submitted_.push_back({std::move(job), Clock::now()});
  }
  changed_.notify_all();
}

void EngineLoop::between_steps(std::function<void()> work) {
  std::packaged_task<void()> task(std::move(work));
  std::future<void> done = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    require(!ending_, "the server is shutting down");
    work_.push_back(std::move(task));
  }
  changed_.notify_all();
  done.get();
}

engine::ScoredText EngineLoop::score(const std::vector<std::int32_t>& ids, std::int32_t adapter,
                                     std::int32_t top) {
  engine::ScoredText scored;
  between_steps([&] {
    metrics_.add_prompt(static_cast<std::int64_t>(ids.size()));
    scored = std::move(scorer_.score({&ids, 1}, adapter, top).front());
  });
  return scored;
}

// Until there is something to do. False: the loop is to end.
bool EngineLoop::wait() {
  std::unique_lock lock(mutex_);
  const auto ready = [&] {
    return ending_ || !submitted_.empty() || !work_.empty() || generator_->has_work();
  };
  changed_.wait(lock, ready);
  return !ending_;
}

void EngineLoop::run() {
  while (wait()) {
    start_jobs();
    drop_cancelled();
    std::packaged_task<void()> task;
    {
      const std::lock_guard lock(mutex_);
      if (!work_.empty()) {
        task = std::move(work_.front());
        work_.pop_front();
      }
    }
    if (task.valid()) task();
    step();
    update_metrics();
  }
  start_jobs();
  fail_all("the server is shutting down");
  std::deque<std::packaged_task<void()>> left;
  {
    const std::lock_guard lock(mutex_);
    left = std::exchange(work_, {});
  }
  for (auto& task : left) task();
}

void EngineLoop::start_jobs() {
  std::deque<Waiting> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs = std::exchange(submitted_, {});
    waiting_ += jobs.size();
  }
  for (Waiting& waiting : jobs) {
    Job& job = waiting.job;
    engine::GroupId group = 0;
    try {
      group = generator_->add(job.request);
    } catch (const Error& error) {
      Piece piece;
      piece.prompt = job.prompt;
      piece.failure = error.what();
      piece.status = 400;
      job.mailbox->push(std::move(piece));
      if (job.ended) job.ended();
      continue;
    }
    Running& running = running_[group];
    running.job = std::move(job);
    running.began = waiting.began;
    running.unfinished = static_cast<std::size_t>(running.job.request.samples);
    for (std::size_t i = 0; i < running.unfinished; ++i) {
      running.samples.push_back(
          {engine::CompletionText(*tokenizer_, running.job.stops, running.job.skip_special_tokens),
           0, waiting.began});
    }
    metrics_.add_prompt(static_cast<std::int64_t>(running.job.request.prompt.size()));
  }
}

// Whose clients have gone: their cache blocks are free for the next step.
void EngineLoop::drop_cancelled() {
  for (auto it = running_.begin(); it != running_.end();) {
    const auto here = it++;
    Running& running = here->second;
    if (!running.job.mailbox->cancelled()) continue;
    generator_->cancel(here->first);
    const auto now = Clock::now();
    for (const Sample& sample : running.samples) {
      if (sample.finished) continue;
      metrics_.add_finished({static_cast<std::int64_t>(running.job.request.prompt.size()),
                             sample.tokens, seconds(now - running.began), "abort"});
    }
    end(here->first, running);
  }
}

void EngineLoop::step() {
  if (!generator_->has_work()) return;
  try {
    for (const engine::TokenEvent& event : generator_->step()) take(event);
  } catch (const std::exception& error) {
    fail_all(error.what());
  }
}

void EngineLoop::take(const engine::TokenEvent& event) {
  const auto found = running_.find(event.group);
  if (found == running_.end()) return;
  Running& running = found->second;
  Sample& sample = running.samples[static_cast<std::size_t>(event.sample)];
  Piece piece;
  piece.prompt = running.job.prompt;
  piece.sample = event.sample;
  piece.token = {event.sampled.token, event.sampled.logprob, event.top};
  piece.text = sample.text.push(event);
  piece.finish = event.finish;
  piece.stop_id = sample.text.stop_id();
  if (sample.text.stopped()) {
    piece.stop_string = sample.text.stop_string();
    if (event.finish == engine::FinishReason::none) generator_->finish(event.group, event.sample);
    piece.finish = engine::FinishReason::stop;
  }
  const auto now = Clock::now();
  sample.tokens == 0 ? metrics_.add_first_token(seconds(now - running.began))
                     : metrics_.add_token(seconds(now - sample.last));
  ++sample.tokens;
  sample.last = now;
  const bool last = piece.finish != engine::FinishReason::none;
  if (last) {
    sample.finished = true;
    metrics_.add_finished({static_cast<std::int64_t>(running.job.request.prompt.size()),
                           sample.tokens, seconds(now - running.began),
                           std::string(engine::name(piece.finish))});
    --running.unfinished;
  }
  const std::shared_ptr<Mailbox> mailbox = running.job.mailbox;
  if (running.unfinished == 0) {
    generator_->take(event.group);
    end(event.group, running);
  }
  if (last) update_metrics();  // before the client can ask
  mailbox->push(std::move(piece));
}

void EngineLoop::end(engine::GroupId group, Running& running) {
  const std::function<void()> ended = std::move(running.job.ended);
  running_.erase(group);
  if (ended) ended();
}

void EngineLoop::fail_all(const std::string& message) {
  generator_->cancel_all();
  while (!running_.empty()) {
    const auto first = running_.begin();
    Running& running = first->second;
    generator_->take(first->first);
    Piece piece;
    piece.prompt = running.job.prompt;
    piece.failure = message;
    running.job.mailbox->push(std::move(piece));
    for (const Sample& sample : running.samples) {
      if (sample.finished) continue;
      metrics_.add_finished({static_cast<std::int64_t>(running.job.request.prompt.size()),
                             sample.tokens, seconds(Clock::now() - running.began), "error"});
    }
    end(first->first, running);
  }
}

void EngineLoop::update_metrics() {
  const engine::Scheduler& scheduler = generator_->scheduler();
  Metrics::Now now;
  now.running = scheduler.running_groups();
  now.used_blocks = scheduler.blocks().used_blocks();
  now.blocks = scheduler.blocks().num_blocks();
  now.prefix_tokens = scheduler.prefix_tokens();
  now.prefix_hits = scheduler.prefix_hits();
  {
    const std::lock_guard lock(mutex_);
    waiting_ = static_cast<std::size_t>(scheduler.waiting_groups());
    now.waiting = static_cast<std::int64_t>(waiting_ + submitted_.size());
  }
  metrics_.set_now(now);
}

}  // namespace qgrpo::serve
