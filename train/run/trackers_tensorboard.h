#pragma once

#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// TensorBoard's event files: TFRecord frames around Event messages of protobuf, as
// tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto have them.
namespace qgrpo::train {

using NamedNumbers = std::vector<std::pair<std::string, double>>;

// CRC-32C (Castagnoli) of the bytes.
std::uint32_t crc32c(std::string_view bytes);
// One record of a TFRecord file: length (8 bytes), its masked CRC (4), the bytes, their masked CRC
// (4), all little-endian, with masked = rotate_right(crc, 15) + 0xa282ead8.
std::string tfrecord(std::string_view bytes);

class TensorboardWriter {
 public:
  // Makes FOLDER/events.out.tfevents.SECONDS.HOST.PID.qgrpo. With first_step > 1 the file says that
  // the run goes on from there: TensorBoard then drops what an earlier file has from that step on.
  // Throws Error.
  TensorboardWriter(const std::string& folder, std::int64_t first_step);

  // One scalar each, in float32, at the wall time of the call.
  void scalars(std::int64_t step, const NamedNumbers& values);
  // A text under its text tab.
  void text(const std::string& tag, std::string_view content);
  const std::string& path() const { return path_; }

 private:
  void write(const std::string& event);

  std::string path_;
  std::ofstream file_;
};

// Removes this program's event files of an earlier run from the folder.
void remove_event_files(const std::string& folder);

}  // namespace qgrpo::train
