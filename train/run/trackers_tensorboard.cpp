#include "train/run/trackers_tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <filesystem>

#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kStart = "events.out.tfevents.";
constexpr std::string_view kEnd = ".qgrpo";

template <typename T>
std::string little_endian(T value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
  return out;
}

// Protobuf's wire format: a field is its number and kind, then a varint, 8 or 4 bytes, or a length
// and bytes.
enum Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
  return out;
}

std::string key(int field, Wire wire) {
  return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(wire));
}

std::string integer(int field, std::int64_t value) {
  return key(field, kVarint) + varint(static_cast<std::uint64_t>(value));
}

std::string real64(int field, double value) {
  return key(field, kFixed64) + little_endian(std::bit_cast<std::uint64_t>(value));
}

std::string real32(int field, float value) {
  return key(field, kFixed32) + little_endian(std::bit_cast<std::uint32_t>(value));
}

std::string bytes(int field, std::string_view content) {
  return key(field, kBytes) + varint(content.size()) + std::string(content);
}

// Event { double wall_time = 1; int64 step = 2; .. }
std::string event(std::int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::string out = real64(1, std::chrono::duration<double>(now).count());
  if (step != 0) out += integer(2, step);
  return out;
}

constexpr int kFileVersion = 3, kSummary = 5, kSessionLog = 7;         // of Event
constexpr int kValue = 1;                                              // of Summary
constexpr int kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;  // of Summary.Value

}  // namespace

std::uint32_t crc32c(std::string_view content) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) != 0 ? 0x82f63b78u : 0u);
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const char c : content)
    crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string tfrecord(std::string_view content) {
  const auto masked = [](std::string_view part) {
    return little_endian(std::rotr(crc32c(part), 15) + 0xa282ead8u);
  };
  const std::string length = little_endian(static_cast<std::uint64_t>(content.size()));
  return length + masked(length) + std::string(content) + masked(content);
}

TensorboardWriter::TensorboardWriter(const std::string& folder, std::int64_t first_step) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot be made ({})", folder, error.message());
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = 'x';
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  for (int n = 0;; ++n) {
    path_ = fmt::format("{}/{}{:010}.{}.{}.{}{}", folder, kStart, seconds, host.data(), getpid(), n,
                        kEnd);
    if (!io::exists(path_)) break;
  }
  file_.open(path_, std::ios::binary);
  require(file_.good(), "{}: cannot be opened for writing", path_);
  write(event(0) + bytes(kFileVersion, "brain.Event:2"));
  constexpr std::int64_t kSessionStart = 1;
  if (first_step > 1) write(event(first_step) + bytes(kSessionLog, integer(1, kSessionStart)));
}

void TensorboardWriter::scalars(std::int64_t step, const NamedNumbers& values) {
  std::string summary;
  for (const auto& [tag, value] : values) {
    summary += bytes(kValue, bytes(kTag, tag) + real32(kSimpleValue, static_cast<float>(value)));
  }
  write(event(step) + bytes(kSummary, summary));
}

void TensorboardWriter::text(const std::string& tag, std::string_view content) {
  constexpr std::int64_t kString = 7;                 // DataType.DT_STRING
  const std::string shape = bytes(2, integer(1, 1));  // dim { size: 1 }
  const std::string tensor = integer(1, kString) + bytes(2, shape) + bytes(8, content);
  const std::string metadata = bytes(1, bytes(1, "text"));  // plugin_data { plugin_name }
  write(event(0) + bytes(kSummary, bytes(kValue, bytes(kTag, tag) + bytes(kTensor, tensor) +
                                                     bytes(kMetadata, metadata))));
}

void TensorboardWriter::write(const std::string& content) {
  file_ << tfrecord(content);
  file_.flush();
  require(file_.good(), "{}: cannot be written; is the disk full?", path_);
}

void remove_event_files(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kStart) && name.ends_with(kEnd)) fs::remove(entry.path(), ignored);
  }
}

}  // namespace qgrpo::train
