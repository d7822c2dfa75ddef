// COMPUTE: docs/program.md, section 4.
#include <algorithm>

#include "model_state.h"

namespace gg {
namespace {

// One COMPUTE instruction. CHECK follows operands and accumulators that nobody has written.
template <bool CHECK> struct Sweeps {
  State &state;
  const isa::Compute &x;
  Stationary a;
  int64_t a_words[TN][TM];         // that the tile comes from; -1: none
  bool a_live[TN], a_entered[TN];  // lane may be other than 0; its words are known to be in order

  void clear() {
    for (int i = 0; i < TN; i++) {
      a.value[i] = RowReal{};
      a.exponent[i] = RowInt{} + DEAD;
      a_live[i] = a_entered[i] = false;
      if (CHECK) std::fill_n(a_words[i], TM, -1);
    }
    state.sweep++;
  }

  void set(int row, int lane, size_t at) {
    a.set(row, lane, state.a.value[at]);
    if (CHECK) {
      a_words[lane][row] = (int64_t)at;
      a_live[lane] |= !state.a.written[at] || state.a.value[at] != 0;
    }
  }

  // Words that only meet zeros may be anything.
  void use_stationary(int lane) {
    if (a_entered[lane]) return;
    a_entered[lane] = true;
    for (int64_t word : a_words[lane]) {
      if (word < 0) continue;
      if (!state.a.written[word])
        fail(PROGRAM, "buffer A, word %lld, bank %lld is used but was never written",
             (long long)(word / TN), (long long)(word % TN));
      require_order(state.races.read(state.a.cells[word]), "buffer A, word", word / TN);
    }
  }

  // `at` finds the word of a lane in buffer B; only asked when checking.
  template <class At> void accumulate(const float *b, int64_t c, bool overwrite, At at) {
    size_t index = state.acc_at(c);
    if (CHECK) {
      for (int i = 0; i < TN; i++) {
        if (int64_t word = at(i); word >= 0 && a_live[i]) {
          if (!state.b.written[word])
            fail(PROGRAM, "buffer B, word %lld, bank %lld is used but was never written",
                 (long long)(word / TN), (long long)(word % TN));
          require_order(state.races.read(state.b.cells[word]), "buffer B, word", word / TN);
        }
        if (b[i] != 0) use_stationary(i);
      }
      if (!overwrite && !state.acc_written[index])
        fail(PROGRAM, "accumulator %zu is added to but was never written", index);
      if (state.acc_sweep[index] == state.sweep)
        fail(PROGRAM, "accumulator %zu is visited twice in a sweep", index);
      state.acc_sweep[index] = state.sweep;
      require_order(state.races.write(state.region(index)), "accumulator", index);
    }
    state.acc_written[index] = 1;
    state.acc[index] = dotacc(a, Moving(b), overwrite ? RowFloat{} : state.acc[index], state.flags);
    state.active[isa::COMPUTE]++;
  }

  void stationary(uint32_t g, uint32_t kr, uint32_t kc) {
    uint32_t rows = x.rows < TM ? x.rows : TM;
    uint32_t limit = (x.pack ? kc == x.t0 - 1 : g == x.ng - 1) ? x.lanes_last : TN;
    limit = limit < TN ? limit : TN;
    int64_t base = (int64_t)x.abase + (int64_t)g * x.ag + (int64_t)kr * x.at1 + (int64_t)kc * x.at0;
    clear();
    if (x.zero) return;
    for (uint32_t r = 0; r < rows; r++)
      for (uint32_t i = 0; i < limit; i++)
        if (x.ident) {
          if (i == r) a.set(r, i, 1), a_live[i] = true;
        } else if (x.a_pix) {
          set(r, i, state.a.at(base + (int64_t)(i % x.al_n) * x.al0 +
                                   (int64_t)(i / x.al_n) * x.al1, i + x.rch0 + r));
        } else {
          set(r, i, state.a.at(base + (int64_t)r * x.ar, i + x.rch0 + r));
        }
  }

  // One moving vector of a convolution; `offset` is off_b.
  void convolve_at(int64_t offset, uint32_t tag, int64_t c, bool overwrite) {
    if (x.zero) {
      static const float zeros[TN] = {};
      return accumulate(zeros, c, overwrite, [](int) { return -1; });
    }
    float lanes[TN];
    uint16_t pixel = (uint16_t)(x.bbase + offset);
    constexpr uint32_t group = TN / 4;
    auto at = [&](uint32_t i) -> int64_t {
      if (!x.pack) return state.b.at(pixel, i);
      uint32_t lane = 4 * (pixel % group) + i;
      return state.b.at(pixel / group + lane / TN, lane);
    };
    const float *b = lanes;
    if (!x.pack && !x.sel) {
      b = &state.b.value[at(0)];
    } else {
      for (uint32_t i = 0; i < TN; i++) lanes[i] = state.b.value[at(i)];
    }
    if (x.sel)
      for (uint32_t i = 0; i < TN; i++) {
        size_t word = state.a.at(x.abase + offset, i);
        if (CHECK && a_live[i] && !state.a.written[word])
          fail(PROGRAM, "a tag of buffer A, word %zu, was never written", word / TN);
        if (CHECK && a_live[i])
          require_order(state.races.read(state.a.cells[word]), "buffer A, word", word / TN);
        if ((bits<uint32_t>(state.a.value[word]) >> 16 & 127) != tag) lanes[i] = 0;
      }
    accumulate(b, c, overwrite, at);
  }

  void convolve() {
    if (x.a_pix && x.al_n == 0) fail(PROGRAM, "al_n is 0");
    if (x.sel && !x.ident) fail(PROGRAM, "sel without ident");
    for (uint32_t g = 0; g < x.ng; g++)
      for (uint32_t kr = 0; kr < x.t1; kr++)
        for (uint32_t kc = 0; kc < x.t0; kc++) {
          stationary(g, kr, kc);
          bool overwrite = x.first && g == 0 && kr == 0 && kc == 0;
          uint32_t tag = (x.tag0 + kr * x.tg1 + kc * x.tg0) % 128;
          int64_t b = (int64_t)g * x.bg + (int64_t)kr * x.bt1 + (int64_t)kc * x.bt0;
          for (uint32_t i2 = 0; i2 < x.q2; i2++)
            for (uint32_t i1 = 0; i1 < x.q1; i1++) {
              int64_t b1 = b + (int64_t)i2 * x.bq2 + (int64_t)i1 * x.bq1;
              int64_t c1 = (int64_t)x.cbase + (int64_t)i2 * x.cq2 + (int64_t)i1 * x.cq1;
              for (uint32_t i0 = 0; i0 < x.q0; i0++)
                convolve_at(b1 + (int64_t)i0 * x.bq0, tag, c1 + (int64_t)i0 * x.cq0, overwrite);
            }
        }
  }

  // One chunk of TN pixels of a weight gradient.
  void chunk(uint32_t first_pixel) {
    const uint32_t rows = x.rows < TM ? x.rows : TM;
    const uint32_t used = x.np - first_pixel < TN ? x.np - first_pixel : TN;
    uint16_t pixel[TN] = {};
    clear();
    for (uint32_t i = 0; i < used; i++) {
      uint32_t p = first_pixel + i, i0 = p % x.q0, i1 = p / x.q0 % x.q1, i2 = p / x.q0 / x.q1;
      pixel[i] = (uint16_t)(i2 * x.bq2 + i1 * x.bq1 + i0 * x.bq0);
      for (uint32_t r = 0; r < rows; r++) set(r, i, state.a.at(x.abase + p, i + x.rch0 + r));
    }

    const bool overwrite = x.first && first_pixel == 0;
    int64_t c = x.cbase;
    for (uint32_t g = 0; g < x.ng; g++)
      for (uint32_t n = 0; n < (g == x.ng - 1 ? x.lanes_last : TN); n++)
        for (uint32_t kr = 0; kr < x.t1; kr++)
          for (uint32_t kc = 0; kc < x.t0; kc++) {
            uint32_t base = x.bbase + g * x.bg + kr * x.bt1 + kc * x.bt0;
            uint32_t rot = n + kr / x.sd1 * x.rskew + kc / x.sd0;
            auto at = [&](uint32_t i) -> int64_t { return state.b.at(base + pixel[i], i + rot); };
            float lanes[TN];
            for (uint32_t i = 0; i < TN; i++) lanes[i] = state.b.value[at(i)];
            accumulate(lanes, c++, overwrite, at);
          }
    if (x.ones) {
      float lanes[TN];
      for (float &lane : lanes) lane = 1;
      accumulate(lanes, c, overwrite, [](int) { return -1; });
    }
  }

  void weight_gradient() {
    if (x.np != (uint64_t)x.q2 * x.q1 * x.q0) fail(PROGRAM, "np is not q2 * q1 * q0");
    if (x.sd1 == 0 || x.sd0 == 0) fail(PROGRAM, "sd1 or sd0 is 0");
    for (uint32_t first_pixel = 0; first_pixel < x.np; first_pixel += TN) chunk(first_pixel);
  }
};

template <bool CHECK> void run(State &state, const isa::Compute &x) {
  Sweeps<CHECK> sweeps{state, x, {}, {}, {}, {}};
  x.dw ? sweeps.weight_gradient() : sweeps.convolve();
}

}  // namespace

void compute(State &state, const isa::Compute &x) {
  state.check ? run<true>(state, x) : run<false>(state, x);
}

}  // namespace gg
