#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/io/file.h"
#include "model/ops/tensor.h"

namespace qgrpo::io {

// A memory-mapped safetensors file: 8 bytes little-endian header length, a JSON header, the data.
// The header is checked as the reference implementation does: offsets inside the file, sizes that
// match shape and type, no overlap, no gap.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return entries_.count(name) != 0; }
  // The tensor; throws Error where it is missing or has a type this program does not read. The view
  // is valid as long as this object; its address has the type's alignment.
  ConstTensorView tensor(const std::string& name) const;
  // The name of its type as in the file ("F64"), and its shape; both throw Error where it is
  // missing.
  const std::string& type(const std::string& name) const { return entry(name).dtype; }
  Shape shape(const std::string& name) const;
  // The tensor's values, row-major, in float32: of F32, F16, BF16, and of F64 rounded to nearest.
  // Throws Error on any other type.
  std::vector<float> values(const std::string& name) const;
  // Its bytes as in the file.
  std::span<const std::byte> bytes(const std::string& name) const;
  // The tensor is called `to` from now on; `to` must be free.
  void rename(const std::string& from, const std::string& to);
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  void drop_pages() const { file_.drop_pages(); }

 private:
  struct Entry {
    std::string dtype;  // as in the file
    std::vector<std::int64_t> shape;
    std::size_t begin = 0;  // in the file
    std::size_t end = 0;
    mutable std::vector<std::max_align_t> copy;  // where the file's data is not aligned
  };
  const Entry& entry(const std::string& name) const;

  MappedFile file_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes tensors (in host memory) to a safetensors file, in the order of their names, so that equal
// content gives equal bytes. The file is written aside, synced and renamed.
void write_safetensors(const std::string& path,
                       const std::vector<std::pair<std::string, ConstTensorView>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// All tensors as float32 (from F32, F16 or BF16), row-major.
std::vector<float> to_float(ConstTensorView tensor);

}  // namespace qgrpo::io
