#include "export/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "model/io/file.h"
#include "model/io/json.h"

namespace qgrpo::exporting {

namespace fs = std::filesystem;

// ---------------------------------------------------------------- one file

OutputFile::OutputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) fail("{}: cannot be written ({})", path, std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(path_.c_str());
}

void OutputFile::fail_to_write() const {
  fail("{}: cannot be written ({}); free some space or choose another folder", path_,
       std::strerror(errno));
}

void OutputFile::write(const void* data, std::size_t bytes) {
  write_at(size_, data, bytes);
  size_ += bytes;
}

void OutputFile::write_at(std::size_t offset, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pwrite(fd_, from, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_to_write();
    from += n;
    offset += static_cast<std::size_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
}

void OutputFile::finish() {
  if (::fsync(fd_) != 0) fail_to_write();
  if (::close(std::exchange(fd_, -1)) != 0) fail_to_write();
}

// ---------------------------------------------------------------- the whole output

namespace {

// A safetensors file of an export has its header padded to this size, its first 8 bytes; other
// programs pad to the next multiple of 8.
constexpr std::size_t kHeaderRoom = std::size_t{1} << 19;

bool is_exported_shard(const fs::path& path) {
  std::uint64_t size = 0;
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(&size), sizeof size);
  return file.good() && size == kHeaderRoom - 8;
}

// The first entry of a folder that no export wrote; "model.safetensors" where there is none of its
// weights; empty: an export wrote all of it.
std::string foreign_entry(const std::string& folder) {
  static constexpr std::array kNames = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors.index.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.json",
                                        "chat_template.jinja",
                                        "chat_templates",
                                        "qgrpo_prompt.json",
                                        "LICENSE",
                                        "NOTICE"};
  bool weights = false;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.starts_with("model") && name.ends_with(".safetensors")) {
      if (!is_exported_shard(folder + "/" + name)) return name;
      weights = true;
    } else if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
      return name;
    }
  }
  return weights ? "" : "model.safetensors";
}

// Refuses to replace what no export wrote.
void check_replaceable(const std::string& path, bool folder) {
  std::error_code error;
  if (!folder) {
    std::string magic(4, '\0');
    std::ifstream file(path, std::ios::binary);
    require(fs::is_empty(path, error) || (file.read(magic.data(), 4) && magic == "GGUF"),
            "{}: is no GGUF file, so it is not replaced; choose another --output", path);
    return;
  }
  require(fs::exists(path + "/config.json", error),
          "{}: holds no model (no config.json), so it is not replaced; choose another --output",
          path);
  const std::string foreign = foreign_entry(path);
  require(foreign.empty(),
          "{}: {} was not written by an export, so the folder is not replaced; move it, or choose "
          "another --output",
          path, foreign);
}

}  // namespace

PendingOutput::PendingOutput(const std::string& path, bool folder, bool overwrite) : path_(path) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  require(!path_.empty(), "--output: found nothing, expected a {}", folder ? "folder" : "file");
  std::error_code error;
  if (fs::exists(path_, error)) {
    const bool empty = fs::is_directory(path_, error) && fs::is_empty(path_, error);
    require(overwrite || (folder && empty),
            "{}: is there already; choose another --output, or replace it with --overwrite", path_);
    require(fs::is_directory(path_, error) == folder,
            "{}: is a {}, but this export makes a {}; choose another --output", path_,
            folder ? "file" : "folder", folder ? "folder" : "file");
    if (!empty) check_replaceable(path_, folder);
  }
  const auto parent = fs::path(path_).parent_path();
  if (!parent.empty()) fs::create_directories(parent, error);
  temporary_ = fmt::format("{}.tmp-{}", path_, ::getpid());
  require(!fs::exists(temporary_, error), "{}: is in the way; remove it", temporary_);
  if (folder) {
    fs::create_directory(temporary_, error);
    if (error) fail("{}: cannot be made ({})", temporary_, error.message());
  }
}

PendingOutput::~PendingOutput() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void PendingOutput::commit() {
  const auto rename = [](const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      fail("{}: cannot be renamed to {} ({})", from, to, std::strerror(errno));
    }
  };
  std::error_code error;
  io::sync_path(temporary_);
  if (fs::is_directory(path_, error) && !fs::is_empty(path_, error)) {
    // A folder cannot be replaced in one step: the earlier one is whole under this name meanwhile.
    const std::string earlier = fmt::format("{}.old-{}", path_, ::getpid());
    rename(path_, earlier);
    rename(temporary_, path_);
    fs::remove_all(earlier, error);
  } else {
    rename(temporary_, path_);
  }
  committed_ = true;
  const auto parent = fs::path(path_).parent_path();
  io::sync_path(parent.empty() ? std::string(".") : parent.string());
}

std::size_t PendingOutput::bytes() const {
  const std::string& at = committed_ ? path_ : temporary_;
  if (!fs::is_directory(at)) return static_cast<std::size_t>(fs::file_size(at));
  std::size_t total = 0;
  for (const auto& entry : fs::recursive_directory_iterator(at)) {
    if (entry.is_regular_file()) total += static_cast<std::size_t>(entry.file_size());
  }
  return total;
}

// ---------------------------------------------------------------- safetensors

namespace {

std::string dtype_label(DType dtype) {
  std::string name(dtype_name(dtype));
  for (char& c : name) c = static_cast<char>(c >= 'a' ? c - 32 : c);
  return name;
}

}  // namespace

// The header's size is known only at the end, so room is left for it: the format lets a header end
// in spaces.
struct SafetensorsFolder::Shard {
  explicit Shard(const std::string& path) : file(path) {
    const std::string room(kRoom, ' ');
    file.write(room.data(), room.size());
  }

  void add(const std::string& name, ConstTensorView view) {
    require(listed.size() + name.size() + 256 < kRoom, "{}: too many tensors for one file", name);
    listed += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[", listed.empty() ? "" : ",",
                          io::json_string(name), dtype_label(view.dtype));
    for (int i = 0; i < view.shape.rank(); ++i) {
      listed += fmt::format("{}{}", i ? "," : "", view.shape[i]);
    }
    const std::size_t begin = file.size() - kRoom;
    listed += fmt::format("],\"data_offsets\":[{},{}]}}", begin, begin + view.bytes());
    file.write(view.data, view.bytes());
  }

  // Tensors of a size that would leave what follows unaligned come last, widest type first.
  struct Late {
    std::string name;
    DType dtype;
    Shape shape;
    std::vector<std::byte> data;
  };

  void finish() {
    std::stable_sort(late.begin(), late.end(), [](const Late& a, const Late& b) {
      return dtype_size(a.dtype) > dtype_size(b.dtype);
    });
    for (const Late& tensor : late) {
      add(tensor.name, {tensor.data.data(), tensor.dtype, tensor.shape});
    }
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}" +
                         std::string(listed.empty() ? "" : ",") + listed + "}";
    header.resize(kRoom - 8, ' ');
    const std::uint64_t size = header.size();
    file.write_at(0, &size, sizeof size);
    file.write_at(8, header.data(), header.size());
    file.finish();
  }

  // Enough for a model of 4096 layers would be 20 MB; shards of ordinary models have hundreds of
  // tensors.
  static constexpr std::size_t kRoom = kHeaderRoom;

  OutputFile file;
  std::string listed;
  std::vector<Late> late;
};

SafetensorsFolder::SafetensorsFolder(std::string folder, std::size_t max_shard_bytes)
    : folder_(std::move(folder)), limit_(max_shard_bytes) {}

SafetensorsFolder::~SafetensorsFolder() = default;

void SafetensorsFolder::close_shard() {
  if (!shard_) return;
  shard_->finish();
  shard_.reset();
}

void SafetensorsFolder::add(const std::vector<Part>& parts) {
  std::size_t bytes = 0;
  std::size_t names = 0;
  for (const auto& [name, view] : parts) {
    bytes += view.bytes();
    names += name.size() + 256;
  }
  if (shard_ && (shard_->file.size() - Shard::kRoom + bytes > limit_ ||
                 shard_->listed.size() + names + 1024 > Shard::kRoom)) {
    close_shard();
  }
  if (!shard_) {
    written_.push_back(fmt::format("{}/shard-{}", folder_, written_.size()));
    shard_ = std::make_unique<Shard>(written_.back());
  }
  for (const auto& [name, view] : parts) {
    shard_of_[name] = written_.size() - 1;
    total_ += view.bytes();
    if (view.bytes() % 8 == 0) {
      shard_->add(name, view);
      continue;
    }
    const auto* from = static_cast<const std::byte*>(view.data);
    shard_->late.push_back({name, view.dtype, view.shape, {from, from + view.bytes()}});
  }
}

void SafetensorsFolder::finish() {
  close_shard();
  const auto final_name = [&](std::size_t shard) {
    if (written_.size() == 1) return std::string("model.safetensors");
    return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, written_.size());
  };
  for (std::size_t i = 0; i < written_.size(); ++i) {
    fs::rename(written_[i], folder_ + "/" + final_name(i));
  }
  if (written_.size() <= 1) return;
  io::JsonWriter w;
  w.begin_object();
  w.key("metadata");
  w.begin_object();
  w.member("total_size", static_cast<std::int64_t>(total_));
  w.end_object();
  w.key("weight_map");
  w.begin_object();
  for (const auto& [name, shard] : shard_of_) w.member(name, final_name(shard));
  w.end_object();
  w.end_object();
  io::write_file_atomically(folder_ + "/model.safetensors.index.json", w.str() + "\n");
}

std::size_t parse_size(const std::string& option, const std::string& text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, number);
  const std::string_view rest(unit, static_cast<std::size_t>(end - unit));
  std::uint64_t factor = 0;
  if (rest.empty() || rest == "B") factor = 1;
  if (rest == "KB") factor = 1'000;
  if (rest == "MB") factor = 1'000'000;
  if (rest == "GB") factor = 1'000'000'000;
  require(error == std::errc() && factor != 0 && number > 0 && number <= (1ULL << 50) / factor,
          "{}: found \"{}\", expected a size such as 5GB or 500MB", option, text);
  return static_cast<std::size_t>(number * factor);
}

}  // namespace qgrpo::exporting
