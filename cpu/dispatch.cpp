#include "cpu/dispatch.h"

#include <cstdlib>

#include "model/ops/error.h"

namespace qgrpo::cpu {

std::string_view isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : "avx2";
}

bool isa_supported(Isa isa) {
  // The compiler's run-time support asks cpuid and, for the wide registers, xgetbv: that the
  // operating system saves them.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  if (isa == Isa::avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

Isa choose_isa(std::string_view requested, bool has_avx2, bool has_avx512) {
  require(has_avx2, "this processor lacks AVX2 and FMA, which the CPU backend needs");
  if (requested.empty()) return has_avx512 ? Isa::avx512 : Isa::avx2;
  require(requested == "avx2" || requested == "avx512",
          "QGRPO_CPU_ISA is '{}', expected avx2 or avx512", requested);
  require(requested == "avx2" || has_avx512,
          "QGRPO_CPU_ISA asks for avx512, which this processor lacks; unset it or set avx2");
  return requested == "avx512" ? Isa::avx512 : Isa::avx2;
}

Isa active_isa() {
  static const Isa isa = [] {
    const char* requested = std::getenv("QGRPO_CPU_ISA");
    return choose_isa(requested == nullptr ? "" : requested, isa_supported(Isa::avx2),
                      isa_supported(Isa::avx512));
  }();
  return isa;
}

}  // namespace qgrpo::cpu
