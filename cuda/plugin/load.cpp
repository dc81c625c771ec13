#include "cuda/plugin/load.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "cuda/plugin/cuda_libraries.h"
#include "cuda/plugin/driver.h"
#include "model/ops/error.h"
#include "qgrpo_build_version.h"

namespace qgrpo::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libqgrpo_cuda.so";

// Where a backend may lie, and the major version of CUDA that it takes.
struct Place {
  fs::path file;
  int major = 0;
};

// Beside the program (a build folder); installed; installed beside that one, for older drivers. Empty
// where the system does not say where the program lies.
std::vector<Place> plugin_places() {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  if (!folder.is_absolute()) return {};
  const fs::path installed = folder.parent_path() / "lib/qgrpo";
  std::vector<Place> places = {{folder / kLibrary, QGRPO_CUDA_MAJOR},
                               {installed / kLibrary, QGRPO_CUDA_MAJOR}};
  if (QGRPO_CUDA_MAJOR > 12) places.push_back({installed / "cuda12" / kLibrary, 12});
  return places;
}

std::vector<Place> plugins() {
  std::vector<Place> found;
  std::error_code ignored;
  for (Place& place : plugin_places()) {
    if (fs::exists(place.file, ignored)) found.push_back(std::move(place));
  }
  return found;
}

// The first that the driver is new enough for; the first of all where it suits none, whose own error
// is then the user's. The software GPU's runtime needs no driver.
const Place& suitable(const std::vector<Place>& found) {
  if (found.size() == 1) return found.front();
  const int driver = driver_cuda_version();
  const auto suits = [&](const Place& place) {
    return driver == 0 || driver >= place.major * 1000;
  };
  const auto chosen = std::find_if(found.begin(), found.end(), suits);
  return chosen == found.end() ? found.front() : *chosen;
}

Plugin& open_plugin(const Place& place) {
  const std::string file = place.file.string();
  // Opened first, and from more places than the linker knows: the backend's own reference to it is
  // then the same by its name. Where that fails, the backend's run path may still have it.
  std::string ignored;
  open_cuda_library(fmt::format("libcudart.so.{}", place.major), place.major, ignored);
  // Global: the software GPU's counters are found in the process's symbols (bench/device_counts.cpp).
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) {
    std::string reason = linker_reason();
    if (reason.starts_with(file + ": ")) reason.erase(0, file.size() + 2);
    const bool runtime = reason.find("libcudart") != std::string::npos;
    fail("{}: {}{}", file, reason,
         runtime ? "; " + cuda_library_remedy("runtime", place.major) : "");
  }
  const auto* entry = static_cast<const PluginEntry*>(dlsym(handle, kPluginEntryName));
  require(entry != nullptr, "{}: has no {}: it is not qgrpo's CUDA backend; install qgrpo anew",
          file, kPluginEntryName);
  require(std::string_view(entry->build) == QGRPO_BUILD_ID,
          "{}: is of qgrpo {}, and this program is of {}; install both from one package", file,
          entry->build, QGRPO_BUILD_ID);
  return *entry->plugin();
}

}  // namespace

CudaBuild cuda_build() {
  return {QGRPO_CUDA_MAJOR > 0, QGRPO_CUDA_TOOLKIT, QGRPO_CUDA_ARCHITECTURES};
}

std::vector<std::string> plugin_files() {
  std::vector<std::string> files;
  for (const Place& place : plugins()) files.push_back(place.file.string());
  return files;
}

Plugin& load_plugin() {
  require(cuda_build().built, "this build has no CUDA backend");
  static Plugin& plugin = []() -> Plugin& {
    const std::vector<Place> found = plugins();
    if (found.empty()) {
      const std::vector<Place> places = plugin_places();
      require(!places.empty(), "{}: /proc does not say where this program lies", kLibrary);
      fail("{}: found neither in {} nor in {}; install qgrpo anew", kLibrary,
           places[0].file.parent_path().string(), places[1].file.parent_path().string());
    }
    return open_plugin(suitable(found));
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
