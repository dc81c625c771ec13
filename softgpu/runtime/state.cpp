#include "softgpu/runtime/state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "softgpu/ptx/error.h"
#include "softgpu/runtime/settings.h"

namespace softgpu::runtime {
namespace {

template <typename T, typename Handle>
std::shared_ptr<T> lookup(const std::unordered_map<const void*, std::shared_ptr<T>>& handles,
                          Handle handle, const char* what) {
  const auto found = handles.find(handle);
  if (found == handles.end()) {
    refuse(cudaErrorInvalidResourceHandle, "{} is no {}, or it was destroyed",
           static_cast<const void*>(handle), what);
  }
  return found->second;
}

void spoil(const std::shared_ptr<Capture>& capture) {
  capture->invalidated = true;
}

}  // namespace

ThreadState& thread_state() {
  static thread_local ThreadState state;
  return state;
}

void explain(const char* entry_point, const std::string& message) {
  std::fprintf(stderr, "softgpu: %s: %s\n", entry_point, message.c_str());
}

cudaError_t finish(const char* entry_point, cudaError_t code, const std::string& message) {
  if (!message.empty()) explain(entry_point, message);
  thread_state().last_error = code;
  return code;
}

cudaError_t unsupported(const char* name) noexcept {
  explain(name, "this entry point is not emulated");
  thread_state().last_error = cudaErrorNotSupported;
  return cudaErrorNotSupported;
}

Runtime::Runtime()
    : model(device_from_environment()),
      memory(model.memory),
      modules(memory),
      scheduler(has_setting("SOFTGPU_SCHEDULE"), number_setting("SOFTGPU_SCHEDULE", 0)) {
  options.warp_instructions = number_setting("SOFTGPU_BUDGET", 2'000'000'000);
  options.threads = static_cast<int>(number_setting("SOFTGPU_THREADS", 0));
  options.check_uninitialised = number_setting("SOFTGPU_CHECK_INIT", 1) != 0;
  options.check_races = number_setting("SOFTGPU_CHECK_RACES", 1) != 0;
  print_counters = number_setting("SOFTGPU_COUNTERS", 0) != 0;
  if (profile.start_from_environment()) std::atexit([] { Runtime::get().profile.report(); });
  scheduler.on_fault = [this](const FaultError& error) {
    if (fault) return;
    fault = error.code();
    std::fprintf(stderr, "softgpu: %s\nsoftgpu: the context is lost; every call now answers %s\n",
                 error.what(), error_name(error.code()));
  };
}

Runtime& Runtime::get() {
  static Runtime* runtime = [] {
    try {
      return new Runtime();
    } catch (const std::exception& error) {
      // A setting that cannot be honoured must not fall back to another device in silence.
      std::fprintf(stderr, "softgpu: %s\n", error.what());
      std::exit(2);
    }
  }();
  return *runtime;
}

std::shared_ptr<Stream> Runtime::stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) return scheduler.legacy();
  if (handle == cudaStreamPerThread) {
    auto& own = thread_state().stream;
    if (own == nullptr) own = scheduler.make_stream(0, 0);
    return own;
  }
  return lookup(stream_handles, handle, "stream");
}

std::shared_ptr<Event> Runtime::event(cudaEvent_t handle) {
  return lookup(event_handles, handle, "event");
}
std::shared_ptr<Graph> Runtime::graph(cudaGraph_t handle) {
  return lookup(graph_handles, handle, "graph");
}
std::shared_ptr<GraphExec> Runtime::exec(cudaGraphExec_t handle) {
  return lookup(exec_handles, handle, "executable graph");
}

std::optional<Dependency> Runtime::submit(const std::shared_ptr<Stream>& stream,
                                          cudaGraphNodeType type, std::string label, Body body,
                                          std::shared_ptr<KernelLaunch> kernel) {
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    if (capture.invalidated) refuse(cudaErrorStreamCaptureInvalidated);
    Node* node = capture.graph->add(type, std::move(label), std::move(body), stream->frontier);
    node->kernel = std::move(kernel);
    stream->frontier = {node};
    return std::nullopt;
  }
  if (stream->legacy) {
    for (const auto& capture : captures) {
      const bool blocking = std::any_of(capture->members.begin(), capture->members.end(),
                                        [](const auto& member) { return member->blocking; });
      if (!blocking) continue;
      spoil(capture);
      refuse(cudaErrorStreamCaptureImplicit,
             "{} in the default stream would wait for a stream that is being captured", label);
    }
  }
  const std::uint64_t ticket = scheduler.submit(stream, std::move(label), std::move(body));
  return Dependency{stream, ticket};
}

void Runtime::forbid_during_capture(const char* what) {
  const cudaStreamCaptureMode own = thread_state().capture_mode;
  if (own == cudaStreamCaptureModeRelaxed) return;
  for (const auto& capture : captures) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool elsewhere = capture->thread != std::this_thread::get_id();
    const bool global =
        capture->mode == cudaStreamCaptureModeGlobal && own == cudaStreamCaptureModeGlobal;
    if (elsewhere && !global) continue;
    spoil(capture);
    refuse(cudaErrorStreamCaptureUnsupported, "{} while a stream is being captured", what);
  }
}

void Runtime::forbid_capturing(const Stream& stream, const char* what) {
  if (stream.capture == nullptr) return;
  spoil(stream.capture);
  refuse(cudaErrorStreamCaptureUnsupported, "{} of a stream that is being captured", what);
}

void Runtime::synchronise(const Dependency& dependency) {
  scheduler.wait(dependency);
  throw_fault();
}

void Runtime::synchronise_all() {
  scheduler.wait_all();
  throw_fault();
}

void Runtime::throw_fault() const {
  if (fault) refuse(*fault);
}

bool Runtime::is_pinned(const void* pointer, std::size_t bytes) const {
  const auto address = reinterpret_cast<std::uint64_t>(pointer);
  if (DeviceMemory::is_device_address(address)) return false;
  const Allocation* found = memory.find(address);
  return found != nullptr && found->contains(address, bytes);
}

void Runtime::reset() {
  if (!fault) scheduler.wait_all();
  scheduler.drop_all();
  fault.reset();
  captures.clear();
  for (const auto& [handle, stream] : stream_handles) scheduler.forget(stream);
  stream_handles.clear();
  event_handles.clear();
  graph_handles.clear();
  exec_handles.clear();
  scheduler.legacy()->capture.reset();
  modules.unbind_all();
  memory.free_all();
}

}  // namespace softgpu::runtime
