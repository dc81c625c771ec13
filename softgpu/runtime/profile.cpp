#include "softgpu/runtime/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "softgpu/runtime/settings.h"

namespace softgpu::runtime {
namespace {

constexpr const char* kTableSetting = "SOFTGPU_PROFILE";
constexpr const char* kFileSetting = "SOFTGPU_PROFILE_JSON";

double ratio(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
}

// A kernel's name without its parameters and anonymous namespaces.
std::string short_name(std::string name) {
  if (name.starts_with("void ")) name.erase(0, 5);  // instances of templates have their result type
  constexpr std::string_view kAnonymous = "(anonymous namespace)::";
  for (std::size_t at = name.find(kAnonymous); at < name.size(); at = name.find(kAnonymous)) {
    name.erase(at, kAnonymous.size());
  }
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0 && name.back() == ')';) {
    depth += name[i] == ')' ? 1 : name[i] == '(' ? -1 : 0;
    if (depth == 0) return name.substr(0, i);
  }
  return name;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

void Profile::add(const std::string& kernel, const LaunchShape& shape, const Counters& counters) {
  Kernel& entry = kernels_[kernel];
  ++entry.launches;
  entry.shape.threads = std::max(entry.shape.threads, shape.threads);
  entry.shape.static_shared = std::max(entry.shape.static_shared, shape.static_shared);
  entry.shape.dynamic_shared = std::max(entry.shape.dynamic_shared, shape.dynamic_shared);
  entry.counters += counters;
}

void Profile::add(const std::string& call, const LibraryCost& cost) {
  Kernel& entry = kernels_[call];
  ++entry.launches;
  entry.library = true;
  entry.counters.mma_flops += cost.flops;
  entry.counters.unique_read += cost.bytes_read;
  entry.counters.unique_written += cost.bytes_written;
  entry.counters.unique_read_sectors += (cost.bytes_read + 31) / 32;
  entry.counters.unique_written_sectors += (cost.bytes_written + 31) / 32;
}

std::string Profile::table() const {
  std::size_t width = 6;
  for (const auto& [name, kernel] : kernels_) width = std::max(width, short_name(name).size());
  std::string out =
      fmt::format("{:<{}}{:>9}{:>14}{:>7}{:>7}{:>15}{:>15}{:>15}{:>9}{:>11}{:>12}\n", "kernel",
                  width, "launches", "warp instr.", "part.", "lanes", "bytes asked", "unique read",
                  "written", "sectors", "conflicts", "mma GFLOP");
  for (const auto& [name, kernel] : kernels_) {
    const Counters& c = kernel.counters;
    // sectors: their bytes beside those asked for.
    out += fmt::format(
        "{:<{}}{:>9}{:>14}{:>6.1f}%{:>7.1f}{:>15}{:>15}{:>15}{:>8.2f}x{:>11}{:>12.3f}\n",
        short_name(name), width, kernel.launches, c.warp_instructions,
        100.0 * ratio(c.partial_instructions, c.warp_instructions),
        ratio(c.executing_lanes, c.warp_instructions), c.global_bytes(), c.unique_read,
        c.unique_written, ratio(32 * c.global_sectors(), c.global_bytes()), c.shared_conflicts(),
        static_cast<double>(c.mma_flops) / 1e9);
  }
  out += "warp instructions by class:\n";
  for (const auto& [name, kernel] : kernels_) {
    if (kernel.library) continue;
    out += fmt::format("  {}:", short_name(name));
    for (std::size_t i = 0; i < kOpClasses; ++i) {
      const std::uint64_t n = kernel.counters.by_class[i];
      if (n != 0) out += fmt::format(" {} {}", name_of(static_cast<OpClass>(i)), n);
    }
    out += '\n';
  }
  return out;
}

std::string Profile::json() const {
  std::string out = "{\"kernels\":[";
  bool first = true;
  for (const auto& [name, kernel] : kernels_) {
    const Counters& c = kernel.counters;
    out += fmt::format(
        "{}\n{{\"name\":{},\"library\":{},\"launches\":{},\"blocks\":{},\"threads_per_block\":{},"
        "\"static_shared\":{},\"dynamic_shared\":{},\"warp_instructions\":{},"
        "\"partial_instructions\":{},\"active_lanes\":{},\"executing_lanes\":{},\"mma_flops\":{},"
        "\"unique_read\":{},\"unique_written\":{},\"unique_read_sectors\":{},"
        "\"unique_written_sectors\":{},\"global_bytes\":{},\"global_sectors\":{},"
        "\"shared_conflicts\":{},\"classes\":{{",
        first ? "" : ",", quoted(name), kernel.library, kernel.launches, c.blocks,
        kernel.shape.threads, kernel.shape.static_shared, kernel.shape.dynamic_shared,
        c.warp_instructions, c.partial_instructions, c.active_lanes, c.executing_lanes, c.mma_flops,
        c.unique_read, c.unique_written, c.unique_read_sectors, c.unique_written_sectors,
        c.global_bytes(), c.global_sectors(), c.shared_conflicts());
    first = false;
    for (std::size_t i = 0; i < kOpClasses; ++i) {
      out += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", name_of(static_cast<OpClass>(i)),
                         c.by_class[i]);
    }
    out += "},\"global\":{";
    for (std::size_t i = 0; i < c.global.size(); ++i) {
      out += fmt::format("{}\"{}\":{{\"requests\":{},\"bytes\":{},\"sectors\":{}}}",
                         i == 0 ? "" : ",", name_of(static_cast<GlobalKind>(i)),
                         c.global[i].requests, c.global[i].bytes, c.global[i].sectors);
    }
    out += "},\"shared\":{";
    for (std::size_t i = 0; i < c.shared.size(); ++i) {
      out += fmt::format("{}\"{}\":{{\"requests\":{},\"wavefronts\":{},\"conflicts\":{}}}",
                         i == 0 ? "" : ",", name_of(static_cast<SharedKind>(i)),
                         c.shared[i].requests, c.shared[i].wavefronts, c.shared[i].conflicts);
    }
    out += "}}";
  }
  return out + "\n]}\n";
}

bool ProfileSink::start_from_environment() {
  const std::string setting = text_setting(kTableSetting, "0");
  print_table_ = setting == "1";
  file_ = text_setting(kFileSetting, setting == "0" || setting == "1" ? "" : setting);
  of_program_ = print_table_ || !file_.empty();
  return of_program_;
}

void ProfileSink::begin() {
  section_ = Profile();
  begun_ = true;
}

const char* ProfileSink::end() {
  if (!begun_) return nullptr;
  begun_ = false;
  json_ = section_.json();
  return json_.c_str();
}

void ProfileSink::report() const {
  if (print_table_) {
    fmt::print(stderr, "softgpu: profile\n{}", program_.table());
    if (file_.empty()) fmt::print(stderr, "{}", program_.json());
  }
  if (file_.empty()) return;
  std::FILE* file = std::fopen(file_.c_str(), "w");
  const std::string text = program_.json();
  const bool written =
      file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = file != nullptr && std::fclose(file) == 0;
  if (!written || !closed) fmt::print(stderr, "softgpu: cannot write the profile to {}\n", file_);
}

}  // namespace softgpu::runtime
