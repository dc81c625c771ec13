#include "model/ops/attention.h"

#include "model/ops/error.h"

namespace qgrpo {

std::int64_t require_segments(const char* op, std::span<const Segment> segments) {
  std::int64_t next = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    require(s.begin == next && s.length >= 0,
            "{}: segment {} begins at token {}, expected {}: segments must cover the batch in "
            "order",
            op, i, s.begin, next);
    next += s.length;
    require(s.parent < 0 || (s.parent < static_cast<std::int32_t>(i) &&
                             segments[static_cast<std::size_t>(s.parent)].parent < 0),
            "{}: segment {} has parent {}, which must come before it and have no parent", op, i,
            s.parent);
  }
  return next;
}

}  // namespace qgrpo
