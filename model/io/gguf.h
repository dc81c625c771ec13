#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/file.h"
#include "model/io/ggml_type.h"
#include "model/ops/tensor.h"

// GGUF, the model file of llama.cpp, versions 2 and 3, little-endian: a header, typed metadata, the
// list of tensors, then their data at multiples of `general.alignment` (32 unless it says so).
namespace qgrpo::io {

// A metadata value. Its texts lie in the file's mapping.
class GgufValue {
 public:
  enum class Type : std::uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
  };

  Type type() const { return type_; }
  // Each throws Error naming file and key where the value is of another kind.
  std::int64_t as_int() const;  // any whole-number type; what int64 cannot hold is refused
  double as_double() const;     // any number
  bool as_bool() const;
  std::string_view as_string() const;
  std::vector<std::string_view> as_strings() const;  // an array of strings
  std::vector<std::int64_t> as_ints() const;         // an array of whole numbers
  std::vector<float> as_floats() const;              // an array of float32

 private:
  friend class GgufFile;
  [[noreturn]] void wrong_type(std::string_view expected) const;

  std::string where_;  // "model.gguf: key"
  Type type_ = Type::u8;
  Type element_ = Type::u8;  // of an array
  std::uint64_t count_ = 0;  // of an array; a string's bytes
  const std::byte* data_ = nullptr;
};

// A tensor as the file has it: `shape` outermost first (the file counts from the innermost).
struct GgufTensor {
  std::uint32_t type = 0;  // a GgmlType, or one that this program does not read
  Shape shape;
  std::size_t begin = 0;  // bytes from the file's beginning
  std::size_t bytes = 0;  // 0 where the type is unknown
};

// A memory-mapped GGUF file. The header is checked whole: counts and lengths against the file's
// size, data inside the file. Throws Error naming the file and what was found.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::size_t size() const { return file_.bytes().size(); }
  // The value, or nothing where the key is absent.
  const GgufValue* find(const std::string& key) const;
  // The value; throws where it is absent.
  const GgufValue& at(const std::string& key) const;

  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  // Throws Error where the tensor is missing or of a type that this program does not read.
  const GgufTensor& tensor(const std::string& name) const;
  std::span<const std::byte> data(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.bytes);
  }
  void drop_pages() const { file_.drop_pages(); }

 private:
  class Reader;
  void read_metadata(Reader& reader, std::uint64_t count);
  void read_tensors(Reader& reader, std::uint64_t count);

  MappedFile file_;
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

// Whether `path` names a single file (then a GGUF one is expected) and not a model folder.
bool is_model_file(const std::string& path);

// Builds the part of a GGUF file (version 3) before the tensors' data.
class GgufHeader {
 public:
  void add(const std::string& key, std::uint32_t value);
  void add(const std::string& key, float value);
  void add(const std::string& key, bool value);
  void add(const std::string& key, std::string_view value);
  void add(const std::string& key, const char* value) { add(key, std::string_view(value)); }
  void add(const std::string& key, const std::vector<std::string>& values);
  void add(const std::string& key, const std::vector<std::int32_t>& values);
  void add(const std::string& key, const std::vector<float>& values);
  // Tensors follow each other in the order of these calls, each at a multiple of kAlignment from
  // the end of the header.
  void add_tensor(const std::string& name, GgmlType type, const Shape& shape);
  // The header, padded to kAlignment.
  std::string finish() const;

  static constexpr std::size_t kAlignment = 32;

 private:
  void begin(const std::string& key, GgufValue::Type type);

  std::string metadata_;
  std::string tensors_;
  std::uint64_t keys_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace qgrpo::io
