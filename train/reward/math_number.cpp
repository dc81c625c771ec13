#include "train/reward/math_number.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

namespace qgrpo::train {
namespace {

using Complex = std::complex<long double>;
using Residues = std::array<std::uint64_t, 2>;
constexpr std::array<std::uint64_t, 2> kPrimes = {(std::uint64_t{1} << 61) - 1,
                                                  (std::uint64_t{1} << 61) - 31};
constexpr long double kEpsilon = std::numeric_limits<long double>::epsilon();
constexpr std::int64_t kMostFactorial = 300;

__extension__ using Wide = unsigned __int128;

std::uint64_t multiply(std::uint64_t a, std::uint64_t b, std::uint64_t prime) {
  return static_cast<std::uint64_t>(Wide{a} * b % prime);
}

std::uint64_t power_mod(std::uint64_t a, std::uint64_t n, std::uint64_t prime) {
  std::uint64_t out = 1;
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) out = multiply(out, a, prime);
    a = multiply(a, a, prime);
  }
  return out;
}

std::uint64_t residue(std::int64_t n, std::uint64_t prime) {
  const std::uint64_t size =
      n < 0 ? 0 - static_cast<std::uint64_t>(n) : static_cast<std::uint64_t>(n);
  const std::uint64_t r = size % prime;
  return n < 0 && r > 0 ? prime - r : r;
}

bool finite(Complex z) {
  return std::isfinite(z.real()) && std::isfinite(z.imag());
}

long double rounding(Complex z) {
  return finite(z) ? kEpsilon * std::abs(z) : 0.0L;
}

// A result whose approximation may be infinite only where it is exact.
MaybeValue checked(MathValue v) {
  if (!v.residues && (!finite(v.z) || !std::isfinite(v.error))) return std::nullopt;
  return v;
}

// numerator / denominator in lowest terms; nothing where it does not fit.
std::optional<std::array<std::int64_t, 2>> reduced(std::int64_t n, std::int64_t d) {
  constexpr std::int64_t limit = std::int64_t{1} << 62;
  if (d == 0 || n <= -limit || n >= limit || d <= -limit || d >= limit) return std::nullopt;
  const std::int64_t g = std::gcd(n, d);
  if (d < 0) return std::array{-n / g, -d / g};
  return std::array{n / g, d / g};
}

template <typename Operation>
Residues both(Operation&& operation) {
  return {operation(0, kPrimes[0]), operation(1, kPrimes[1])};
}

// The k-th root of n, if it is a whole number.
std::optional<std::int64_t> whole_root(std::int64_t n, std::int64_t k) {
  const bool minus = n < 0;
  if (minus && k % 2 == 0) return std::nullopt;
  const long double size = std::fabs(static_cast<long double>(n));
  const auto guess = std::llround(std::pow(size, 1.0L / static_cast<long double>(k)));
  std::int64_t value = 1;
  for (std::int64_t i = 0; i < k && guess > 1; ++i)
    if (__builtin_mul_overflow(value, guess, &value)) return std::nullopt;
  if (guess < 2) value = guess;
  if (static_cast<long double>(value) != size) return std::nullopt;
  return minus ? -guess : guess;
}

Complex complex_power(Complex a, std::int64_t n) {
  Complex out = 1.0L;
  if (n < 0) {
    a = 1.0L / a;
    n = -n;
  }
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) out *= a;
    if (n > 1) a *= a;
  }
  return out;
}

// A real number on the upper side of the cut, whatever the sign of its zero: ln -1 = i pi.
Complex upper(Complex z) {
  return z.imag() == 0.0L ? Complex(z.real(), 0.0L) : z;
}

// f(z) with the error of z times |f'|.
MaybeValue through(Complex value, long double error, long double slope) {
  return approximate(value, error * slope + 4 * rounding(value));
}

long double asin_slope(Complex z) {
  const long double distance = std::sqrt(std::abs(1.0L - z * z));
  return 1.0L / std::max(distance, std::sqrt(kEpsilon));
}

}  // namespace

MathValue small_value(std::int64_t numerator, std::int64_t denominator) {
  MathValue out;
  out.fraction = reduced(numerator, denominator);
  out.residues = both([&](std::size_t, std::uint64_t p) {
    return multiply(residue(numerator, p), power_mod(residue(denominator, p), p - 2, p), p);
  });
  out.z = static_cast<long double>(numerator) / static_cast<long double>(denominator);
  out.error = rounding(out.z);
  return out;
}

MaybeValue approximate(Complex z, long double error) {
  MathValue out;
  out.z = z;
  out.error = error;
  return checked(out);
}

MathValue negative(MathValue a) {
  if (a.residues)
    a.residues = both([&](std::size_t i, std::uint64_t p) {
      return (*a.residues)[i] == 0 ? 0 : p - (*a.residues)[i];
    });
  if (a.fraction) (*a.fraction)[0] = -(*a.fraction)[0];
  a.z = -a.z;
  return a;
}

MaybeValue sum(const MathValue& a, const MathValue& b) {
  MathValue out;
  if (a.residues && b.residues)
    out.residues = both(
        [&](std::size_t i, std::uint64_t p) { return ((*a.residues)[i] + (*b.residues)[i]) % p; });
  if (a.fraction && b.fraction) {
    std::int64_t left = 0;
    std::int64_t right = 0;
    std::int64_t below = 0;
    std::int64_t above = 0;
    if (!__builtin_mul_overflow((*a.fraction)[0], (*b.fraction)[1], &left) &&
        !__builtin_mul_overflow((*b.fraction)[0], (*a.fraction)[1], &right) &&
        !__builtin_mul_overflow((*a.fraction)[1], (*b.fraction)[1], &below) &&
        !__builtin_add_overflow(left, right, &above))
      out.fraction = reduced(above, below);
  }
  out.z = a.z + b.z;
  out.error = a.error + b.error + rounding(out.z);
  return checked(out);
}

MaybeValue product(const MathValue& a, const MathValue& b) {
  MathValue out;
  if (a.residues && b.residues)
    out.residues = both([&](std::size_t i, std::uint64_t p) {
      return multiply((*a.residues)[i], (*b.residues)[i], p);
    });
  if (a.fraction && b.fraction) {
    std::int64_t above = 0;
    std::int64_t below = 0;
    if (!__builtin_mul_overflow((*a.fraction)[0], (*b.fraction)[0], &above) &&
        !__builtin_mul_overflow((*a.fraction)[1], (*b.fraction)[1], &below))
      out.fraction = reduced(above, below);
  }
  out.z = a.z * b.z;
  out.error = std::abs(a.z) * b.error + std::abs(b.z) * a.error + rounding(out.z);
  return checked(out);
}

MaybeValue inverse(const MathValue& a) {
  if (is_zero(a)) return std::nullopt;
  MathValue out;
  if (a.residues)
    out.residues =
        both([&](std::size_t i, std::uint64_t p) { return power_mod((*a.residues)[i], p - 2, p); });
  if (a.fraction) out.fraction = reduced((*a.fraction)[1], (*a.fraction)[0]);
  out.z = 1.0L / a.z;
  out.error = a.error * std::abs(out.z) * std::abs(out.z) + rounding(out.z);
  return checked(out);
}

MaybeValue integer_power(const MathValue& a, std::int64_t n) {
  if (n < 0) {
    const MaybeValue below = inverse(a);
    return below ? integer_power(*below, -n) : std::nullopt;
  }
  MathValue out;
  if (a.residues)
    out.residues = both([&](std::size_t i, std::uint64_t p) {
      return power_mod((*a.residues)[i], static_cast<std::uint64_t>(n), p);
    });
  if (a.fraction) {
    std::array<std::int64_t, 2> f = {1, 1};
    bool fits = n <= 62 || std::abs((*a.fraction)[0]) <= 1;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(n, 62) && fits; ++i)
      fits = !__builtin_mul_overflow(f[0], (*a.fraction)[0], f.data()) &&
             !__builtin_mul_overflow(f[1], (*a.fraction)[1], &f[1]);
    if (fits && n <= 62) out.fraction = reduced(f[0], f[1]);
  }
  out.z = complex_power(a.z, n);
  const long double size = static_cast<long double>(n);
  const long double relative = std::abs(a.z) > 0 ? a.error / std::abs(a.z) : 0.0L;
  out.error = size * relative * std::abs(out.z) + (size + 1) * rounding(out.z);
  return checked(out);
}

MaybeValue power(const MathValue& a, const MathValue& b, bool real_roots) {
  if (b.fraction && (*b.fraction)[1] == 1) return integer_power(a, (*b.fraction)[0]);
  if (is_zero(a)) {
    if (!is_real(b) || b.z.real() <= 0) return std::nullopt;
    return small_value(0);
  }
  if (b.fraction && real_roots) {
    const auto [n, k] = *b.fraction;
    if (a.fraction) {
      const auto above = whole_root((*a.fraction)[0], k);
      const auto below = whole_root((*a.fraction)[1], k);
      if (above && below) return integer_power(small_value(*above, *below), n);
    }
    if (is_real(a) && a.z.real() < 0 && k % 2 == 1) {
      const MaybeValue size = power(negative(a), b, true);
      if (!size) return std::nullopt;
      return n % 2 == 0 ? size : negative(*size);
    }
  }
  if (!finite(a.z) || !finite(b.z)) return std::nullopt;
  const Complex logarithm = std::log(upper(a.z));
  const Complex value = std::exp(b.z * logarithm);
  const long double relative = std::abs(b.z) * a.error / std::abs(a.z) +
                               std::abs(logarithm) * (b.error + rounding(b.z)) + 4 * kEpsilon;
  return approximate(value, std::abs(value) * relative);
}

MaybeValue factorial(const MathValue& n) {
  if (!n.fraction || (*n.fraction)[1] != 1 || (*n.fraction)[0] < 0 ||
      (*n.fraction)[0] > kMostFactorial)
    return std::nullopt;
  MaybeValue out = small_value(1);
  for (std::int64_t i = 2; i <= (*n.fraction)[0] && out; ++i) out = product(*out, small_value(i));
  return out;
}

MaybeValue binomial(const MathValue& n, const MathValue& k) {
  if (!k.fraction || (*k.fraction)[1] != 1 || (*k.fraction)[0] < 0 ||
      (*k.fraction)[0] > kMostFactorial)
    return std::nullopt;
  MaybeValue out = small_value(1);
  for (std::int64_t i = 0; i < (*k.fraction)[0] && out; ++i) {
    const MaybeValue above = sum(n, small_value(-i));
    out = above ? product(*out, *above) : std::nullopt;
    if (out) out = product(*out, small_value(1, i + 1));
  }
  return out;
}

MaybeValue rounded(const MathValue& a, bool up) {
  if (a.fraction) {
    const auto [n, d] = *a.fraction;
    const std::int64_t below = n / d - (n % d < 0 ? 1 : 0);
    return small_value(up && n % d != 0 ? below + 1 : below);
  }
  if (!is_real(a) || !(std::fabs(a.z.real()) < 1e15L)) return std::nullopt;
  const long double nearest = std::round(a.z.real());
  if (std::fabs(nearest - a.z.real()) <= 64 * a.error)
    return small_value(static_cast<std::int64_t>(nearest));
  return small_value(
      static_cast<std::int64_t>(up ? std::ceil(a.z.real()) : std::floor(a.z.real())));
}

MaybeValue absolute(const MathValue& a) {
  if (is_real(a) && !std::isnan(a.z.real())) return a.z.real() < 0 ? negative(a) : a;
  return approximate(std::abs(a.z), a.error + rounding(a.z));
}

MaybeValue function_value(const std::string& name, const MathValue& a) {
  const Complex z = a.z;
  if (!finite(z)) return std::nullopt;
  if (name == "exp") return through(std::exp(z), a.error, std::abs(std::exp(z)));
  if (name == "ln" || name == "log") {
    if (is_zero(a)) return std::nullopt;
    const long double scale = name == "ln" ? 1.0L : std::numbers::log10e_v<long double>;
    return through(std::log(upper(z)) * scale, a.error, scale / std::abs(z));
  }
  if (name == "sin")
    return through(std::sin(z), a.error + rounding(z), std::abs(std::cos(z)) + kEpsilon);
  if (name == "cos")
    return through(std::cos(z), a.error + rounding(z), std::abs(std::sin(z)) + kEpsilon);
  if (name == "sinh") return through(std::sinh(z), a.error, std::abs(std::cosh(z)));
  if (name == "cosh") return through(std::cosh(z), a.error, std::abs(std::sinh(z)));
  if (name == "tanh") return through(std::tanh(z), a.error, 1.0L);
  if (name == "arctan") return through(std::atan(z), a.error, 1.0L);
  if (name == "arcsin") return through(std::asin(z), a.error + rounding(z), asin_slope(z));
  if (name == "arccos") return through(std::acos(z), a.error + rounding(z), asin_slope(z));
  for (const auto& [whole, above, below] :
       {std::array{"tan", "sin", "cos"}, std::array{"cot", "cos", "sin"},
        std::array{"sec", "", "cos"}, std::array{"csc", "", "sin"}}) {
    if (name != whole) continue;
    const MaybeValue n = *above == 0 ? MaybeValue(small_value(1)) : function_value(above, a);
    const MaybeValue d = function_value(below, a);
    return n && d ? quotient(*n, *d) : std::nullopt;
  }
  return std::nullopt;
}

bool is_zero(const MathValue& a) {
  if (a.residues) return (*a.residues)[0] == 0 && (*a.residues)[1] == 0;
  return std::abs(a.z) <= 64 * a.error;
}

bool is_real(const MathValue& a) {
  return a.residues.has_value() || std::fabs(a.z.imag()) <= 64 * a.error;
}

MaybeValue difference(const MathValue& a, const MathValue& b) {
  return sum(a, negative(b));
}

MaybeValue quotient(const MathValue& a, const MathValue& b) {
  const MaybeValue below = inverse(b);
  return below ? product(a, *below) : std::nullopt;
}

bool same_number(const MathValue& a, const MathValue& b) {
  const bool exact = a.residues && b.residues;
  if (exact && *a.residues != *b.residues) return false;
  if (!finite(a.z) || !finite(b.z)) return exact;
  const long double within = 64 * (a.error + b.error);
  if (!(std::abs(a.z - b.z) <= within)) return false;
  const long double size = std::max(std::abs(a.z), std::abs(b.z));
  return exact || within <= 1e-9L * std::max(size, 1.0L);
}

}  // namespace qgrpo::train
