#include "train/data/files/unpack.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "model/io/bytes.h"
#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;

// The end of `out` as room for a piece that is unpacked next.
class Output {
 public:
  Output(std::string path, std::size_t most) : path_(std::move(path)), most_(most) {}

  char* room() {
    if (text_.size() < used_ + kPiece)
      text_.resize(std::max(used_ + kPiece, text_.size() + text_.size() / 2));
    return text_.data() + used_;
  }
  void take(std::size_t bytes) {
    used_ += bytes;
    require(used_ <= most_,
            "{}: unpacked it has more than {}, expected at most that (half of the free memory): "
            "cut the "
            "data set into several files",
            path_, io::format_bytes(most_));
  }
  std::string finish() {
    text_.resize(used_);
    return std::move(text_);
  }

 private:
  std::string path_;
  std::size_t most_;
  std::string text_;
  std::size_t used_ = 0;
};

std::string gunzip(const std::string& packed, const std::string& path, std::size_t most) {
  z_stream stream{};
  require(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, "{}: cannot be unpacked", path);
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  Output out(path, most);
  std::size_t read = 0;
  int status = Z_OK;
  while (status == Z_OK ||
         (status == Z_STREAM_END && (read < packed.size() || stream.avail_in > 0))) {
    if (status == Z_STREAM_END) inflateReset(&stream);  // another member follows
    if (stream.avail_in == 0 && read < packed.size()) {
      const std::size_t more = std::min<std::size_t>(packed.size() - read, std::size_t{1} << 30);
      // zlib does not write there
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + read));
      stream.avail_in = static_cast<uInt>(more);
      read += more;
    }
    stream.next_out = reinterpret_cast<Bytef*>(out.room());
    stream.avail_out = static_cast<uInt>(kPiece);
    status = inflate(&stream, Z_NO_FLUSH);
    out.take(kPiece - stream.avail_out);
  }
  require(status == Z_STREAM_END, "{}: the gzip file is damaged or cut off", path);
  return out.finish();
}

std::string unzstd(const std::string& packed, const std::string& path, std::size_t most) {
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                        ZSTD_freeDCtx);
  require(context != nullptr, "{}: cannot be unpacked", path);
  Output out(path, most);
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  std::size_t left = 0;  // 0: the end of a frame
  while (in.pos < in.size) {
    ZSTD_outBuffer piece{out.room(), kPiece, 0};
    const std::size_t before = in.pos;
    left = ZSTD_decompressStream(context.get(), &piece, &in);
    require(ZSTD_isError(left) == 0u, "{}: the zstd file is damaged ({})", path,
            ZSTD_getErrorName(left));
    out.take(piece.pos);
    if (piece.pos == 0 && in.pos == before) break;
  }
  // What the decoder still holds of the last bytes.
  while (left != 0) {
    ZSTD_outBuffer piece{out.room(), kPiece, 0};
    left = ZSTD_decompressStream(context.get(), &piece, &in);
    require(ZSTD_isError(left) == 0u && (left == 0 || piece.pos > 0),
            "{}: the zstd file is damaged or cut off", path);
    out.take(piece.pos);
  }
  return out.finish();
}

}  // namespace

Packing packing_of(const std::string& content) {
  if (content.starts_with("\x1f\x8b")) return Packing::gzip;
  if (content.starts_with("\x28\xb5\x2f\xfd")) return Packing::zstd;
  return Packing::none;
}

std::size_t most_unpacked_bytes() {
  return std::min(std::size_t{32} << 30, io::available_host_memory() / 2);
}

std::string unpack(const std::string& packed, Packing packing, const std::string& path,
                   std::size_t most) {
  switch (packing) {
    case Packing::none:
      return packed;
    case Packing::gzip:
      return gunzip(packed, path, most);
    case Packing::zstd:
      return unzstd(packed, path, most);
  }
  fail("{}: cannot be unpacked", path);
}

}  // namespace qgrpo::train
