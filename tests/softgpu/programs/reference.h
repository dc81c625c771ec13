#pragma once

// Correctly rounded arithmetic on the host, written apart from the emulator's: an operation is done
// in double, rounded to odd (towards zero, the last bit set when inexact), then rounded once to the
// format. That equals one rounding of the exact result for formats of at most 51 bits of mantissa.

#include <cstdint>

namespace softgpu_test {

enum class Rounding { nearest, zero, down, up };  // .rn, .rz, .rm, .rp
enum class Format { f32, f16, bf16, tf32 };

double odd_add(double a, double b);
double odd_fma(double a, double b, double c);
double odd_divide(double a, double b);
double odd_sqrt(double a);

// `x` in the format's precision and range: infinity or the largest number on overflow, as the mode
// says; subnormals are kept.
double round_to(Format format, Rounding mode, double x);

// Bit patterns of a 16-bit format; encode takes what round_to made. NaN is 0x7fff.
std::uint16_t encode16(Format format, double x);
double decode16(Format format, std::uint16_t bits);

// float of its bits and back; NaN is 0x7fffffff.
double decode32(std::uint32_t bits);
std::uint32_t encode32(double x);

// The operations of float32 by bits. `flush` is .ftz: subnormal inputs and results become zeros.
std::uint32_t add32(std::uint32_t a, std::uint32_t b, Rounding mode, bool flush = false);
std::uint32_t fma32(std::uint32_t a, std::uint32_t b, std::uint32_t c, Rounding mode,
                    bool flush = false);
std::uint32_t mul32(std::uint32_t a, std::uint32_t b, Rounding mode, bool flush = false);
std::uint32_t div32(std::uint32_t a, std::uint32_t b, Rounding mode);
std::uint32_t sqrt32(std::uint32_t a, Rounding mode);

// The nearest integer as the mode says, kept within [low, high]; 0 for NaN.
double to_integer(double x, Rounding mode, double low, double high);
// x rounded to an integer in the same format; signed zeros, infinities and NaNs stay.
double integral(double x, Rounding mode);

// Double arithmetic in a rounding mode.
double add64(double a, double b, Rounding mode);
double mul64(double a, double b, Rounding mode);
double fma64(double a, double b, double c, Rounding mode);
double div64(double a, double b, Rounding mode);
double sqrt64(double a, Rounding mode);

}  // namespace softgpu_test
