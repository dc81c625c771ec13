#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/ops/tensor.h"

namespace qgrpo::exporting {

// A file that is written from its beginning to its end. Removed with this object unless finished.
class OutputFile {
 public:
  // Throws Error where the file cannot be made. One that is there is emptied.
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write_at(std::size_t offset, const void* data, std::size_t bytes);
  std::size_t size() const { return size_; }
  // Syncs and closes.
  void finish();

 private:
  [[noreturn]] void fail_to_write() const;

  std::string path_;
  int fd_ = -1;
  std::size_t size_ = 0;
};

// A safetensors file of an export has its header padded to this size, its first 8 bytes; other
// programs pad to the next multiple of 8.
inline constexpr std::size_t kSafetensorsHeaderRoom = std::size_t{1} << 19;

// Writes the safetensors files of a model folder as tensors come, in shards of at most
// `max_shard_bytes` (more where one tensor needs it): model.safetensors, or
// model-00001-of-0000N.safetensors with model.safetensors.index.json.
class SafetensorsFolder {
 public:
  using Part = std::pair<std::string, ConstTensorView>;

  SafetensorsFolder(std::string folder, std::size_t max_shard_bytes);
  ~SafetensorsFolder();
  // Tensors that belong together go into one shard.
  void add(const std::vector<Part>& parts);
  void finish();

 private:
  struct Shard;
  void close_shard();

  std::string folder_;
  std::size_t limit_;
  std::unique_ptr<Shard> shard_;
  std::vector<std::string> written_;             // the shards' temporary names
  std::map<std::string, std::size_t> shard_of_;  // by tensor
  std::size_t total_ = 0;
};

// "5GB", "500MB", "1000" (transformers' max_shard_size): decimal units. Throws Error.
std::size_t parse_size(const std::string& option, const std::string& text);

}  // namespace qgrpo::exporting
