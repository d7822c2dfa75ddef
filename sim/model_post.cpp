// POST: docs/program.md, section 5, with the steps of docs/numerics.md, section 3.
#include "model_state.h"

namespace gg {
namespace {

constexpr int MOST = 4;  // fp32 words in the widest beat

// Bytes of strided runs of beats, handed out in pieces that divide a beat: no piece spans two runs.
struct Runs {
  Memory &memory;
  const isa::Post &x;
  uint32_t base;
  bool writes;
  uint32_t i2 = 0, i1 = 0;
  uint64_t left = 0;
  uint8_t *next = nullptr;

  uint8_t *take(uint32_t bytes) {
    if (left == 0) {
      int64_t address = (int64_t)base + (int64_t)i2 * x.o_s2 + (int64_t)i1 * x.o_s1;
      next = writes ? memory.write(address, x.o_len, "output")
                    : memory.read(address, x.o_len, "operand read");
      left = (uint64_t)x.o_len * memory.beat_bytes;
      if (++i1 == x.o_n1) i1 = 0, i2++;
    }
    uint8_t *here = next;
    next += bytes;
    left -= bytes;
    return here;
  }
};

// Where a vector's operands or results are in memory; for sgd w, and momentum in the next beat.
template <class Byte> struct Place {
  Byte *first, *second;
};

struct Vector {
  float value[MOST];
  uint32_t tag[MOST];
};

struct Drain {
  State &state;
  const isa::Post &x;
  const uint32_t lanes;     // of the vector unit
  float bias[TM] = {};
  const uint8_t *source = nullptr;  // when it is memory
  float imm0, imm1, imm2;

  Drain(State &state, const isa::Post &x) : state(state), x(x), lanes(state.vlanes()) {
    Flags ignored;
    imm0 = canonical(x.imm0, ignored);
    imm1 = canonical(x.imm1, ignored);
    imm2 = canonical(x.imm2, ignored);
  }

  uint32_t source_bytes() const { return lanes * (x.src_fp32 ? 4 : ELEM_BYTES); }
  uint32_t operand_bytes() const { return lanes * (x.sgd ? 8 : x.opd_fp32 ? 4 : ELEM_BYTES); }
  uint32_t output_bytes() const {
    return lanes * (x.tag_out ? ELEM_BYTES : x.sgd ? 8 : x.out_fp32 ? 4 : ELEM_BYTES);
  }
  bool has_operand() const { return !x.tag_out && (x.opd_add || x.mask || x.sgd); }

  void validate(uint64_t vectors) const {
    if (x.opd_add + x.mask + x.sgd > 1) fail(PROGRAM, "more than one of opd_add, mask, sgd");
    if (x.sgd && (x.scale || x.bias || x.relu)) fail(PROGRAM, "sgd with another step");
    if (x.bias && x.opd_add) fail(PROGRAM, "bias with opd_add");
    if (x.bias && x.opd_add) fail(PROGRAM, "bias with opd_add");
    if (x.tag_out && !x.pool) fail(PROGRAM, "tag_out without pool");
    if (x.pool && x.src_mem) fail(PROGRAM, "pool of a memory source");
    if (x.src_odd && !(x.src_mem && source_bytes() == state.memory.beat_bytes))
      fail(PROGRAM, "src_odd without an fp32 memory source");
    if (x.pool && (x.w1 == 0 || x.w0 == 0)) fail(PROGRAM, "empty pooling window");
    uint64_t beats = (uint64_t)x.o_len * x.o_n1 * x.o_n2;
    auto match = [&](const char *what, uint64_t bytes) {
      if (bytes != beats * state.memory.beat_bytes)
        fail(PROGRAM, "the runs have %llu beats, the %s takes %llu bytes",
             (unsigned long long)beats, what, (unsigned long long)bytes);
    };
    match("output", vectors * output_bytes());
    if (has_operand()) match("operand", vectors * operand_bytes());
  }

  void read_bias() {
    uint32_t beat = state.memory.beat_bytes, groups = TM / lanes;
    const uint8_t *from = state.memory.read(x.imm2, 2 * groups, "bias read");
    for (uint32_t m = 0; m < TM; m++)
      bias[m] = operand(from + m / lanes * 2 * beat + m % lanes * 4, true, state.flags);
  }

  void open_source(uint64_t vectors) {
    uint64_t bytes = vectors * source_bytes() * (x.src_odd ? 2 : 1), beat = state.memory.beat_bytes;
    source = state.memory.read(x.src_base, (bytes + beat - 1) / beat, "source read");
  }

  Vector from_memory() {
    Vector y;
    uint32_t size = x.src_fp32 ? 4 : ELEM_BYTES;
    for (uint32_t i = 0; i < lanes; i++)
      y.value[i] = operand(source + i * size, x.src_fp32, state.flags);
    source += source_bytes() * (x.src_odd ? 2 : 1);
    return y;
  }

  Vector from_accumulators(int64_t c, uint32_t group) {
    Vector y;
    uint32_t w1 = x.pool ? x.w1 : 1, w0 = x.pool ? x.w0 : 1;
    for (uint32_t j1 = 0; j1 < w1; j1++)
      for (uint32_t j0 = 0; j0 < w0; j0++) {
        size_t index = state.acc_at(c + (int64_t)j1 * x.aw1 + (int64_t)j0 * x.aw0);
        if (state.check && !state.acc_written[index])
          fail(PROGRAM, "accumulator %zu is drained but was never written", index);
        if (state.check)
          require_order(state.races.read(state.region(index)), "accumulator", index);
        const float *row = (const float *)&state.acc[index] + group * lanes;
        uint32_t tag = j1 * w0 + j0;
        for (uint32_t i = 0; i < lanes; i++)
          if (tag == 0 || row[i] > y.value[i]) y.value[i] = row[i], y.tag[i] = tag;
      }
    return y;
  }

  template <class Byte> Place<Byte> take(Runs &runs, uint32_t bytes) {
    if (!x.sgd) return {runs.take(bytes), nullptr};
    Byte *first = runs.take(bytes / 2);
    return {first, runs.take(bytes / 2)};
  }

  // One element, of channel m, through the steps; `from_at` and `to_at` are bytes into the vector.
  void element(float v, uint32_t m, Place<const uint8_t> from, uint32_t from_at, Place<uint8_t> to,
               uint32_t to_at) {
    Flags &flags = state.flags;
    if (x.scale) v = fmul(v, imm0, flags);
    if (x.bias) v = fadd(v, bias[m], flags);
    float other = 0;
    if (has_operand()) other = operand(from.first + from_at, x.opd_fp32 || x.sgd, flags);
    if (x.opd_add) v = fadd(v, other, flags);
    if (x.relu) v = v > 0 ? v : 0.0f;
    if (x.mask) v = other > 0 ? v : 0.0f;
    if (x.sgd) {
      float w = other, momentum = operand(from.second + from_at, true, flags);
      float g = fadd(v, fmul(imm0, w, flags), flags);
      momentum = fadd(fmul(imm1, momentum, flags), g, flags);
      w = fadd(w, -fmul(imm2, momentum, flags), flags);
      std::memcpy(to.first + to_at, &w, 4);
      std::memcpy(to.second + to_at, &momentum, 4);
    } else if (x.out_fp32) {
      std::memcpy(to.first + to_at, &v, 4);
    } else {
      uint32_t word = to_operand(v, flags);
      std::memcpy(to.first + to_at, &word, ELEM_BYTES);
    }
  }

  void vector(const Vector &y, uint32_t group, Place<const uint8_t> from, Place<uint8_t> to) {
    uint32_t from_size = x.opd_fp32 || x.sgd ? 4 : ELEM_BYTES;
    uint32_t to_size = !x.tag_out && (x.out_fp32 || x.sgd) ? 4 : ELEM_BYTES;
    for (uint32_t i = 0; i < lanes; i++) {
      if (x.tag_out) {
        uint32_t word = (0x4000 | (y.tag[i] & 127)) << (BF16 ? 0 : 16);
        std::memcpy(to.first + i * ELEM_BYTES, &word, ELEM_BYTES);
      } else {
        element(y.value[i], group * lanes + i, from, i * from_size, to, i * to_size);
      }
    }
  }

  void run() {
    const uint32_t groups = TM / lanes;
    const uint64_t vectors = (uint64_t)x.p2 * x.p1 * x.p0 * groups;
    validate(vectors);
    if (x.bias && !x.tag_out) read_bias();
    if (x.src_mem) open_source(vectors);
    Runs operands{state.memory, x, x.opd_base, false}, output{state.memory, x, x.out_base, true};
    for (uint32_t i2 = 0; i2 < x.p2; i2++)
      for (uint32_t i1 = 0; i1 < x.p1; i1++)
        for (uint32_t i0 = 0; i0 < x.p0; i0++) {
          int64_t c = (int64_t)(uint16_t)x.src_base + (int64_t)i2 * x.as2 + (int64_t)i1 * x.as1 +
                      (int64_t)i0 * x.as0;
          for (uint32_t group = 0; group < groups; group++) {
            Vector y = x.src_mem ? from_memory() : from_accumulators(c, group);
            Place<const uint8_t> from{};
            if (has_operand()) from = take<const uint8_t>(operands, operand_bytes());
            vector(y, group, from, take<uint8_t>(output, output_bytes()));
          }
        }
    state.active[isa::POST] += vectors * output_bytes() / state.memory.beat_bytes;
  }
};

}  // namespace

void post(State &state, const isa::Post &x) { Drain(state, x).run(); }

}  // namespace gg
