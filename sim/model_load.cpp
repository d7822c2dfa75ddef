// LOAD_A and LOAD_B: docs/program.md, section 3.
#include "model_state.h"

namespace gg {
namespace {

constexpr int MOST = 4;  // operands in the widest beat

// The beats of a strided transfer, one after the other.
struct Stream {
  Memory &memory;
  const isa::Load &x;
  uint32_t base;
  const char *what;
  uint32_t i3 = 0, i2 = 0, i1 = 0, left = 0;
  const uint8_t *next = nullptr;

  const uint8_t *beat() {
    if (left == 0) {
      next = memory.read((int64_t)base + (int64_t)i3 * x.d_s3 + (int64_t)i2 * x.d_s2 +
                             (int64_t)i1 * x.d_s1, x.d_len, what);
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

uint32_t tag(const uint8_t *from) {
  uint32_t word = 0;
  std::memcpy(&word, from, ELEM_BYTES);
  return word >> (MAN - 7) & 127;
}

struct Loader {
  State &state;
  const isa::Load &x;
  Buffer &buffer;
  const uint32_t elems;  // in a beat

  Loader(State &state, const isa::Load &x)
      : state(state), x(x), buffer(x.unit == isa::LOAD_A ? state.a : state.b),
        elems(state.beat_elems()) {}

  bool valid(uint32_t i1, uint32_t i0) const {
    return x.lo1 <= i1 && i1 < x.hi1 && x.lo0 <= i0 && i0 < x.hi0;
  }

  // The elements of a beat, `element(0)` to bank `bank mod TN` of a word.
  template <class Element> void put(int64_t address, uint32_t bank, Element element) {
    const size_t word = buffer.at(address, 0);
    float *const value = buffer.value.data();
    uint8_t *const written = buffer.written.data();
    for (uint32_t e = 0, count = elems; e < count; e++) {
      size_t at = word + (bank + e) % TN;
      value[at] = element(e);
      written[at] = 1;
      if (state.check) require_order(state.races.write(buffer.cells[at]), "word", at / TN);
    }
  }

  void validate() const {
    uint64_t beats = (uint64_t)x.d_len * x.d_n1 * x.d_n2 * x.d_n3;
    uint64_t wanted = inside(x.lo1, x.hi1, x.n1) * inside(x.lo0, x.hi0, x.n0) * x.n2 * x.nb * x.spp;
    if (beats != wanted)
      fail(PROGRAM, "the transfer has %llu beats, the pixels take %llu", (unsigned long long)beats,
           (unsigned long long)wanted);
    if (x.unpool) {
      if (x.u1 == 0 || x.u0 == 0) fail(PROGRAM, "u1 or u0 is 0");
      if (x.v1 > x.u1 || x.v0 > x.u0) fail(PROGRAM, "a pooling window is larger than its stride");
      if (x.x1 >= x.u1 || x.x0 >= x.u0) fail(PROGRAM, "a whole stride of a window is cut off");
    } else if ((x.n1 > 1 && x.sd1 == 0) || (x.n0 > 1 && x.sd0 == 0)) {
      fail(PROGRAM, "sd1 or sd0 is 0");
    }
  }

  void copy() {
    Stream stream{state.memory, x, x.d_base, "load"};
    const float padding = !x.padneg ? 0 : bits<float>(BF16 ? 0xff7f0000u : 0xff7fffffu);
    for (uint32_t b = 0; b < x.nb; b++)
      for (uint32_t i2 = 0; i2 < x.n2; i2++)
        for (uint32_t i1 = 0; i1 < x.n1; i1++)
          for (uint32_t i0 = 0; i0 < x.n0; i0++) {
            bool wanted = valid(i1, i0);
            uint32_t skew = i2 * x.k2 + (i1 ? i1 / x.sd1 * x.k1 : 0) + (i0 ? i0 / x.sd0 * x.k0 : 0);
            uint32_t address = x.abase + i2 * x.a2 + i1 * x.a1 + (x.pack ? i0 / (TN / 4) : i0);
            uint32_t bank = skew + x.ch0 + b * x.cstep;
            for (uint32_t s = 0; s < x.spp; s++, bank += elems) {
              const uint8_t *beat = wanted ? stream.beat() : nullptr;
              put(address, bank, [&](uint32_t e) {
                return wanted ? operand(beat + e * ELEM_BYTES, false, state.flags) : padding;
              });
            }
          }
    state.active[x.unit] += (uint64_t)x.nb * x.n2 * x.n1 * x.n0 * x.spp;
  }

  void unpool() {
    Stream gradients{state.memory, x, x.d_base, "load"};
    Stream tags{state.memory, x, x.t_base, "load of tags"};
    for (uint32_t b = 0; b < x.nb; b++)
      for (uint32_t i2 = 0; i2 < x.n2; i2++)
        for (uint32_t i1 = 0; i1 < x.n1; i1++)
          for (uint32_t i0 = 0; i0 < x.n0; i0++)
            for (uint32_t s = 0; s < x.spp; s++) {
              float value[MOST] = {};
              uint32_t winner[MOST] = {};
              bool wanted = valid(i1, i0);
              if (wanted) {
                const uint8_t *gradient = gradients.beat(), *from = tags.beat();
                for (uint32_t e = 0; e < elems; e++) {
                  value[e] = operand(gradient + e * ELEM_BYTES, false, state.flags);
                  winner[e] = tag(from + e * ELEM_BYTES);
                }
              }
              scatter(b, i2, i1, i0, s, wanted, value, winner);
            }
  }

  // The positions of one pooling window.
  void scatter(uint32_t b, uint32_t i2, uint32_t i1, uint32_t i0, uint32_t s, bool wanted,
               const float *value, const uint32_t *winner) {
    for (uint32_t j1 = 0; j1 < x.u1; j1++)
      for (uint32_t j0 = 0; j0 < x.u0; j0++) {
        int64_t r = (int64_t)i1 * x.u1 + j1 - x.x1, c = (int64_t)i0 * x.u0 + j0 - x.x0;
        if (r < 0 || c < 0 || c >= x.a1 || r * x.a1 >= x.a2) continue;
        bool live = wanted && j1 < x.v1 && j0 < x.v0;
        uint32_t bank = x.ch0 + b * x.cstep + s * elems + i2 * x.k2 + (uint32_t)r * x.k1 +
                        (uint32_t)c * x.k0;
        put(x.abase + i2 * x.a2 + r * x.a1 + c, bank, [&](uint32_t e) {
          return live && winner[e] == j1 * x.v0 + j0 ? value[e] : 0;
        });
        state.active[x.unit]++;
      }
  }
};

}  // namespace

void load(State &state, const isa::Load &x) {
  Loader loader(state, x);
  loader.validate();
  if (x.unpool)
    loader.unpool();
  else
    loader.copy();
}

}  // namespace gg
