// Order of asynchronous work: streams, events, the default stream, host functions. Every program
// here is correctly synchronised, so the results must be the same whatever legal order
// SOFTGPU_SCHEDULE makes.

#include <numeric>

#include "check.cuh"

namespace {

using namespace softgpu_test;

constexpr int size = 1024;

__global__ void fill(int* data, int value) {
  data[blockIdx.x * blockDim.x + threadIdx.x] = value;
}
__global__ void affine(int* data, int factor, int offset) {
  int& x = data[blockIdx.x * blockDim.x + threadIdx.x];
  x = x * factor + offset;
}
__global__ void add(int* to, const int* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] += from[i];
}

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    CUDA_OK(cudaStreamCreateWithFlags(&stream_, flags));
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    CUDA_OK(cudaEventCreateWithFlags(&event_, flags));
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

struct Pinned {
  explicit Pinned(std::size_t count) {
    CUDA_OK(cudaMallocHost(reinterpret_cast<void**>(&data), count * sizeof(int)));
  }
  ~Pinned() { cudaFreeHost(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  int* data = nullptr;
};

bool all_equal(const int* values, int expected) {
  for (int i = 0; i < size; ++i) {
    if (values[i] != expected) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("work in one stream stays in order") {
  const Stream stream;
  const Buffer<int> data(size);
  const Pinned host(size);
  fill<<<4, 256, 0, stream.get()>>>(data.get(), 1);
  int expected = 1;
  for (int i = 0; i < 10; ++i) {
    affine<<<4, 256, 0, stream.get()>>>(data.get(), 3, i);
    expected = expected * 3 + i;
  }
  CUDA_OK(cudaMemcpyAsync(host.data, data.get(), size * sizeof(int), cudaMemcpyDeviceToHost,
                          stream.get()));
  CUDA_OK(cudaStreamSynchronize(stream.get()));
  CHECK(all_equal(host.data, expected));
  CHECK(cudaStreamQuery(stream.get()) == cudaSuccess);
}

TEST_CASE("events order two streams, both ways") {
  const Stream first, second;
  const Event ready, taken;
  const Buffer<int> shared(size), total(size, 0);
  const Pinned host(size);
  CUDA_OK(cudaDeviceSynchronize());  // the zeros of `total` came by the default stream
  int expected = 0;
  for (int round = 0; round < 8; ++round) {
    if (round > 0) CUDA_OK(cudaStreamWaitEvent(first.get(), taken.get(), 0));
    fill<<<4, 256, 0, first.get()>>>(shared.get(), round * 7);
    CUDA_OK(cudaEventRecord(ready.get(), first.get()));
    CUDA_OK(cudaStreamWaitEvent(second.get(), ready.get(), 0));
    add<<<4, 256, 0, second.get()>>>(total.get(), shared.get());
    CUDA_OK(cudaEventRecord(taken.get(), second.get()));
    expected += round * 7;
  }
  CUDA_OK(cudaMemcpyAsync(host.data, total.get(), size * sizeof(int), cudaMemcpyDeviceToHost,
                          second.get()));
  CUDA_OK(cudaStreamSynchronize(second.get()));
  CHECK(all_equal(host.data, expected));
}

TEST_CASE("an event stands for its last record, and a wait for the record it saw") {
  const Stream first, second;
  const Event event;
  const Buffer<int> data(size), other(size);
  CUDA_OK(cudaStreamWaitEvent(second.get(), event.get(), 0));  // never recorded: no wait
  fill<<<4, 256, 0, first.get()>>>(data.get(), 5);
  CUDA_OK(cudaEventRecord(event.get(), first.get()));
  CUDA_OK(cudaStreamWaitEvent(second.get(), event.get(), 0));
  fill<<<4, 256, 0, first.get()>>>(other.get(), 6);
  CUDA_OK(cudaEventRecord(event.get(), first.get()));
  affine<<<4, 256, 0, second.get()>>>(data.get(), 2, 1);
  CUDA_OK(cudaEventSynchronize(event.get()));  // `other` is done, `data` perhaps not
  CHECK(cudaEventQuery(event.get()) == cudaSuccess);
  std::vector<int> host(size);
  CUDA_OK(cudaMemcpy(host.data(), other.get(), size * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(all_equal(host.data(), 6));
  CUDA_OK(cudaStreamSynchronize(second.get()));
  CUDA_OK(cudaMemcpy(host.data(), data.get(), size * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(all_equal(host.data(), 11));
}

TEST_CASE("the default stream waits for blocking streams and they for it") {
  const Stream first(cudaStreamDefault), second(cudaStreamDefault);
  const Buffer<int> data(size);
  fill<<<4, 256, 0, first.get()>>>(data.get(), 1);
  affine<<<4, 256>>>(data.get(), 10, 2);
  affine<<<4, 256, 0, second.get()>>>(data.get(), 10, 3);
  affine<<<4, 256>>>(data.get(), 10, 4);
  std::vector<int> host(size);
  CUDA_OK(cudaMemcpy(host.data(), data.get(), size * sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(all_equal(host.data(), 1234));
}

TEST_CASE("host functions run in the stream's order") {
  const Stream stream;
  const Buffer<int> data(size);
  const Pinned host(size);
  struct Check {
    const int* values;
    bool right;
  } check{host.data, false};
  fill<<<4, 256, 0, stream.get()>>>(data.get(), 42);
  CUDA_OK(cudaMemcpyAsync(host.data, data.get(), size * sizeof(int), cudaMemcpyDeviceToHost,
                          stream.get()));
  CUDA_OK(cudaLaunchHostFunc(
      stream.get(),
      [](void* pointer) {
        Check& c = *static_cast<Check*>(pointer);
        c.right = all_equal(c.values, 42);
      },
      &check));
  CUDA_OK(cudaStreamSynchronize(stream.get()));
  CHECK(check.right);
}

TEST_CASE("elapsed time between events") {
  const Event begin(cudaEventDefault), end(cudaEventDefault);
  const Buffer<int> data(size);
  CUDA_OK(cudaEventRecord(begin.get()));
  fill<<<4, 256>>>(data.get(), 1);
  CUDA_OK(cudaEventRecord(end.get()));
  CUDA_OK(cudaEventSynchronize(end.get()));
  float milliseconds = -1;
  CUDA_OK(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
  CHECK(milliseconds >= 0);
}

TEST_CASE("memory of a stream: allocated, used and freed in order") {
  const Stream stream;
  const Pinned host(size);
  int* data = nullptr;
  CUDA_OK(cudaMallocAsync(reinterpret_cast<void**>(&data), size * sizeof(int), stream.get()));
  CUDA_OK(cudaMemsetAsync(data, 0, size * sizeof(int), stream.get()));
  affine<<<4, 256, 0, stream.get()>>>(data, 1, 9);
  CUDA_OK(
      cudaMemcpyAsync(host.data, data, size * sizeof(int), cudaMemcpyDeviceToHost, stream.get()));
  CUDA_OK(cudaFreeAsync(data, stream.get()));
  CUDA_OK(cudaStreamSynchronize(stream.get()));
  CHECK(all_equal(host.data, 9));
}

TEST_CASE(
    "asynchronous copies to the device take what the host wrote before, from pageable memory at "
    "once") {
  const Stream stream;
  const Buffer<int> data(size);
  std::vector<int> source(size, 3);
  const Pinned back(size);
  // Pageable memory is staged before the call returns, so the source may change then.
  CUDA_OK(cudaMemcpyAsync(data.get(), source.data(), size * sizeof(int), cudaMemcpyHostToDevice,
                          stream.get()));
  std::fill(source.begin(), source.end(), -1);
  CUDA_OK(cudaMemcpyAsync(back.data, data.get(), size * sizeof(int), cudaMemcpyDeviceToHost,
                          stream.get()));
  CUDA_OK(cudaStreamSynchronize(stream.get()));
  CHECK(all_equal(back.data, 3));
}
