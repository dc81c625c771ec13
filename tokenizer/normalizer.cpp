#include "tokenizer/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uniset.h>

#include "model/io/utf8.h"
#include "model/ops/error.h"

namespace qgrpo::tokenizer {
namespace {

struct Normalizers {
  const icu::Normalizer2* current;
  icu::UnicodeSet unicode_9;
  icu::FilteredNormalizer2 filtered;  // passes over all characters outside of unicode_9

  explicit Normalizers(UErrorCode& status)
      : current(icu::Normalizer2::getNFCInstance(status)),
        unicode_9(UNICODE_STRING_SIMPLE("[:Age=9.0:]"), status),
        filtered(*current, unicode_9) {
    unicode_9.freeze();
  }
};

const Normalizers& normalizers() {
  static UErrorCode status = U_ZERO_ERROR;
  static const Normalizers all(status);
  require(U_SUCCESS(status), "cannot load ICU's normalisation data: {}", u_errorName(status));
  return all;
}

}  // namespace

std::string_view normalize_nfc(std::string_view text, std::string& storage) {
  if (utf8::is_ascii(text)) return text;
  require(text.size() <= INT32_MAX, "text of {} bytes is too long for one call (at most {})",
          text.size(), INT32_MAX);
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  // What is normal by the newer data is so by the older: to that, a newer mark is a base character,
  // which only keeps more of its neighbours apart.
  UErrorCode status = U_ZERO_ERROR;
  if (normalizers().current->isNormalizedUTF8(piece, status) && U_SUCCESS(status)) return text;
  storage.clear();
  icu::StringByteSink<std::string> sink(&storage);
  status = U_ZERO_ERROR;
  normalizers().filtered.normalizeUTF8(0, piece, sink, nullptr, status);
  require(U_SUCCESS(status), "NFC normalisation failed: {}", u_errorName(status));
  return storage;
}

}  // namespace qgrpo::tokenizer
