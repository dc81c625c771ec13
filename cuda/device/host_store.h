#pragma once

#include <memory>

#include "cuda/device/device.h"
#include "model/ops/memory.h"

namespace qgrpo::cuda {

// HostStore (model/ops/memory.h) on a second stream: `slots` regions of `bytes` in one allocation
// of pinned host memory, which is taken here. Copies run in the order of their calls, while the
// operators' stream computes; events order the two where the interface says so:
//   save     the copy waits for the operators called before it
//   saved    the operators called from here on wait for that copy
//   fetch    the copy waits for the operators called before it (they may use `to`) and for the
//            slot's save()
//   fetched  the operators called from here on wait for that copy
// Errors: a slot that does not exist, too many bytes, fetch of what was not saved or with another
// size, saved() or fetched() without its copy.
// `device` outlives the store.
std::unique_ptr<HostStore> make_host_store(Device& device, std::int64_t slots, std::size_t bytes);

}  // namespace qgrpo::cuda
