// What the units share: memory, tile buffers, accumulators, flags, counters; and how they fail.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

#include "isa.h"
#include "model_array.h"
#include "model_races.h"

namespace gg {

enum Status : int32_t { OK, DEADLOCK, BUS, PROGRAM };

struct Fault {
  Status status;
  std::string text;
};

[[noreturn]] __attribute__((format(printf, 2, 3)))
inline void fail(Status status, const char *format, ...) {
  char text[200];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Fault{status, text};
}

// An access of a word that another unit may be writing, or for a write also reading.
inline void require_order(int other, const char *what, uint64_t index) {
  static const char *const names[] = {"LOAD_A", "LOAD_B", "COMPUTE", "POST"};
  if (other >= 0)
    fail(PROGRAM, "%s 0x%llx: no token puts this in order with %s", what,
         (unsigned long long)index, names[other]);
}

struct Memory {
  uint8_t *data;
  uint64_t size;
  uint32_t beat_bytes;
  Races *races;  // null when not checking
  uint64_t read_bytes = 0, write_bytes = 0;

  // `count` beats at `address`; addresses are 32 bits and wrap there; those of the gateware have
  // Config.addr_bits, no fewer than memory needs.
  uint8_t *at(int64_t address, uint64_t count, const char *what) const {
    uint32_t first = (uint32_t)address;
    if (first % beat_bytes)
      fail(PROGRAM, "%s address 0x%08x is not a multiple of the beat", what, first);
    if (first + count * beat_bytes > size)
      fail(BUS, "%s of %llu bytes at 0x%08x is outside the memory", what,
           (unsigned long long)(count * beat_bytes), first);
    return data + first;
  }
  // `early`: before instructions of the same unit are complete.
  uint8_t *read(int64_t address, uint64_t count, const char *what, bool early = false) {
    uint8_t *from = at(address, count, what);
    read_bytes += count * beat_bytes;
    for (uint64_t k = 0; races && k < count; k++) {
      uint64_t beat = (uint32_t)address / beat_bytes + k;
      if (early && races->unsettled(races->memory(beat)))
        fail(PROGRAM, "%s 0x%llx: the one that writes it may not be complete", what,
             (unsigned long long)(beat * beat_bytes));
      require_order(races->read(races->memory(beat)), what, beat * beat_bytes);
    }
    return from;
  }
  uint8_t *write(int64_t address, uint64_t count, const char *what) {
    uint8_t *to = at(address, count, what);
    write_bytes += count * beat_bytes;
    for (uint64_t k = 0; races && k < count; k++) {
      uint64_t beat = (uint32_t)address / beat_bytes + k;
      require_order(races->write(races->memory(beat)), what, beat * beat_bytes);
    }
    return to;
  }
};

// Unwritten words hold numbers that show when they are used, unlike zeros.
inline float garbage(uint64_t index) {
  uint32_t hash = (uint32_t)((index + 1) * 0x9e3779b97f4a7c15u >> 32);
  uint32_t word = (hash & 0x80ff0000) | ((96 + (hash >> 24 & 63)) << 23);
  return bits<float>(word);
}

struct Buffer {
  uint32_t depth;
  std::vector<float> value;      // word * TN + bank
  std::vector<uint8_t> written;  // likewise
  std::vector<Cell> cells;       // likewise; empty when not checking

  Buffer(uint32_t depth, bool check)
      : depth(depth), value(depth * TN), written(depth * TN), cells(check ? depth * TN : 0) {
    for (size_t i = 0; i < value.size(); i++) value[i] = garbage(i);
  }
  // Address sums wrap at 16 bits, then at the depth.
  size_t at(int64_t address, uint32_t bank) const {
    return (uint16_t)address % depth * TN + bank % TN;
  }
};

struct State {
  Memory memory;
  Buffer a, b;
  std::vector<RowFloat> acc;  // both regions
  std::vector<uint8_t> acc_written;
  std::vector<uint64_t> acc_sweep;  // that has visited it last, when checking
  uint64_t sweep = 0;
  bool check;
  Races races;
  Cell regions[2];  // of the accumulators: one unit at a time
  Flags flags;
  uint64_t active[4] = {};
  uint64_t random = 0x2545f4914f6cdd1d;  // of the order of the units, when checking

  State(uint8_t *data, uint64_t size, uint32_t beat_bytes, uint32_t a_depth, uint32_t b_depth,
        uint32_t acc_depth, bool check)
      : memory{data, size, beat_bytes, check ? &races : nullptr}, a(a_depth, check),
        b(b_depth, check), acc(2 * acc_depth), acc_written(2 * acc_depth),
        acc_sweep(2 * acc_depth), check(check) {
    for (size_t c = 0; c < acc.size(); c++)
      for (int r = 0; r < TM; r++) acc[c][r] = garbage(c * TM + r);
  }
  State(const State &) = delete;

  size_t acc_at(int64_t address) const { return (uint16_t)address & (acc.size() - 1); }
  Cell &region(size_t index) { return regions[index >= acc.size() / 2]; }
  uint32_t beat_elems() const { return memory.beat_bytes / ELEM_BYTES; }
  uint32_t vlanes() const { return memory.beat_bytes / 4; }
};

void load(State &state, const isa::Load &x);
void compute(State &state, const isa::Compute &x);
void post(State &state, const isa::Post &x);

inline float operand(const uint8_t *from, bool fp32, Flags &flags) {
  if (!BF16 || fp32) {
    uint32_t word;
    std::memcpy(&word, from, 4);
    return canonical(word, flags);
  }
  uint16_t half;
  std::memcpy(&half, from, 2);
  return canonical((uint32_t)half << 16, flags);
}

}  // namespace gg
