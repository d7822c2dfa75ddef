// LOAD_A and LOAD_B: docs/program.md, section 3.
#include "model_state.h"

namespace gg {
namespace {

// The beats of the strided transfer, one after the other.
struct Stream {
  Memory &memory;
  const isa::Load &x;
  uint32_t i3 = 0, i2 = 0, i1 = 0, left = 0;
  const uint8_t *next = nullptr;

  const uint8_t *beat() {
    if (left == 0) {
      next = memory.read((int64_t)x.d_base + (int64_t)i3 * x.d_s3 + (int64_t)i2 * x.d_s2 +
                             (int64_t)i1 * x.d_s1, x.d_len, "load");
      left = x.d_len;
      if (++i1 == x.d_n1) i1 = 0, i2++;
      if (i2 == x.d_n2) i2 = 0, i3++;
    }
    const uint8_t *here = next;
    next += memory.beat_bytes;
    left--;
    return here;
  }
};

uint64_t inside(uint32_t low, uint32_t high, uint32_t count) {
  high = high < count ? high : count;
  return high > low ? high - low : 0;
}

}  // namespace

void load(State &state, const isa::Load &x) {
  Buffer &buffer = x.unit == isa::LOAD_A ? state.a : state.b;
  const uint32_t elems = state.beat_elems();
  uint64_t beats = (uint64_t)x.d_len * x.d_n1 * x.d_n2 * x.d_n3;
  uint64_t wanted = inside(x.lo1, x.hi1, x.n1) * inside(x.lo0, x.hi0, x.n0) * x.n2 * x.nb * x.spp;
  if (beats != wanted)
    fail(PROGRAM, "the transfer has %llu beats, the pixels take %llu", (unsigned long long)beats,
         (unsigned long long)wanted);
  if ((x.n1 > 1 && x.sd1 == 0) || (x.n0 > 1 && x.sd0 == 0)) fail(PROGRAM, "sd1 or sd0 is 0");

  Stream stream{state.memory, x};
  const float padding = !x.padneg ? 0 : bits<float>(BF16 ? 0xff7f0000u : 0xff7fffffu);
  for (uint32_t b = 0; b < x.nb; b++)
    for (uint32_t i2 = 0; i2 < x.n2; i2++)
      for (uint32_t i1 = 0; i1 < x.n1; i1++)
        for (uint32_t i0 = 0; i0 < x.n0; i0++) {
          bool valid = x.lo1 <= i1 && i1 < x.hi1 && x.lo0 <= i0 && i0 < x.hi0;
          uint32_t skew = i2 * x.k2 + (i1 ? i1 / x.sd1 * x.k1 : 0) + (i0 ? i0 / x.sd0 * x.k0 : 0);
          uint32_t address = x.abase + i2 * x.a2 + i1 * x.a1 + (x.pack ? i0 / (TN / 4) : i0);
          size_t word = buffer.at(address, 0);
          uint32_t bank = skew + x.ch0 + b * x.cstep;
          for (uint32_t s = 0; s < x.spp; s++, bank += elems) {
            const uint8_t *beat = valid ? stream.beat() : nullptr;
            for (uint32_t e = 0; e < elems; e++) {
              size_t at = word + (bank + e) % TN;
              buffer.value[at] =
                  valid ? operand(beat + e * ELEM_BYTES, false, state.flags) : padding;
              buffer.written[at] = 1;
              if (state.check) require_order(state.races.write(buffer.cells[at]), "word", at / TN);
            }
          }
        }
  state.active[x.unit] += (uint64_t)x.nb * x.n2 * x.n1 * x.n0 * x.spp;
}

}  // namespace gg
