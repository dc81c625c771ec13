// A libqgrpo_cuda.so whose sources are not the program's. Its classes must not be touched.
#include "cuda/plugin/plugin.h"

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming): a symbol's name
extern const qgrpo::cuda::PluginEntry qgrpo_cuda_plugin;
// NOLINTNEXTLINE(readability-identifier-naming)
const qgrpo::cuda::PluginEntry qgrpo_cuda_plugin = {"0.0.1 (another)", nullptr};
}
