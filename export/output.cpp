#include "export/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>

#include "model/io/file.h"
#include "model/io/json.h"

namespace qgrpo::exporting {

// ---------------------------------------------------------------- one file

OutputFile::OutputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
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
  static constexpr std::size_t kRoom = kSafetensorsHeaderRoom;

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
    const std::string name = folder_ + "/" + final_name(i);
    if (::rename(written_[i].c_str(), name.c_str()) != 0)
      fail("{}: cannot be renamed to {} ({})", written_[i], name, std::strerror(errno));
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
