#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "softgpu/runtime/errors.h"

namespace softgpu::runtime {

struct Capture;
struct Node;
struct Stream;

using Body = std::function<void()>;  // the work of one operation; throws FaultError

// "After the first `ticket` operations of `stream`."
struct Dependency {
  std::shared_ptr<Stream> stream;
  std::uint64_t ticket = 0;
};

struct Task {
  std::uint64_t order = 0;  // of submission, over all streams
  std::string label;
  Body body;
  std::vector<Dependency> after;
};

// A queue of operations. `blocking` streams and the legacy default stream wait for each other.
struct Stream {
  std::uint64_t id = 0;
  bool legacy = false;
  bool blocking = true;
  unsigned flags = 0;
  int priority = 0;
  std::deque<Task> queue;
  std::uint64_t submitted = 0;       // operations ever accepted
  std::uint64_t completed = 0;       // of them, executed
  std::shared_ptr<Capture> capture;  // set while operations are recorded instead
  std::vector<Node*> frontier;       // capture: what the next recorded operation comes after
};

// One cudaEventRecord: which operations it stands for, and when they were done.
struct Recording {
  Dependency after;
  bool done = false;
  double milliseconds = 0;
};

struct Event {
  unsigned flags = 0;
  std::shared_ptr<Recording> last;   // null before the first record
  std::shared_ptr<Capture> capture;  // the last record was captured: what it stands for
  std::vector<Node*> frontier;
};

// Executes accepted operations in an order that CUDA's rules allow.
//
// Without a seed every operation runs when it is accepted. With one it stays in its stream's queue
// until something waits for it; then, and now and then in between, the next operation of a randomly
// chosen stream runs among those whose dependencies are done. So work whose order nothing demands
// really happens in another order, the same one for the same seed.
class Scheduler {
 public:
  Scheduler(bool delayed, std::uint64_t seed);

  // `on_fault` learns of the first fault; all accepted work is dropped then.
  std::function<void(const FaultError&)> on_fault;

  bool delayed() const { return delayed_; }
  std::shared_ptr<Stream> legacy() const { return legacy_; }
  std::shared_ptr<Stream> make_stream(unsigned flags, int priority);
  // The stream's operations still run; its handle is gone.
  void forget(const std::shared_ptr<Stream>& stream);
  const std::vector<std::shared_ptr<Stream>>& streams() const { return streams_; }

  // Accepts an operation; `after` comes on top of the order of the stream itself and of the default
  // stream. Returns the operation's ticket.
  std::uint64_t submit(const std::shared_ptr<Stream>& stream, std::string label, Body body,
                       std::vector<Dependency> after = {});
  void wait(const Dependency& dependency);
  void wait_all();
  bool is_done(const Dependency& dependency) const {
    return dependency.stream->completed >= dependency.ticket;
  }
  // The device makes some progress while the host asks and does not wait.
  void poll() { run_one(); }
  bool idle() const { return waiting_ == 0; }
  void drop_all();
  // A number below `bound`, from the seed.
  std::size_t draw(std::size_t bound) { return static_cast<std::size_t>(random_() % bound); }

 private:
  bool runnable(const Stream& stream) const;
  bool run_one();

  bool delayed_;
  std::mt19937_64 random_;
  std::shared_ptr<Stream> legacy_;
  std::vector<std::shared_ptr<Stream>> streams_;    // with a handle, and the legacy stream
  std::vector<std::shared_ptr<Stream>> abandoned_;  // destroyed with operations waiting
  std::uint64_t next_id_ = 1;
  std::uint64_t order_ = 0;
  std::uint64_t waiting_ = 0;  // operations in all queues
};

}  // namespace softgpu::runtime
