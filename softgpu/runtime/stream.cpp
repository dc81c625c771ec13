#include "softgpu/runtime/stream.h"

#include <algorithm>

namespace softgpu::runtime {

Scheduler::Scheduler(bool delayed, std::uint64_t seed)
    : delayed_(delayed), random_(seed), legacy_(std::make_shared<Stream>()) {
  legacy_->legacy = true;
  legacy_->id = next_id_++;
  streams_.push_back(legacy_);
}

std::shared_ptr<Stream> Scheduler::make_stream(unsigned flags, int priority) {
  auto stream = std::make_shared<Stream>();
  stream->id = next_id_++;
  stream->flags = flags;
  stream->blocking = (flags & cudaStreamNonBlocking) == 0;
  stream->priority = priority;
  streams_.push_back(stream);
  return stream;
}

void Scheduler::forget(const std::shared_ptr<Stream>& stream) {
  std::erase(streams_, stream);
  if (!stream->queue.empty()) abandoned_.push_back(stream);
}

std::uint64_t Scheduler::submit(const std::shared_ptr<Stream>& stream, std::string label, Body body,
                                std::vector<Dependency> after) {
  Task task{order_++, std::move(label), std::move(body), std::move(after)};
  if (stream->legacy) {
    for (const auto& other : streams_) {
      if (other->blocking && other != stream) task.after.push_back({other, other->submitted});
    }
    for (const auto& other : abandoned_) {
      if (other->blocking) task.after.push_back({other, other->submitted});
    }
  } else if (stream->blocking) {
    task.after.push_back({legacy_, legacy_->submitted});
  }
  std::erase_if(task.after, [this](const Dependency& d) { return is_done(d); });
  stream->queue.push_back(std::move(task));
  ++waiting_;
  const std::uint64_t ticket = ++stream->submitted;
  if (!delayed_) {
    wait({stream, ticket});
  } else if (draw(8) == 0) {
    // The card does not always lag behind: let a few operations through.
    for (std::size_t n = draw(6); n > 0 && run_one(); --n) {
    }
  }
  return ticket;
}

bool Scheduler::runnable(const Stream& stream) const {
  if (stream.queue.empty()) return false;
  const auto& after = stream.queue.front().after;
  return std::all_of(after.begin(), after.end(), [this](const auto& d) { return is_done(d); });
}

bool Scheduler::run_one() {
  std::vector<std::shared_ptr<Stream>> candidates;
  for (const auto& stream : streams_) {
    if (runnable(*stream)) candidates.push_back(stream);
  }
  for (const auto& stream : abandoned_) {
    if (runnable(*stream)) candidates.push_back(stream);
  }
  if (candidates.empty()) return false;
  std::shared_ptr<Stream> chosen = candidates[0];
  if (delayed_) {
    chosen = candidates[draw(candidates.size())];
  } else {
    for (const auto& stream : candidates) {
      if (stream->queue.front().order < chosen->queue.front().order) chosen = stream;
    }
  }
  const Task task = std::move(chosen->queue.front());
  chosen->queue.pop_front();
  --waiting_;
  try {
    task.body();
    ++chosen->completed;
  } catch (const FaultError& fault) {
    drop_all();
    if (on_fault) on_fault(fault);
  }
  std::erase_if(abandoned_, [](const auto& stream) { return stream->queue.empty(); });
  return true;
}

void Scheduler::wait(const Dependency& dependency) {
  // Dependencies point at earlier submissions only, so something can always run.
  while (!is_done(dependency) && run_one()) {
  }
}

void Scheduler::wait_all() {
  while (waiting_ > 0 && run_one()) {
  }
}

void Scheduler::drop_all() {
  const auto drop = [](const std::shared_ptr<Stream>& stream) {
    stream->queue.clear();
    stream->completed = stream->submitted;
  };
  std::for_each(streams_.begin(), streams_.end(), drop);
  std::for_each(abandoned_.begin(), abandoned_.end(), drop);
  abandoned_.clear();
  waiting_ = 0;
}

}  // namespace softgpu::runtime
