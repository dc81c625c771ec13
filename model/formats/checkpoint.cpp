#include "model/formats/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/formats/tensor_names.h"
#include "model/formats/tensor_source.h"
#include "model/io/gguf.h"
#include "model/io/hash.h"
#include "model/io/safetensors.h"

namespace qgrpo::model {

struct Checkpoint::Progress {
  std::string path;
  std::size_t done = 0;
  io::Hash64 hash;
};

namespace {

std::unique_ptr<TensorSource> open_source(const std::string& path) {
  return io::is_model_file(path) ? open_gguf(path) : open_safetensors_folder(path);
}

// The matrix's rows in float32.
std::vector<float> row_of(const StoredMatrix& matrix, std::int64_t row) {
  const std::int64_t cols = matrix.plain.shape[1];
  const auto size = static_cast<std::int64_t>(dtype_size(matrix.plain.dtype));
  const auto* from = static_cast<const std::byte*>(matrix.plain.data) + row * cols * size;
  return io::to_float({from, matrix.plain.dtype, {cols}});
}

void to_plain(StoredMatrix& matrix, const Shape& shape) {
  if (!matrix.nf4) return;
  matrix.values.resize(shape.elements());
  nf4_dequantize(matrix.values, *matrix.nf4);
  matrix.plain = {matrix.values.data(), DType::f32, shape};
}

}  // namespace

Checkpoint::Checkpoint(const std::string& path)
    : source_(open_source(path)), progress_(std::make_unique<Progress>()) {
  progress_->path = path;
}

Checkpoint::~Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;

bool Checkpoint::contains(const std::string& name) const {
  return source_->contains(name);
}

void Checkpoint::check_contains(const std::string& name) const {
  if (!contains(name)) {
    fail("{}: tensor \"{}\" is missing{}", progress_->path, name, source_->why_missing(name));
  }
}

StoredMatrix Checkpoint::matrix(const std::string& name, const Shape& shape) {
  check_contains(name);
  return source_->read(name, shape, progress_->hash, progress_->done);
}

std::vector<float> Checkpoint::values(const std::string& name, const Shape& shape) {
  StoredMatrix read = matrix(name, shape);
  std::vector<float> out;
  if (read.nf4) {
    out.resize(shape.elements());
    nf4_dequantize(out, *read.nf4);
  } else {
    out = read.values.empty() ? io::to_float(read.plain) : std::move(read.values);
  }
  require(std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); }),
          "{}: tensor \"{}\" has a value that is not finite", path_of(name), name);
  return out;
}

Storage Checkpoint::storage(const std::string& name) const {
  check_contains(name);
  return source_->storage(name);
}

bool Checkpoint::bnb4bit() const {
  return source_->bnb4bit();
}

const std::string& Checkpoint::path_of(const std::string& name) const {
  return source_->path_of(name);
}

void Checkpoint::check_names(const Config& config) const {
  for (const std::string& name : needed_tensors(config)) check_contains(name);
  source_->check_names(config);
}

bool Checkpoint::equal(const std::string& a, const std::string& b, const Shape& shape) {
  StoredMatrix left = matrix(a, shape);
  StoredMatrix right = matrix(b, shape);
  to_plain(left, shape);
  to_plain(right, shape);
  bool same = true;
  if (left.plain.dtype == right.plain.dtype) {
    same = std::memcmp(left.plain.data, right.plain.data, left.plain.bytes()) == 0;
  } else {
    for (std::int64_t row = 0; same && row < shape[0]; ++row) {
      same = row_of(left, row) == row_of(right, row);
    }
  }
  drop_pages();
  return same;
}

std::size_t Checkpoint::total_bytes() const {
  return source_->total_bytes();
}

std::size_t Checkpoint::done_bytes() const {
  return progress_->done;
}

std::uint64_t Checkpoint::fingerprint() const {
  return progress_->hash.value();
}

void Checkpoint::drop_pages() const {
  source_->drop_pages();
}

}  // namespace qgrpo::model
