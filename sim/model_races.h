// Which unit has touched what since when: finds accesses that no token puts in order (check only).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

namespace gg {

// How many instructions of each unit are known to be complete.
using Clock = std::array<uint32_t, 4>;

// The last accesses to one word, as numbers of instructions from 1; 0: none.
struct Cell {
  uint32_t writer = 0, written = 0, read[4] = {};
};

class Races {
  static constexpr uint32_t PAGE = 512;  // cells of memory that come into being together
  Clock clocks[4] = {};                  // as each unit knows them
  std::deque<Clock> tokens[16];          // what the producer knew, per token; from * 4 + to
  uint32_t settled[4] = {};              // own instructions complete before the next begins
  std::unordered_map<uint64_t, std::vector<Cell>> pages;
  uint32_t unit = 0;

 public:
  // One program ends before the next begins, also one that was stopped within an instruction.
  void begin_program() {
    Clock latest{};
    for (int u = 0; u < 4; u++) settled[u] = latest[u] = clocks[u][u] + 1;
    for (Clock &clock : clocks) clock = latest;
    for (auto &queue : tokens) queue.clear();
  }
  void begin(uint32_t own, uint32_t wait) {
    unit = own;
    for (uint32_t from = 0; from < 4; from++)
      if (wait >> from & 1) {
        auto &queue = tokens[from * 4 + unit];
        for (int u = 0; u < 4; u++) clocks[unit][u] = std::max(clocks[unit][u], queue.front()[u]);
        settled[unit] = std::max(settled[unit], queue.front()[unit]);
        queue.pop_front();
      }
  }
  void end(uint32_t signal) {
    clocks[unit][unit]++;
    for (uint32_t to = 0; to < 4; to++)
      if (signal >> to & 1) tokens[unit * 4 + to].push_back(clocks[unit]);
  }

  Cell &memory(uint64_t beat) {
    std::vector<Cell> &page = pages[beat / PAGE];
    if (page.empty()) page.resize(PAGE);
    return page[beat % PAGE];
  }

  // The instruction under way has waited for the ones before it of its unit.
  void settle() { settled[unit] = clocks[unit][unit]; }
  // Whether an instruction before, of the same unit, may still be writing a word.
  bool unsettled(const Cell &cell) const {
    return cell.writer == unit && cell.written > settled[unit] &&
           cell.written <= clocks[unit][unit];
  }

  // Enter an access of the instruction under way; the unit it is in conflict with, or -1.
  int read(Cell &cell) {
    const Clock &known = clocks[unit];
    bool race = cell.writer != unit && cell.written > known[cell.writer];
    cell.read[unit] = known[unit] + 1;
    return race ? (int)cell.writer : -1;
  }
  int write(Cell &cell) {
    const Clock &known = clocks[unit];
    int other = read(cell);
    for (uint32_t u = 0; u < 4; u++)
      if (u != unit && cell.read[u] > known[u]) other = (int)u;
    cell.writer = unit;
    cell.written = known[unit] + 1;
    return other;
  }
};

}  // namespace gg
