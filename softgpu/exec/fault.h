#pragma once

#include <string>

namespace softgpu {

// Values are those of cudaError_t, so that a runtime can return them as they are.
enum class FaultCode : int {
  invalid_value = 1,
  invalid_configuration = 9,      // block or grid beyond the device's limits
  invalid_device_function = 98,   // an instruction that is not implemented
  illegal_address = 700,          // outside every allocation, freed, or beyond shared memory
  launch_out_of_resources = 701,  // registers or shared memory beyond the device's limits
  launch_timeout = 702,           // the instruction budget is spent
  assertion = 710,                // __assertfail or trap after it
  illegal_instruction = 715,
  misaligned_address = 716,
  launch_failure = 719,  // checks that hardware is silent about: races, uninitialised values
};

// Why a launch stopped. `message` is complete and readable: kernel, source file:line, block,
// thread, address and what was wrong, in several lines, without a trailing newline.
struct Fault {
  FaultCode code;
  // A stable word for tests: "out-of-bounds", "misaligned", "use-after-free", "uninitialised",
  // "shared-race", "divergent-barrier", "warp-sync", "async-copy", "resources", "budget",
  // "unsupported", "trap", "assertion", "read-only".
  std::string kind;
  std::string message;
};

}  // namespace softgpu
