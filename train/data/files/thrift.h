#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

// Thrift's compact protocol, in which a Parquet file describes itself.
namespace qgrpo::train {

// Reads one structure from bytes. Throws Error, which begins with `where`, where they are no such thing: a
// length beyond the end, a nesting of more than 32.
class ThriftReader {
 public:
  ThriftReader(std::string_view bytes, std::string where);

  // Calls `field` with the number of each field of the structure that begins here. It reads the value by one of
  // the calls below, or returns false without having read, and the value is passed over.
  void fields(const std::function<bool(int number)>& field);
  // Calls `item` for each of a list's items, which it reads.
  void list(const std::function<void()>& item);
  std::int64_t whole();    // a byte, i16, i32 or i64
  std::int32_t whole32();  // of them, one that an i32 holds
  bool boolean();
  std::string_view text();  // valid as long as the bytes

  std::size_t position() const { return at_; }

 private:
  [[noreturn]] void damaged(const char* what) const;
  std::uint8_t byte();
  std::uint64_t varint();
  void skip(int type, int depth);
  void expect(int type) const;

  std::string_view bytes_;
  std::string where_;
  std::size_t at_ = 0;
  int type_ = 0;  // of the value that is next
  int depth_ = 0;
};

}  // namespace qgrpo::train
