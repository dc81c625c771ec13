// A safetensors file.
#include "model/io/safetensors.h"

#include "fuzz/target.h"
#include "model/ops/error.h"

using namespace qgrpo;

QGRPO_FUZZ_TARGET(safetensors) {
  static fuzz::MemoryFile memory;
  memory.set(input);
  const io::SafetensorsFile file(memory.path());
  std::size_t bytes = 0;
  for (const std::string& name : file.names()) {
    bytes += file.bytes(name).size();
    file.type(name);
    try {
      const auto values = file.values(name);
      fuzz::check(static_cast<std::int64_t>(values.size()) == file.shape(name).elements(),
                  "values do not fit the shape");
    } catch (const Error&) {  // of a type that is not read
    }
    try {
      const ConstTensorView view = file.tensor(name);
      fuzz::check(reinterpret_cast<std::uintptr_t>(view.data) % dtype_size(view.dtype) == 0,
                  "a tensor is not aligned");
    } catch (const Error&) {
    }
  }
  fuzz::check(bytes < input.size(), "tensors are larger than the file");
}
