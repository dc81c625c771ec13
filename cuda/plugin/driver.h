#pragma once

#include <string>

// What files say of the machine's NVIDIA driver, without a library of NVIDIA's.
namespace qgrpo::cuda {

// Whether there is one for a GPU: Linux's own, or Windows' below WSL.
bool driver_present();

// "535.161.08"; empty where the system does not say.
std::string driver_release();

// The CUDA version that the driver's own library answers with, 12020 for 12.2; 0: there is none.
int driver_cuda_version();

}  // namespace qgrpo::cuda
