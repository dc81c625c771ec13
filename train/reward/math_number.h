#pragma once

#include <array>
#include <complex>
#include <cstdint>
#include <optional>
#include <string>

// The value of an expression at a point: exact where it is made of rationals, else to the
// precision of long double with a bound on the error.
//
// Rationals are kept as their residues modulo two primes near 2^61, so that digits, powers and
// polynomials of any size cost the same. Two that differ have the same residues by a chance of
// 2^-122 for each factor of their difference; the approximation must agree as well. As Schwartz and
// Zippel have it, a polynomial that is 0 at a random point of so large a field is 0.
namespace qgrpo::train {

struct MathValue {
  std::optional<std::array<std::uint64_t, 2>> residues;  // of a rational, else nothing
  std::optional<std::array<std::int64_t, 2>> fraction;   // numerator, denominator > 0, if small
  std::complex<long double> z;                           // may be infinite where it is exact
  long double error = 0.0L;                              // of z, absolute
};

// The arithmetic. Each gives nothing where the result is no number.
using MaybeValue = std::optional<MathValue>;

MathValue small_value(std::int64_t numerator, std::int64_t denominator = 1);
// No rational: z with this error.
MaybeValue approximate(std::complex<long double> z, long double error);

MathValue negative(MathValue a);
MaybeValue sum(const MathValue& a, const MathValue& b);
MaybeValue product(const MathValue& a, const MathValue& b);
MaybeValue inverse(const MathValue& a);
// a^n for any |n| < 2^62; 0^0 is 1.
MaybeValue integer_power(const MathValue& a, std::int64_t n);
// The principal value; for real_roots the real one of a negative a where the exponent is a
// fraction of odd denominator: (-8)^(1/3) = -2, as school books have it.
MaybeValue power(const MathValue& a, const MathValue& b, bool real_roots);
// n! for 0 <= n <= 300; n over k for 0 <= k <= 300.
MaybeValue factorial(const MathValue& n);
MaybeValue binomial(const MathValue& n, const MathValue& k);
// The integer at or below a real number (above for `up`).
MaybeValue rounded(const MathValue& a, bool up);
MaybeValue absolute(const MathValue& a);
// sin, arccos, ln, exp, ...; log has the base 10.
MaybeValue function_value(const std::string& name, const MathValue& a);

// Whether two values are one number: by residues where both have them, else within their errors.
bool same_number(const MathValue& a, const MathValue& b);

// a - b, a / b.
std::optional<MathValue> difference(const MathValue& a, const MathValue& b);
std::optional<MathValue> quotient(const MathValue& a, const MathValue& b);

bool is_zero(const MathValue& a);
bool is_real(const MathValue& a);

}  // namespace qgrpo::train
