#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "softgpu/exec/device_memory.h"
#include "softgpu/runtime/device_model.h"
#include "softgpu/runtime/graph.h"
#include "softgpu/runtime/module.h"
#include "softgpu/runtime/profile.h"
#include "softgpu/runtime/settings.h"
#include "softgpu/runtime/stream.h"

namespace softgpu::runtime {

// Everything behind the entry points, for the one device that there is. One mutex guards it;
// kernels run with it held, so calls from other host threads wait as if the device were busy.
class Runtime {
 public:
  // Made at the first call and never destroyed: programs call from destructors of their statics.
  // Throws softgpu::Error for a bad setting in the environment.
  static Runtime& get();

  std::mutex mutex;
  DeviceModel model;
  DeviceMemory memory;
  ModuleRegistry modules;
  Scheduler scheduler;
  Options options;
  bool print_counters = false;
  ProfileSink profile;

  // The fault that poisoned the context: every call answers with it until cudaDeviceReset.
  std::optional<cudaError_t> fault;

  std::unordered_map<const void*, std::shared_ptr<Stream>> stream_handles;
  std::unordered_map<const void*, std::shared_ptr<Event>> event_handles;
  std::unordered_map<const void*, std::shared_ptr<Graph>> graph_handles;
  std::unordered_map<const void*, std::shared_ptr<GraphExec>> exec_handles;
  std::unordered_map<const void*, std::size_t> host_allocations;  // cudaMallocHost etc.: bytes
  std::unordered_map<const void*, std::size_t> managed;           // cudaMallocManaged
  std::vector<std::shared_ptr<Capture>> captures;
  std::uint64_t next_capture = 1;

  // The objects behind handles; invalid resource handle (400) for anything else. The null stream
  // and cudaStreamLegacy are the legacy stream, cudaStreamPerThread a stream of the calling thread.
  std::shared_ptr<Stream> stream(cudaStream_t handle);
  std::shared_ptr<Event> event(cudaEvent_t handle);
  std::shared_ptr<Graph> graph(cudaGraph_t handle);
  std::shared_ptr<GraphExec> exec(cudaGraphExec_t handle);

  // A handle that no other object has or will have.
  void* new_handle() { return reinterpret_cast<void*>(kHandleBase + 16 * ++handles_); }

  // Gives the operation to the stream, or to the graph that the stream records. `kernel` is set for
  // kernel launches. Returns the operation's place in the stream; empty when it was recorded.
  std::optional<Dependency> submit(const std::shared_ptr<Stream>& stream, cudaGraphNodeType type,
                                   std::string label, Body body,
                                   std::shared_ptr<KernelLaunch> kernel = nullptr);

  // Refuse calls that a capture forbids, and spoil the capture: forbid_during_capture for calls
  // that might synchronise (cudaMalloc), by the rules of the capture's mode; forbid_capturing for a
  // wait for a stream that is being captured.
  void forbid_during_capture(const char* what);
  void forbid_capturing(const Stream& stream, const char* what);

  // Waits, then answers with the fault if there is one.
  void synchronise(const Dependency& dependency);
  void synchronise_all();
  void throw_fault() const;

  // Whether all bytes are pinned, registered or managed memory: copies from and to it are really
  // asynchronous, those of ordinary memory go through a staging buffer.
  bool is_pinned(const void* pointer, std::size_t bytes) const;

  void reset();

 private:
  static constexpr std::uintptr_t kHandleBase = 0x50f7'0000'0000;
  std::uintptr_t handles_ = 0;
  Runtime();
};

// The calling thread's last error (what cudaGetLastError returns), stream of cudaStreamPerThread
// and capture mode.
struct ThreadState {
  cudaError_t last_error = cudaSuccess;
  std::shared_ptr<Stream> stream;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
  bool in_callback = false;
};
ThreadState& thread_state();

// Prints one line of explanation, "softgpu: NAME: MESSAGE".
void explain(const char* entry_point, const std::string& message);

cudaError_t finish(const char* entry_point, cudaError_t code, const std::string& message);

enum class Poisoned { kRefuse, kAllow };  // whether a poisoned context answers at once

// The frame of every entry point: lock, poisoned context, exceptions to codes, last error.
// `body` is called with the Runtime and returns nothing.
template <typename F>
cudaError_t entry(const char* name, F&& body, Poisoned poisoned = Poisoned::kRefuse) noexcept {
  try {
    if (thread_state().in_callback)
      return finish(name, cudaErrorNotPermitted, "called in a host function");
    if (const int code = planned_failure(name); code != 0)
      return finish(name, static_cast<cudaError_t>(code), "");
    Runtime& runtime = Runtime::get();
    const std::lock_guard lock(runtime.mutex);
    if (poisoned == Poisoned::kRefuse) runtime.throw_fault();
    body(runtime);
    return cudaSuccess;
  } catch (const ApiError& error) {
    return finish(name, error.code(), error.what());
  } catch (const MemoryError& error) {
    return finish(name, cudaErrorInvalidValue, error.what());
  } catch (const FaultError& error) {
    return finish(name, error.code(), error.what());
  } catch (const std::exception& error) {
    return finish(name, cudaErrorUnknown, error.what());
  }
}

// A known entry point that is not emulated: says so and fails.
cudaError_t unsupported(const char* name) noexcept;

}  // namespace softgpu::runtime
