#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "softgpu/exec/counters.h"

// What kernels did, summed by name: SOFTGPU_PROFILE, and the entry points of api_profile.h.
namespace softgpu::runtime {

// The largest of a kernel's launches.
struct LaunchShape {
  std::uint32_t threads = 0;  // a block
  std::uint32_t static_shared = 0, dynamic_shared = 0;
};

// What a library's call (cublasLt) counts as: it is computed on the host, not by instructions.
struct LibraryCost {
  std::uint64_t flops = 0;
  std::uint64_t bytes_read = 0, bytes_written = 0;  // each operand once
};

class Profile {
 public:
  void add(const std::string& kernel, const LaunchShape& shape, const Counters& counters);
  void add(const std::string& call, const LibraryCost& cost);
  bool empty() const { return kernels_.empty(); }

  // Kernels by name. Columns and members: docs/softgpu.md.
  std::string table() const;
  std::string json() const;

 private:
  struct Kernel {
    std::uint64_t launches = 0;
    bool library = false;
    LaunchShape shape;
    Counters counters;
  };
  std::map<std::string, Kernel> kernels_;
};

// The profile of the whole program, if the environment asks for it, and the one that the program
// itself has begun. Guarded by the runtime's mutex.
class ProfileSink {
 public:
  // SOFTGPU_PROFILE: unset or 0: none; 1: a table on standard error at exit; anything else: a file
  // that gets the JSON at exit. SOFTGPU_PROFILE_JSON: such a file as well. True where there is
  // something to report() at exit.
  bool start_from_environment();

  bool active() const { return of_program_ || begun_; }
  template <typename... Arguments>
  void add(const Arguments&... arguments) {
    if (of_program_) program_.add(arguments...);
    if (begun_) section_.add(arguments...);
  }

  // A section: what is executed from begin to end.
  void begin();
  // The section's JSON, valid until the next end; null where none was begun.
  const char* end();

  // The program's profile, where it goes.
  void report() const;

 private:
  bool of_program_ = false, begun_ = false, print_table_ = false;
  std::string file_;
  Profile program_, section_;
  std::string json_;
};

}  // namespace softgpu::runtime
