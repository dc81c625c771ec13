#include "model/formats/bnb4bit.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/io/json.h"

namespace qgrpo::model {
namespace {

constexpr const char* kNf4State = ".quant_state.bitsandbytes__nf4";
constexpr const char* kFp4State = ".quant_state.bitsandbytes__fp4";

std::string state_name(const FindFile& find, const std::string& name) {
  return name + (find(name + kNf4State) != nullptr ? kNf4State : kFp4State);
}

// The JSON text that a tensor of bytes holds.
io::JsonValue read_state(io::JsonDocument& document, const FindFile& find,
                         const std::string& name) {
  const std::string state = state_name(find, name);
  const io::SafetensorsFile& file = *find(state);
  const ConstTensorView view = file.tensor(state);
  require(view.dtype == DType::u8, "{}: tensor \"{}\" has the type {}, expected U8", file.path(),
          state, dtype_name(view.dtype));
  const std::string_view text(static_cast<const char*>(view.data), view.bytes());
  return document.parse(text, fmt::format("{}: tensor \"{}\"", file.path(), state));
}

// The reader of one weight's parts.
class Reader {
 public:
  Reader(const FindFile& find, const std::string& name)
      : find_(find), name_(name), state_(read_state(document_, find, name)) {}

  Bnb4bitWeight read() {
    Bnb4bitWeight out;
    const auto dims = state_.at("shape").as_array();
    require(dims.size() == 2, "{}: found a shape of {} dimensions, expected 2", state_.where(),
            dims.size());
    for (const auto& dim : dims) {
      const std::int64_t size = dim.as_int();
      require(size > 0 && size <= (1 << 24), "{}: found the size {}", dim.where(), size);
      out.shape.push_back(size);
    }
    const std::int64_t block = size_at("blocksize");
    const std::int64_t elements = out.shape.elements();
    const std::int64_t blocks = (elements + block - 1) / block;
    const ConstTensorView packed =
        file(name_).tensor(name_);  // of any storage type: the bytes count
    require(static_cast<std::int64_t>(packed.bytes()) == (elements + 1) / 2,
            "{}: tensor \"{}\" has {} bytes, expected {} for the shape {} of its quant_state",
            file(name_).path(), name_, packed.bytes(), (elements + 1) / 2, out.shape.str());
    const auto* bytes = static_cast<const std::uint8_t*>(packed.data);
    const std::vector<float> codes = floats(".quant_map", 16);
    const std::string kind = state_.at("quant_type").as_string();
    require(kind == "nf4" || kind == "fp4",
            "{}: the quant_type is \"{}\", expected \"nf4\" or \"fp4\"", state_.where(), kind);
    const bool nested = find_(name_ + ".nested_absmax") != nullptr;
    if (!nested) {
      dequantize(out, bytes, block, codes, floats(".absmax", blocks));
      return out;
    }

    const std::int64_t nested_block = size_at("nested_blocksize");
    const std::int64_t groups = (blocks + nested_block - 1) / nested_block;
    const std::vector<std::uint8_t> absmax = byte_values(".absmax", blocks);
    const std::vector<float> group = floats(".nested_absmax", groups);
    const std::vector<float> map = floats(".nested_quant_map", 256);
    const auto offset = static_cast<float>(state_.at("nested_offset").as_double());
    require(std::isfinite(offset), "{}: nested_offset is {}", state_.where(), offset);
    if (kind == "nf4" && block == kNf4Block && nested_block == kNf4NestedBlock &&
        std::equal(codes.begin(), codes.end(), kNf4Code.begin()) &&
        std::equal(map.begin(), map.end(), dynamic_map_signed().begin())) {
      out.nf4 = Nf4Tensor{out.shape, std::vector<std::uint8_t>(bytes, bytes + packed.bytes()),
                          absmax, group, offset};
      return out;
    }
    std::vector<float> scales(blocks);
    for (std::size_t b = 0; b < scales.size(); ++b) {
      scales[b] = map[absmax[b]] * group[b / static_cast<std::size_t>(nested_block)] + offset;
    }
    dequantize(out, bytes, block, codes, scales);
    return out;
  }

 private:
  const io::SafetensorsFile& file(const std::string& name) const {
    const io::SafetensorsFile* found = find_(name);
    if (found == nullptr) fail("{}: the tensor \"{}\" is missing", state_.where(), name);
    return *found;
  }
  std::int64_t size_at(const char* key) const {
    const std::int64_t size = state_.at(key).as_int();
    require(size >= 2 && size <= 65536, "{}: {} is {}, expected 2 to 65536", state_.where(), key,
            size);
    return size;
  }

  ConstTensorView part(const char* suffix, DType dtype, std::int64_t elements) const {
    const std::string name = name_ + suffix;
    const ConstTensorView view = file(name).tensor(name);
    require(view.dtype == dtype && view.elements() == elements,
            "{}: tensor \"{}\" is {} {}, expected {} [{}]", file(name).path(), name,
            dtype_name(view.dtype), view.shape.str(), dtype_name(dtype), elements);
    return view;
  }
  std::vector<float> floats(const char* suffix, std::int64_t elements) const {
    const float* from = part(suffix, DType::f32, elements).f32();
    std::vector<float> out(from, from + elements);
    require(std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }),
            "{}: tensor \"{}{}\" has a value that is not finite", file(name_ + suffix).path(),
            name_, suffix);
    return out;
  }
  std::vector<std::uint8_t> byte_values(const char* suffix, std::int64_t elements) const {
    const auto* from = static_cast<const std::uint8_t*>(part(suffix, DType::u8, elements).data);
    return {from, from + elements};
  }

  static void dequantize(Bnb4bitWeight& out, const std::uint8_t* bytes, std::int64_t block,
                         const std::vector<float>& codes, const std::vector<float>& scales) {
    out.values.resize(out.shape.elements());
    for (std::size_t i = 0; i < out.values.size(); ++i) {
      const int byte = bytes[i / 2];
      const auto index = static_cast<std::size_t>(i % 2 == 0 ? byte >> 4 : byte & 15);
      out.values[i] = codes[index] * scales[i / static_cast<std::size_t>(block)];
    }
  }

  const FindFile& find_;
  const std::string& name_;
  io::JsonDocument document_;
  io::JsonValue state_;
};

std::string torch_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
}

}  // namespace

bool is_bnb4bit(const FindFile& find, const std::string& name) {
  return find(name + kNf4State) != nullptr || find(name + kFp4State) != nullptr;
}

Bnb4bitWeight read_bnb4bit(const FindFile& find, const std::string& name) {
  return Reader(find, name).read();
}

DType bnb4bit_dtype(const FindFile& find, const std::string& name) {
  io::JsonDocument document;
  const io::JsonValue dtype = read_state(document, find, name).at("dtype");
  const std::string text = dtype.as_string();
  for (const DType known : {DType::f32, DType::f16, DType::bf16}) {
    if (text == torch_name(known)) return known;
  }
  fail("{}: found \"{}\", expected float32, float16 or bfloat16", dtype.where(), text);
}

Bnb4bitParts::Bnb4bitParts(Nf4Tensor tensor, DType dtype) : nf4(std::move(tensor)) {
  io::JsonWriter w;
  w.begin_object();
  w.member("quant_type", "nf4");
  w.member("blocksize", kNf4Block);
  w.member("dtype", torch_name(dtype));
  w.member("shape", std::vector<std::int64_t>{nf4.shape[0], nf4.shape[1]});
  w.member("nested_blocksize", kNf4NestedBlock);
  w.member("nested_dtype", "float32");
  // As Python's float of the float32: the double's shortest digits.
  w.member("nested_offset", static_cast<double>(nf4.offset));
  w.end_object();
  state = w.str();
}

std::vector<std::pair<std::string, ConstTensorView>> Bnb4bitParts::views() const {
  const auto size = [](const auto& values) { return static_cast<std::int64_t>(values.size()); };
  return {
      {"", {nf4.packed.data(), DType::u8, {size(nf4.packed), 1}}},
      {".absmax", {nf4.absmax.data(), DType::u8, {size(nf4.absmax)}}},
      {".nested_absmax", {nf4.nested_absmax.data(), DType::f32, {size(nf4.nested_absmax)}}},
      {".nested_quant_map", {dynamic_map_signed().data(), DType::f32, {256}}},
      {".quant_map", {kNf4Code.data(), DType::f32, {16}}},
      {kNf4State, {state.data(), DType::u8, {size(state)}}},
  };
}

}  // namespace qgrpo::model
