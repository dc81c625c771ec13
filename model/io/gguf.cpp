#include "model/io/gguf.h"

#include <cstring>
#include <filesystem>
#include <limits>

namespace qgrpo::io {
namespace {

using Type = GgufValue::Type;

constexpr std::uint64_t kMaxEntries = 1 << 20;  // keys, or tensors: far above any model's

// Bytes of a value of fixed size, 0 for strings and arrays and for what is no type.
std::size_t fixed_size(Type type) {
  switch (type) {
    case Type::u8:
    case Type::i8:
    case Type::boolean:
      return 1;
    case Type::u16:
    case Type::i16:
      return 2;
    case Type::u32:
    case Type::i32:
    case Type::f32:
      return 4;
    case Type::u64:
    case Type::i64:
    case Type::f64:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

std::size_t align(std::size_t value, std::size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// A whole number of any of the types, or nothing where it is none (or does not fit).
std::optional<std::int64_t> whole_number(Type type, const std::byte* data) {
  switch (type) {
    case Type::u8:
      return load<std::uint8_t>(data);
    case Type::i8:
      return load<std::int8_t>(data);
    case Type::u16:
      return load<std::uint16_t>(data);
    case Type::i16:
      return load<std::int16_t>(data);
    case Type::u32:
      return load<std::uint32_t>(data);
    case Type::i32:
      return load<std::int32_t>(data);
    case Type::i64:
      return load<std::int64_t>(data);
    case Type::u64: {
      const auto value = load<std::uint64_t>(data);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return {};
      return static_cast<std::int64_t>(value);
    }
    default:
      return {};
  }
}

}  // namespace

// ---------------------------------------------------------------- values

void GgufValue::wrong_type(std::string_view expected) const {
  fail("{}: found a value of type {}, expected {}", where_, static_cast<std::uint32_t>(type_),
       expected);
}

std::int64_t GgufValue::as_int() const {
  const auto value = whole_number(type_, data_);
  if (!value) wrong_type("a whole number");
  return *value;
}

double GgufValue::as_double() const {
  if (type_ == Type::f32) return static_cast<double>(load<float>(data_));
  if (type_ == Type::f64) return load<double>(data_);
  return static_cast<double>(as_int());
}

bool GgufValue::as_bool() const {
  if (type_ != Type::boolean) wrong_type("a truth value");
  return load<std::uint8_t>(data_) != 0;
}

std::string_view GgufValue::as_string() const {
  if (type_ != Type::string) wrong_type("a string");
  return {reinterpret_cast<const char*>(data_), static_cast<std::size_t>(count_)};
}

std::vector<std::string_view> GgufValue::as_strings() const {
  if (type_ != Type::array || element_ != Type::string) wrong_type("an array of strings");
  std::vector<std::string_view> out;
  out.reserve(count_);
  const std::byte* at = data_;
  for (std::uint64_t i = 0; i < count_; ++i) {  // their lengths were checked when the file was read
    const auto size = static_cast<std::size_t>(load<std::uint64_t>(at));
    out.emplace_back(reinterpret_cast<const char*>(at + 8), size);
    at += 8 + size;
  }
  return out;
}

std::vector<std::int64_t> GgufValue::as_ints() const {
  if (type_ != Type::array) wrong_type("an array of whole numbers");
  std::vector<std::int64_t> out;
  out.reserve(count_);
  const std::size_t size = fixed_size(element_);
  for (std::uint64_t i = 0; i < count_; ++i) {
    const auto value = whole_number(element_, data_ + i * size);
    if (!value) wrong_type("an array of whole numbers");
    out.push_back(*value);
  }
  return out;
}

std::vector<float> GgufValue::as_floats() const {
  if (type_ != Type::array || element_ != Type::f32) wrong_type("an array of float32");
  std::vector<float> out(count_);
  if (count_ > 0) std::memcpy(out.data(), data_, count_ * sizeof(float));
  return out;
}

// ---------------------------------------------------------------- the file

// Reads one thing after the other and never past the end.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  const std::byte* take(std::uint64_t size, const char* what) {
    require(size <= bytes_.size() - at_,
            "{}: the file ends at byte {} within {} at byte {}; it is truncated or corrupt: fetch "
            "it again",
            path_, bytes_.size(), what, at_);
    const std::byte* begin = bytes_.data() + at_;
    at_ += static_cast<std::size_t>(size);
    return begin;
  }
  template <typename T>
  T number(const char* what) {
    return load<T>(take(sizeof(T), what));
  }
  std::string_view string(const char* what) {
    const auto size = number<std::uint64_t>(what);
    return {reinterpret_cast<const char*>(take(size, what)), static_cast<std::size_t>(size)};
  }
  std::size_t at() const { return at_; }

 private:
  std::span<const std::byte> bytes_;
  const std::string& path_;
  std::size_t at_ = 0;
};

GgufFile::GgufFile(const std::string& path) : file_(path) {
  Reader reader(file_.bytes(), path);
  require(file_.bytes().size() >= 24 && std::memcmp(file_.bytes().data(), "GGUF", 4) == 0,
          "{}: is not a GGUF file (it does not begin with \"GGUF\"); expected a model folder or a "
          ".gguf file",
          path);
  reader.take(4, "the magic number");
  const auto version = reader.number<std::uint32_t>("the version");
  require(version == 2 || version == 3,
          "{}: GGUF version {}, expected 2 or 3 (little-endian); convert the model anew", path,
          version);
  const auto tensors = reader.number<std::uint64_t>("the number of tensors");
  const auto keys = reader.number<std::uint64_t>("the number of keys");
  require(tensors <= kMaxEntries && keys <= kMaxEntries,
          "{}: the header counts {} tensors and {} keys; the file is corrupt: fetch it again", path,
          tensors, keys);
  read_metadata(reader, keys);
  read_tensors(reader, tensors);
}

void GgufFile::read_metadata(Reader& reader, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string key(reader.string("a key"));
    GgufValue value;
    value.where_ = path() + ": " + key;
    value.type_ = static_cast<Type>(reader.number<std::uint32_t>("a value's type"));
    if (value.type_ == Type::string) {
      value.count_ = reader.number<std::uint64_t>("a string");
      value.data_ = reader.take(value.count_, "a string");
    } else if (value.type_ == Type::array) {
      value.element_ = static_cast<Type>(reader.number<std::uint32_t>("an array"));
      value.count_ = reader.number<std::uint64_t>("an array");
      value.data_ = file_.bytes().data() + reader.at();
      if (value.element_ == Type::string) {
        for (std::uint64_t s = 0; s < value.count_; ++s) reader.string("an array of strings");
      } else {
        const std::size_t size = fixed_size(value.element_);
        require(size != 0, "{}: an array of the unknown type {}", value.where_,
                static_cast<std::uint32_t>(value.element_));
        require(value.count_ <= file_.bytes().size() / size,
                "{}: an array of {} values in a file of {} bytes; it is truncated or corrupt: "
                "fetch it again",
                value.where_, value.count_, file_.bytes().size());
        reader.take(value.count_ * size, "an array");
      }
    } else {
      const std::size_t size = fixed_size(value.type_);
      require(size != 0, "{}: a value of the unknown type {}", value.where_,
              static_cast<std::uint32_t>(value.type_));
      value.data_ = reader.take(size, "a value");
    }
    require(metadata_.emplace(key, std::move(value)).second, "{}: the key \"{}\" is there twice",
            path(), key);
  }
}

void GgufFile::read_tensors(Reader& reader, std::uint64_t count) {
  std::vector<std::pair<GgufTensor*, std::string>> placed;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string name(reader.string("a tensor's name"));
    const auto rank = reader.number<std::uint32_t>("a tensor");
    require(rank >= 1 && rank <= 4, "{}: tensor \"{}\" has {} dimensions, expected 1 to 4", path(),
            name, rank);
    std::int64_t dims[4] = {};
    std::int64_t elements = 1;
    for (std::uint32_t d = 0; d < rank; ++d) {
      const auto dim = reader.number<std::uint64_t>("a tensor");
      require(dim > 0 && dim <= (std::uint64_t{1} << 40) / static_cast<std::uint64_t>(elements),
              "{}: tensor \"{}\" has an impossible shape", path(), name);
      dims[d] = static_cast<std::int64_t>(dim);
      elements *= dims[d];
    }
    GgufTensor tensor;
    for (std::uint32_t d = rank; d > 0; --d) tensor.shape.push_back(dims[d - 1]);
    tensor.type = reader.number<std::uint32_t>("a tensor");
    tensor.begin = static_cast<std::size_t>(reader.number<std::uint64_t>("a tensor"));
    if (ggml_type_known(tensor.type)) {
      const auto type = static_cast<GgmlType>(tensor.type);
      const std::int64_t block = ggml_block(type);
      require(dims[0] % block == 0,
              "{}: tensor \"{}\" has rows of {} values, expected a multiple of {} for {}", path(),
              name, dims[0], block, ggml_type_name(tensor.type));
      tensor.bytes = ggml_bytes(type, elements);
    }
    const auto [found, fresh] = tensors_.emplace(name, tensor);
    require(fresh, "{}: tensor \"{}\" is listed twice", path(), name);
    placed.emplace_back(&found->second, name);
  }
  std::size_t alignment = GgufHeader::kAlignment;
  if (const GgufValue* value = find("general.alignment")) {
    const std::int64_t given = value->as_int();
    require(given > 0 && given <= (1 << 20) && (given & (given - 1)) == 0,
            "{}: general.alignment is {}, expected a power of two", path(), given);
    alignment = static_cast<std::size_t>(given);
  }
  const std::size_t size = file_.bytes().size();
  const std::size_t data = align(reader.at(), alignment);
  for (const auto& [tensor, name] : placed) {
    require(tensor->begin % alignment == 0,
            "{}: tensor \"{}\" begins at byte {} of the data, expected a multiple of {}", path(),
            name, tensor->begin, alignment);
    require(data <= size && tensor->begin <= size - data &&
                tensor->bytes <= size - data - tensor->begin,
            "{}: tensor \"{}\" lies at bytes {}..{}, but the file has {}; it is truncated: fetch "
            "it again",
            path(), name, data + tensor->begin, data + tensor->begin + tensor->bytes, size);
    tensor->begin += data;
  }
}

const GgufValue* GgufFile::find(const std::string& key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufValue& GgufFile::at(const std::string& key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) fail("{}: the key \"{}\" is missing", path(), key);
  return *value;
}

const GgufTensor& GgufFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail("{}: tensor \"{}\" is missing", path(), name);
  require(ggml_type_known(found->second.type),
          "{}: tensor \"{}\" has the type {}, expected F32, F16, BF16, Q4_0, Q5_0, Q8_0, Q4_K or "
          "Q6_K; take a file of one of these",
          path(), name, ggml_type_name(found->second.type));
  return found->second;
}

bool is_model_file(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// ---------------------------------------------------------------- writing

void GgufHeader::begin(const std::string& key, Type type) {
  append_string(metadata_, key);
  append(metadata_, static_cast<std::uint32_t>(type));
  ++keys_;
}

void GgufHeader::add(const std::string& key, std::uint32_t value) {
  begin(key, Type::u32);
  append(metadata_, value);
}

void GgufHeader::add(const std::string& key, float value) {
  begin(key, Type::f32);
  append(metadata_, value);
}

void GgufHeader::add(const std::string& key, bool value) {
  begin(key, Type::boolean);
  append(metadata_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufHeader::add(const std::string& key, std::string_view value) {
  begin(key, Type::string);
  append_string(metadata_, value);
}

void GgufHeader::add(const std::string& key, const std::vector<std::string>& values) {
  begin(key, Type::array);
  append(metadata_, static_cast<std::uint32_t>(Type::string));
  append(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const auto& value : values) append_string(metadata_, value);
}

void GgufHeader::add(const std::string& key, const std::vector<std::int32_t>& values) {
  begin(key, Type::array);
  append(metadata_, static_cast<std::uint32_t>(Type::i32));
  append(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const auto value : values) append(metadata_, value);
}

void GgufHeader::add(const std::string& key, const std::vector<float>& values) {
  begin(key, Type::array);
  append(metadata_, static_cast<std::uint32_t>(Type::f32));
  append(metadata_, static_cast<std::uint64_t>(values.size()));
  for (const auto value : values) append(metadata_, value);
}

void GgufHeader::add_tensor(const std::string& name, GgmlType type, const Shape& shape) {
  append_string(tensors_, name);
  append(tensors_, static_cast<std::uint32_t>(shape.rank()));
  for (int d = shape.rank(); d > 0; --d) {
    append(tensors_, static_cast<std::uint64_t>(shape[d - 1]));
  }
  append(tensors_, static_cast<std::uint32_t>(type));
  append(tensors_, data_bytes_);
  data_bytes_ += align(ggml_bytes(type, shape.elements()), kAlignment);
  ++tensor_count_;
}

std::string GgufHeader::finish() const {
  std::string out = "GGUF";
  append(out, std::uint32_t{3});
  append(out, tensor_count_);
  append(out, keys_);
  out += metadata_;
  out += tensors_;
  out.resize(align(out.size(), kAlignment), '\0');
  return out;
}

}  // namespace qgrpo::io
