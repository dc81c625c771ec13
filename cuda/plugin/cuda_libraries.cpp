#include "cuda/plugin/cuda_libraries.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

namespace qgrpo::cuda {
namespace {

namespace fs = std::filesystem;

// PACKAGES/qgrpo of a program PACKAGES/qgrpo/bin/qgrpo; empty for one that is no wheel's.
// PACKAGES/qgrpo/__init__.py tells them apart.
fs::path wheel_root() {
  std::error_code ignored;
  const fs::path root = fs::read_symlink("/proc/self/exe", ignored).parent_path().parent_path();
  return fs::exists(root / "__init__.py", ignored) ? root : fs::path();
}

// The wheels of CUDA 13 share a folder; before, each has one.
std::vector<std::string> wheel_folders() {
  std::vector<std::string> folders;
  const fs::path root = wheel_root();
  if (root.empty()) return folders;
  for (const std::string& part : {fmt::format("cu{}", QGRPO_CUDA_MAJOR),
                                  std::string("cuda_runtime"), std::string("cublas")}) {
    folders.push_back((root.parent_path() / "nvidia" / part / "lib").string());
  }
  return folders;
}

}  // namespace

std::string linker_reason() {
  std::string reason = dlerror();
  const std::string_view none = ": No such file or directory";
  if (reason.ends_with(none)) reason.erase(reason.size() - none.size());
  return reason;
}

void* open_cuda_library(const std::string& name, std::string& reason) {
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  reason = linker_reason();
  std::error_code ignored;
  for (const std::string& folder : wheel_folders()) {
    const std::string file = folder + "/" + name;
    if (!fs::exists(file, ignored)) continue;
    handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return handle;
    reason = linker_reason();
  }
  return nullptr;
}

std::string cuda_library_remedy(const std::string& part) {
  // From a package index only what is already from there: the name may be another's.
  if (!wheel_root().empty()) return fmt::format("pip install 'qgrpo[cuda{}]'", QGRPO_CUDA_MAJOR);
  return fmt::format("install CUDA {}'s {}, or name its folder in LD_LIBRARY_PATH",
                     QGRPO_CUDA_MAJOR, part);
}

}  // namespace qgrpo::cuda
