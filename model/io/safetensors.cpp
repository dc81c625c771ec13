#include "model/io/safetensors.h"

#include <algorithm>
#include <cstring>

#include "model/io/json.h"

namespace qgrpo::io {
namespace {

constexpr std::size_t kMaxHeader = 100'000'000;

std::optional<DType> known_dtype(std::string_view name) {
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  if (name == "U8") return DType::u8;
  if (name == "I32") return DType::i32;
  if (name == "I64") return DType::i64;
  return std::nullopt;
}

std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::u8:
      return "U8";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
  }
  return "?";
}

// Bits of an element of any type of the format, 0 = unknown.
std::size_t dtype_bits(std::string_view name) {
  if (name == "F64" || name == "I64" || name == "U64" || name == "C64") return 64;
  if (name == "F32" || name == "I32" || name == "U32") return 32;
  if (name == "F16" || name == "BF16" || name == "I16" || name == "U16") return 16;
  if (name == "U8" || name == "I8" || name == "BOOL" || name.starts_with("F8_")) return 8;
  return 0;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const auto bytes = file_.bytes();
  require(bytes.size() >= 8, "{}: {} bytes is too short for a safetensors file; is it complete?",
          path, bytes.size());
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  require(header_size <= kMaxHeader && header_size <= bytes.size() - 8,
          "{}: the header says it has {} bytes, but the file has {} after it; the file is "
          "truncated or not a "
          "safetensors file; fetch it again",
          path, header_size, bytes.size() - 8);
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8,
                                static_cast<std::size_t>(header_size));
  const std::size_t data_begin = 8 + static_cast<std::size_t>(header_size);
  const std::size_t data_size = bytes.size() - data_begin;

  JsonDocument document;
  const JsonValue root = document.parse(header, path + ": header");
  require(root.is_object(), "{}: the header is not a JSON object", path);
  for (const auto& [name, value] : root.as_object()) {
    if (name == "__metadata__") {
      for (const auto& [key, text] : value.as_object()) metadata_[key] = text.as_string();
      continue;
    }
    Entry entry;
    entry.dtype = value.at("dtype").as_string();
    const std::size_t bits = dtype_bits(entry.dtype);
    require(bits != 0, "{}: tensor \"{}\" has the unknown type {}", path, name, entry.dtype);
    std::size_t elements = 1;
    for (const auto& dim : value.at("shape").as_array()) {
      const std::int64_t d = dim.as_int();
      require(d >= 0, "{}: tensor \"{}\" has a negative dimension {}", path, name, d);
      require(d == 0 || elements <= (std::size_t{1} << 48) / static_cast<std::size_t>(d),
              "{}: tensor \"{}\" has an impossible shape", path, name);
      elements *= static_cast<std::size_t>(d);
      entry.shape.push_back(d);
    }
    const auto offsets = value.at("data_offsets").as_array();
    require(offsets.size() == 2, "{}: tensor \"{}\" has {} data_offsets, expected 2", path, name,
            offsets.size());
    const std::int64_t begin = offsets[0].as_int();
    const std::int64_t end = offsets[1].as_int();
    require(begin >= 0 && begin <= end && static_cast<std::uint64_t>(end) <= data_size,
            "{}: tensor \"{}\" lies at bytes {}..{}, but the file holds only {} bytes of data; the "
            "file is "
            "truncated or corrupt; fetch it again",
            path, name, begin, end, data_size);
    require(static_cast<std::size_t>(end - begin) * 8 == elements * bits,
            "{}: tensor \"{}\" has {} bytes of data, but its shape and type {} need {}", path, name,
            end - begin, entry.dtype, elements * bits / 8);
    entry.begin = data_begin + static_cast<std::size_t>(begin);
    entry.end = data_begin + static_cast<std::size_t>(end);
    require(entries_.emplace(name, std::move(entry)).second, "{}: tensor \"{}\" is listed twice",
            path, name);
  }

  std::vector<std::pair<const std::string*, const Entry*>> order;
  for (const auto& [name, entry] : entries_) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::size_t expected = data_begin;
  for (const auto& [name, entry] : order) {
    require(entry->begin == expected,
            "{}: tensor \"{}\" begins at data byte {}, expected {} (no gap, no overlap)", path,
            *name, entry->begin - data_begin, expected - data_begin);
    expected = entry->end;
  }
  require(expected == bytes.size(), "{}: {} bytes follow the last tensor; the file is corrupt",
          path, bytes.size() - expected);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> out;
  for (const auto& [name, entry] : entries_) out.push_back(name);
  return out;
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("{}: tensor \"{}\" is missing", path(), name);
  return found->second;
}

Shape SafetensorsFile::shape(const std::string& name) const {
  const Entry& in = entry(name);
  require(in.shape.size() <= 4, "{}: tensor \"{}\" has {} dimensions, expected at most 4", path(),
          name, in.shape.size());
  Shape out;
  for (const auto d : in.shape) out.push_back(d);
  return out;
}

std::vector<float> SafetensorsFile::values(const std::string& name) const {
  const Entry& in = entry(name);
  if (in.dtype != "F64") return to_float(tensor(name));
  const std::byte* from = file_.bytes().data() + in.begin;
  std::vector<float> out((in.end - in.begin) / sizeof(double));
  for (std::size_t i = 0; i < out.size(); ++i) {
    double value = 0;
    std::memcpy(&value, from + i * sizeof(double), sizeof(double));
    out[i] = static_cast<float>(value);
  }
  return out;
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  const Entry& in = entry(name);
  return file_.bytes().subspan(in.begin, in.end - in.begin);
}

void SafetensorsFile::rename(const std::string& from, const std::string& to) {
  auto node = entries_.extract(from);
  require(!node.empty() && entries_.count(to) == 0, "{}: tensor \"{}\" cannot be called \"{}\"",
          path(), from, to);
  node.key() = to;
  entries_.insert(std::move(node));
}

ConstTensorView SafetensorsFile::tensor(const std::string& name) const {
  const Entry& entry = this->entry(name);
  const auto dtype = known_dtype(entry.dtype);
  if (!dtype) {
    fail("{}: tensor \"{}\" has the type {}, expected F32, F16 or BF16", path(), name, entry.dtype);
  }
  ConstTensorView view;
  view.dtype = *dtype;
  view.shape = shape(name);
  view.data = file_.bytes().data() + entry.begin;
  if (reinterpret_cast<std::uintptr_t>(view.data) % dtype_size(*dtype) != 0) {
    const std::size_t size = entry.end - entry.begin;
    entry.copy.resize(size / sizeof(std::max_align_t) + 1);  // also for a tensor without elements
    std::memcpy(entry.copy.data(), view.data, size);
    view.data = entry.copy.data();
  }
  return view;
}

void write_safetensors(const std::string& path,
                       const std::vector<std::pair<std::string, ConstTensorView>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  auto order = tensors;
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  JsonWriter header;
  header.begin_object();
  if (!metadata.empty()) {
    header.key("__metadata__");
    header.begin_object();
    for (const auto& [key, value] : metadata) header.member(key, value);
    header.end_object();
  }
  std::int64_t offset = 0;
  for (const auto& [name, view] : order) {
    header.key(name);
    header.begin_object();
    header.member("dtype", std::string(safetensors_name(view.dtype)));
    header.key("shape");
    header.begin_array();
    for (int i = 0; i < view.shape.rank(); ++i) header.value(view.shape[i]);
    header.end_array();
    header.key("data_offsets");
    header.begin_array();
    header.value(offset);
    offset += static_cast<std::int64_t>(view.bytes());
    header.value(offset);
    header.end_array();
    header.end_object();
  }
  header.end_object();
  std::string text = header.str();
  text.append((8 - text.size() % 8) % 8, ' ');

  const std::uint64_t size = text.size();
  std::vector<std::string_view> parts = {{reinterpret_cast<const char*>(&size), 8}, text};
  for (const auto& [name, view] : order) {
    parts.emplace_back(static_cast<const char*>(view.data), view.bytes());
  }
  write_file_atomically(path, parts);
}

std::vector<float> to_float(ConstTensorView tensor) {
  std::vector<float> out(tensor.elements());
  switch (tensor.dtype) {
    case DType::f32:
      if (!out.empty()) std::memcpy(out.data(), tensor.data, out.size() * 4);
      break;
    case DType::bf16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = bf16_to_f32(tensor.u16()[i]);
      break;
    case DType::f16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = f16_to_f32(tensor.u16()[i]);
      break;
    default:
      fail("found a tensor of type {}, expected f32, f16 or bf16", dtype_name(tensor.dtype));
  }
  return out;
}

}  // namespace qgrpo::io
