#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

#include "model/io/json.h"

// What a checkpoint consists of, so that a file that was cut, has a flipped bit or comes from another
// checkpoint is noticed before a run goes on with it. trainer_state.json has the manifest of the
// other files, and at its own end a checksum of all before it. Checksums are io::Hash64.
namespace qgrpo::train {

struct FileSum {
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
  bool operator==(const FileSum&) const = default;
};

// By path within the folder, as "adapter_model.safetensors".
using Manifest = std::map<std::string, FileSum>;

// Of all regular files in the folder and the folders in it, but for trainer_state.json, unfinished
// ones (*.tmp) and `without`. Throws Error where one cannot be read.
Manifest make_manifest(const std::string& folder,
                       std::initializer_list<std::string_view> without = {});
// As a JSON object.
void write_manifest(io::JsonWriter& writer, const Manifest& manifest);
Manifest read_manifest(const io::JsonValue& value);

// A JSON object with one more member at its end: "checksum", of all that stands before it.
std::string seal(const std::string& json_object);

// How closely a checkpoint is looked at.
enum class Look {
  state,      // trainer_state.json
  everything  // all files
};
// What is wrong with a checkpoint: "FOLDER/FILE: is damaged: ..."; empty: nothing is. One of an
// earlier version has no manifest: its tensor files must have the length that their headers say.
std::string checkpoint_damage(const std::string& folder, Look look = Look::everything);

// 16 hexadecimal digits, and back. Throws Error.
std::string hex(std::uint64_t value);
std::uint64_t parse_hex(const io::JsonValue& value);

}  // namespace qgrpo::train
