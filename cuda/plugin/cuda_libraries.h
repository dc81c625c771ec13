#pragma once

#include <string>

// CUDA's own libraries, which are no part of qgrpo: libcudart and libcublasLt.
namespace qgrpo::cuda {

// Opens a library of CUDA ("libcudart.so.13") as the dynamic linker finds it from here: in
// LD_LIBRARY_PATH, in the run path of the caller's file, in the system's folders. Where the program
// is an installed Python wheel and the linker finds none: in the folders of NVIDIA's wheels beside
// it. Null where there is none; `reason` is then the linker's, in one line.
void* open_cuda_library(const std::string& name, std::string& reason);

// The linker's words for its last failure, without what they say twice.
std::string linker_reason();

// What to do where one of them cannot be opened; `part` is what NVIDIA calls it ("cuBLAS").
std::string cuda_library_remedy(const std::string& part);

}  // namespace qgrpo::cuda
