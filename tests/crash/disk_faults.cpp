// A library to be preloaded (LD_PRELOAD) that breaks a program's n-th call that changes the disk below
// a folder. Children of the program are left alone.
//
//   DISK_FAULTS_FOLDER   the folder: an absolute path without links
//   DISK_FAULTS_TRACE    a file elsewhere: gets a line "N CALL PATH" for each such call
//   DISK_FAULTS_AT       the number of the call, from 1 on; 0 or nothing: none, only the trace
//   DISK_FAULTS_MODE     kill        SIGKILL instead of the call
//                        kill-after  SIGKILL behind it
//                        tear        a write does the first half of its bytes, then SIGKILL; else as kill
//                        power       as kill, and each file loses what was not synced, as by a power cut
//                        short       a write does the first half of its bytes and says so
//                        fail        the call fails with errno DISK_FAULTS_ERRNO
//                        fail-on     so does every one from then on; with ENOSPC and EDQUOT those that take space
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "crash/faults.h"

namespace {

using qgrpo::test::faults;
using qgrpo::test::next;

std::string path_of(int descriptor) {
  std::array<char, PATH_MAX> buffer{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = readlink(link.c_str(), buffer.data(), buffer.size());
  return {buffer.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

std::string absolute(int folder, const char* path) {
  std::filesystem::path whole(path);
  if (whole.is_relative()) {
    std::error_code error;
    whole = (folder == AT_FDCWD ? std::filesystem::current_path(error)
                                : std::filesystem::path(path_of(folder))) /
            whole;
  }
  std::string text = whole.lexically_normal().string();
  if (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

template <typename Call>
int open_file(int folder, const char* name, int flags, const Call& call) {
  const int access = flags & O_ACCMODE;
  if (access == O_RDONLY && (flags & (O_CREAT | O_TRUNC)) == 0) return call();
  const std::string path = absolute(folder, name);
  if (!faults().watches(path)) return call();
  const bool fresh = !exists(path);
  // What neither makes nor empties a file changes nothing.
  const bool changes = fresh || (flags & O_TRUNC) != 0;
  const int descriptor =
      changes ? faults().run("open", path, fresh, false, [&](bool) { return call(); }) : call();
  if (descriptor >= 0) faults().opened(descriptor, changes);
  return descriptor;
}

template <typename Call>
std::FILE* open_stream(const char* name, const char* mode, const Call& call) {
  if (std::strpbrk(mode, "wa+") == nullptr) return call();
  const std::string path = absolute(AT_FDCWD, name);
  if (!faults().watches(path)) return call();
  const bool fresh = !exists(path);
  const bool changes = fresh || mode[0] == 'w';
  std::FILE* const file =
      changes ? faults().run("open", path, fresh, false, [&](bool) { return call(); }) : call();
  if (file != nullptr) faults().opened(fileno(file), changes);
  return file;
}

// A call on a path. `takes_space`: of those that a full disk refuses.
template <typename Call>
auto on_path(const char* name, int folder, const char* path, bool takes_space, const Call& call) {
  const std::string whole = absolute(folder, path);
  if (!faults().watches(whole)) return call();
  return faults().run(name, whole, takes_space, false, [&](bool) { return call(); });
}

// A write of so many bytes: call(bytes).
template <typename Call>
ssize_t write_to(const char* name, int descriptor, std::size_t bytes, const Call& call) {
  if (!faults().is_watched(descriptor)) return call(bytes);
  return faults().run(name, path_of(descriptor), true, true, [&](bool half) -> ssize_t {
    const std::size_t some = half ? bytes / 2 : bytes;
    return call(half && bytes > 1 ? some : bytes);
  });
}

template <typename Call>
int sync_file(const char* name, int descriptor, const Call& call) {
  const std::string path = path_of(descriptor);
  if (!faults().watches(path)) return call();
  const int result = faults().run(name, path, false, false, [&](bool) { return call(); });
  if (result == 0) faults().synced(descriptor);
  return result;
}

// The mode that open() has where it makes a file.
mode_t mode_of(int flags, std::va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {
// The system's headers name their parameters with underscores.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)

#define QGRPO_OPEN(NAME)                                                              \
  int NAME(const char* path, int flags, ...) {                                        \
    static const auto call = next<int(const char*, int, ...)>(#NAME);                 \
    std::va_list arguments;                                                           \
    va_start(arguments, flags);                                                       \
    const mode_t mode = mode_of(flags, arguments);                                    \
    va_end(arguments);                                                                \
    return open_file(AT_FDCWD, path, flags, [&] { return call(path, flags, mode); }); \
  }
#define QGRPO_OPENAT(NAME)                                                                  \
  int NAME(int folder, const char* path, int flags, ...) {                                  \
    static const auto call = next<int(int, const char*, int, ...)>(#NAME);                  \
    std::va_list arguments;                                                                 \
    va_start(arguments, flags);                                                             \
    const mode_t mode = mode_of(flags, arguments);                                          \
    va_end(arguments);                                                                      \
    return open_file(folder, path, flags, [&] { return call(folder, path, flags, mode); }); \
  }
QGRPO_OPEN(open)
QGRPO_OPEN(open64)
QGRPO_OPENAT(openat)
QGRPO_OPENAT(openat64)

std::FILE* fopen(const char* path, const char* mode) {
  static const auto call = next<std::FILE*(const char*, const char*)>("fopen");
  return open_stream(path, mode, [&] { return call(path, mode); });
}
std::FILE* fopen64(const char* path, const char* mode) {
  static const auto call = next<std::FILE*(const char*, const char*)>("fopen64");
  return open_stream(path, mode, [&] { return call(path, mode); });
}
int mkostemp(char* name, int flags) {
  static const auto call = next<int(char*, int)>("mkostemp");
  const int descriptor = on_path("open", AT_FDCWD, name, true, [&] { return call(name, flags); });
  if (descriptor >= 0 && faults().watches(absolute(AT_FDCWD, name)))
    faults().opened(descriptor, true);
  return descriptor;
}

int close(int descriptor) {
  static const auto call = next<int(int)>("close");
  if (!faults().is_watched(descriptor)) return call(descriptor);
  return faults().run("close", path_of(descriptor), false, false, [&](bool) {
    faults().closed(descriptor);
    return call(descriptor);
  });
}
int fclose(std::FILE* file) {
  static const auto call = next<int(std::FILE*)>("fclose");
  const int descriptor = fileno(file);
  if (!faults().is_watched(descriptor)) return call(file);
  return faults().run("close", path_of(descriptor), false, false, [&](bool) {
    faults().closed(descriptor);
    return call(file);
  });
}

ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  static const auto call = next<ssize_t(int, const void*, std::size_t)>("write");
  return write_to("write", descriptor, bytes,
                  [&](std::size_t n) { return call(descriptor, data, n); });
}
ssize_t writev(int descriptor, const iovec* parts, int count) {
  static const auto call = next<ssize_t(int, const iovec*, int)>("writev");
  std::size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return write_to("writev", descriptor, bytes, [&](std::size_t n) {
    std::vector<iovec> some(parts, parts + count);
    for (iovec& part : some) {
      part.iov_len = std::min(part.iov_len, n);
      n -= part.iov_len;
    }
    return call(descriptor, some.data(), count);
  });
}
ssize_t pwrite(int descriptor, const void* data, std::size_t bytes, off_t offset) {
  static const auto call = next<ssize_t(int, const void*, std::size_t, off_t)>("pwrite");
  return write_to("pwrite", descriptor, bytes,
                  [&](std::size_t n) { return call(descriptor, data, n, offset); });
}
ssize_t pwrite64(int descriptor, const void* data, std::size_t bytes, off64_t offset) {
  static const auto call = next<ssize_t(int, const void*, std::size_t, off64_t)>("pwrite64");
  return write_to("pwrite", descriptor, bytes,
                  [&](std::size_t n) { return call(descriptor, data, n, offset); });
}
ssize_t sendfile(int to, int from, off_t* offset, std::size_t bytes) {
  static const auto call = next<ssize_t(int, int, off_t*, std::size_t)>("sendfile");
  return write_to("sendfile", to, bytes, [&](std::size_t n) { return call(to, from, offset, n); });
}
ssize_t sendfile64(int to, int from, off64_t* offset, std::size_t bytes) {
  static const auto call = next<ssize_t(int, int, off64_t*, std::size_t)>("sendfile64");
  return write_to("sendfile", to, bytes, [&](std::size_t n) { return call(to, from, offset, n); });
}
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, std::size_t bytes,
                        unsigned flags) {
  static const auto call =
      next<ssize_t(int, off64_t*, int, off64_t*, std::size_t, unsigned)>("copy_file_range");
  return write_to("copy_file_range", to, bytes,
                  [&](std::size_t n) { return call(from, from_at, to, to_at, n, flags); });
}

int fsync(int descriptor) {
  static const auto call = next<int(int)>("fsync");
  return sync_file("fsync", descriptor, [&] { return call(descriptor); });
}
int fdatasync(int descriptor) {
  static const auto call = next<int(int)>("fdatasync");
  return sync_file("fdatasync", descriptor, [&] { return call(descriptor); });
}
int ftruncate(int descriptor, off_t size) {
  static const auto call = next<int(int, off_t)>("ftruncate");
  if (!faults().is_watched(descriptor)) return call(descriptor, size);
  return faults().run("ftruncate", path_of(descriptor), false, false,
                      [&](bool) { return call(descriptor, size); });
}
int ftruncate64(int descriptor, off64_t size) {
  return ftruncate(descriptor, size);
}
int truncate(const char* path, off_t size) {
  static const auto call = next<int(const char*, off_t)>("truncate");
  return on_path("truncate", AT_FDCWD, path, false, [&] { return call(path, size); });
}
int truncate64(const char* path, off64_t size) {
  return truncate(path, size);
}

int rename(const char* from, const char* to) {
  static const auto call = next<int(const char*, const char*)>("rename");
  return on_path("rename", AT_FDCWD, to, false, [&] { return call(from, to); });
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  static const auto call = next<int(int, const char*, int, const char*)>("renameat");
  return on_path("rename", to_folder, to, false,
                 [&] { return call(from_folder, from, to_folder, to); });
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  static const auto call = next<int(int, const char*, int, const char*, unsigned)>("renameat2");
  return on_path("renameat2", to_folder, to, false,
                 [&] { return call(from_folder, from, to_folder, to, flags); });
}
int link(const char* from, const char* to) {
  static const auto call = next<int(const char*, const char*)>("link");
  return on_path("link", AT_FDCWD, to, true, [&] { return call(from, to); });
}
int symlink(const char* target, const char* name) {
  static const auto call = next<int(const char*, const char*)>("symlink");
  return on_path("symlink", AT_FDCWD, name, true, [&] { return call(target, name); });
}
int mkdir(const char* path, mode_t mode) {
  static const auto call = next<int(const char*, mode_t)>("mkdir");
  return on_path("mkdir", AT_FDCWD, path, true, [&] { return call(path, mode); });
}
int unlink(const char* path) {
  static const auto call = next<int(const char*)>("unlink");
  return on_path("unlink", AT_FDCWD, path, false, [&] { return call(path); });
}
int unlinkat(int folder, const char* path, int flags) {
  static const auto call = next<int(int, const char*, int)>("unlinkat");
  return on_path("unlink", folder, path, false, [&] { return call(folder, path, flags); });
}
int rmdir(const char* path) {
  static const auto call = next<int(const char*)>("rmdir");
  return on_path("unlink", AT_FDCWD, path, false, [&] { return call(path); });
}
int remove(const char* path) {
  static const auto call = next<int(const char*)>("remove");
  return on_path("unlink", AT_FDCWD, path, false, [&] { return call(path); });
}

// NOLINTEND(readability-inconsistent-declaration-parameter-name)
}  // extern "C"
