#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <future>
#include <system_error>

namespace qgrpo::exporting {

// Produces in `threads` threads, some items ahead, and consumes in order in this one: consume(i,
// produce(i)). The first exception of either is thrown here.
template <typename T>
void produce_in_order(int threads, std::size_t count, const std::function<T(std::size_t)>& produce,
                      const std::function<void(std::size_t, T)>& consume) {
  std::deque<std::future<T>> ahead;  // their destructors wait: nothing outlives this call
  std::size_t started = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (; started < std::min(count, i + static_cast<std::size_t>(std::max(1, threads)));
         ++started) {
      try {
        ahead.push_back(std::async(std::launch::async, produce, started));
      } catch (const std::system_error&) {  // no more threads: it is produced when its turn comes
        ahead.push_back(std::async(std::launch::deferred, produce, started));
      }
    }
    T item = ahead.front().get();
    ahead.pop_front();
    consume(i, std::move(item));
  }
}

}  // namespace qgrpo::exporting
