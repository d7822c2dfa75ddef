// Masters that write down in which cycle what happens, against the memory of the simulator.
// Compiled with -DBEAT_BYTES=<bytes>.
#include <bit>

#include "memory.h"

struct Transfer {
  uint32_t port, write, addr, beats;
  uint64_t earliest;                     // cycle from which the address is offered
  uint64_t address, first, last, answer;  // cycles of transfers: address, beats, response (writes)
};

// Does all transfers, those of a port and direction in order. Beats to be written are offered from the
// address on. Returns the cycles it took, or 0 when `limit` was not enough.
extern "C" uint64_t run(const Timing *timing, uint32_t ports, Transfer *list, uint32_t count,
                        uint64_t seed, uint64_t limit) {
  constexpr int BYTES = BEAT_BYTES;
  using Port = AxiPort<BYTES>;
  Memory<BYTES> memory(1 << 30, ports, *timing, seed);
  struct Master {
    std::vector<Transfer *> todo;
    size_t asked = 0, moving = 0, answered = 0;  // next to be asked, to move beats, to be answered
    uint32_t beat = 0;
  };
  std::vector<Master> masters(2 * ports);
  for (uint32_t i = 0; i < count; i++) masters[2 * list[i].port + list[i].write].todo.push_back(&list[i]);
  for (uint64_t now = 0; now < limit; now++) {
    memory.drive();
    bool busy = false;
    for (uint32_t p = 0; p < ports; p++) {
      auto &slave = memory.ports[p];
      typename Port::Address address[2] = {};
      typename Port::Data data = {};
      for (int write = 0; write < 2; write++) {
        auto &m = masters[2 * p + write];
        busy |= m.answered < m.todo.size();
        if (m.asked < m.todo.size() && m.todo[m.asked]->earliest <= now) {
          auto &t = *m.todo[m.asked];
          address[write] = {true, t.addr, t.beats - 1, std::countr_zero(unsigned(BYTES)), 1};
          if (write ? slave.awready : slave.arready) t.address = now;
        }
      }
      auto &w = masters[2 * p + 1];
      bool offers = w.moving < w.asked || (address[1].valid && w.moving == w.asked);
      if (offers) {
        data.valid = true;
        data.last = w.beat + 1 == w.todo[w.moving]->beats;
        data.strobe = (1u << BYTES) - 1;
        data.bytes[0] = uint8_t(w.beat);
      }
      bool wready = slave.wready, rvalid = slave.rvalid, rlast = slave.rlast, bvalid = slave.bvalid;
      bool taken[2] = {address[0].valid && slave.arready, address[1].valid && slave.awready};
      slave.clock(now, address[0], address[1], data, true, true);
      for (int write = 0; write < 2; write++) masters[2 * p + write].asked += taken[write];
      if (offers && wready) {
        auto &t = *w.todo[w.moving];
        if (w.beat == 0) t.first = now;
        if (++w.beat == t.beats) t.last = now, w.beat = 0, w.moving++;
      }
      auto &r = masters[2 * p];
      if (rvalid) {
        auto &t = *r.todo[r.moving];
        if (r.beat == 0) t.first = now;
        if (++r.beat == t.beats) t.last = t.answer = now, r.beat = 0, r.moving++, r.answered++;
        if (rlast != (r.beat == 0)) return 0;
      }
      if (bvalid) w.todo[w.answered++]->answer = now;
    }
    memory.finish();
    if (!memory.store.violation.empty()) return 0;
    if (!busy) return now;
  }
  return 0;
}
