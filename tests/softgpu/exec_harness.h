#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "softgpu/exec/device_memory.h"
#include "softgpu/exec/launch.h"
#include "softgpu/ptx/parser.h"

// Runs short PTX kernels: every thread of one block has operands a, b, c (64 bits each, of which
// the instruction takes what it wants) and leaves one 64-bit result.
namespace softgpu::test {

struct Arguments {
  std::vector<std::byte> bytes;
  template <typename T>
  Arguments& operator<<(T value) {
    while (bytes.size() % sizeof(T) != 0) bytes.push_back({});
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), first, first + sizeof value);
    return *this;
  }
};

// A module text around one kernel "k" with parameters p0..p3 (u64) and registers of all kinds.
inline std::string kernel_text(const std::string& body, const std::string& variables = "") {
  return ".version 8.0\n.target sm_80\n.address_size 64\n" + variables +
         "\n.visible .entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)\n{\n"
         ".reg .pred %p<16>;\n.reg .b16 %h<16>;\n.reg .b32 %r<64>;\n.reg .f32 %f<16>;\n"
         ".reg .b64 %rd<32>;\n.reg .f64 %d<16>;\n" +
         body + "\nret;\n}\n";
}

class Kernel {
 public:
  explicit Kernel(const std::string& text)
      : module_(ptx::parse_module(text, "test")),
        memory_(std::uint64_t{1} << 30),
        loaded_(module_, place_variables(module_, memory_)) {
    options.threads = 1;
    options.warp_instructions = 50'000'000;
  }
  std::optional<Fault> run(Dim3 grid, Dim3 block, const Arguments& arguments,
                           std::uint32_t dynamic_shared = 0) {
    return loaded_.run(*module_.find_function("k"), memory_, {grid, block, dynamic_shared},
                       arguments.bytes, limits, options, &counters);
  }
  DeviceMemory& memory() { return memory_; }
  Options options;
  DeviceLimits limits;
  Counters counters;

 private:
  ptx::Module module_;
  DeviceMemory memory_;
  LoadedModule loaded_;
};

struct Operands {
  std::uint64_t a = 0, b = 0, c = 0;
};

// Runs `instructions` over all operands, one thread each: they find a, b, c in %rd1, %rd2, %rd3,
// their low words in %r1, %r2, %r3, their low halves in %h1, %h2, %h3, and leave the result in
// %rd4.
inline std::vector<std::uint64_t> evaluate(const std::string& instructions,
                                           const std::vector<Operands>& operands) {
  Kernel kernel(kernel_text(R"(
ld.param.u64 %rd10, [p0];
ld.param.u64 %rd11, [p1];
mov.u32 %r10, %ctaid.x;
mov.u32 %r11, %ntid.x;
mov.u32 %r12, %tid.x;
mad.lo.u32 %r10, %r10, %r11, %r12;
ld.param.u32 %r13, [p2];
setp.ge.u32 %p10, %r10, %r13;
@%p10 bra LEAVE;
mul.wide.u32 %rd12, %r10, 24;
add.u64 %rd12, %rd12, %rd10;
ld.global.u64 %rd1, [%rd12];
ld.global.u64 %rd2, [%rd12+8];
ld.global.u64 %rd3, [%rd12+16];
cvt.u32.u64 %r1, %rd1;
cvt.u32.u64 %r2, %rd2;
cvt.u32.u64 %r3, %rd3;
cvt.u16.u64 %h1, %rd1;
cvt.u16.u64 %h2, %rd2;
cvt.u16.u64 %h3, %rd3;
mov.u64 %rd4, 0;
)" + instructions + R"(
mul.wide.u32 %rd12, %r10, 8;
add.u64 %rd12, %rd12, %rd11;
st.global.u64 [%rd12], %rd4;
LEAVE:
)"));
  DeviceMemory& memory = kernel.memory();
  const std::uint64_t in = memory.allocate(operands.size() * sizeof(Operands));
  const std::uint64_t out = memory.allocate(operands.size() * 8);
  memory.write(in, operands.data(), operands.size() * sizeof(Operands));
  const auto blocks = static_cast<std::uint32_t>((operands.size() + 127) / 128);
  Arguments arguments;
  arguments << in << out << static_cast<std::uint64_t>(operands.size()) << std::uint64_t{0};
  const auto fault = kernel.run({blocks, 1, 1}, {128, 1, 1}, arguments);
  if (fault) throw std::runtime_error(fault->message);
  std::vector<std::uint64_t> results(operands.size());
  memory.read(results.data(), out, results.size() * 8);
  return results;
}

}  // namespace softgpu::test
