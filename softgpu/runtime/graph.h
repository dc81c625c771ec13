#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "softgpu/runtime/stream.h"

namespace softgpu::runtime {

struct KernelLaunch;
struct Graph;

// One operation of a graph. Its body owns everything it needs (parameters are copied when the node
// is made), so a node runs any number of times after its maker's variables are gone.
struct Node {
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  std::string label;
  Body body;
  std::vector<Node*> after;
  std::shared_ptr<KernelLaunch> kernel;  // kernel nodes
  std::shared_ptr<Graph> child;          // child graph nodes: a copy
};

struct Graph {
  std::vector<std::unique_ptr<Node>> nodes;  // each after the nodes that it depends on, unless
                                             // cudaGraphAddDependencies says otherwise
  Node* add(cudaGraphNodeType type, std::string label, Body body, std::vector<Node*> after);
  bool owns(const Node* node) const;
};

// The nodes behind handles, which must all be the graph's; throws ApiError otherwise.
std::vector<Node*> checked_nodes(const Graph& graph, const cudaGraphNode_t* handles,
                                 std::size_t count);

// An instantiated graph: its own copy of the nodes of that moment.
struct GraphExec {
  struct Step {
    const Node* origin = nullptr;  // the node in the graph it was made from
    cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    Body body;
    std::vector<std::size_t> after;  // steps
    std::size_t position = 0;        // of the node in its graph
    std::shared_ptr<KernelLaunch> kernel;
  };
  std::vector<Step> steps;  // in an order that respects the dependencies
};

// Flattens the graph, child graphs included. Throws ApiError where the dependencies form a circle.
GraphExec instantiate(const Graph& graph);
// Runs all steps; `draw` picks among those that may run next (first of them when null).
void run_graph(const GraphExec& exec, const std::function<std::size_t(std::size_t)>& draw);
// Deep copy of the nodes.
std::shared_ptr<Graph> clone(const Graph& graph);

// A capture in progress: it began in `origin`, and streams join it by waiting for its events.
struct Capture {
  std::uint64_t id = 0;
  std::shared_ptr<Graph> graph;
  std::shared_ptr<Stream> origin;
  std::vector<std::shared_ptr<Stream>> members;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalidated = false;
};

}  // namespace softgpu::runtime
