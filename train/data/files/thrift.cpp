#include "train/data/files/thrift.h"

#include <limits>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

constexpr int kDeepest = 32;

// The types of the compact protocol.
enum : int {
  kTrue = 1,
  kFalse = 2,
  kByte = 3,
  kI16 = 4,
  kI32 = 5,
  kI64 = 6,
  kDouble = 7,
  kBinary = 8,
  kList = 9,
  kSet = 10,
  kMap = 11,
  kStruct = 12
};

bool is_whole(int type) {
  return type >= kByte && type <= kI64;
}

}  // namespace

ThriftReader::ThriftReader(std::string_view bytes, std::string where)
    : bytes_(bytes), where_(std::move(where)), type_(kStruct) {}

void ThriftReader::damaged(const char* what) const {
  fail("{}: the description of its columns is damaged: {}", where_, what);
}

std::uint8_t ThriftReader::byte() {
  if (at_ >= bytes_.size()) damaged("it ends early");
  return static_cast<std::uint8_t>(bytes_[at_++]);
}

std::uint64_t ThriftReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const std::uint8_t b = byte();
    value |= static_cast<std::uint64_t>(b & 0x7f) << shift;
    if ((b & 0x80) == 0) return value;
  }
  damaged("a number is too long");
}

void ThriftReader::expect(int type) const {
  if (type_ != type) damaged("a field has another type");
}

void ThriftReader::fields(const std::function<bool(int number)>& field) {
  expect(kStruct);
  if (++depth_ > kDeepest) damaged("it is nested too deeply");
  std::int64_t number = 0;
  for (;;) {
    const std::uint8_t header = byte();
    if (header == 0) break;
    const int type = header & 15;
    if (header >> 4 != 0) {
      number += header >> 4;
    } else {
      type_ = kI16;
      number = whole();
    }
    if (number < 0 || number > std::numeric_limits<std::int16_t>::max())
      damaged("a field's number is out of range");
    type_ = type;
    if (!field(static_cast<int>(number))) skip(type, depth_);
  }
  --depth_;
}

void ThriftReader::list(const std::function<void()>& item) {
  if (type_ != kList && type_ != kSet) damaged("a field has another type");
  const std::uint8_t header = byte();
  const int type = header & 15;
  const std::uint64_t count = header >> 4 == 15 ? varint() : header >> 4;
  if (count > bytes_.size() - at_) damaged("a list is longer than the file");
  for (std::uint64_t i = 0; i < count; ++i) {
    type_ = type;
    item();
  }
}

std::int64_t ThriftReader::whole() {
  if (!is_whole(type_)) damaged("a field has another type");
  if (type_ == kByte) return static_cast<std::int8_t>(byte());
  const std::uint64_t zigzag = varint();
  return static_cast<std::int64_t>(zigzag >> 1) ^ -static_cast<std::int64_t>(zigzag & 1);
}

std::int32_t ThriftReader::whole32() {
  const std::int64_t value = whole();
  if (value < std::numeric_limits<std::int32_t>::min() ||
      value > std::numeric_limits<std::int32_t>::max())
    damaged("a number is out of range");
  return static_cast<std::int32_t>(value);
}

bool ThriftReader::boolean() {
  if (type_ != kTrue && type_ != kFalse) damaged("a field has another type");
  return type_ == kTrue;
}

std::string_view ThriftReader::text() {
  expect(kBinary);
  const std::uint64_t length = varint();
  if (length > bytes_.size() - at_) damaged("a text is longer than the file");
  const std::string_view out = bytes_.substr(at_, length);
  at_ += length;
  return out;
}

void ThriftReader::skip(int type, int depth) {
  if (depth > kDeepest) damaged("it is nested too deeply");
  type_ = type;
  switch (type) {
    case kTrue:
    case kFalse:
      return;
    case kByte:
    case kI16:
    case kI32:
    case kI64:
      whole();
      return;
    case kDouble:
      for (int i = 0; i < 8; ++i) byte();
      return;
    case kBinary:
      text();
      return;
    case kList:
    case kSet: {
      const std::uint8_t header = byte();
      const int item = header & 15;
      const std::uint64_t count = header >> 4 == 15 ? varint() : header >> 4;
      if (count > bytes_.size() - at_) damaged("a list is longer than the file");
      for (std::uint64_t i = 0; i < count; ++i) {
        if (item == kTrue || item == kFalse) {
          byte();
        } else {
          skip(item, depth + 1);
        }
      }
      return;
    }
    case kMap: {
      const std::uint64_t count = varint();
      if (count == 0) return;
      const std::uint8_t types = byte();
      if (count > bytes_.size() - at_) damaged("a map is longer than the file");
      for (std::uint64_t i = 0; i < count; ++i) {
        for (const int item : {types >> 4, types & 15}) {
          if (item == kTrue || item == kFalse) {
            byte();
          } else {
            skip(item, depth + 1);
          }
        }
      }
      return;
    }
    case kStruct: {
      const int before = std::exchange(depth_, depth);
      fields([](int) { return false; });
      depth_ = before;
      return;
    }
    default:
      damaged("a field has an unknown type");
  }
}

}  // namespace qgrpo::train
