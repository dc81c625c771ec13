#include "softgpu/ptx/fatbin.h"

#include <algorithm>
#include <cstring>

#include "softgpu/ptx/error.h"

namespace softgpu::ptx {
namespace {

constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kEntryBytes = 64;  // the part of an entry's header that is read here
constexpr std::uint64_t kCompressedFlags = 0x2000 | 0x8000;  // LZ4-like, zstd

template <typename T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
  require(offset <= bytes.size() && bytes.size() - offset >= sizeof(T),
          "fat binary: {} bytes end inside a header (offset {})", bytes.size(), offset);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

FatBinaryEntry read_entry(std::span<const std::byte> rest, std::size_t& entry_bytes) {
  const auto header = read_at<std::uint32_t>(rest, 4);
  const auto payload = read_at<std::uint64_t>(rest, 8);
  require(header >= kEntryBytes && header <= rest.size() && payload <= rest.size() - header,
          "fat binary: an entry of {} + {} bytes does not fit in the {} that are left", header,
          payload, rest.size());
  entry_bytes = header + payload;

  FatBinaryEntry entry;
  entry.kind = read_at<std::uint16_t>(rest, 0);
  entry.isa_minor = read_at<std::uint16_t>(rest, 24);
  entry.isa_major = read_at<std::uint16_t>(rest, 26);
  entry.architecture = read_at<std::uint32_t>(rest, 28);
  entry.flags = read_at<std::uint64_t>(rest, 40);
  entry.compressed = read_at<std::uint32_t>(rest, 16) != 0 || (entry.flags & kCompressedFlags) != 0;
  entry.payload = rest.subspan(header, payload);
  const auto name_offset = read_at<std::uint32_t>(rest, 32);
  const auto name_bytes = read_at<std::uint32_t>(rest, 36);
  if (name_offset <= header && name_bytes <= header - name_offset)
    entry.file_name.assign(reinterpret_cast<const char*>(rest.data()) + name_offset, name_bytes);
  entry.file_name.resize(std::min(entry.file_name.size(), entry.file_name.find('\0')));
  return entry;
}

// Lower is better: compute_80, then downwards from 89, then 90 and above upwards.
int rank(std::uint32_t architecture) {
  if (architecture == 80) return 0;
  if (architecture < 90) return static_cast<int>(90 - architecture);
  return static_cast<int>(architecture) + 1000;
}

}  // namespace

std::vector<FatBinaryEntry> read_fat_binary(std::span<const std::byte> container) {
  const auto magic = read_at<std::uint32_t>(container, 0);
  require(magic == kFatBinaryMagic, "fat binary: magic {:#x} where {:#x} was expected", magic,
          kFatBinaryMagic);
  const auto header = read_at<std::uint16_t>(container, 6);
  const auto payload = read_at<std::uint64_t>(container, 8);
  require(
      header >= kHeaderBytes && header <= container.size() && payload <= container.size() - header,
      "fat binary: header says {} + {} bytes, {} are there", header, payload, container.size());
  auto rest = container.subspan(header, payload);
  std::vector<FatBinaryEntry> entries;
  while (rest.size() >= kEntryBytes) {
    std::size_t entry_bytes = 0;
    entries.push_back(read_entry(rest, entry_bytes));
    rest = rest.subspan(entry_bytes);
  }
  return entries;
}

std::span<const std::byte> container_of(const FatBinaryWrapper& wrapper) {
  require(wrapper.magic == kFatBinaryWrapperMagic,
          "fat binary wrapper: magic {:#x} where {:#x} was expected", wrapper.magic,
          kFatBinaryWrapperMagic);
  require(wrapper.version == 1,
          "fat binary wrapper: version {}: relocatable device code (-rdc=true) is not supported, "
          "build whole programs (-rdc=false)",
          wrapper.version);
  require(wrapper.data != nullptr, "fat binary wrapper: no data");
  const auto* bytes = static_cast<const std::byte*>(wrapper.data);
  const std::span<const std::byte> head(bytes, kHeaderBytes);
  require(read_at<std::uint32_t>(head, 0) == kFatBinaryMagic,
          "fat binary: magic {:#x} where {:#x} was expected", read_at<std::uint32_t>(head, 0),
          kFatBinaryMagic);
  return {bytes, read_at<std::uint16_t>(head, 6) + read_at<std::uint64_t>(head, 8)};
}

std::string_view select_ptx(std::span<const FatBinaryEntry> entries) {
  const FatBinaryEntry* best = nullptr;
  for (const FatBinaryEntry& entry : entries) {
    if (entry.kind != static_cast<std::uint16_t>(EntryKind::ptx)) continue;
    if (best == nullptr || rank(entry.architecture) < rank(best->architecture)) best = &entry;
  }
  require(best != nullptr,
          "fat binary: {} entries and none is PTX: build with -gencode "
          "arch=compute_80,code=compute_80",
          entries.size());
  require(!best->compressed,
          "fat binary: the PTX for compute_{} is compressed: build with nvcc --no-compress",
          best->architecture);
  const std::string_view text(reinterpret_cast<const char*>(best->payload.data()),
                              best->payload.size());
  return text.substr(0, text.find('\0'));  // padded with zeros to 8 bytes
}

}  // namespace softgpu::ptx
