#include "train/run/checkpoint_manifest.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "model/io/file.h"
#include "model/io/hash.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kStateFile = "trainer_state.json";
constexpr std::string_view kChecksum = ", \"checksum\": \"";

std::uint64_t checksum_of(std::string_view bytes) {
  io::Hash64 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.value();
}

FileSum sum_of(const std::string& path) {
  const io::MappedFile file(path);
  io::Hash64 hash;
  hash.add(file.bytes().data(), file.bytes().size());
  return {file.bytes().size(), hash.value()};
}

std::string file_damage(const std::string& path, const FileSum& expected) {
  std::error_code error;
  if (!fs::exists(path, error)) return fmt::format("{}: is missing", path);
  const std::uint64_t bytes = fs::file_size(path, error);
  if (error) return fmt::format("{}: cannot be read ({})", path, error.message());
  if (bytes != expected.bytes) {
    return fmt::format("{}: is damaged: found {} bytes, expected {}", path, bytes, expected.bytes);
  }
  try {
    const FileSum found = sum_of(path);
    if (found == expected) return "";
    return fmt::format("{}: is damaged: found the checksum {}, expected {}", path,
                       hex(found.checksum), hex(expected.checksum));
  } catch (const Error& reason) {
    return reason.what();
  }
}

// Of a checkpoint without a manifest.
std::string tensor_damage(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".safetensors") names.push_back(entry.path().string());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& path : names) {
    try {
      const io::SafetensorsFile file(path);
    } catch (const Error&) {
      return fmt::format("{}: is damaged: its length and its header do not agree", path);
    }
  }
  return "";
}

// Whether the text ends with the checksum of what is before; nothing: with none.
std::optional<bool> seal_holds(std::string_view text) {
  const std::size_t at = text.rfind(kChecksum);
  if (at == std::string_view::npos) return std::nullopt;
  return text.substr(at) ==
         fmt::format("{}{}\"}}\n", kChecksum, hex(checksum_of(text.substr(0, at))));
}

}  // namespace

std::string hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

std::uint64_t parse_hex(const io::JsonValue& value) {
  const std::string_view text = value.as_string_view();
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  require(error == std::errc() && end == text.data() + text.size(),
          "{}: \"{}\" is not a hexadecimal number", value.where(), text);
  return out;
}

Manifest make_manifest(const std::string& folder, std::initializer_list<std::string_view> without) {
  Manifest manifest;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    const bool left_out = name == kStateFile || name.ends_with(".tmp") ||
                          std::find(without.begin(), without.end(), name) != without.end();
    if (!left_out && entry.is_regular_file()) manifest[name] = sum_of(entry.path().string());
  }
  return manifest;
}

void write_manifest(io::JsonWriter& w, const Manifest& manifest) {
  w.begin_object();
  for (const auto& [name, sum] : manifest) {
    w.key(name);
    w.begin_object();
    w.member("bytes", static_cast<std::int64_t>(sum.bytes));
    w.member("checksum", hex(sum.checksum));
    w.end_object();
  }
  w.end_object();
}

Manifest read_manifest(const io::JsonValue& value) {
  Manifest manifest;
  for (const auto& [name, sum] : value.as_object()) {
    manifest[name] = {static_cast<std::uint64_t>(sum.at("bytes").as_int()),
                      parse_hex(sum.at("checksum"))};
  }
  return manifest;
}

std::string seal(const std::string& json_object) {
  const std::string before = json_object.substr(0, json_object.size() - 1);
  return fmt::format("{}{}{}\"}}\n", before, kChecksum, hex(checksum_of(before)));
}

std::string checkpoint_damage(const std::string& folder, Look look) {
  const std::string path = fmt::format("{}/{}", folder, kStateFile);
  try {
    const std::string text = io::read_file(path, io::kMostConfigBytes);
    const std::optional<bool> holds = seal_holds(text);
    if (holds && !*holds) return path + ": is damaged: its checksum is not that of its content";
    io::JsonDocument document;
    const auto files = document.parse(text, path).find("files");
    if (files && !holds) return path + ": is damaged: its checksum is missing";
    if (look == Look::state) return "";
    if (!files) return tensor_damage(folder);
    for (const auto& [name, sum] : read_manifest(*files)) {
      if (std::string damage = file_damage(folder + "/" + name, sum); !damage.empty())
        return damage;
    }
  } catch (const Error& error) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return path + ": is missing";
    const std::string reason = error.what();
    const std::string prefix = path + ": ";
    return fmt::format("{}: is damaged ({})", path,
                       reason.starts_with(prefix) ? reason.substr(prefix.size()) : reason);
  }
  return "";
}

}  // namespace qgrpo::train
