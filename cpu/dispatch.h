#pragma once

#include <cstdint>
#include <string_view>

namespace qgrpo::cpu {

// The instruction sets that cpu/kernels is compiled for. Both give the same bits.
enum class Isa : std::uint8_t { avx2, avx512 };

// "avx2" (AVX2 + FMA + F16C + BMI2) or "avx512" (AVX-512 F, VL, BW, DQ in addition).
std::string_view isa_name(Isa isa);

// Whether this processor and operating system run it.
bool isa_supported(Isa isa);

// The widest supported set, chosen at the first call and kept for the process; the environment
// variable QGRPO_CPU_ISA=avx2|avx512 overrides the choice. Error where the processor lacks AVX2 or
// what the variable asks for.
Isa active_isa();

// The same choice, made from `requested` (empty: the widest) on a processor that has `avx2`,
// `avx512`.
Isa choose_isa(std::string_view requested, bool has_avx2, bool has_avx512);

}  // namespace qgrpo::cpu
