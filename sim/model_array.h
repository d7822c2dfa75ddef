// The array: one moving vector against all rows of a stationary tile. Native vectors run over rows.
#pragma once
#include "model_numerics.h"

namespace gg {

// Products, their sums and the scaled sums are exact in this type (BF16: in the range of dotacc).
using Real = std::conditional_t<BF16, float, double>;
typedef float RowFloat __attribute__((vector_size(4 * TM)));
typedef int32_t RowInt __attribute__((vector_size(4 * TM)));
typedef Real RowReal __attribute__((vector_size(sizeof(Real) * TM)));
using Bits = std::conditional_t<BF16, int32_t, int64_t>;
typedef Bits RowBits __attribute__((vector_size(sizeof(Real) * TM)));

struct Stationary {
  RowReal value[TN];
  RowInt exponent[TN];

  void set(int row, int lane, float x) {
    value[lane][row] = x;
    exponent[lane][row] = x == 0 ? DEAD : gg::exponent(x);
  }
  float get(int row, int lane) const { return (float)value[lane][row]; }
};

struct Moving {
  Real value[TN];
  int32_t exponent[TN];

  explicit Moving(const float *x) {
    for (int i = 0; i < TN; i++) {
      int32_t e = bits<uint32_t>(x[i]) >> 23 & 255;
      value[i] = x[i];
      exponent[i] = e == 0 ? DEAD : e;
    }
  }
};

inline bool any(const RowInt &mask) {
  uint64_t words[TM / 2], all = 0;
  std::memcpy(words, &mask, sizeof words);
  for (uint64_t word : words) all |= word;
  return all != 0;
}

inline RowReal row_power_of_two(const RowInt &n) {
  constexpr int bias = BF16 ? 127 : 1023, mantissa = BF16 ? 23 : 52;
  RowBits word = (__builtin_convertvector(n, RowBits) + bias) << mantissa;
  return bits<RowReal>(word);
}

inline RowFloat dotacc_exact(const Stationary &a, const Moving &b, RowFloat acc, Flags &flags) {
  float x[TN], y[TN];
  for (int i = 0; i < TN; i++) y[i] = (float)b.value[i];
  for (int r = 0; r < TM; r++) {
    for (int i = 0; i < TN; i++) x[i] = a.get(r, i);
    acc[r] = dotacc(x, y, acc[r], flags);
  }
  return acc;
}

// acc + S * 2^n for all rows, rounded to nearest by the hardware.
inline RowFloat accumulate(const RowFloat &acc, const RowReal &scaled) {
  if constexpr (BF16) {
    return acc + __builtin_convertvector(scaled, RowFloat);
  } else {
    RowReal wide = __builtin_convertvector(acc, RowReal), s = wide + scaled, part = s - wide,
            rest = (wide - (s - part)) + (scaled - part);
    RowBits word = bits<RowBits>(s), step = ((rest < 0) ^ (s < 0)) | 1;
    word += step & (rest != 0) & ((word & 1) - 1);
    return __builtin_convertvector(bits<RowReal>(word), RowFloat) + 0.0f;
  }
}

inline RowFloat dotacc(const Stationary &a, const Moving &b, RowFloat acc, Flags &flags) {
  RowInt largest = a.exponent[0] + b.exponent[0];
  for (int i = 1; i < TN; i++) {
    RowInt e = a.exponent[i] + b.exponent[i];
    largest = e > largest ? e : largest;
  }

  // In this range the products that count, the scales and the scaled sums are normal in Real.
  constexpr int low = BF16 ? 130 + FRAME : 0, high = BF16 ? 350 + FRAME : 508;
  RowInt e = largest < low ? largest * 0 + low : largest > high ? largest * 0 + high : largest;
  if (BF16 && any((e != largest) & (largest > 0))) [[unlikely]]
    return dotacc_exact(a, b, acc, flags);

  // A row without live lanes has only zero products: its clamped exponent does not matter.
  RowReal scale = row_power_of_two(254 + FRAME - e), sum = {};
  if constexpr (BF16) {
    RowInt whole = {};
    for (int i = 0; i < TN; i++)
      whole += __builtin_convertvector(a.value[i] * b.value[i] * scale, RowInt);
    sum = __builtin_convertvector(whole, RowReal);
  } else {
    for (int i = 0; i < TN; i++)
      sum += __builtin_convertvector(
          __builtin_convertvector(a.value[i] * b.value[i] * scale, RowInt), RowReal);
  }
  RowFloat y = accumulate(acc, sum * row_power_of_two(e - 254 - FRAME));

  // Zero and results from 2^-125 on need no second look; infinities and smaller results do.
  RowInt size = bits<RowInt>(y) & 0x7fffffff;
  if (any((size != 0) & ((size < 0x01000000) | (size >= 0x7f800000)))) [[unlikely]]
    return dotacc_exact(a, b, acc, flags);
  return y;
}

}  // namespace gg
