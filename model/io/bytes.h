#pragma once

#include <cstddef>
#include <string>

// Amounts of memory: this machine's, and as text.
namespace qgrpo::io {

// Bytes of memory available on this machine now (MemAvailable).
std::size_t available_host_memory();

// "24GB", "24 GiB", "512MB", "1.5g" (decimal units for GB, binary for GiB; a bare number is GB) ->
// bytes. Throws Error.
std::size_t parse_bytes(const std::string& text);
// "1.43 GB".
std::string format_bytes(std::size_t bytes);

}  // namespace qgrpo::io
