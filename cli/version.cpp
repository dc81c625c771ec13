#include "cli/version.h"

#include <fmt/format.h>

#include "cpu/dispatch.h"
#include "cuda/plugin/load.h"
#include "model/ops/error.h"
#include "train/run/run_folder.h"

namespace qgrpo::cli {
namespace {

std::string cpu_text() {
  try {
    return std::string(cpu::isa_name(cpu::active_isa()));
  } catch (const Error& error) {
    return error.what();
  }
}

std::string cuda_text() {
  const cuda::CudaBuild build = cuda::cuda_build();
  if (!build.built) return "not built";
  const std::string file = cuda::plugin_file();
  return fmt::format("toolkit {}, architectures {}, {}", build.toolkit, build.architectures,
                     file.empty() ? "libqgrpo_cuda.so is missing" : file);
}

}  // namespace

std::string version_text() {
  const auto build = train::build_versions();
  return fmt::format("qgrpo {} ({})\ncpu: {}\ncuda: {}\nbuild: {}, {}\nlibraries: {}",
                     build.at("version"), build.at("git"), cpu_text(), cuda_text(),
                     build.at("compiler"), build.at("build"), build.at("libraries"));
}

}  // namespace qgrpo::cli
