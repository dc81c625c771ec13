#include "model/io/bytes.h"

#include <cctype>
#include <cmath>
#include <fstream>

#include "model/ops/error.h"

namespace qgrpo::io {

std::size_t available_host_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::size_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes >> unit) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  fail("/proc/meminfo does not say how much memory is available; give --device-memory");
}

std::size_t parse_bytes(const std::string& text) {
  std::size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    fail("\"{}\" is not a size; expected for example 24GB", text);
  }
  std::string unit;
  for (const char c : text.substr(used)) {
    if (!std::isspace(static_cast<unsigned char>(c)))
      unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  double factor = 0;
  if (unit.empty() || unit == "g" || unit == "gb") factor = 1e9;
  if (unit == "m" || unit == "mb") factor = 1e6;
  if (unit == "k" || unit == "kb") factor = 1e3;
  if (unit == "b") factor = 1;
  if (unit == "gib") factor = 1024.0 * 1024.0 * 1024.0;
  if (unit == "mib") factor = 1024.0 * 1024.0;
  require(factor > 0 && std::isfinite(number) && number * factor >= 1 && number * factor < 1e18,
          "\"{}\" is not a size; expected for example 24GB or 512MB", text);
  return static_cast<std::size_t>(number * factor);
}

std::string format_bytes(std::size_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.1f} MB", b / 1e6);
  return fmt::format("{:.1f} KB", b / 1e3);
}

}  // namespace qgrpo::io
