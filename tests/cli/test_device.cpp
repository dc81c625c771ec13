#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/vectors.h"

// --device on machines whose GPU cannot be used, as the software GPU plays them: what is said, and
// that nothing falls back to the CPU without a word.
#ifdef QGRPO_SOFT_GPU

namespace qgrpo::test {
namespace {

namespace fs = std::filesystem;

ProgramResult score(std::vector<std::string> machine, const std::string& device) {
  machine.insert(machine.begin(), "LD_LIBRARY_PATH=" QGRPO_SOFT_GPU);
  machine.insert(machine.end(), {qgrpo::test::program(), "score", "--model",
                                 vector_path("tiny_qwen2"), "--device", device});
  return run_program("/usr/bin/env", machine, "{\"ids\":[5,17,42]}\n");
}

struct Machine {
  const char* what;
  std::vector<std::string> answers;
  std::vector<std::string> said;
};

const std::vector<Machine>& machines() {
  static const std::vector<Machine> all = {
      {"a driver for CUDA 12.2",
       {"SOFTGPU_FAIL=cudaGetDeviceCount=35", "SOFTGPU_DRIVER=12020"},
       {"is for CUDA 12.2", "or later: update the driver", "525"}},
      {"a Tesla T4",
       {"SOFTGPU_DEVICE=t4"},
       {"Tesla T4 has compute capability 7.5", "8.0 or later is needed", "L4"}},
      {"a card that another process has for itself",
       {"SOFTGPU_FAIL=cudaMalloc=46"},
       {"NVIDIA L4 is busy", "nvidia-smi"}},
      {"a card without memory left",
       {"SOFTGPU_FAIL=cudaMalloc=2"},
       {"NVIDIA L4 has no memory left", "nvidia-smi"}},
      {"a card for which there is no code",
       {"SOFTGPU_DEVICE=h100", "SOFTGPU_FAIL=cudaLaunchKernel=209"},
       {"no code that NVIDIA H100", "compute capability 9.0", "80-virtual;90-real"}},
      {"a driver that cannot read this PTX",
       {"SOFTGPU_FAIL=cudaLaunchKernel=222"},
       {"cudaErrorUnsupportedPtxVersion", "89-real"}},
      {"a node whose switches are not up",
       {"SOFTGPU_FAIL=cudaMalloc=802"},
       {"nvidia-fabricmanager"}},
      {"a driver updated under a running system",
       {"SOFTGPU_FAIL=cudaGetDeviceCount=803"},
       {"does not answer", "cudaErrorSystemDriverMismatch"}},
      {"a card that fell off the bus",
       {"SOFTGPU_FAIL=cudaMalloc=46,cudaGetDeviceProperties=999"},
       {"does not answer", "cudaErrorUnknown"}},
  };
  return all;
}

TEST_CASE("--device: a GPU that cannot be used is named, with what is needed") {
  const std::string cpu = score({}, "cpu").out;
  for (const Machine& machine : machines()) {
    CAPTURE(std::string(machine.what));
    std::vector<std::string> refused = machine.said;
    refused.emplace_back("--device cuda: ");
    refused.emplace_back("; use --device cpu");
    check_refused(score(machine.answers, "cuda"), 1, refused);
    const ProgramResult automatic = score(machine.answers, "auto");  // standard error is a pipe
    CAPTURE(automatic.err);
    CHECK(automatic.exit_code == 0);
    CHECK(automatic.out == cpu);
    CHECK(automatic.err.starts_with("qgrpo: note: computing on the CPU: "));
    for (const std::string& part : machine.said)
      CHECK(automatic.err.find(part) != std::string::npos);
    CHECK(automatic.err.find('\n') == automatic.err.size() - 1);
  }
}

TEST_CASE("--device: a machine without a GPU computes on the CPU and says nothing") {
  for (const char* answer : {"SOFTGPU_FAIL=cudaGetDeviceCount=100", "SOFTGPU_DRIVER=0"}) {
    CAPTURE(std::string(answer));
    const std::vector<std::string> machine = {answer, "SOFTGPU_FAIL=cudaGetDeviceCount=100"};
    if (fs::exists("/dev/nvidiactl") || fs::exists("/dev/dxg")) return;  // it has a real one
    const ProgramResult automatic = score(machine, "auto");
    CHECK(automatic.exit_code == 0);
    CHECK(automatic.err.empty());
    check_refused(score(machine, "cuda"), 1, {"no CUDA device", "--device cpu"});
  }
  check_refused(score({"CUDA_VISIBLE_DEVICES=", "SOFTGPU_FAIL=cudaGetDeviceCount=100"}, "cuda"), 1,
                {"CUDA_VISIBLE_DEVICES is \"\""});
}

TEST_CASE("--device: a library of CUDA that is missing is named") {
  const ScratchFolder folder;
  fs::create_directories(folder.path("lib"));
  // The runtime alone: cuBLASLt is opened when the backend is made.
  for (const auto& entry : fs::directory_iterator(QGRPO_SOFT_GPU)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("libcudart")) fs::copy(entry.path(), folder.path("lib/" + name));
  }
  const auto run = [&](const std::string& device) {
    return run_program("/usr/bin/env",
                       {"LD_LIBRARY_PATH=" + folder.path("lib"), "HOME=/nonexistent",
                        "QGRPO_CUDA_PATH=", qgrpo::test::program(), "score", "--model",
                        vector_path("tiny_qwen2"), "--device", device},
                       "{\"ids\":[5,17,42]}\n");
  };
  const ProgramResult refused = run("cuda");
  if (refused.err.find("cuBLASLt status") != std::string::npos) return;  // a toolkit's was found
  check_refused(refused, 1, {"libcublasLt.so", "QGRPO_CUDA_PATH", "--device cpu"});
  const ProgramResult automatic = run("auto");
  CHECK(automatic.exit_code == 0);
  CHECK(automatic.err.find("note: computing on the CPU: CUDA: libcublasLt") != std::string::npos);
}

TEST_CASE("--device: QGRPO_CUDA_PATH names where CUDA's libraries are") {
  const ScratchFolder folder;
  fs::create_directories(folder.path("toolkit/lib64"));
  for (const auto& entry : fs::directory_iterator(QGRPO_SOFT_GPU)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("lib")) fs::copy(entry.path(), folder.path("toolkit/lib64/" + name));
  }
  for (const char* form : {"toolkit", "toolkit/lib64", "none:FOLDER/toolkit"}) {
    CAPTURE(std::string(form));
    std::string path = folder.path(form);
    if (std::string(form).starts_with("none:")) path = "/none:" + folder.path("toolkit");
    const ProgramResult found =
        run_program("/usr/bin/env",
                    {"LD_LIBRARY_PATH=", "QGRPO_CUDA_PATH=" + path, qgrpo::test::program(), "score",
                     "--model", vector_path("tiny_qwen2"), "--device", "cuda"},
                    "{\"ids\":[5,17,42]}\n");
    CAPTURE(found.err);
    CHECK(found.exit_code == 0);
  }
}

}  // namespace
}  // namespace qgrpo::test

#endif
