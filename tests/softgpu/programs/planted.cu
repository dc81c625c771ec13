// Programs with one bug each, and their repaired twins: what the software GPU's checks must find,
// and must not. `planted CASE bug` runs the one, `planted CASE fixed` the other; `planted` lists
// the cases. It prints the error that the launch ended with, whether that error stays, and whether
// the values were right.
//
// test_planted.cpp knows what is expected of each. The line to be blamed ends in "// BUG: case".

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "planted_kernels.cuh"

namespace {

constexpr int size = 256;

template <class T>
T* device_array(std::size_t count, int byte = 0) {
  T* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T));
  cudaMemset(data, byte, count * sizeof(T));
  return data;
}
int* unwritten(std::size_t count) {
  int* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(int));
  return data;
}

// What a case leaves for the report: true unless it looked at values and found wrong ones.
bool values_right = true;

// Kernels whose only parameters are a readable and a writable array.
template <void (*bug)(const int*, int*), void (*fixed)(const int*, int*)>
void in_to_out(bool with_bug) {
  const int* in = device_array<int>(size);
  int* out = device_array<int>(size);
  if (with_bug) {
    bug<<<1, size>>>(in, out);
  } else {
    fixed<<<1, size>>>(in, out);
  }
}
#define IN_TO_OUT(kernel) in_to_out<kernel<true>, kernel<false>>

void use_after_free(bool bug) {
  int* data = device_array<int>(size);
  int* out = device_array<int>(size);
  if (bug) cudaFree(data);
  read_freed<<<1, size>>>(data, out);
  if (!bug) cudaFree(data);
}

void null_pointer(bool bug) {
  int* out = device_array<int>(size);
  write_through<<<1, size>>>(bug ? nullptr : out);
}

void host_pointer(bool bug) {
  std::vector<int> values(size);
  int* out = device_array<int>(size);
  write_host<<<1, size>>>(bug ? values.data() : out);
}

void uninitialised_global(bool bug) {
  int* data = unwritten(size);
  int* out = device_array<int>(size);
  if (!bug) cudaMemset(data, 0, size * sizeof(int));
  branch_on_value<<<1, size>>>(data, out);
}

void uninitialised_stored(bool bug) {
  int* data = unwritten(size);
  int* out = device_array<int>(size);
  if (!bug) cudaMemset(data, 0, size * sizeof(int));
  sum_of_values<<<1, 32>>>(data, out);
}

void uninitialised_index(bool bug) {
  int* indices = unwritten(size);
  const int* in = device_array<int>(size);
  int* out = device_array<int>(size);
  if (!bug) cudaMemset(indices, 0, size * sizeof(int));
  index_from_memory<<<1, size>>>(indices, in, out);
}

// Kernels of 64 threads that copy 16 bytes each.
template <void (*bug)(const int*, int*), void (*fixed)(const int*, int*)>
void async_copy(bool with_bug) {
  const int* in = device_array<int>(4 * size, 1);
  int* out = device_array<int>(size);
  if (with_bug) {
    bug<<<1, 64>>>(in, out);
  } else {
    fixed<<<1, 64>>>(in, out);
  }
}
#define ASYNC_COPY(kernel) async_copy<kernel<true>, kernel<false>>

void too_many_threads(bool bug) {
  int* out = device_array<int>(1024);
  bounded_kernel<<<1, bug ? 512 : 128>>>(out);
}

void too_much_shared(bool bug) {
  int* out = device_array<int>(size);
  const int bytes = 80 * 1024;
  if (!bug)
    cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  dynamic_kernel<<<1, size, bytes>>>(out);
}

void dynamic_shared_overrun(bool bug) {
  int* out = device_array<int>(size);
  dynamic_kernel<<<1, size, bug ? 512 : size * sizeof(int)>>>(out);
}

void endless_loop(bool bug) {
  int* flag = device_array<int>(1, bug ? 0 : 1);
  int* out = device_array<int>(1);
  wait_for_flag<<<1, 32>>>(flag, out);
}

void copy_beyond_end(bool bug) {
  int* data = device_array<int>(size);
  std::vector<int> values(2 * size);
  cudaMemcpy(values.data(), data, (bug ? size + 1 : size) * sizeof(int), cudaMemcpyDeviceToHost);
}

void freed_twice(bool bug) {
  int* data = device_array<int>(size);
  cudaFree(data);
  if (bug) cudaFree(data);
}

// --- Missing synchronisation. These need SOFTGPU_SCHEDULE: done in order, nothing is wrong to be
// seen.

struct Streams {
  Streams() {
    cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMallocHost(reinterpret_cast<void**>(&host), size * sizeof(int));
    std::memset(host, 0, size * sizeof(int));
  }
  cudaStream_t first, second;
  cudaEvent_t event;
  int* host;
};

bool all_are(const int* values, int expected) {
  for (int i = 0; i < size; ++i) {
    if (values[i] != expected) return false;
  }
  return true;
}

void missing_event(bool bug) {
  const Streams s;
  int* data = device_array<int>(size);
  cudaDeviceSynchronize();
  for (int round = 1; round <= 6; ++round) {
    fill_value<<<1, size, 0, s.first>>>(data, round);
    cudaEventRecord(s.event, s.first);
    if (!bug) cudaStreamWaitEvent(s.second, s.event, 0);
    cudaMemcpyAsync(s.host, data, size * sizeof(int), cudaMemcpyDeviceToHost, s.second);
    cudaStreamSynchronize(s.second);
    values_right = values_right && all_are(s.host, round);
  }
}

void missing_stream_sync(bool bug) {
  const Streams s;
  int* data = device_array<int>(size);
  cudaDeviceSynchronize();
  fill_value<<<1, size, 0, s.first>>>(data, 5);
  cudaMemcpyAsync(s.host, data, size * sizeof(int), cudaMemcpyDeviceToHost, s.first);
  if (!bug) cudaStreamSynchronize(s.first);
  values_right = all_are(s.host, 5);
}

void source_changed_early(bool bug) {
  const Streams s;
  int* data = device_array<int>(size);
  cudaDeviceSynchronize();
  for (int i = 0; i < size; ++i) s.host[i] = 9;
  cudaMemcpyAsync(data, s.host, size * sizeof(int), cudaMemcpyHostToDevice, s.first);
  if (!bug) cudaStreamSynchronize(s.first);
  for (int i = 0; i < size; ++i) s.host[i] = 0;  // the copy may not have read it yet
  std::vector<int> values(size);
  cudaStreamSynchronize(s.first);
  cudaMemcpy(values.data(), data, size * sizeof(int), cudaMemcpyDeviceToHost);
  values_right = all_are(values.data(), 9);
}

struct Case {
  const char* name;
  void (*run)(bool bug);
};

const Case cases[] = {
    {"global-read", IN_TO_OUT(read_beyond)},
    {"global-write", IN_TO_OUT(write_before)},
    {"shared-index", IN_TO_OUT(shared_index)},
    {"local-index", IN_TO_OUT(local_index)},
    {"misaligned", IN_TO_OUT(misaligned_vector)},
    {"use-after-free", use_after_free},
    {"null-pointer", null_pointer},
    {"host-pointer", host_pointer},
    {"uninitialised-branch", uninitialised_global},
    {"uninitialised-result", uninitialised_stored},
    {"uninitialised-shared", IN_TO_OUT(partial_shared)},
    {"uninitialised-index", uninitialised_index},
    {"race-read", IN_TO_OUT(race_read)},
    {"race-overwrite", IN_TO_OUT(race_overwrite)},
    {"race-write", IN_TO_OUT(race_write)},
    {"race-in-warp", IN_TO_OUT(race_in_warp)},
    {"divergent-barrier", IN_TO_OUT(barrier_in_branch)},
    {"two-barriers", IN_TO_OUT(two_barriers)},
    {"async-no-wait", ASYNC_COPY(copy_without_wait)},
    {"async-weak-wait", ASYNC_COPY(copy_with_weak_wait)},
    {"shuffle-source", IN_TO_OUT(shuffle_inactive)},
    {"shuffle-mask", IN_TO_OUT(shuffle_outside_mask)},
    {"warp-apart", IN_TO_OUT(exchange_apart)},
    {"unknown-instruction", IN_TO_OUT(unknown_instruction)},
    {"too-many-threads", too_many_threads},
    {"too-much-shared", too_much_shared},
    {"dynamic-shared", dynamic_shared_overrun},
    {"endless-loop", endless_loop},
    {"assertion", IN_TO_OUT(asserting)},
    {"copy-beyond-end", copy_beyond_end},
    {"freed-twice", freed_twice},
    {"schedule-event", missing_event},
    {"schedule-sync", missing_stream_sync},
    {"schedule-source", source_changed_early},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    for (const Case& c : cases) std::puts(c.name);
    return argc == 1 ? 0 : 2;
  }
  const bool bug = std::string(argv[2]) == "bug";
  for (const Case& c : cases) {
    if (c.name != std::string(argv[1])) continue;
    c.run(bug);
    const cudaError_t launch = cudaGetLastError();  // of the launch itself or of a call
    const cudaError_t end = cudaDeviceSynchronize();
    cudaGetLastError();
    void* memory = nullptr;
    const cudaError_t after = cudaMalloc(&memory, 16);
    std::printf("error: %s\nafterwards: %s\nvalues: %s\n",
                cudaGetErrorName(launch != cudaSuccess ? launch : end), cudaGetErrorName(after),
                values_right ? "right" : "wrong");
    return 0;
  }
  std::fprintf(stderr, "planted: no case '%s'\n", argv[1]);
  return 2;
}
