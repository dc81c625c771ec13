#include <algorithm>
#include <limits>
#include <vector>

#include "softgpu/ptx/builder.h"

namespace softgpu::ptx {
namespace {

using Set = std::vector<bool>;

// The shared variables that a kernel reaches, itself or through calls.
Set reached_variables(const Builder& builder, std::uint32_t kernel) {
  Set functions(builder.module.functions.size()), variables(builder.module.variables.size());
  std::vector<std::uint32_t> open{kernel};
  functions[kernel] = true;
  while (!open.empty()) {
    const FunctionUses& uses = builder.uses[open.back()];
    open.pop_back();
    for (const std::uint32_t v : uses.shared_variables) variables[v] = true;
    const auto visit = [&](std::uint32_t f) {
      if (!functions[f]) open.push_back(f);
      functions[f] = true;
    };
    for (const std::uint32_t f : uses.callees) visit(f);
    if (uses.calls_indirectly)
      for (const std::uint32_t f : builder.address_taken) visit(f);
  }
  return variables;
}

void place(Operand& operand, const std::vector<Variable>& variables) {
  if (operand.kind != OperandKind::variable || operand.space != Space::shared) return;
  const Variable& variable = variables[operand.index];
  operand.index = kNone;
  if (variable.is_extern) {
    operand.kind = OperandKind::dynamic_shared;
    return;
  }
  operand.kind = operand.bracketed ? OperandKind::address : OperandKind::immediate;
  operand.imm = wrapped_sum(operand.imm, static_cast<std::int64_t>(variable.shared_offset));
}

}  // namespace

// A device function that several kernels call names a shared variable by one offset, so a variable
// has the same place in every kernel: behind all that came before it in any of its kernels. What
// only one kernel uses overlaps with other kernels' variables.
void lay_out_shared(Builder& builder) {
  Module& module = builder.module;
  std::vector<std::pair<std::uint32_t, Set>> kernels;
  for (std::uint32_t f = 0; f < module.functions.size(); ++f)
    if (module.functions[f].is_kernel) kernels.emplace_back(f, reached_variables(builder, f));

  for (std::uint32_t v = 0; v < module.variables.size(); ++v) {
    Variable& variable = module.variables[v];
    if (variable.space != Space::shared) continue;
    std::uint64_t offset = 0;
    for (const auto& [f, reached] : kernels) {
      Function& kernel = module.functions[f];
      if (!reached[v]) continue;
      offset = std::max<std::uint64_t>(offset, kernel.shared_bytes);
      if (!variable.is_extern) continue;
      kernel.uses_dynamic_shared = true;
      kernel.shared_align = std::max(kernel.shared_align, variable.align);
    }
    if (variable.is_extern) continue;
    variable.shared_offset = (offset + variable.align - 1) / variable.align * variable.align;
    require(variable.shared_offset + variable.size <= std::numeric_limits<std::uint32_t>::max(),
            "{}: shared variable '{}' lies beyond 4 GiB", module.name, variable.name);
    for (const auto& [f, reached] : kernels) {
      if (reached[v])
        module.functions[f].shared_bytes =
            static_cast<std::uint32_t>(variable.shared_offset + variable.size);
    }
  }

  for (Function& function : module.functions) {
    for (Operand& element : function.elements) place(element, module.variables);
    for (Instruction& instruction : function.instructions)
      for (Operand& source : instruction.src) place(source, module.variables);
  }
}

}  // namespace softgpu::ptx
