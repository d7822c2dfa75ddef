// The model's sequencer (docs/program.md, section 1) and its interface to Python.
#include <cfenv>
#include <deque>
#include <new>

#include "model_state.h"

namespace gg {

extern "C" struct Report {
  int32_t status;
  uint32_t nonfinite, overflow;
  int64_t instruction;  // that failed, or set the first flag; -1: none
  int64_t heads[4];     // of the queues; -1: empty
  uint32_t tokens[16];  // from * 4 + to
  uint64_t fetched, completed[4], active[4], read_bytes, write_bytes;
  char text[224];
};

namespace {

// A program in flight: what is queued, which tokens are there.
struct Program {
  State &state;
  uint32_t address;
  Report &report;
  std::deque<uint32_t> queues[4];
  uint32_t started = 0, preferred = 0;

  const uint32_t *words(uint32_t index) const {
    return (const uint32_t *)(state.memory.data + address + (uint64_t)index * 64);
  }

  void fetch() {
    const uint32_t beats = 64 / state.memory.beat_bytes;
    for (uint32_t index = 0;; index++) {
      report.instruction = index;
      state.memory.at((uint64_t)address + index * 64ull, beats, "instruction fetch");
      state.memory.read_bytes += 64;
      report.fetched++;
      uint32_t unit = words(index)[0] & 15;
      if (unit == isa::END) return;
      if (unit > isa::POST) fail(PROGRAM, "unknown unit %u", unit);
      queues[unit].push_back(index);
    }
  }

  uint32_t mask(uint32_t unit, int shift) const {
    return words(queues[unit].front())[0] >> shift & 15 & ~(1u << unit);
  }

  bool ready(uint32_t unit) const {
    if (queues[unit].empty()) return false;
    for (uint32_t from = 0; from < 4; from++)
      if ((mask(unit, 4) >> from & 1) && report.tokens[from * 4 + unit] == 0) return false;
    return true;
  }

  // The oldest instruction that can start.
  int choose() {
    int chosen = -1;
    for (uint32_t unit = 0; unit < 4; unit++)
      if (ready(unit) && (chosen < 0 || queues[unit].front() < queues[chosen].front()))
        chosen = (int)unit;
    return chosen;
  }

  // When checking, one unit at random runs ahead for a while, to bring out missing tokens.
  int choose_any() {
    state.random = state.random * 6364136223846793005u + 1442695040888963407u;
    uint32_t draw = (uint32_t)(state.random >> 40);
    if (started++ == 0 || draw % 8 == 0) preferred = draw >> 3;
    for (uint32_t k = 0; k < 4; k++)
      if (uint32_t unit = (preferred & 4 ? preferred + k : preferred - k) % 4; ready(unit))
        return (int)unit;
    return -1;
  }

  void execute(uint32_t unit) {
    const uint32_t index = queues[unit].front(), wait = mask(unit, 4), signal = mask(unit, 8);
    const Flags before = state.flags;
    if (!before.nonfinite && !before.overflow) report.instruction = index;
    for (uint32_t u = 0; u < 4; u++) report.tokens[u * 4 + unit] -= wait >> u & 1;
    if (state.check) state.races.begin(unit, wait);
    try {
      if (unit == isa::COMPUTE)
        compute(state, isa::decode_Compute(words(index)));
      else if (unit == isa::POST)
        post(state, isa::decode_Post(words(index)));
      else
        load(state, isa::decode_Load(words(index)));
    } catch (const Fault &) {
      report.instruction = index;
      throw;
    }
    if (state.check) state.races.end(signal);
    queues[unit].pop_front();
    report.completed[unit]++;
    for (uint32_t u = 0; u < 4; u++)
      if ((signal >> u & 1) && ++report.tokens[unit * 4 + u] > 255) {
        report.instruction = index;
        fail(PROGRAM, "more than 255 tokens");
      }
  }

  void run() {
    fetch();
    state.races.begin_program();
    report.instruction = -1;
    for (int unit; (unit = state.check ? choose_any() : choose()) >= 0;) execute((uint32_t)unit);
    if (!state.flags.nonfinite && !state.flags.overflow) report.instruction = -1;
    for (const auto &queue : queues)
      if (!queue.empty()) fail(DEADLOCK, "no unit can go on");
    for (uint32_t count : report.tokens)
      if (count) fail(PROGRAM, "tokens left at the end");
  }
};

}  // namespace
}  // namespace gg

using namespace gg;

extern "C" {

void *model_create(uint8_t *memory, uint64_t size, uint32_t beat_bytes, uint32_t a_depth,
                   uint32_t b_depth, uint32_t acc_depth, int32_t check) {
  return new (std::nothrow)
      State(memory, size, beat_bytes, a_depth, b_depth, acc_depth, check != 0);
}

void model_destroy(void *state) { delete (State *)state; }

void model_run(void *handle, uint32_t address, Report *report) {
  State &state = *(State *)handle;
  *report = Report{};
  state.flags = Flags{};
  state.memory.read_bytes = state.memory.write_bytes = 0;
  for (uint64_t &count : state.active) count = 0;

  std::fenv_t environment;  // the caller may flush subnormals, or round otherwise
  std::fegetenv(&environment);
  std::fesetenv(FE_DFL_ENV);
  Program program{state, address, *report};
  try {
    program.run();
  } catch (const Fault &fault) {
    report->status = fault.status;
    std::snprintf(report->text, sizeof report->text, "%s", fault.text.c_str());
  }
  std::fesetenv(&environment);

  report->nonfinite = state.flags.nonfinite;
  report->overflow = state.flags.overflow;
  for (int u = 0; u < 4; u++) {
    report->heads[u] = program.queues[u].empty() ? -1 : (int64_t)program.queues[u].front();
    report->active[u] = state.active[u];
  }
  report->read_bytes = state.memory.read_bytes;
  report->write_bytes = state.memory.write_bytes;
}

// `count` dot-accumulates of TM rows each, for tests: a [count][TM][TN], b [count][TN], acc and out
// [count][TM], all as floats of canonical operands; overflow [count].
void model_dotacc(uint64_t count, const float *a, const float *b, const float *acc, float *out,
                  uint8_t *overflow) {
  for (uint64_t n = 0; n < count; n++, a += TM * TN, b += TN, acc += TM, out += TM) {
    Stationary tile;
    RowFloat sums;
    Flags flags;
    for (int r = 0; r < TM; r++) {
      sums[r] = acc[r];
      for (int i = 0; i < TN; i++) tile.set(r, i, a[r * TN + i]);
    }
    sums = dotacc(tile, Moving(b), sums, flags);
    for (int r = 0; r < TM; r++) out[r] = sums[r];
    overflow[n] = flags.overflow;
  }
}

// One scalar operation: 0 fadd, 1 fmul, 2 conversion of a to an operand.
uint32_t model_scalar(int32_t operation, float a, float b, uint8_t *overflow) {
  Flags flags;
  uint32_t word = operation == 2   ? to_operand(a, flags)
                  : operation == 1 ? bits<uint32_t>(fmul(a, b, flags))
                                   : bits<uint32_t>(fadd(a, b, flags));
  *overflow = flags.overflow;
  return word;
}

}  // extern "C"
