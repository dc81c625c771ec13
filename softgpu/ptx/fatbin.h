#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// The container that nvcc embeds in an executable (section .nv_fatbin), one for each translation
// unit: a header, then entries of machine code (cubin) and PTX for several architectures.
namespace softgpu::ptx {

constexpr std::uint32_t kFatBinaryWrapperMagic = 0x466243b1;
constexpr std::uint32_t kFatBinaryMagic = 0xba55ed50;

// What __cudaRegisterFatBinary receives (24 bytes, section .nvFatBinSegment).
struct FatBinaryWrapper {
  std::uint32_t magic;    // kFatBinaryWrapperMagic
  std::uint32_t version;  // 1; 2 for relocatable device code, which needs a link step
  const void* data;       // the container
  const void* reserved;
};

enum class EntryKind : std::uint16_t { ptx = 1, cubin = 2 };

struct FatBinaryEntry {
  std::uint16_t kind = 0;          // EntryKind, others are possible
  std::uint32_t architecture = 0;  // 80 for compute_80
  std::uint16_t isa_major = 0, isa_minor = 0;
  std::uint64_t flags = 0;
  bool compressed = false;
  std::string file_name;               // may be empty
  std::span<const std::byte> payload;  // in the caller's memory
};

// The entries of the container at `container`, whose length is in its header; `limit` bounds what
// may be read. Throws Error where the container is not one.
std::vector<FatBinaryEntry> read_fat_binary(std::span<const std::byte> container);

// The container behind a wrapper. Throws Error for a bad magic and for relocatable device code.
std::span<const std::byte> container_of(const FatBinaryWrapper& wrapper);

// The PTX text to interpret: the entry for compute_80 if there is one, otherwise the one with the
// highest architecture below 90 (instructions of 90 and above are unknown), else the lowest.
// Throws Error where there is no PTX (build with -gencode arch=compute_80,code=compute_80) and
// where it is compressed (build with --no-compress). The view is of the caller's memory.
std::string_view select_ptx(std::span<const FatBinaryEntry> entries);

}  // namespace softgpu::ptx
