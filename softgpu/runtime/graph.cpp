#include "softgpu/runtime/graph.h"

#include <algorithm>
#include <map>

namespace softgpu::runtime {
namespace {

// Appends the steps of `graph` to `exec`. Nodes without a predecessor come after the steps `entry`;
// returns the steps that everything in the graph comes before.
std::vector<std::size_t> flatten(const Graph& graph, const std::vector<std::size_t>& entry,
                                 GraphExec& exec) {
  std::map<const Node*, std::vector<std::size_t>> ends;  // node -> steps that end it
  std::map<const Node*, bool> has_successor;
  std::size_t done = 0;
  while (done < graph.nodes.size()) {
    const std::size_t before = done;
    for (std::size_t position = 0; position < graph.nodes.size(); ++position) {
      const Node* node = graph.nodes[position].get();
      if (ends.contains(node)) continue;
      const bool ready = std::all_of(node->after.begin(), node->after.end(),
                                     [&](const Node* n) { return ends.contains(n); });
      if (!ready) continue;
      std::vector<std::size_t> after = node->after.empty() ? entry : std::vector<std::size_t>();
      for (const Node* n : node->after) {
        after.insert(after.end(), ends[n].begin(), ends[n].end());
        has_successor[n] = true;
      }
      if (node->child != nullptr) {
        ends[node] = flatten(*node->child, after, exec);
      } else {
        exec.steps.push_back({node, node->type, node->body, after, position, node->kernel});
        ends[node] = {exec.steps.size() - 1};
      }
      ++done;
    }
    if (done == before) refuse(cudaErrorInvalidValue, "the graph's dependencies form a circle");
  }
  std::vector<std::size_t> leaves;
  for (const auto& node : graph.nodes) {
    if (has_successor[node.get()]) continue;
    const auto& steps = ends[node.get()];
    leaves.insert(leaves.end(), steps.begin(), steps.end());
  }
  return graph.nodes.empty() ? entry : leaves;
}

}  // namespace

Node* Graph::add(cudaGraphNodeType type, std::string label, Body body, std::vector<Node*> after) {
  auto node = std::make_unique<Node>();
  node->type = type;
  node->label = std::move(label);
  node->body = std::move(body);
  node->after = std::move(after);
  nodes.push_back(std::move(node));
  return nodes.back().get();
}

bool Graph::owns(const Node* node) const {
  return std::any_of(nodes.begin(), nodes.end(), [&](const auto& n) { return n.get() == node; });
}

std::vector<Node*> checked_nodes(const Graph& graph, const cudaGraphNode_t* handles,
                                 std::size_t count) {
  std::vector<Node*> nodes;
  for (std::size_t i = 0; i < count; ++i) {
    auto* node = reinterpret_cast<Node*>(handles[i]);
    if (!graph.owns(node)) refuse(cudaErrorInvalidValue, "node {} is not one of this graph", i);
    nodes.push_back(node);
  }
  return nodes;
}

GraphExec instantiate(const Graph& graph) {
  GraphExec exec;
  flatten(graph, {}, exec);
  return exec;
}

void run_graph(const GraphExec& exec, const std::function<std::size_t(std::size_t)>& draw) {
  std::vector<bool> done(exec.steps.size(), false);
  for (std::size_t left = exec.steps.size(); left > 0; --left) {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < exec.steps.size(); ++i) {
      const auto& after = exec.steps[i].after;
      if (!done[i] && std::all_of(after.begin(), after.end(), [&](auto s) { return done[s]; })) {
        ready.push_back(i);
        if (!draw) break;
      }
    }
    const std::size_t chosen = ready[draw ? draw(ready.size()) : 0];
    if (exec.steps[chosen].body) exec.steps[chosen].body();
    done[chosen] = true;
  }
}

std::shared_ptr<Graph> clone(const Graph& graph) {
  auto copy = std::make_shared<Graph>();
  std::map<const Node*, Node*> twin;
  for (const auto& node : graph.nodes) {
    copy->nodes.push_back(std::make_unique<Node>(*node));
    twin[node.get()] = copy->nodes.back().get();
  }
  for (const auto& node : copy->nodes) {
    for (Node*& n : node->after) n = twin.at(n);
  }
  return copy;
}

}  // namespace softgpu::runtime
