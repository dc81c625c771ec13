#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "softgpu/exec/device_memory.h"

using softgpu::Allocation;
using softgpu::DeviceMemory;
using softgpu::MemoryCursor;
using softgpu::MemoryError;
using softgpu::MemoryKind;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("addresses are aligned to 256 bytes and to no more") {
  DeviceMemory memory(64 * kMiB);
  for (const std::uint64_t bytes : {1, 255, 256, 65280, 65281, 200000}) {
    const std::uint64_t address = memory.allocate(bytes);
    REQUIRE(address != 0);
    CHECK(address % 256 == 0);
    CHECK(address % 512 != 0);
    CHECK(DeviceMemory::is_device_address(address));
    CHECK(memory.find(address)->contains(address, bytes));
    CHECK_FALSE(memory.find(address)->contains(address, bytes + 1));
    CHECK(memory.find(address + bytes - 1) == memory.find(address));
  }
}

TEST_CASE("a stray access is told from a good one, and explained") {
  DeviceMemory memory(64 * kMiB);
  const std::uint64_t first = memory.allocate(1000);
  const std::uint64_t second = memory.allocate(1000);
  const auto refused = [&](std::uint64_t address, std::uint64_t bytes, const char* why) {
    const Allocation* found = memory.find(address);
    CHECK((found == nullptr || !found->contains(address, bytes)));
    INFO(memory.diagnose(address, bytes));
    CHECK(mentions(memory.diagnose(address, bytes), why));
  };
  refused(first + 998, 4, "ends 2 bytes beyond the end of device allocation #1 of 1000 bytes");
  refused(first + 1000, 4, "begins 0 bytes beyond the end of device allocation #1");
  refused(first + 65536, 1, "begins 64536 bytes beyond the end of device allocation #1");
  refused(second - 4, 4, "4 bytes before the beginning of device allocation #2");
  refused(second + (std::uint64_t{1} << 30), 4, "never allocated");
  refused(0, 4, "null pointer");
  int local = 0;
  refused(reinterpret_cast<std::uint64_t>(&local), 4, "ordinary host memory");
  CHECK(memory.free(first).empty());
  refused(first, 4, "use after free");
  CHECK(mentions(memory.free(first), "freed already"));
  CHECK(mentions(memory.free(second + 256), "not the beginning"));
  CHECK(mentions(memory.free(12345), "no device allocation"));
}

TEST_CASE("addresses of freed memory do not come back") {
  DeviceMemory memory(kMiB);
  const std::uint64_t first = memory.allocate(kMiB);
  REQUIRE(first != 0);
  CHECK(memory.allocate(1) == 0);
  CHECK(memory.free(first).empty());
  CHECK(memory.used() == 0);
  const std::uint64_t second = memory.allocate(kMiB);
  CHECK(second != 0);
  CHECK(second != first);
  CHECK(memory.live_allocations() == 1);
  memory.free_all();
  CHECK(memory.live_allocations() == 0);
  CHECK_FALSE(memory.find(second)->contains(second, 1));
}

TEST_CASE("written bytes are known, and copies carry the marks along") {
  DeviceMemory memory(kMiB);
  const std::uint64_t source = memory.allocate(100), copy = memory.allocate(100);
  CHECK(memory.count_uninitialised(source, 100) == 100);
  const std::array<char, 10> text = {"012345678"};
  memory.write(source + 20, text.data(), text.size());
  memory.fill(source + 50, 7, 10);
  CHECK(memory.count_uninitialised(source, 100) == 80);
  memory.fill(copy, 0, 100);
  memory.copy(copy, source, 100);
  CHECK(memory.count_uninitialised(copy, 100) == 80);
  CHECK(memory.count_uninitialised(copy + 20, 10) == 0);
  std::array<char, 10> back{};
  memory.read(back.data(), copy + 20, back.size());
  CHECK(back == text);
  // What nobody wrote is no plausible value.
  std::uint32_t garbage = 0;
  memory.read(&garbage, source, sizeof garbage);
  CHECK(garbage == 0xFFFFFFFFu);
  CHECK_THROWS_AS(memory.write(source + 95, text.data(), text.size()), MemoryError);
  CHECK_THROWS_AS(memory.fill(copy + 100, 0, 1), MemoryError);
  CHECK_NOTHROW(memory.fill(copy + 100, 0, 0));
}

TEST_CASE("host memory is visible to the device while it is mapped") {
  DeviceMemory memory(kMiB);
  std::vector<int> host(16, 5);
  const auto address = reinterpret_cast<std::uint64_t>(host.data());
  REQUIRE(memory.map_host(host.data(), 64));
  CHECK_FALSE(memory.map_host(host.data() + 4, 8));
  const Allocation* found = memory.find(address + 60);
  REQUIRE(found != nullptr);
  CHECK(found->kind == MemoryKind::kHost);
  CHECK(found->contains(address + 60, 4));
  CHECK_FALSE(found->contains(address + 60, 8));
  CHECK(memory.count_uninitialised(address, 64) == 0);
  CHECK(memory.unmap_host(host.data()));
  CHECK(memory.find(address) == nullptr);
  CHECK_FALSE(memory.unmap_host(host.data()));
}

TEST_CASE("a cursor follows accesses from one allocation to another") {
  DeviceMemory memory(kMiB);
  const std::uint64_t a = memory.allocate(64, MemoryKind::kVariable, "table");
  const std::uint64_t b = memory.allocate(64);
  MemoryCursor cursor(memory);
  CHECK(cursor.resolve(a, 64)->begin == a);
  CHECK(cursor.resolve(b + 32, 32)->begin == b);
  CHECK(cursor.resolve(b + 32, 33) == nullptr);
  CHECK(cursor.resolve(a + 1, 1)->begin == a);
  CHECK(mentions(memory.diagnose(a + 64, 1), "__device__ variable 'table'"));
}
