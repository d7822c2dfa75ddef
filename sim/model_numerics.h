// docs/numerics.md in native arithmetic. Every shortcut here is exact; the comments say why.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace gg {

// TM rows, TN lanes and MAN stored mantissa bits come from the command line of the compiler.
constexpr int log2_of(int n) { return n == 1 ? 0 : 1 + log2_of(n / 2); }
constexpr bool BF16 = MAN == 7;
constexpr int FRAME = BF16 ? 22 - log2_of(TN) : 28;
constexpr int ELEM_BYTES = BF16 ? 2 : 4;
constexpr int DEAD = -4096;  // exponent of a zero operand: below every sum of two exponents

struct Flags {
  bool nonfinite = false, overflow = false;
};

template <class To, class From> inline To bits(const From &x) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &x, sizeof to);
  return to;
}

inline int exponent(float x) { return bits<uint32_t>(x) >> 23 & 255; }

// Every operand is held as the float of the same value, whatever its format in memory.
inline float canonical(uint32_t word, Flags &flags) {
  uint32_t e = word >> 23 & 255;
  flags.nonfinite |= e == 255;
  return e == 0 || e == 255 ? 0.0f : bits<float>(word);
}

// `x` is the exact result, or that rounded to odd in double: 53 >= 24 + 2 bits make the second
// rounding the only one that counts.
inline float round_once(double x, Flags &flags) {
  double size = std::fabs(x);
  if (size < 0x1p-126)  // 24 bits suffice to round up to 2^-126 from half a unit below it on
    return size >= 0x1p-126 - 0x1p-151 ? std::copysign(0x1p-126f, (float)x) : 0.0f;
  float y = (float)x;
  if (std::fabs(y) > FLT_MAX) {
    flags.overflow = true;
    return std::copysign(FLT_MAX, y);
  }
  return y;
}

// A product of 24 by 24 bits is exact in double.
inline float fmul(float a, float b, Flags &flags) { return round_once((double)a * b, flags); }

// A sum below 2^-126 is exact: both terms are multiples of 2^-149.
inline float fadd(float a, float b, Flags &flags) {
  float y = a + b;
  if (std::fabs(y) < FLT_MIN) return 0.0f;
  if (std::fabs(y) > FLT_MAX) {
    flags.overflow = true;
    return std::copysign(FLT_MAX, y);
  }
  return y;
}

inline uint32_t to_operand(float x, Flags &flags) {
  uint32_t word = bits<uint32_t>(x);
  if (!BF16) return word;
  uint32_t y = (word + 0x7fff + (word >> 16 & 1)) >> 16;
  if ((y >> 7 & 255) == 255) {
    flags.overflow = true;
    return (y & 0x8000) | 0x7f7f;
  }
  return y;
}

inline double power_of_two(int n) { return bits<double>((uint64_t)(1023 + n) << 52); }

// a + b rounded to odd: the neighbour with an odd last bit when the sum is not a double.
inline double add_to_odd(double a, double b) {
  double s = a + b, b_part = s - a, rest = (a - (s - b_part)) + (b - b_part);
  int64_t word = bits<int64_t>(s);
  if (rest != 0 && !(word & 1)) word += (rest < 0) == (s < 0) ? 1 : -1;
  return bits<double>(word);
}

// One row of dotacc, whatever the exponents: the range of double leaves room for all of them.
inline float dotacc(const float *a, const float *b, float acc, Flags &flags) {
  int largest = 0;
  for (int i = 0; i < TN; i++)
    if (a[i] != 0 && b[i] != 0) {
      int e = exponent(a[i]) + exponent(b[i]);
      largest = e > largest ? e : largest;
    }
  if (largest == 0) return acc;
  double sum = 0;  // of at most 64 integers below 2^30
  for (int i = 0; i < TN; i++)
    sum += std::trunc((double)a[i] * b[i] * power_of_two(254 + FRAME - largest));
  return round_once(add_to_odd(acc, sum * power_of_two(largest - 254 - FRAME)), flags);
}

}  // namespace gg
