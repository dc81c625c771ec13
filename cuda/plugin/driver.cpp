#include "cuda/plugin/driver.h"

#include <dlfcn.h>

#include <filesystem>
#include <fstream>

namespace qgrpo::cuda {

namespace fs = std::filesystem;

bool driver_present() {
  std::error_code ignored;
  return fs::exists("/dev/nvidiactl", ignored) || fs::exists("/dev/dxg", ignored);
}

std::string driver_release() {
  std::ifstream file("/sys/module/nvidia/version");
  std::string release;
  std::getline(file, release);
  return release;
}

int driver_cuda_version() {
  void* handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return 0;
  auto* ask = reinterpret_cast<int (*)(int*)>(dlsym(handle, "cuDriverGetVersion"));
  int version = 0;
  if (ask == nullptr || ask(&version) != 0) version = 0;
  return version;
}

}  // namespace qgrpo::cuda
