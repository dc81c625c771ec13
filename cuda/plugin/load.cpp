#include "cuda/plugin/load.h"

#include <dlfcn.h>

#include <array>
#include <filesystem>

#include "cuda/plugin/cuda_libraries.h"
#include "model/ops/error.h"
#include "qgrpo_build_version.h"

namespace qgrpo::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libqgrpo_cuda.so";

// Empty where the system does not say.
fs::path program_folder() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path();
}

std::array<fs::path, 2> plugin_places() {
  const fs::path folder = program_folder();
  return {folder / kLibrary, (folder.parent_path() / "lib/qgrpo" / kLibrary)};
}

Plugin& open_plugin(const std::string& file) {
  // Opened first, and from more places than the linker knows: the backend's own reference to it is
  // then the same by its name. Where that fails, the backend's run path may still have it.
  std::string ignored;
  open_cuda_library(fmt::format("libcudart.so.{}", QGRPO_CUDA_MAJOR), ignored);
  // Global: the software GPU's counters are found in the process's symbols (bench/device_counts.cpp).
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) {
    std::string reason = linker_reason();
    if (reason.starts_with(file + ": ")) reason.erase(0, file.size() + 2);
    const bool runtime = reason.find("libcudart") != std::string::npos;
    fail("{}: {}{}", file, reason, runtime ? "; " + cuda_library_remedy("runtime") : "");
  }
  const auto* entry = static_cast<const PluginEntry*>(dlsym(handle, kPluginEntryName));
  require(entry != nullptr, "{}: has no {}: it is not qgrpo's CUDA backend; install qgrpo anew",
          file, kPluginEntryName);
  require(std::string_view(entry->build) == QGRPO_BUILD_ID,
          "{}: is of qgrpo {}, and this program is of {}; install both from one package", file,
          entry->build, QGRPO_BUILD_ID);
  return *entry->plugin();
}

// Whether the machine has an NVIDIA driver for a GPU, as far as files say: Linux's own, or Windows'
// below WSL.
bool driver_present() {
  std::error_code ignored;
  return fs::exists("/dev/nvidiactl", ignored) || fs::exists("/dev/dxg", ignored);
}

}  // namespace

CudaBuild cuda_build() {
  return {QGRPO_CUDA_MAJOR > 0, QGRPO_CUDA_TOOLKIT, QGRPO_CUDA_ARCHITECTURES};
}

std::string plugin_file() {
  std::error_code ignored;
  for (const fs::path& file : plugin_places()) {
    if (!file.is_absolute()) continue;
    if (fs::exists(file, ignored)) return file.string();
  }
  return "";
}

Plugin& load_plugin() {
  require(cuda_build().built, "this build has no CUDA backend");
  static Plugin& plugin = []() -> Plugin& {
    const std::string file = plugin_file();
    if (file.empty()) {
      const auto places = plugin_places();
      fail("{}: found neither in {} nor in {}; install qgrpo anew", kLibrary,
           places[0].parent_path().string(), places[1].parent_path().string());
    }
    return open_plugin(file);
  }();
  return plugin;
}

FoundCuda find_cuda() {
  try {
    Plugin& plugin = load_plugin();
    return {&plugin, plugin.availability()};
  } catch (const Error& error) {
    return {nullptr, {driver_present(), error.what()}};
  }
}

}  // namespace qgrpo::cuda
