#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "softgpu/ptx/error.h"
#include "softgpu/ptx/fatbin.h"

using namespace softgpu::ptx;

namespace {

template <typename T>
void put(std::vector<std::byte>& bytes, std::size_t at, T value) {
  if (bytes.size() < at + sizeof(T)) bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

struct Entry {
  std::uint16_t kind;
  std::uint32_t architecture;
  std::string payload;
  std::uint64_t flags = 0;
  std::uint32_t compressed = 0;
};

std::vector<std::byte> container(const std::vector<Entry>& entries) {
  std::vector<std::byte> bytes(16);
  for (const Entry& entry : entries) {
    const std::size_t at = bytes.size();
    const std::size_t padded = (entry.payload.size() + 1 + 7) / 8 * 8;
    bytes.resize(at + 64 + 8 + padded);
    put(bytes, at, entry.kind);
    put<std::uint16_t>(bytes, at + 2, 0x0101);
    put<std::uint32_t>(bytes, at + 4, 72);
    put<std::uint64_t>(bytes, at + 8, padded);
    put(bytes, at + 16, entry.compressed);
    put<std::uint16_t>(bytes, at + 24, 0);
    put<std::uint16_t>(bytes, at + 26, 9);
    put(bytes, at + 28, entry.architecture);
    put<std::uint32_t>(bytes, at + 32, 64);
    put<std::uint32_t>(bytes, at + 36, 4);
    put(bytes, at + 40, entry.flags);
    std::memcpy(bytes.data() + at + 64, "a.cu", 4);
    std::memcpy(bytes.data() + at + 72, entry.payload.data(), entry.payload.size());
  }
  put<std::uint32_t>(bytes, 0, kFatBinaryMagic);
  put<std::uint16_t>(bytes, 4, 1);
  put<std::uint16_t>(bytes, 6, 16);
  put<std::uint64_t>(bytes, 8, bytes.size() - 16);
  return bytes;
}

std::string chosen(const std::vector<Entry>& entries) {
  const auto bytes = container(entries);
  try {
    return std::string(select_ptx(read_fat_binary(bytes)));
  } catch (const softgpu::Error& error) {
    return std::string("error: ") + error.what();
  }
}

}  // namespace

TEST_CASE("entries of a fat binary") {
  const auto bytes = container({{2, 89, "cubin"}, {1, 80, "// ptx"}});
  const auto entries = read_fat_binary(bytes);
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].kind == 2);
  CHECK(entries[0].architecture == 89);
  CHECK(entries[1].isa_major == 9);
  CHECK(entries[1].file_name == "a.cu");
  CHECK_FALSE(entries[1].compressed);
  CHECK(select_ptx(entries) == "// ptx");

  const FatBinaryWrapper wrapper{kFatBinaryWrapperMagic, 1, bytes.data(), nullptr};
  CHECK(container_of(wrapper).size() == bytes.size());
  CHECK_THROWS_AS(container_of({1, 1, bytes.data(), nullptr}), softgpu::Error);
  CHECK_THROWS_WITH_AS(container_of({kFatBinaryWrapperMagic, 2, bytes.data(), nullptr}),
                       doctest::Contains("-rdc"), softgpu::Error);
}

TEST_CASE("the PTX to interpret is compute_80's, or the nearest older one") {
  CHECK(chosen({{1, 90, "90"}, {1, 80, "80"}, {1, 75, "75"}}) == "80");
  CHECK(chosen({{1, 75, "75"}, {1, 86, "86"}, {1, 90, "90"}}) == "86");
  CHECK(chosen({{1, 120, "120"}, {1, 90, "90"}}) == "90");
  CHECK(chosen({{2, 80, "cubin"}}).find("compute_80") != std::string::npos);
}

TEST_CASE("compressed PTX says how to build") {
  CHECK(chosen({{1, 80, "x", 0x8000}}).find("--no-compress") != std::string::npos);
  CHECK(chosen({{1, 80, "x", 0x2000}}).find("--no-compress") != std::string::npos);
  CHECK(chosen({{1, 80, "x", 0, 17}}).find("--no-compress") != std::string::npos);
  CHECK(chosen({{1, 90, "x", 0x8000}, {1, 80, "good"}}) == "good");
}

TEST_CASE("damaged containers are refused") {
  auto bytes = container({{1, 80, "text"}});
  const auto refused = [](std::vector<std::byte> damaged) {
    try {
      read_fat_binary(damaged);
    } catch (const softgpu::Error&) {
      return true;
    }
    return false;
  };
  CHECK_FALSE(refused(bytes));
  CHECK(refused(std::vector<std::byte>(bytes.begin(), bytes.begin() + 8)));
  CHECK(refused(std::vector<std::byte>(bytes.begin(), bytes.end() - 1)));
  auto damaged = bytes;
  put<std::uint32_t>(damaged, 0, 7);
  CHECK(refused(damaged));
  damaged = bytes;
  put<std::uint64_t>(damaged, 16 + 8, 1'000'000);
  CHECK(refused(damaged));
  damaged = bytes;
  put<std::uint32_t>(damaged, 16 + 4, 0);
  CHECK(refused(damaged));
}
