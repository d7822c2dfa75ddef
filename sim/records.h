// What every unit has executed: one record per instruction.
#pragma once
#include <cstdint>
#include <vector>

struct Record {
  uint64_t start, done, active, starved;
};

// Units execute in order, but may begin an instruction before the one before is done. `active` counts
// from one `done` to the next, that cycle included, and `starved` from one `start` to the next.
class Records {
 public:
  // The events of a cycle: bit u of each mask is unit u.
  void clock(uint64_t cycle, uint32_t start, uint32_t done, uint32_t active, uint32_t waiting) {
    for (int u = 0; u < UNITS; u++) {
      units[u].active += active >> u & 1;
      units[u].starved += waiting >> u & 1;
    }
    if (start | done)
      for (int u = 0; u < UNITS; u++) {
        if (start >> u & 1) units[u].begin(cycle);
        if (done >> u & 1) units[u].finish(cycle);
      }
  }

  void clear() {
    for (auto &unit : units) unit = {};
  }

  const std::vector<Record> &of(int unit) const { return units[unit].list; }

 private:
  static constexpr int UNITS = 4;

  struct Unit {
    std::vector<Record> list;
    size_t completed = 0;
    uint64_t active = 0, starved = 0;

    void begin(uint64_t cycle) {
      list.push_back({cycle, 0, 0, starved});
      starved = 0;
    }

    void finish(uint64_t cycle) {
      if (completed == list.size()) return;  // of a program before
      list[completed].done = cycle;
      list[completed].active = active;
      active = 0;
      completed++;
    }
  };

  Unit units[UNITS];
};
