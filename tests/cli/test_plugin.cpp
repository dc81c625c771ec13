#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "support/program.h"
#include "support/vectors.h"

// A program that cannot have its CUDA backend: what it says, and that all else works.
namespace qgrpo::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libqgrpo_cuda.so";
const std::string kIds = "{\"ids\":[5,17,42]}\n";

TEST_CASE("--version: version, commit, backends, build") {
  const ProgramResult result = run_qgrpo({"--version"});
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  const auto lines = result.lines();
  REQUIRE(lines.size() == 5);
  CHECK(lines[0].starts_with("qgrpo 0."));
  CHECK(lines[0].ends_with(")"));
  CHECK(lines[1].starts_with("cpu: avx"));
  CHECK(lines[2].starts_with("cuda: "));
  CHECK(lines[3].starts_with("build: "));
  CHECK(lines[4].starts_with("libraries: "));
}

#ifdef QGRPO_OTHER_PLUGIN

// The program in a folder of its own, without what lies beside it in the build folder.
std::string program_in(const ScratchFolder& folder) {
  const std::string file = folder.path("bin/qgrpo");
  fs::create_directories(folder.path("bin"));
  fs::copy_file(qgrpo::test::program(), file);
  return file;
}

ProgramResult score(const std::string& program, const std::string& device) {
  return run_program(program, {"score", "--model", vector_path("tiny_qwen2"), "--device", device},
                     kIds);
}

void check_works_on_cpu(const std::string& program) {
  const ProgramResult alone = score(program, "cpu"), automatic = score(program, "auto");
  INFO("standard error: ", alone.err, automatic.err);
  CHECK(alone.exit_code == 0);
  CHECK(automatic.exit_code == 0);
  CHECK(automatic.out == alone.out);
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
  }
}

std::string built_library() {
  return (fs::path(qgrpo::test::program()).parent_path() / kLibrary).string();
}

TEST_CASE("CUDA backend: the program has it, in one file") {
  CHECK(run_qgrpo({"--version"}).out.find("cuda: toolkit 1") != std::string::npos);
  CHECK(run_qgrpo({"--version"}).out.find(built_library()) != std::string::npos);
}

TEST_CASE("CUDA backend: missing, broken, another's: one line, and the CPU computes") {
  const ScratchFolder folder;
  const std::string program = program_in(folder);
  CHECK(run_program(program, {"--version"}).out.find("libqgrpo_cuda.so is missing") !=
        std::string::npos);
  check_refused(score(program, "cuda"), 1,
                {kLibrary, folder.path("bin"), folder.path("lib/qgrpo"), "--device cpu"});
  check_works_on_cpu(program);

  SUBCASE("no library at all") {
    folder.write("bin/libqgrpo_cuda.so", "no library");
    check_refused(score(program, "cuda"), 1, {folder.path("bin/libqgrpo_cuda.so"), "too short"});
  }
  SUBCASE("another one") {
    fs::create_directories(folder.path("lib/qgrpo"));
    std::string text = read_text(built_library());
    replace_all(text, "qgrpo_cuda_plugin", "qgrpo_cuda_plugim");
    folder.write("lib/qgrpo/libqgrpo_cuda.so", text);
    // Without CUDA's runtime it cannot even be opened, which is said just as well.
    check_refused(score(program, "cuda"), 1, {folder.path("lib/qgrpo/libqgrpo_cuda.so")});
  }
  SUBCASE("of another build") {
    fs::copy_file(QGRPO_OTHER_PLUGIN, folder.path("bin/libqgrpo_cuda.so"));
    check_refused(score(program, "cuda"), 1,
                  {folder.path("bin/libqgrpo_cuda.so"), "0.0.1 (another)", "one package"});
  }
  SUBCASE("without CUDA's runtime") {
    std::string text = read_text(built_library());
    replace_all(text, "libcudart.so.1", "libcudart.so.9");
    folder.write("bin/libqgrpo_cuda.so", text);
    check_refused(
        score(program, "cuda"), 1,
        {folder.path("bin/libqgrpo_cuda.so"), "libcudart.so.9", "install CUDA", "QGRPO_CUDA_PATH"});
  }
  check_works_on_cpu(program);
}

// A wheel's layout: PACKAGES/qgrpo/bin, PACKAGES/qgrpo/lib/qgrpo, PACKAGES/nvidia/*/lib.
TEST_CASE("CUDA backend: a wheel takes CUDA's runtime from NVIDIA's wheels beside it") {
  const ScratchFolder folder;
  const std::string program = folder.path("packages/qgrpo/bin/qgrpo");
  fs::create_directories(folder.path("packages/qgrpo/bin"));
  fs::create_directories(folder.path("packages/qgrpo/lib/qgrpo"));
  fs::copy_file(qgrpo::test::program(), program);
  // The library's own way to the toolkit is cut, so that only the wheel's is left.
  std::string text = read_text(built_library());
  replace_all(text, "$ORIGIN:/", std::string("$ORIGIN\0/", 9));
  folder.write("packages/qgrpo/lib/qgrpo/libqgrpo_cuda.so", text);
  const std::string missing = score(program, "cuda").err;
  if (missing.find("libcudart") == std::string::npos) return;  // the system has the runtime
  const std::string name =
      missing.substr(missing.find("libcudart"), std::strlen("libcudart.so.13"));
  const std::string major = name.substr(name.size() - 2);
  // In a package's folder, which __init__.py tells from others, pip is what helps.
  CHECK(missing.find("install CUDA " + major + "'s runtime") != std::string::npos);
  folder.write("packages/qgrpo/__init__.py", "");
  CHECK(score(program, "cuda").err.find("pip install 'qgrpo[cuda" + major + "]'") !=
        std::string::npos);
  for (const std::string& part : {"cu" + major, std::string("cuda_runtime")}) {
    CAPTURE(part);
    const fs::path lib = folder.path(fmt::format("packages/nvidia/{}/lib", part));
    fs::create_directories(lib);
    fs::copy_file(QGRPO_CUDART, lib / name);
    const ProgramResult found = score(program, "cuda");
    CHECK(found.err.find("libcudart") == std::string::npos);
    fs::remove_all(folder.path("packages/nvidia"));
  }
}

#endif

}  // namespace
}  // namespace qgrpo::test
