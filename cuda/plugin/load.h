#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cuda/plugin/plugin.h"

// Finds and opens libqgrpo_cuda.so, and what it needs.
//
// The library lies beside the program (in a build folder) or in ../lib/qgrpo of the program's folder
// (installed); there, in lib/qgrpo/cuda12, may be a second one, of CUDA 12, which is taken where the
// driver is too old for the first. Each has a run path, behind LD_LIBRARY_PATH: /usr/local/cuda/lib64, the toolkit of the
// build. More about CUDA's own libraries: cuda/plugin/cuda_libraries.h.
namespace qgrpo::cuda {

// How the CUDA backend of this build was made.
struct CudaBuild {
  bool built = false;
  std::string_view toolkit;        // "13.0.88"
  std::string_view architectures;  // "80-virtual 80-real 89-real"
};
CudaBuild cuda_build();

// The files that load_plugin() chooses from, the one for the newest drivers first.
std::vector<std::string> plugin_files();

// The backend, opened by the first call; the others return the same. Throws Error, in one line that
// says what was tried, why it failed and what to do, where the build has none, or it or a library
// that it needs cannot be opened, or it is of another build than the program.
Plugin& load_plugin();

// The backend, and whether it can compute here: where it cannot be loaded, `plugin` is null and
// the problem is load_plugin's error.
struct FoundCuda {
  Plugin* plugin = nullptr;
  Availability availability;
};
FoundCuda find_cuda();

}  // namespace qgrpo::cuda
