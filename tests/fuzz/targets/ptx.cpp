// PTX text, as a library of kernels brings it.
#include "softgpu/ptx/parser.h"

#include "fuzz/target.h"

QGRPO_FUZZ_TARGET(ptx) {
  using namespace softgpu::ptx;
  const Module module = parse_module(input, "input");
  for (const Function& function : module.functions) {
    for (const BasicBlock& block : function.blocks) {
      qgrpo::fuzz::check(block.first <= block.end && block.end <= function.instructions.size(),
                         "a block is outside of its function");
      for (const std::uint32_t next : block.successors)
        qgrpo::fuzz::check(next < function.blocks.size(), "a block leads to none");
    }
    for (const Instruction& instruction : function.instructions) describe(module, instruction);
  }
}
