#include "train/data/files/parquet_encodings.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

std::string_view take(std::string_view& in, std::size_t bytes) {
  require(bytes <= in.size(), "a page ends early");
  const std::string_view out = in.substr(0, bytes);
  in.remove_prefix(bytes);
  return out;
}

template <typename T>
T fixed_number(std::string_view& in) {
  T value;
  std::memcpy(&value, take(in, sizeof value).data(), sizeof value);
  return value;
}

std::uint64_t varint(std::string_view& in) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<std::uint8_t>(take(in, 1)[0]);
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  fail("a number is too long");
}

std::uint64_t zigzag(std::string_view& in) {
  const std::uint64_t value = varint(in);
  return value >> 1 ^ (0 - (value & 1));
}

// `width` bits from the bit `at` on, the lowest first. Bits behind the end are 0.
std::uint64_t bits_at(std::string_view in, std::size_t at, int width) {
  std::uint64_t value = 0;
  for (int have = 0; have < width;) {
    const std::size_t byte = at / 8;
    const int offset = static_cast<int>(at % 8);
    const int count = std::min(8 - offset, width - have);
    const std::uint64_t found = byte < in.size() ? static_cast<std::uint8_t>(in[byte]) : 0;
    value |= (found >> offset & ((1u << count) - 1)) << have;
    have += count;
    at += static_cast<std::size_t>(count);
  }
  return value;
}

// The bits of a whole number as 64 bits.
std::uint64_t extended(std::uint32_t value, const ParquetStorage& storage) {
  if (storage.meaning == ParquetMeaning::unsigned_whole) return value;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(value)));
}

std::uint64_t from_float(std::uint32_t bits) {
  return std::bit_cast<std::uint64_t>(static_cast<double>(std::bit_cast<float>(bits)));
}

std::size_t bytes_of(const ParquetStorage& storage) {
  switch (storage.type) {
    case ParquetType::int32:
    case ParquetType::float32:
      return 4;
    case ParquetType::int64:
    case ParquetType::float64:
      return 8;
    case ParquetType::int96:
      return 12;
    case ParquetType::fixed:
      return storage.width;
    default:
      return 0;
  }
}

ParquetValue value_of(std::string_view bytes, const ParquetStorage& storage) {
  switch (storage.type) {
    case ParquetType::int32:
      return {{}, extended(fixed_number<std::uint32_t>(bytes), storage)};
    case ParquetType::float32:
      return {{}, from_float(fixed_number<std::uint32_t>(bytes))};
    case ParquetType::int64:
    case ParquetType::float64:
      return {{}, fixed_number<std::uint64_t>(bytes)};
    default:
      return {bytes, 0};
  }
}

}  // namespace

std::vector<std::uint32_t> decode_hybrid(std::string_view& in, int width, std::size_t count) {
  require(width >= 0 && width <= 32, "a page has values of {} bits", width);
  std::vector<std::uint32_t> out;
  while (out.size() < count) {
    const std::uint64_t header = varint(in);
    if ((header & 1) != 0) {
      const std::uint64_t groups = header >> 1;
      require(groups <= count, "a page has a run beyond its end");
      // The last group may be cut off behind the last value.
      const std::string_view packed =
          take(in, std::min<std::size_t>(groups * static_cast<std::size_t>(width), in.size()));
      const std::size_t here = std::min<std::size_t>(groups * 8, count - out.size());
      require((here * static_cast<std::size_t>(width) + 7) / 8 <= packed.size(),
              "a page ends early");
      for (std::size_t i = 0; i < here; ++i)
        out.push_back(static_cast<std::uint32_t>(
            bits_at(packed, i * static_cast<std::size_t>(width), width)));
    } else {
      const std::uint64_t run = header >> 1;
      const std::string_view bytes = take(in, static_cast<std::size_t>(width + 7) / 8);
      out.insert(out.end(), std::min<std::uint64_t>(run, count - out.size()),
                 static_cast<std::uint32_t>(bits_at(bytes, 0, width)));
    }
  }
  return out;
}

std::vector<std::uint64_t> decode_delta(std::string_view& in, std::size_t most) {
  const std::uint64_t block = varint(in);
  const std::uint64_t parts = varint(in);
  const std::uint64_t count = varint(in);
  std::uint64_t value = zigzag(in);
  require(block > 0 && block <= (1u << 20) && parts > 0 && parts <= block && block % parts == 0 &&
              block / parts % 32 == 0,
          "a page has blocks of {} values in {} parts", block, parts);
  require(count <= most, "a page has {} values, expected at most {}", count, most);
  const std::uint64_t part = block / parts;
  std::vector<std::uint64_t> out;
  if (count > 0) out.push_back(value);
  while (out.size() < count) {
    const std::uint64_t least = zigzag(in);
    const std::string_view widths = take(in, parts);
    for (std::uint64_t p = 0; p < parts && out.size() < count; ++p) {
      const int width = static_cast<std::uint8_t>(widths[p]);
      require(width <= 64, "a page has values of {} bits", width);
      const std::string_view packed = take(in, part * static_cast<std::size_t>(width) / 8);
      for (std::uint64_t i = 0; i < part && out.size() < count; ++i) {
        value += least + bits_at(packed, i * static_cast<std::size_t>(width), width);
        out.push_back(value);
      }
    }
  }
  return out;
}

void decode_plain(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                  std::vector<ParquetValue>& out) {
  if (storage.type == ParquetType::boolean) {
    const std::string_view packed = take(in, (count + 7) / 8);
    for (std::size_t i = 0; i < count; ++i) out.push_back({{}, bits_at(packed, i, 1)});
    return;
  }
  const std::size_t width = bytes_of(storage);
  require(storage.type == ParquetType::bytes || width > 0, "its values have no width");
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bytes =
        storage.type == ParquetType::bytes ? fixed_number<std::uint32_t>(in) : width;
    out.push_back(value_of(take(in, bytes), storage));
  }
}

void decode_split(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                  std::vector<ParquetValue>& out) {
  const std::size_t width = bytes_of(storage);
  require(width == 4 || width == 8, "BYTE_STREAM_SPLIT of values that are no numbers is not read");
  require(count <= in.size() / width, "a page ends early");
  const std::string_view streams = take(in, count * width);
  std::string bytes(width, '\0');
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t k = 0; k < width; ++k) bytes[k] = streams[k * count + i];
    out.push_back({{}, value_of(bytes, storage).bits});
  }
}

void decode_delta_numbers(std::string_view& in, const ParquetStorage& storage, std::size_t count,
                          std::vector<ParquetValue>& out) {
  require(storage.type == ParquetType::int32 || storage.type == ParquetType::int64,
          "DELTA_BINARY_PACKED of values that are no whole numbers");
  for (const std::uint64_t value : decode_delta(in, count)) {
    out.push_back({{},
                   storage.type == ParquetType::int64
                       ? value
                       : extended(static_cast<std::uint32_t>(value), storage)});
  }
}

void decode_delta_lengths(std::string_view& in, std::size_t count, std::vector<ParquetValue>& out) {
  for (const std::uint64_t length : decode_delta(in, count)) out.push_back({take(in, length), 0});
}

void decode_delta_texts(std::string_view& in, std::size_t count, std::size_t most,
                        std::deque<std::string>& store, std::vector<ParquetValue>& out) {
  const std::vector<std::uint64_t> kept = decode_delta(in, count);
  const std::vector<std::uint64_t> added = decode_delta(in, count);
  require(kept.size() == added.size(), "a page has {} beginnings and {} ends", kept.size(),
          added.size());
  std::string_view before;
  std::size_t used = 0;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    require(kept[i] <= before.size(), "a page has a text that begins as none does");
    const std::string_view end = take(in, added[i]);
    used += static_cast<std::size_t>(kept[i]) + end.size();
    require(used <= most, "its texts take more than {} bytes", most);
    store.push_back(std::string(before.substr(0, kept[i])).append(end));
    before = store.back();
    out.push_back({before, 0});
  }
}

}  // namespace qgrpo::train
