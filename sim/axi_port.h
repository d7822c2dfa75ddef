// One AXI4 slave port of the memory: handshakes, a check of the master's manners, bursts under way.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "channel.h"

constexpr int OKAY = 0, SLVERR = 2, DECERR = 3;

class Random {  // xorshift64*
 public:
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u | 1) {}
  uint32_t next() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545f4914f6cdd1du) >> 32;
  }

 private:
  uint64_t state;
};

// What the ports have in common: the bytes, and what went wrong.
struct Store {
  uint8_t *bytes;
  uint64_t size;
  Random random;
  uint64_t fail_low = 0, fail_high = 0;  // accesses that touch this range answer SLVERR
  std::string violation;                 // the first breach of the protocol, or empty
  std::string error;  // the first access answered with an error since it was cleared, or empty

  int response(const char *what, uint64_t addr, uint64_t length) {
    bool outside = addr + length > size;
    if (!outside && (addr >= fail_high || addr + length <= fail_low)) return OKAY;
    if (error.empty()) {
      char text[80];
      snprintf(text, sizeof text, "%s of %u bytes at 0x%08x%s", what, unsigned(length),
               unsigned(addr), outside ? ", outside of the memory" : "");
      error = text;
    }
    return outside ? DECERR : SLVERR;
  }
};

template <int BYTES>
class AxiPort {
 public:
  struct Address {  // AW or AR of the master
    bool valid;
    uint32_t addr, len, size, burst;
    bool operator==(const Address &) const = default;
  };
  struct Data {  // W of the master
    bool valid, last;
    uint32_t strobe;
    uint8_t bytes[BYTES];
    bool operator==(const Data &) const = default;
  };
  static constexpr uint32_t BUFFER = 2 * 256;  // beats to be written: two of the longest bursts

  // Outputs of the slave, valid after drive().
  bool arready = false, awready = false, wready = false;
  bool rvalid = false, rlast = false, bvalid = false;
  int rresp = OKAY, bresp = OKAY;
  uint8_t rdata[BYTES] = {};

  Queue reads{false, {}}, writes{true, {}};  // for the channels

  AxiPort(std::string name, const Timing &timing, Store &store)
      : name(std::move(name)), timing(timing), store(store) {}

  void reset() {
    reads = {false, {}}, writes = {true, {}};
    announced.clear(), answers.clear(), beats.clear();
    rvalid = bvalid = false;
    last_ar.valid = last_aw.valid = last_w.valid = false;
  }

  // The first half of the cycle `now`, after the channels have begun what they can.
  void drive(uint64_t now, const Clock &clock) {
    size_t unanswered = announced.size() + writes.bursts.size() + answers.size();
    arready = reads.bursts.size() < timing.outstanding && !stalls();
    awready = unanswered < timing.outstanding && !stalls();
    wready = writes.waiting < BUFFER && !stalls();
    if (!rvalid && reads.begun && reads.bursts.front().next <= clock.horizon() && !stalls())
      offer_read();
    while (writes.begun && writes.bursts.front().next <= clock.horizon()) {
      writes.bursts.front().due = now + timing.latency;
      answers.push_back(std::move(writes.bursts.front()));
      writes.pop();
    }
    if (!bvalid && !answers.empty() && answers.front().due <= now && !stalls()) offer_answer();
  }

  // The clock edge at the end of the cycle `now`, with the master's outputs.
  void clock(uint64_t now, const Address &ar, const Address &aw, const Data &w, bool rready,
             bool bready) {
    hold(now, "AR", last_ar, ar);
    hold(now, "AW", last_aw, aw);
    hold(now, "W", last_w, w);
    if (ar.valid && arready) accept_read(now, ar);
    if (aw.valid && awready && check(now, aw, "AW"))
      announced.push_back({aw.addr, aw.len + 1, now + 1, OKAY, {}});
    if (w.valid && wready) {
      beats.push_back(w);
      writes.waiting++;
    }
    gather(now);
    last_ar = ar, last_aw = aw, last_w = w;
    if (arready) last_ar.valid = false;
    if (awready) last_aw.valid = false;
    if (wready) last_w.valid = false;
    if (rvalid && rready) rvalid = false;
    if (bvalid && bready) bvalid = false;
  }

 private:
  bool stalls() { return timing.stall && store.random.next() < timing.stall; }

  void breach(uint64_t now, const char *channel, const char *what, uint32_t addr) {
    if (!store.violation.empty()) return;
    char text[160];
    snprintf(text, sizeof text, "cycle %llu, %s %s: %s (address 0x%08x)", (unsigned long long)now,
             name.c_str(), channel, what, addr);
    store.violation = text;
  }

  template <class T>
  void hold(uint64_t now, const char *channel, const T &before, const T &present) {
    if (before.valid && !(before == present))
      breach(now, channel, "valid or payload changed before ready", 0);
  }

  bool check(uint64_t now, const Address &a, const char *channel) {
    uint32_t length = (a.len + 1) * BYTES;
    if (a.burst != 1) breach(now, channel, "burst type is not INCR", a.addr);
    if (1u << a.size != BYTES)
      breach(now, channel, "beats narrower or wider than the bus", a.addr);
    if (a.addr % BYTES) breach(now, channel, "address is not a multiple of the beat", a.addr);
    if ((a.addr & 4095) + length > 4096) breach(now, channel, "burst crosses 4 KiB", a.addr);
    return store.violation.empty();
  }

  void accept_read(uint64_t now, const Address &a) {
    if (!check(now, a, "AR")) return;
    uint32_t length = (a.len + 1) * BYTES;
    Burst burst{a.addr, a.len + 1, now + timing.latency, store.response("read", a.addr, length), {}};
    if (burst.resp == OKAY && store.random.next() & 1)
      burst.contents.assign(store.bytes + a.addr, store.bytes + a.addr + length);
    reads.bursts.push_back(std::move(burst));
  }

  void offer_read() {
    Burst &burst = reads.bursts.front();
    if (burst.resp != OKAY)
      memset(rdata, 0xee, BYTES);
    else if (!burst.contents.empty())
      memcpy(rdata, burst.contents.data() + burst.contents.size() - burst.beats * BYTES, BYTES);
    else
      memcpy(rdata, store.bytes + burst.addr, BYTES);
    rvalid = true;
    rresp = burst.resp;
    rlast = burst.beats == 1;
    burst.addr += BYTES;
    burst.next += timing.num;
    if (--burst.beats == 0) reads.pop();
  }

  // Lets a write burst whose beats are all here be served.
  void gather(uint64_t now) {
    if (announced.empty() || beats.size() < announced.front().beats) return;
    Burst burst = std::move(announced.front());
    announced.pop_front();
    for (uint32_t i = 0; i < burst.beats; i++) {
      const Data &beat = beats.front();
      if (beat.last != (i == burst.beats - 1))
        breach(now, "W", "last is not on the last beat", burst.addr);
      if (beat.strobe != (1u << BYTES) - 1)
        breach(now, "W", "not all bytes enabled", burst.addr);
      burst.contents.insert(burst.contents.end(), beat.bytes, beat.bytes + BYTES);
      beats.pop_front();
    }
    burst.resp = store.response("write", burst.addr, burst.contents.size());
    burst.due = now + 1;
    writes.bursts.push_back(std::move(burst));
  }

  void offer_answer() {
    const Burst &burst = answers.front();
    if (burst.resp == OKAY)
      memcpy(store.bytes + burst.addr, burst.contents.data(), burst.contents.size());
    bvalid = true;
    bresp = burst.resp;
    answers.pop_front();
  }

  std::string name;
  const Timing &timing;
  Store &store;
  std::deque<Burst> announced, answers;  // writes that lack beats, and those that were served
  std::deque<Data> beats;
  Address last_ar{}, last_aw{};
  Data last_w{};
};
