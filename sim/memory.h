// Memory behind AXI4 slave ports: contents, timing, errors, and a check of the masters' manners.
//
// Every cycle the owner calls drive() to learn the slaves' outputs, settles the design, and calls
// clock() of each port with the masters' outputs of the same cycle, then finish().
//
// Timing. A *channel* serves bursts one after the other. With `shared` there is one for all ports and
// both directions; otherwise every port has one per direction, and none affects another. Say that a
// transfer in cycle t is one whose valid and ready are both high at the clock edge that ends t.
//
// - A read becomes due `latency` cycles after its address was transferred. A write becomes due in the
//   cycle after its last beat, or its address if that comes later, was transferred. The memory takes
//   beats to be written at one per cycle as long as fewer than 512 of its port wait to be served.
// - When a channel is free it begins to serve the oldest due burst of one port and direction. If bursts
//   of several are due, they take turns in the order port 0 reads, port 0 writes, port 1 reads, ...,
//   beginning after the one served last. A burst is served to its end before another begins.
// - Serving takes row_cycles + beats * num / den cycles; row_cycles only if the burst is not in the row
//   (address of its first byte / row_bytes) and direction of the burst that the channel has served
//   before, or if none has been since the last refresh. With row_bytes = 0 it never does.
//   It begins at once when the burst before ends, even within a cycle, or else when the
//   burst becomes due: a channel with bursts due at all times does not lose a fraction of a cycle.
// - Beat i of a read is offered in the cycle in which its share of serving ends: with nothing in the
//   way, cycle t + latency + row_cycles + ceil((i + 1) * num / den) - 1 if the address was
//   transferred in cycle t. If the master does not take it, later beats wait, but serving goes on.
// - The response of a write is offered `latency` cycles after the one in which its serving ended.
// - Refresh: in the cycles k * refresh_interval .. k * refresh_interval + refresh_cycles - 1, k >= 1,
//   counted from the construction of the memory or the last restart_refresh(), no channel serves: none
//   begins a burst, and what is left of one under way is put off. Latencies go on.
//   refresh_interval = 0: never.
// - `outstanding` bursts of each port and direction may be under way: a read from its address to the
//   offer of its last beat, a write from its address to the offer of its response.
// - Each of the five AXI channels of a port stalls by itself with probability stall / 2^32 per cycle.
//
// Bursts of a port and direction are served in order. A write changes the memory when its response is
// offered, the latest moment AXI allows; a read sees the memory at its address or at its data beats, by a
// coin, so that a master that relies on either is found out.
#pragma once
#include <sys/mman.h>

#include <cstdint>
#include <deque>
#include <new>
#include <string>
#include <vector>

#include "axi_port.h"
#include "channel.h"

// Zeros that take no memory until they are touched.
class Contents {
 public:
  explicit Contents(uint64_t size) : size(size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *start = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    bytes = static_cast<uint8_t *>(start);
  }
  Contents(const Contents &) = delete;
  Contents &operator=(const Contents &) = delete;
  ~Contents() { munmap(bytes, size); }

  uint8_t *bytes;
  const uint64_t size;
};

template <int BYTES>
class Memory {
 public:
  std::deque<AxiPort<BYTES>> ports;  // not moved, as channels point into them
  Store store;

  // Throws bad_alloc when there is no address space for `size` bytes.
  Memory(uint64_t size, int count, const Timing &timing, uint64_t seed)
      : store{nullptr, size, Random(seed)}, contents(size), timing(timing), time(this->timing) {
    store.bytes = contents.bytes;
    channels.resize(timing.shared ? 1 : 2 * count);
    for (int i = 0; i < count; i++) {
      auto &port = ports.emplace_back("m_axi" + (i ? std::to_string(i) : ""), this->timing, store);
      channels[timing.shared ? 0 : 2 * i].queues.push_back(&port.reads);
      channels[timing.shared ? 0 : 2 * i + 1].queues.push_back(&port.writes);
    }
  }
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;

  uint8_t *data() { return contents.bytes; }

  // The interconnect was reset together with the masters: forget everything under way.
  void reset() {
    for (auto &port : ports) port.reset();
    for (auto &channel : channels) channel.reset();
    store.violation.clear();
  }

  // Refreshes are counted from this cycle on, and all rows are closed.
  void restart_refresh() {
    time.restart(now);
    for (auto &channel : channels) channel.close_row();
  }

  void drive() {
    if (time.tick(now))
      for (auto &channel : channels) channel.close_row();
    for (auto &channel : channels) channel.serve(now, time, timing);
    for (auto &port : ports) port.drive(now, time);
  }

  void finish() { now++; }
  uint64_t cycle() const { return now; }

 private:
  Contents contents;
  const Timing timing;
  Clock time;
  std::vector<Channel> channels;
  uint64_t now = 0;
};
