#include "softgpu/runtime/copy.h"

#include <cstring>

namespace softgpu::runtime {
namespace {

std::uint64_t address_of(const void* pointer) {
  return reinterpret_cast<std::uint64_t>(pointer);
}

bool on_device(const void* pointer) {
  return DeviceMemory::is_device_address(address_of(pointer));
}

std::size_t extent(std::size_t pitch, std::size_t width, std::size_t height) {
  return height == 0 || width == 0 ? 0 : pitch * (height - 1) + width;
}

// `device`: the direction says that the pointer is the device's. Memory that both sides can use
// passes for either.
void check_side(const Runtime& runtime, const void* pointer, std::size_t bytes, bool device,
                const char* side) {
  if (pointer == nullptr) refuse(cudaErrorInvalidValue, "the {} is a null pointer", side);
  const bool is_device = on_device(pointer);
  if (!device && is_device) {
    refuse(cudaErrorInvalidValue,
           "the direction makes the {} a host pointer, but {} is the device's", side, pointer);
  }
  if (device || is_device) {
    const Allocation* found = runtime.memory.find(address_of(pointer));
    if (found == nullptr || !found->contains(address_of(pointer), bytes)) {
      refuse(cudaErrorInvalidValue, "{}: {}", side,
             runtime.memory.diagnose(address_of(pointer), bytes));
    }
  }
}

void check(const Runtime& runtime, const CopyRequest& r) {
  if (r.kind < cudaMemcpyHostToHost || r.kind > cudaMemcpyDefault) {
    refuse(cudaErrorInvalidMemcpyDirection, "direction {}", static_cast<int>(r.kind));
  }
  if (r.height > 1 && (r.width > r.destination_pitch || r.width > r.source_pitch)) {
    refuse(cudaErrorInvalidPitchValue, "rows of {} bytes, pitches of {} and {}", r.width,
           r.destination_pitch, r.source_pitch);
  }
  const bool guess = r.kind == cudaMemcpyDefault;
  const bool to_device =
      guess ? on_device(r.destination)
            : r.kind == cudaMemcpyHostToDevice || r.kind == cudaMemcpyDeviceToDevice;
  const bool from_device =
      guess ? on_device(r.source)
            : r.kind == cudaMemcpyDeviceToHost || r.kind == cudaMemcpyDeviceToDevice;
  check_side(runtime, r.destination, extent(r.destination_pitch, r.width, r.height), to_device,
             "destination");
  check_side(runtime, r.source, extent(r.source_pitch, r.width, r.height), from_device, "source");
}

void copy_row(DeviceMemory& memory, void* destination, const void* source, std::size_t bytes) {
  const bool to = on_device(destination), from = on_device(source);
  if (to && from) {
    memory.copy(address_of(destination), address_of(source), bytes);
  } else if (to) {
    memory.write(address_of(destination), source, bytes);
  } else if (from) {
    memory.read(destination, address_of(source), bytes);
  } else {
    std::memmove(destination, source, bytes);
  }
}

}  // namespace

Body copy_body(Runtime& runtime, const CopyRequest& request) {
  check(runtime, request);
  return [&runtime, r = request] {
    try {
      for (std::size_t row = 0; row < r.height; ++row) {
        copy_row(runtime.memory, static_cast<char*>(r.destination) + row * r.destination_pitch,
                 static_cast<const char*>(r.source) + row * r.source_pitch, r.width);
      }
    } catch (const MemoryError& error) {
      throw FaultError(cudaErrorIllegalAddress, fmt::format("asynchronous copy: {}", error.what()));
    }
  };
}

void copy(Runtime& runtime, CopyRequest request, cudaStream_t stream, bool wait) {
  if (request.width == 0 || request.height == 0) return;
  const auto target = runtime.stream(stream);
  Body body = copy_body(runtime, request);
  const std::size_t bytes = extent(request.source_pitch, request.width, request.height);
  const bool host_source = !on_device(request.source);
  const bool host_destination = !on_device(request.destination);
  const bool recorded = target->capture != nullptr;
  if (host_source && !recorded && runtime.scheduler.delayed() &&
      !runtime.is_pinned(request.source, bytes)) {
    const auto* begin = static_cast<const std::byte*>(request.source);
    auto staged = std::make_shared<std::vector<std::byte>>(begin, begin + bytes);
    request.source = staged->data();
    body = [run = copy_body(runtime, CopyRequest{request.destination, request.destination_pitch,
                                                 staged->data(), request.source_pitch,
                                                 request.width, request.height, cudaMemcpyDefault}),
            staged] { run(); };
  }
  const auto done = runtime.submit(target, cudaGraphNodeTypeMemcpy, "copy", std::move(body));
  if (!done) return;
  const bool pageable_destination =
      host_destination && !runtime.is_pinned(request.destination, request.width);
  if (pageable_destination || (wait && (host_source || host_destination))) {
    runtime.synchronise(*done);
  }
}

Body fill_body(Runtime& runtime, const FillRequest& r) {
  const std::size_t row_bytes = r.width * r.element;
  if (r.element != 1 && r.element != 2 && r.element != 4) {
    refuse(cudaErrorInvalidValue, "elements of {} bytes", r.element);
  }
  if (r.height > 1 && row_bytes > r.pitch) {
    refuse(cudaErrorInvalidPitchValue, "rows of {} bytes, pitch of {}", row_bytes, r.pitch);
  }
  check_side(runtime, r.destination, extent(r.pitch, row_bytes, r.height), true, "destination");
  return [&runtime, r, row_bytes] {
    try {
      std::vector<std::byte> row(r.element == 1 ? 0 : row_bytes);
      for (std::size_t i = 0; i < row.size(); ++i) {
        row[i] = static_cast<std::byte>(r.value >> (8 * (i % r.element)));
      }
      for (std::size_t y = 0; y < r.height; ++y) {
        const std::uint64_t begin = address_of(r.destination) + y * r.pitch;
        if (r.element == 1) {
          runtime.memory.fill(begin, static_cast<unsigned char>(r.value), row_bytes);
        } else {
          runtime.memory.write(begin, row.data(), row_bytes);
        }
      }
    } catch (const MemoryError& error) {
      throw FaultError(cudaErrorIllegalAddress, fmt::format("memset: {}", error.what()));
    }
  };
}

void fill(Runtime& runtime, const FillRequest& request, cudaStream_t stream) {
  if (request.width == 0 || request.height == 0) return;
  runtime.submit(runtime.stream(stream), cudaGraphNodeTypeMemset, "memset",
                 fill_body(runtime, request));
}

}  // namespace softgpu::runtime
