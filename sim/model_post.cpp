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
  const char *what;
  bool half = false;   // the length and the strides
  bool early = false;  // read before the instructions before are complete
  uint32_t i2 = 0, i1 = 0;
  uint64_t left = 0;
  uint8_t *next = nullptr;

  template <bool WRITES> uint8_t *take(uint32_t bytes) {
    if (left == 0) {
      int64_t at = (int64_t)base + (int64_t)i2 * (x.o_s2 >> half) + (int64_t)i1 * (x.o_s1 >> half);
      uint32_t length = x.o_len >> half;
      next = WRITES ? memory.write(at, length, what) : memory.read(at, length, what, early);
      left = (uint64_t)length * memory.beat_bytes;
      if (++i1 == x.o_n1) i1 = 0, i2++;
    }
    uint8_t *here = next;
    next += bytes;
    left -= bytes;
    return here;
  }
};

struct Vector {
  float value[MOST];
  uint32_t tag[MOST];
};

// Where in memory a vector's operands come from and its results go; null when not asked for.
struct Places {
  const uint8_t *operand = nullptr, *old_momentum = nullptr;
  uint8_t *output = nullptr, *momentum = nullptr, *tags = nullptr;
};

struct Drain {
  State &state;
  const isa::Post &x;
  const uint32_t lanes;  // of the vector unit
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
  uint32_t operand_size() const { return x.opd_fp32 || x.sgd ? 4 : ELEM_BYTES; }
  uint32_t output_size() const { return x.out_fp32 || x.sgd ? 4 : ELEM_BYTES; }
  bool has_operand() const { return x.opd_add || x.mask || x.sgd; }
  bool half_tags() const { return output_size() != ELEM_BYTES; }

  void validate(uint64_t vectors) const {
    if (x.opd_add + x.mask + x.sgd > 1) fail(PROGRAM, "more than one of opd_add, mask, sgd");
    if (x.sgd && (x.scale || x.bias || x.relu || x.tags)) fail(PROGRAM, "sgd with another step");
    if (x.bias && x.opd_add) fail(PROGRAM, "bias with opd_add");
    if (x.mom && !x.sgd) fail(PROGRAM, "mom without sgd");
    if (x.tags && !x.pool) fail(PROGRAM, "tags without pool");
    if (x.tags && half_tags() && x.o_len % 2) fail(PROGRAM, "tags of half a beat");
    if (x.pool && x.src_mem) fail(PROGRAM, "pool of a memory source");
    if (x.pool && (x.w1 == 0 || x.w0 == 0)) fail(PROGRAM, "empty pooling window");
    uint64_t beats = (uint64_t)x.o_len * x.o_n1 * x.o_n2;
    auto match = [&](const char *what, uint64_t bytes) {
      if (bytes != beats * state.memory.beat_bytes)
        fail(PROGRAM, "the runs have %llu beats, the %s takes %llu bytes",
             (unsigned long long)beats, what, (unsigned long long)bytes);
    };
    match("output", vectors * lanes * output_size());
    if (has_operand()) match("operand", vectors * lanes * operand_size());
  }

  void read_bias() {
    const uint8_t *from = state.memory.read(x.imm2, TM / lanes, "bias read", true);
    for (uint32_t m = 0; m < TM; m++) bias[m] = operand(from + 4 * m, true, state.flags);
  }

  void open_source(uint64_t vectors) {
    uint64_t bytes = vectors * source_bytes(), beat = state.memory.beat_bytes;
    source = state.memory.read(x.src_base, (bytes + beat - 1) / beat, "source read");
  }

  Vector from_memory() {
    Vector y;
    uint32_t size = x.src_fp32 ? 4 : ELEM_BYTES;
    for (uint32_t i = 0; i < lanes; i++)
      y.value[i] = operand(source + i * size, x.src_fp32, state.flags);
    source += source_bytes();
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

  // Lane i of a vector, channel m, through the steps.
  void element(float v, uint32_t i, uint32_t m, const Places &at) {
    Flags &flags = state.flags;
    if (x.scale) v = fmul(v, imm0, flags);
    if (x.bias) v = fadd(v, bias[m], flags);
    float other = 0;
    if (at.operand) other = operand(at.operand + i * operand_size(), x.opd_fp32 || x.sgd, flags);
    if (x.opd_add) v = fadd(v, other, flags);
    if (x.relu) v = v > 0 ? v : 0.0f;
    if (x.mask) v = other > 0 ? v : 0.0f;
    if (x.sgd) {
      float before = x.mom ? operand(at.old_momentum + i * 4, true, flags) : 0;
      float momentum = fadd(v, fmul(imm0, other, flags), flags);
      momentum = fadd(fmul(imm1, before, flags), momentum, flags);
      if (x.mom) std::memcpy(at.momentum + i * 4, &momentum, 4);
      v = fadd(other, -fmul(imm2, momentum, flags), flags);
    }
    if (x.out_fp32 || x.sgd) {
      std::memcpy(at.output + i * 4, &v, 4);
    } else {
      uint32_t word = to_operand(v, flags);
      std::memcpy(at.output + i * ELEM_BYTES, &word, ELEM_BYTES);
    }
  }

  void vector(const Vector &y, uint32_t group, const Places &at) {
    for (uint32_t i = 0; i < lanes; i++) element(y.value[i], i, group * lanes + i, at);
    for (uint32_t i = 0; x.tags && i < lanes; i++) {
      uint32_t tag = (0x4000 | (y.tag[i] & 127)) << (BF16 ? 0 : 16);
      std::memcpy(at.tags + i * ELEM_BYTES, &tag, ELEM_BYTES);
    }
  }

  void run() {
    const uint32_t groups = TM / lanes;
    const uint64_t vectors = (uint64_t)x.p2 * x.p1 * x.p0 * groups;
    validate(vectors);
    if (x.bias) read_bias();
    if (x.src_mem) open_source(vectors);
    Memory &memory = state.memory;
    Runs operands{memory, x, x.opd_base, "operand read", false, !x.opd_add};
    Runs old_momentum{memory, x, x.aux_base, "momentum read", false, true};
    Runs output{memory, x, x.out_base, "output"};
    Runs momentum{memory, x, x.aux_base, "momentum output"};
    Runs tags{memory, x, x.aux_base, "output of tags", half_tags()};
    for (uint32_t i2 = 0; i2 < x.p2; i2++)
      for (uint32_t i1 = 0; i1 < x.p1; i1++)
        for (uint32_t i0 = 0; i0 < x.p0; i0++) {
          int64_t c = (int64_t)(uint16_t)x.src_base + (int64_t)i2 * x.as2 + (int64_t)i1 * x.as1 +
                      (int64_t)i0 * x.as0;
          for (uint32_t group = 0; group < groups; group++) {
            Vector y = x.src_mem ? from_memory() : from_accumulators(c, group);
            Places at;
            if (has_operand()) at.operand = operands.take<false>(lanes * operand_size());
            if (x.mom) at.old_momentum = old_momentum.take<false>(lanes * 4);
            at.output = output.take<true>(lanes * output_size());
            if (x.mom) at.momentum = momentum.take<true>(lanes * 4);
            if (x.tags) at.tags = tags.take<true>(lanes * ELEM_BYTES);
            vector(y, group, at);
          }
        }
    if (x.src_mem || x.opd_add) state.races.settle();  // these streams wait
    // beats of the first output
    state.active[isa::POST] += vectors * lanes * output_size() / memory.beat_bytes;
  }
};

}  // namespace

void post(State &state, const isa::Post &x) { Drain(state, x).run(); }

}  // namespace gg
