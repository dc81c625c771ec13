// Graphs: built by capture or by hand, instantiated, launched, updated.

#include <algorithm>

#include "softgpu/runtime/copy.h"
#include "softgpu/runtime/launch.h"

using namespace softgpu::runtime;

namespace {

Node* node_of(cudaGraphNode_t handle) {
  return reinterpret_cast<Node*>(handle);
}
cudaGraphNode_t handle_of(const Node* node) {
  return reinterpret_cast<cudaGraphNode_t>(const_cast<Node*>(node));
}

// The node behind a handle, if any graph has it.
Node& checked_node(Runtime& runtime, cudaGraphNode_t handle) {
  for (const auto& [key, graph] : runtime.graph_handles) {
    if (graph->owns(node_of(handle))) return *node_of(handle);
  }
  refuse(cudaErrorInvalidValue, "{} is not a node of a graph", static_cast<const void*>(handle));
}

// The frame of the cudaGraphAdd... functions; make(runtime, node) gives the new node its work.
template <typename F>
cudaError_t add_entry(const char* name, cudaGraphNode_t* out, cudaGraph_t graph_handle,
                      const cudaGraphNode_t* dependencies, std::size_t count,
                      cudaGraphNodeType type, F&& make) {
  return entry(name, [&](Runtime& runtime) {
    const auto graph = runtime.graph(graph_handle);
    auto after = checked_nodes(*graph, dependencies, count);
    Node prototype;
    make(runtime, prototype);
    Node* node = graph->add(type, name, std::move(prototype.body), std::move(after));
    node->kernel = std::move(prototype.kernel);
    node->child = std::move(prototype.child);
    *out = handle_of(node);
  });
}

void set_kernel(Runtime& runtime, Node& node, const cudaKernelNodeParams& params) {
  if (params.extra != nullptr) refuse(cudaErrorNotSupported, "parameters in a buffer (extra)");
  node.kernel = prepare_launch(runtime, params.func, params.gridDim, params.blockDim,
                               params.kernelParams, params.sharedMemBytes);
  node.body = launch_body(runtime, node.kernel);
}

cudaError_t instantiate_entry(const char* name, cudaGraphExec_t* out, cudaGraph_t graph) {
  return entry(name, [&](Runtime& runtime) {
    auto exec = std::make_shared<GraphExec>(instantiate(*runtime.graph(graph)));
    *out = static_cast<cudaGraphExec_t>(runtime.new_handle());
    runtime.exec_handles[*out] = std::move(exec);
  });
}

}  // namespace

extern "C" {

cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned) {
  return entry("cudaGraphCreate", [&](Runtime& runtime) {
    *graph = static_cast<cudaGraph_t>(runtime.new_handle());
    runtime.graph_handles[*graph] = std::make_shared<Graph>();
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return entry("cudaGraphDestroy", [&](Runtime& runtime) {
    runtime.graph(graph);
    runtime.graph_handles.erase(graph);
  });
}

cudaError_t cudaGraphClone(cudaGraph_t* copy, cudaGraph_t original) {
  return entry("cudaGraphClone", [&](Runtime& runtime) {
    auto cloned = clone(*runtime.graph(original));
    *copy = static_cast<cudaGraph_t>(runtime.new_handle());
    runtime.graph_handles[*copy] = std::move(cloned);
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return instantiate_entry("cudaGraphInstantiate", exec, graph);
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph,
                                          unsigned long long) {
  return instantiate_entry("cudaGraphInstantiateWithFlags", exec, graph);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return entry("cudaGraphExecDestroy", [&](Runtime& runtime) {
    runtime.exec(exec);
    runtime.exec_handles.erase(exec);
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream) {
  return entry("cudaGraphUpload", [&](Runtime& runtime) {
    runtime.exec(exec);
    runtime.stream(stream);
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream) {
  return entry("cudaGraphLaunch", [&](Runtime& runtime) {
    // The launch keeps the graph of this moment, even if it is updated or destroyed before it runs.
    runtime.submit(runtime.stream(stream), cudaGraphNodeTypeGraph, "graph",
                   [&runtime, exec = runtime.exec(handle)] {
                     if (runtime.scheduler.delayed()) {
                       run_graph(*exec, [&](std::size_t n) { return runtime.scheduler.draw(n); });
                     } else {
                       run_graph(*exec, nullptr);
                     }
                   });
  });
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t handle, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  return entry("cudaGraphExecUpdate", [&](Runtime& runtime) {
    const auto old = runtime.exec(handle);
    auto fresh = std::make_shared<GraphExec>(instantiate(*runtime.graph(graph)));
    const bool same = std::equal(
        old->steps.begin(), old->steps.end(), fresh->steps.begin(), fresh->steps.end(),
        [](const auto& a, const auto& b) { return a.type == b.type && a.after == b.after; });
    if (info != nullptr) {
      *info = {};
      info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    }
    if (!same) refuse(cudaErrorGraphExecUpdateFailure);
    runtime.exec_handles[handle] = std::move(fresh);
  });
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t handle, cudaGraphNode_t node,
                                             const cudaKernelNodeParams* params) {
  return entry("cudaGraphExecKernelNodeSetParams", [&](Runtime& runtime) {
    auto fresh = std::make_shared<GraphExec>(*runtime.exec(handle));
    const auto step = std::find_if(fresh->steps.begin(), fresh->steps.end(),
                                   [&](const auto& s) { return s.origin == node_of(node); });
    if (step == fresh->steps.end() || step->type != cudaGraphNodeTypeKernel) {
      refuse(cudaErrorInvalidValue, "not a kernel node of the graph that was instantiated");
    }
    Node prototype;
    set_kernel(runtime, prototype, *params);
    step->body = std::move(prototype.body);
    step->kernel = std::move(prototype.kernel);
    runtime.exec_handles[handle] = std::move(fresh);
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, size_t* count) {
  return entry("cudaGraphGetNodes", [&](Runtime& runtime) {
    const auto graph = runtime.graph(handle);
    const std::size_t all = graph->nodes.size();
    if (nodes != nullptr) {
      for (std::size_t i = 0; i < *count; ++i) {
        nodes[i] = i < all ? handle_of(graph->nodes[i].get()) : nullptr;
      }
      *count = std::min(*count, all);
    } else {
      *count = all;
    }
  });
}

cudaError_t cudaGraphGetRootNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, size_t* count) {
  return entry("cudaGraphGetRootNodes", [&](Runtime& runtime) {
    std::size_t found = 0;
    for (const auto& node : runtime.graph(handle)->nodes) {
      if (!node->after.empty()) continue;
      if (nodes != nullptr && found < *count) nodes[found] = handle_of(node.get());
      ++found;
    }
    *count = nodes == nullptr ? found : std::min(found, *count);
  });
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  return entry("cudaGraphNodeGetType",
               [&](Runtime& runtime) { *type = checked_node(runtime, node).type; });
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t handle,
                                         const cudaKernelNodeParams* params) {
  return entry("cudaGraphKernelNodeSetParams", [&](Runtime& runtime) {
    Node& node = checked_node(runtime, handle);
    if (node.kernel == nullptr) refuse(cudaErrorInvalidValue, "not a kernel node");
    set_kernel(runtime, node, *params);
  });
}

// kernelParams points into the node, for as long as it keeps these parameters.
cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t handle, cudaKernelNodeParams* params) {
  return entry("cudaGraphKernelNodeGetParams", [&](Runtime& runtime) {
    Node& node = checked_node(runtime, handle);
    if (node.kernel == nullptr) refuse(cudaErrorInvalidValue, "not a kernel node");
    KernelLaunch& launch = *node.kernel;
    launch.pointers.clear();
    for (const auto& parameter : launch.kernel->function->params) {
      launch.pointers.push_back(launch.parameters.data() + parameter.offset);
    }
    *params = {};
    params->func = launch.kernel;
    params->gridDim = dim3(launch.config.grid.x, launch.config.grid.y, launch.config.grid.z);
    params->blockDim = dim3(launch.config.block.x, launch.config.block.y, launch.config.block.z);
    params->sharedMemBytes = launch.config.dynamic_shared_bytes;
    params->kernelParams = launch.pointers.data();
  });
}

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                   const cudaGraphNode_t* dependencies, size_t count,
                                   const cudaKernelNodeParams* params) {
  return add_entry("cudaGraphAddKernelNode", node, graph, dependencies, count,
                   cudaGraphNodeTypeKernel,
                   [&](Runtime& runtime, Node& made) { set_kernel(runtime, made, *params); });
}

cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t* node, cudaGraph_t graph,
                                     const cudaGraphNode_t* dependencies, size_t count,
                                     void* destination, const void* source, size_t bytes,
                                     cudaMemcpyKind kind) {
  return add_entry(
      "cudaGraphAddMemcpyNode1D", node, graph, dependencies, count, cudaGraphNodeTypeMemcpy,
      [&](Runtime& runtime, Node& made) {
        made.body = copy_body(runtime, {destination, bytes, source, bytes, bytes, 1, kind});
      });
}

cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                   const cudaGraphNode_t* dependencies, size_t count,
                                   const cudaMemsetParams* params) {
  return add_entry("cudaGraphAddMemsetNode", node, graph, dependencies, count,
                   cudaGraphNodeTypeMemset, [&](Runtime& runtime, Node& made) {
                     made.body =
                         fill_body(runtime, {params->dst, params->pitch, params->value,
                                             params->elementSize, params->width, params->height});
                   });
}

cudaError_t cudaGraphAddHostNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                 const cudaGraphNode_t* dependencies, size_t count,
                                 const cudaHostNodeParams* params) {
  return add_entry("cudaGraphAddHostNode", node, graph, dependencies, count, cudaGraphNodeTypeHost,
                   [&](Runtime&, Node& made) {
                     made.body = [p = *params] {
                       thread_state().in_callback = true;
                       p.fn(p.userData);
                       thread_state().in_callback = false;
                     };
                   });
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                  const cudaGraphNode_t* dependencies, size_t count) {
  return add_entry("cudaGraphAddEmptyNode", node, graph, dependencies, count,
                   cudaGraphNodeTypeEmpty, [](Runtime&, Node&) {});
}

cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t* node, cudaGraph_t graph,
                                       const cudaGraphNode_t* dependencies, size_t count,
                                       cudaGraph_t child) {
  return add_entry(
      "cudaGraphAddChildGraphNode", node, graph, dependencies, count, cudaGraphNodeTypeGraph,
      [&](Runtime& runtime, Node& made) { made.child = clone(*runtime.graph(child)); });
}

}  // extern "C"
