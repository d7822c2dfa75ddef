// Timing of the memory: when each burst is served. memory.h describes it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

struct Timing {
  uint32_t latency, num, den, stall, shared, outstanding;
  uint32_t row_bytes, row_cycles, refresh_interval, refresh_cycles;
};

struct Burst {
  uint32_t addr, beats;  // beats: of a read, those still to be offered
  uint64_t due;          // first cycle in which it may be served, or answered
  int resp;
  std::vector<uint8_t> contents;  // of a read, as at address time; empty: read them with each beat
  uint64_t next = 0;              // end of serving: of the next beat of a read, of all of a write
};

// Bursts of one port and direction; serving of the first `begun` has begun.
struct Queue {
  bool write;
  std::deque<Burst> bursts;
  size_t begun = 0;
  uint32_t waiting = 0;  // beats to be written that are here and not yet being served

  bool due(uint64_t now) const { return begun < bursts.size() && bursts[begun].due <= now; }
  void pop() { bursts.pop_front(), begun--; }
};

// Time in which channels serve: it stands still during a refresh. In units of 1/den cycles, so that a
// beat may take a fraction of a cycle more than another.
class Clock {
 public:
  explicit Clock(const Timing &t) : timing(t), until(t.refresh_interval) {}

  // Enters the cycle `now`, one after the other from 0; returns that a refresh begins in it.
  bool tick(uint64_t now) {
    bool begins = timing.refresh_interval && now == until;
    if (begins) until += timing.refresh_interval, again = now + timing.refresh_cycles;
    refreshing = now < again;
    if (!refreshing) end += timing.den;
    return begins;
  }

  // The next refresh begins an interval after the cycle `now`, which is entered next.
  void restart(uint64_t now) {
    until = now + timing.refresh_interval;
    again = 0;
  }

  bool running() const { return !refreshing; }
  uint64_t horizon() const { return end; }  // what is served up to here is served in this cycle

 private:
  const Timing &timing;
  uint64_t until, again = 0, end = 0;  // next refresh, end of the last one, time in all
  bool refreshing = false;
};

// Serves the bursts of its queues one after the other.
class Channel {
 public:
  std::vector<Queue *> queues;

  void reset() { free = next = 0; }
  void close_row() { open = false; }

  // Begins to serve a burst if the channel is free in this cycle and one is due; at most one can be,
  // as none takes less than a cycle.
  void serve(uint64_t now, const Clock &clock, const Timing &t) {
    if (!clock.running() || free >= clock.horizon()) return;
    Queue *queue = choose(now);
    if (!queue) return;
    Burst &burst = queue->bursts[queue->begun++];
    uint64_t begin = std::max(free, clock.horizon() - t.den);
    if (t.row_bytes) {
      uint32_t its = burst.addr / t.row_bytes;
      if (!open || its != row || queue->write != write) begin += uint64_t(t.row_cycles) * t.den;
      row = its, write = queue->write, open = true;
    }
    free = begin + uint64_t(burst.beats) * t.num;
    burst.next = queue->write ? free : begin + t.num;
    if (queue->write) queue->waiting -= burst.beats;
  }

 private:
  Queue *choose(uint64_t now) {
    for (size_t i = 0; i < queues.size(); i++) {
      size_t candidate = (next + i) % queues.size();
      if (!queues[candidate]->due(now)) continue;
      next = candidate + 1;
      return queues[candidate];
    }
    return nullptr;
  }

  uint64_t free = 0;  // end of serving of the last burst
  size_t next = 0;    // queue whose turn it is
  bool open = false, write = false;  // a row is open, for this direction
  uint32_t row = 0;
};
