#include "model/io/notes.h"
#include "model/io/standard_streams.h"

#include <fmt/format.h>

#include <mutex>
#include <set>

namespace qgrpo::io {
namespace {

struct Notes {
  std::mutex mutex;
  std::set<std::string> said;
  std::function<void(const std::string&)> sink;
};

Notes& notes() {
  static Notes instance;
  return instance;
}

}  // namespace

void note(const std::string& text) {
  Notes& n = notes();
  const std::lock_guard lock(n.mutex);
  if (n.sink) {
    n.sink(text);
  } else if (n.said.insert(text).second) {
    print_error("qgrpo: note: {}\n", text);
  }
}

void set_note_sink(std::function<void(const std::string&)> sink) {
  Notes& n = notes();
  const std::lock_guard lock(n.mutex);
  n.sink = std::move(sink);
}

}  // namespace qgrpo::io
