// Stream capture and graphs: parameters are those of the capture, data are those of the launch.

#include "check.cuh"

namespace {

using namespace softgpu_test;

constexpr int size = 512;

__global__ void affine(int* data, int factor, int offset) {
  int& x = data[blockIdx.x * blockDim.x + threadIdx.x];
  x = x * factor + offset;
}
__global__ void add(int* to, const int* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] += from[i];
}
__global__ void add_scalar(int* to, const int* scalar) {
  to[blockIdx.x * blockDim.x + threadIdx.x] += *scalar;
}

struct Graph {
  ~Graph() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  void instantiate() { CUDA_OK(cudaGraphInstantiate(&executable, graph, 0)); }
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
};

struct Stream {
  Stream() { CUDA_OK(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle = nullptr;
};

bool all_equal(const std::vector<int>& values, int expected) {
  for (const int value : values) {
    if (value != expected) {
      MESSAGE("found ", value, " instead of ", expected);
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("a captured graph keeps its parameters and nothing runs while capturing") {
  const Stream stream;
  const Buffer<int> data(size, 0);
  CUDA_OK(cudaDeviceSynchronize());
  Graph graph;
  int factor = 2, offset = 1;
  CUDA_OK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  affine<<<2, 256, 0, stream.handle>>>(data.get(), factor, offset);
  factor = 100;
  offset = 200;
  affine<<<2, 256, 0, stream.handle>>>(data.get(), 3, 4);
  CUDA_OK(cudaStreamEndCapture(stream.handle, &graph.graph));
  CHECK(all_equal(data.host(), 0));
  graph.instantiate();
  int expected = 0;
  for (int i = 0; i < 3; ++i) {
    CUDA_OK(cudaGraphLaunch(graph.executable, stream.handle));
    expected = (expected * 2 + 1) * 3 + 4;
  }
  CHECK(all_equal(data.host(), expected));
  CHECK(factor + offset == 300);
}

TEST_CASE("a graph reads device memory when it is launched") {
  const Stream stream;
  const Buffer<int> data(size, 0), scalar(1, 0);
  CUDA_OK(cudaDeviceSynchronize());
  Graph graph;
  CUDA_OK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  add_scalar<<<2, 256, 0, stream.handle>>>(data.get(), scalar.get());
  CUDA_OK(cudaStreamEndCapture(stream.handle, &graph.graph));
  graph.instantiate();
  for (int value = 1; value <= 3; ++value) {
    CUDA_OK(
        cudaMemcpyAsync(scalar.get(), &value, sizeof value, cudaMemcpyHostToDevice, stream.handle));
    CUDA_OK(cudaGraphLaunch(graph.executable, stream.handle));
    CUDA_OK(cudaStreamSynchronize(stream.handle));
  }
  CHECK(all_equal(data.host(), 6));
}

TEST_CASE("copies, fills and a second stream join a capture by events") {
  const Stream stream, side;
  const Buffer<int> data(size), other(size);
  cudaEvent_t fork, join;
  CUDA_OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
  CUDA_OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
  Graph graph;
  CUDA_OK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  CUDA_OK(cudaMemsetAsync(data.get(), 0, size * sizeof(int), stream.handle));
  CUDA_OK(cudaEventRecord(fork, stream.handle));
  CUDA_OK(cudaStreamWaitEvent(side.handle, fork, 0));
  CUDA_OK(cudaMemsetAsync(other.get(), 0, size * sizeof(int), side.handle));
  affine<<<2, 256, 0, side.handle>>>(other.get(), 1, 30);
  affine<<<2, 256, 0, stream.handle>>>(data.get(), 1, 12);
  CUDA_OK(cudaEventRecord(join, side.handle));
  CUDA_OK(cudaStreamWaitEvent(stream.handle, join, 0));
  add<<<2, 256, 0, stream.handle>>>(data.get(), other.get());
  CUDA_OK(cudaMemcpyAsync(other.get(), data.get(), size * sizeof(int), cudaMemcpyDeviceToDevice,
                          stream.handle));
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_OK(cudaStreamIsCapturing(side.handle, &status));
  CHECK(status == cudaStreamCaptureStatusActive);
  CUDA_OK(cudaStreamEndCapture(stream.handle, &graph.graph));
  std::size_t nodes = 0;
  CUDA_OK(cudaGraphGetNodes(graph.graph, nullptr, &nodes));
  CHECK(nodes == 6);
  graph.instantiate();
  for (int i = 0; i < 2; ++i) {
    CUDA_OK(cudaGraphLaunch(graph.executable, stream.handle));
    CHECK(all_equal(other.host(), 42));
  }
  CUDA_OK(cudaEventDestroy(fork));
  CUDA_OK(cudaEventDestroy(join));
}

TEST_CASE("synchronising while capturing is an error that ends the capture") {
  const Stream stream;
  const Buffer<int> data(size, 0);
  CUDA_OK(cudaDeviceSynchronize());
  CUDA_OK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  affine<<<2, 256, 0, stream.handle>>>(data.get(), 1, 1);
  CHECK(cudaStreamSynchronize(stream.handle) == cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK(graph == nullptr);
  cudaGetLastError();
  affine<<<2, 256, 0, stream.handle>>>(data.get(), 1, 5);
  LAUNCH_OK();
  CHECK(all_equal(data.host(), 5));
}
