#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/io/safetensors.h"
#include "model/ops/nf4.h"

// 4-bit weights as bitsandbytes and transformers store them beside each other in a safetensors file
// (the "-bnb-4bit" checkpoints). Of a linear NAME = "...q_proj.weight":
//
//   NAME                                 U8 [ceil(n / 2), 1]   two indices a byte, the first high
//   NAME.absmax                          U8 [blocks], or F32 without double quantization
//   NAME.quant_map                       F32 [16]              the 16 codes
//   NAME.nested_absmax                   F32 [ceil(blocks / 256)]    ) with double quantization
//   NAME.nested_quant_map                F32 [256]                   )
//   NAME.quant_state.bitsandbytes__nf4   U8: JSON {"quant_type", "blocksize", "dtype", "shape",
//                                        "nested_blocksize", "nested_dtype", "nested_offset"}
namespace qgrpo::model {

// The file that holds a tensor (the parts of a weight may lie in several shards), or null.
using FindFile = std::function<const io::SafetensorsFile*(const std::string& name)>;

// Whether there is NAME as a 4-bit weight.
bool is_bnb4bit(const FindFile& find, const std::string& name);

struct Bnb4bitWeight {
  Shape shape;
  // The bytes as they are, where this is NF4 in blocks of 64 with double quantization in blocks of
  // 256 (bnb_4bit_quant_type nf4, bnb_4bit_use_double_quant true).
  std::optional<Nf4Tensor> nf4;
  // Else (FP4, float32 absmax, other block sizes) the dequantized values.
  std::vector<float> values;
};

// Throws Error naming file and tensor where a part is missing or does not fit the others.
Bnb4bitWeight read_bnb4bit(const FindFile& find, const std::string& name);

// The type in which bitsandbytes gives the values out ("dtype"), for whoever dequantizes a
// checkpoint.
DType bnb4bit_dtype(const FindFile& find, const std::string& name);

// The tensors of one weight, in host memory that this object owns.
struct Bnb4bitParts {
  explicit Bnb4bitParts(Nf4Tensor tensor, DType dtype);
  // By the suffix of NAME ("" is the weight itself).
  std::vector<std::pair<std::string, ConstTensorView>> views() const;

  Nf4Tensor nf4;
  std::string state;  // the JSON
};

}  // namespace qgrpo::model
