// Streams, events and the capture of streams.

#include <algorithm>
#include <chrono>

#include "softgpu/runtime/state.h"

using namespace softgpu::runtime;

namespace {

double now_milliseconds() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

cudaError_t create(const char* name, cudaStream_t* handle, unsigned flags, int priority) {
  return entry(name, [&](Runtime& runtime) {
    if ((flags & ~unsigned{cudaStreamNonBlocking}) != 0) {
      refuse(cudaErrorInvalidValue, "flags 0x{:x}", flags);
    }
    const auto stream = runtime.scheduler.make_stream(flags, std::clamp(priority, -5, 0));
    *handle = static_cast<cudaStream_t>(runtime.new_handle());
    runtime.stream_handles[*handle] = stream;
  });
}

void merge(std::vector<Node*>& into, const std::vector<Node*>& from) {
  for (Node* node : from) {
    if (std::find(into.begin(), into.end(), node) == into.end()) into.push_back(node);
  }
}

bool active(const Runtime& runtime, const std::shared_ptr<Capture>& capture) {
  return std::find(runtime.captures.begin(), runtime.captures.end(), capture) !=
         runtime.captures.end();
}

// The stream waits for an event whose record was captured: it joins that capture.
void wait_captured(Runtime& runtime, const std::shared_ptr<Stream>& stream, const Event& event) {
  if (!active(runtime, event.capture)) {
    refuse(cudaErrorCapturedEvent, "the event was recorded in a capture that has ended");
  }
  if (stream->legacy) {
    event.capture->invalidated = true;
    refuse(cudaErrorStreamCaptureImplicit, "the default stream cannot join a capture");
  }
  if (stream->capture != nullptr && stream->capture != event.capture) {
    stream->capture->invalidated = event.capture->invalidated = true;
    refuse(cudaErrorStreamCaptureMerge, "two captures would become one");
  }
  if (stream->capture == nullptr) {
    stream->capture = event.capture;
    stream->frontier.clear();
    event.capture->members.push_back(stream);
  }
  merge(stream->frontier, event.frontier);
}

// Nodes that the given ones come after, themselves included.
std::vector<const Node*> ancestors(const std::vector<Node*>& nodes) {
  std::vector<const Node*> found(nodes.begin(), nodes.end());
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const Node* node : found[i]->after) {
      if (std::find(found.begin(), found.end(), node) == found.end()) found.push_back(node);
    }
  }
  return found;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return create("cudaStreamCreate", stream, 0, 0);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return create("cudaStreamCreateWithFlags", stream, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return create("cudaStreamCreateWithPriority", stream, flags, priority);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return entry("cudaStreamDestroy", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    if (runtime.stream_handles.erase(handle) == 0) {
      refuse(cudaErrorInvalidResourceHandle, "the default streams cannot be destroyed");
    }
    if (stream->capture != nullptr) stream->capture->invalidated = true;
    runtime.scheduler.forget(stream);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return entry("cudaStreamQuery", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    runtime.forbid_capturing(*stream, "a query");
    runtime.scheduler.poll();
    runtime.throw_fault();
    if (stream->completed < stream->submitted) refuse(cudaErrorNotReady);
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return entry("cudaStreamSynchronize", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    runtime.forbid_capturing(*stream, "a synchronisation");
    if (stream->legacy) {
      // Waiting for the default stream waits for the streams that it waits for.
      runtime.synchronise(*runtime.submit(stream, cudaGraphNodeTypeEmpty, "barrier", [] {}));
    }
    runtime.synchronise({stream, stream->submitted});
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  return entry("cudaStreamWaitEvent", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    const auto event = runtime.event(event_handle);
    if (event->capture != nullptr) {
      wait_captured(runtime, stream, *event);
      return;
    }
    if (stream->capture != nullptr) {
      stream->capture->invalidated = true;
      refuse(cudaErrorStreamCaptureIsolation,
             "a captured stream cannot wait for an event recorded outside the capture");
    }
    if (event->last == nullptr) return;
    runtime.scheduler.submit(stream, "wait", [] {}, {event->last->after});
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  return entry("cudaStreamGetPriority",
               [&](Runtime& runtime) { *priority = runtime.stream(stream)->priority; });
}
cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  return entry("cudaStreamGetFlags",
               [&](Runtime& runtime) { *flags = runtime.stream(stream)->flags; });
}
cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  return entry("cudaStreamGetId", [&](Runtime& runtime) { *id = runtime.stream(stream)->id; });
}
cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  return entry("cudaStreamGetDevice", [&](Runtime& runtime) {
    runtime.stream(stream);
    *device = 0;
  });
}
// Hints about caches and scheduling: there is nothing that they could change here.
cudaError_t cudaStreamSetAttribute(cudaStream_t stream, cudaStreamAttrID,
                                   const cudaStreamAttrValue*) {
  return entry("cudaStreamSetAttribute", [&](Runtime& runtime) { runtime.stream(stream); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  return entry("cudaEventCreateWithFlags", [&](Runtime& runtime) {
    if ((flags & cudaEventInterprocess) != 0) {
      refuse(cudaErrorNotSupported, "events between processes are not emulated");
    }
    auto event = std::make_shared<Event>();
    event->flags = flags;
    *handle = static_cast<cudaEvent_t>(runtime.new_handle());
    runtime.event_handles[*handle] = event;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* handle) {
  return cudaEventCreateWithFlags(handle, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return entry("cudaEventDestroy", [&](Runtime& runtime) {
    runtime.event(handle);
    runtime.event_handles.erase(handle);
  });
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return entry("cudaEventRecord", [&](Runtime& runtime) {
    const auto event = runtime.event(handle);
    const auto stream = runtime.stream(stream_handle);
    if (stream->capture != nullptr) {
      if (stream->capture->invalidated) refuse(cudaErrorStreamCaptureInvalidated);
      event->capture = stream->capture;
      event->frontier = stream->frontier;
      return;
    }
    auto recording = std::make_shared<Recording>();
    // Known before the operation is accepted, because it may run at once.
    recording->after = {stream, stream->submitted + 1};
    event->capture.reset();
    event->frontier.clear();
    event->last = recording;
    runtime.submit(stream, cudaGraphNodeTypeEventRecord, "event", [recording] {
      recording->done = true;
      recording->milliseconds = now_milliseconds();
    });
  });
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags != 0) return unsupported("cudaEventRecordWithFlags(cudaEventRecordExternal)");
  return cudaEventRecord(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return entry("cudaEventQuery", [&](Runtime& runtime) {
    const auto event = runtime.event(handle);
    if (event->capture != nullptr) refuse(cudaErrorCapturedEvent);
    runtime.scheduler.poll();
    runtime.throw_fault();
    if (event->last != nullptr && !runtime.scheduler.is_done(event->last->after)) {
      refuse(cudaErrorNotReady);
    }
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return entry("cudaEventSynchronize", [&](Runtime& runtime) {
    const auto event = runtime.event(handle);
    if (event->capture != nullptr) refuse(cudaErrorCapturedEvent);
    if (event->last != nullptr) runtime.synchronise(event->last->after);
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin_handle,
                                 cudaEvent_t end_handle) {
  return entry("cudaEventElapsedTime", [&](Runtime& runtime) {
    const auto begin = runtime.event(begin_handle), end = runtime.event(end_handle);
    if (((begin->flags | end->flags) & cudaEventDisableTiming) != 0) {
      refuse(cudaErrorInvalidResourceHandle, "an event was made without timing");
    }
    if (begin->last == nullptr || end->last == nullptr) {
      refuse(cudaErrorInvalidResourceHandle, "an event was never recorded");
    }
    if (!begin->last->done || !end->last->done) refuse(cudaErrorNotReady);
    *milliseconds = static_cast<float>(end->last->milliseconds - begin->last->milliseconds);
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return entry("cudaStreamBeginCapture", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    if (stream->legacy) {
      refuse(cudaErrorStreamCaptureUnsupported, "the default stream cannot be captured");
    }
    if (stream->capture != nullptr) refuse(cudaErrorIllegalState, "the stream is being captured");
    auto capture = std::make_shared<Capture>();
    capture->id = runtime.next_capture++;
    capture->graph = std::make_shared<Graph>();
    capture->origin = stream;
    capture->members = {stream};
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    stream->capture = capture;
    stream->frontier.clear();
    runtime.captures.push_back(capture);
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return entry("cudaStreamEndCapture", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    const auto capture = stream->capture;
    *graph = nullptr;
    if (capture == nullptr) refuse(cudaErrorIllegalState, "the stream is not being captured");
    if (capture->origin != stream) {
      capture->invalidated = true;
      refuse(cudaErrorStreamCaptureUnmatched, "the capture did not begin in this stream");
    }
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        capture->thread != std::this_thread::get_id()) {
      refuse(cudaErrorStreamCaptureWrongThread, "the capture began in another thread");
    }
    const std::size_t joined = ancestors(stream->frontier).size();
    std::erase(runtime.captures, capture);
    for (const auto& member : capture->members) {
      member->capture.reset();
      member->frontier.clear();
    }
    capture->origin.reset();
    capture->members.clear();
    if (capture->invalidated) {
      refuse(cudaErrorStreamCaptureInvalidated, "an earlier call spoilt the capture");
    }
    if (joined != capture->graph->nodes.size()) {
      refuse(cudaErrorStreamCaptureUnjoined,
             "a stream that joined the capture was not waited for by its first stream");
    }
    *graph = static_cast<cudaGraph_t>(runtime.new_handle());
    runtime.graph_handles[*graph] = capture->graph;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return entry("cudaStreamIsCapturing", [&](Runtime& runtime) {
    const auto stream = runtime.stream(handle);
    *status = stream->capture == nullptr     ? cudaStreamCaptureStatusNone
              : stream->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                             : cudaStreamCaptureStatusActive;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return entry("cudaThreadExchangeStreamCaptureMode",
               [&](Runtime&) { std::swap(*mode, thread_state().capture_mode); });
}

}  // extern "C"
