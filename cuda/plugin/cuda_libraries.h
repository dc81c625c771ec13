#pragma once

#include <string>
#include <vector>

// CUDA's own libraries, which are no part of qgrpo: libcudart and libcublasLt.
namespace qgrpo::cuda {

// Opens a library of CUDA `major` ("libcudart.so.13"): in the folders of QGRPO_CUDA_PATH; as the
// dynamic linker finds it from here (LD_LIBRARY_PATH, the run path of the caller's file, the system's
// folders); in cuda_library_folders(). Null where there is none; `reason` is then the linker's, in
// one line.
void* open_cuda_library(const std::string& name, int major, std::string& reason);

// Where else CUDA's libraries lie, in this order, as far as the folders exist: NVIDIA's wheels beside
// an installed Python wheel; those (PyTorch brings them) of the active Python environment
// (VIRTUAL_ENV, CONDA_PREFIX), of the user's and of the system's Python; toolkits (CUDA_HOME,
// CUDA_PATH, /usr/local/cuda, /usr/local/cuda-MAJOR.*).
std::vector<std::string> cuda_library_folders(int major);

// The linker's words for its last failure, without what they say twice.
std::string linker_reason();

// What to do where one of them cannot be opened; `part` is what NVIDIA calls it ("cuBLAS").
std::string cuda_library_remedy(const std::string& part, int major);

}  // namespace qgrpo::cuda
