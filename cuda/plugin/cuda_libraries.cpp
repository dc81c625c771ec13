#include "cuda/plugin/cuda_libraries.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace qgrpo::cuda {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// PACKAGES/qgrpo of a program PACKAGES/qgrpo/bin/qgrpo; empty for one that is no wheel's.
// PACKAGES/qgrpo/__init__.py tells them apart.
fs::path wheel_root() {
  std::error_code ignored;
  const fs::path root = fs::read_symlink("/proc/self/exe", ignored).parent_path().parent_path();
  return fs::exists(root / "__init__.py", ignored) ? root : fs::path();
}

// The folders in `folder` whose names begin so, the last name first: python3.12 before python3.11.
std::vector<fs::path> beginning_with(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

// site-packages and dist-packages below a folder LIB/python3.*.
std::vector<fs::path> python_packages(const fs::path& lib) {
  std::vector<fs::path> found;
  for (const fs::path& python : beginning_with(lib, "python3")) {
    for (const char* packages : {"site-packages", "dist-packages"})
      found.push_back(python / packages);
  }
  return found;
}

class Folders {
 public:
  explicit Folders(int major) : major_(major) {}

  // NVIDIA's wheels: those of CUDA 13 share a folder; before, each has one. Older PyTorch has its own.
  void add_packages(const fs::path& packages) {
    for (const std::string& part :
         {fmt::format("cu{}", major_), std::string("cuda_runtime"), std::string("cublas")}) {
      add(packages / "nvidia" / part / "lib");
    }
    add(packages / "torch" / "lib");
  }
  void add_environment(const std::string& root) {
    if (root.empty()) return;
    for (const fs::path& packages : python_packages(fs::path(root) / "lib")) add_packages(packages);
  }
  void add_toolkit(const fs::path& root) {
    if (root.empty()) return;
    for (const char* lib : {"lib64", "lib", "targets/x86_64-linux/lib"}) add(root / lib);
  }

  std::vector<std::string> found;

 private:
  void add(const fs::path& folder) {
    std::error_code ignored;
    if (folder.is_absolute() && fs::is_directory(folder, ignored)) found.push_back(folder.string());
  }

  int major_;
};

void* open_in(const std::string& folder, const std::string& name, std::string& reason) {
  const std::string file = folder + "/" + name;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return nullptr;
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) reason = linker_reason();
  return handle;
}

}  // namespace

std::string linker_reason() {
  std::string reason = dlerror();
  const std::string_view none = ": No such file or directory";
  if (reason.ends_with(none)) reason.erase(reason.size() - none.size());
  return reason;
}

std::vector<std::string> cuda_library_folders(int major) {
  Folders folders(major);
  if (const fs::path wheel = wheel_root(); !wheel.empty())
    folders.add_packages(wheel.parent_path());
  folders.add_environment(variable("VIRTUAL_ENV"));
  folders.add_environment(variable("CONDA_PREFIX"));
  folders.add_toolkit(variable("CONDA_PREFIX"));
  folders.add_toolkit(variable("CUDA_HOME"));
  folders.add_toolkit(variable("CUDA_PATH"));
  folders.add_toolkit("/usr/local/cuda");
  for (const fs::path& toolkit : beginning_with("/usr/local", fmt::format("cuda-{}", major)))
    folders.add_toolkit(toolkit);
  if (const std::string home = variable("HOME"); !home.empty())
    folders.add_environment(home + "/.local");
  for (const char* root : {"/usr/local", "/usr", "/opt/conda"}) folders.add_environment(root);
  return folders.found;
}

void* open_cuda_library(const std::string& name, int major, std::string& reason) {
  Folders asked(major);
  std::string_view path;
  const std::string wanted = variable("QGRPO_CUDA_PATH");
  for (std::string_view rest = wanted; !rest.empty();) {
    path = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), path.size() + 1));
    if (void* handle = open_in(std::string(path), name, reason)) return handle;
    asked.add_toolkit(fs::path(path));
    asked.add_packages(fs::path(path));
  }
  for (const std::string& folder : asked.found) {
    if (void* handle = open_in(folder, name, reason)) return handle;
  }
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  reason = linker_reason();
  for (const std::string& folder : cuda_library_folders(major)) {
    if ((handle = open_in(folder, name, reason)) != nullptr) return handle;
  }
  return nullptr;
}

std::string cuda_library_remedy(const std::string& part, int major) {
  // From a package index only what is already from there: the name may be another's.
  if (!wheel_root().empty()) return fmt::format("pip install 'qgrpo[cuda{}]'", major);
  return fmt::format("install CUDA {}'s {}, or name its folder in QGRPO_CUDA_PATH", major, part);
}

}  // namespace qgrpo::cuda
