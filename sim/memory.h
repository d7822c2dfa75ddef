// Memory behind an AXI4 slave port: contents, timing, errors, and a check of the master's manners.
//
// Every cycle the owner calls drive() to learn the slave's outputs, settles the design, and calls
// clock() with the master's outputs of the same cycle.
//
// Timing: the first beat of a read is offered `latency` cycles after its address was taken, the response of a
// write `latency` cycles after its last beat. Beats pass at most every num/den cycles in each
// direction (together when `shared`). Each channel stalls by itself with probability stall / 2^32 per cycle.
// Several bursts may be outstanding; they are served in order. A write changes the memory when its
// response is offered, the latest moment AXI allows; a read sees the memory at its address or at its data
// beats, by a coin, so that a master that relies on either is found out.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

struct Timing {
  uint32_t latency, num, den, stall, shared, outstanding;
};

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

// Beats allowed by the bandwidth: one per num/den cycles, nothing saved up while idle.
class Bandwidth {
 public:
  void configure(const Timing &t) { num = t.num, den = t.den, credit = t.num; }
  void tick() { credit = credit + den < num + den - 1 ? credit + den : num + den - 1; }
  bool ready() const { return credit >= num; }
  void take() { credit -= num; }

 private:
  uint64_t num = 1, den = 1, credit = 1;
};

constexpr int OKAY = 0, SLVERR = 2, DECERR = 3;

template <int BYTES>
class Memory {
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

  // Outputs of the slave, valid after drive().
  bool arready = false, awready = false, wready = false;
  bool rvalid = false, rlast = false, bvalid = false;
  int rresp = OKAY, bresp = OKAY;
  uint8_t rdata[BYTES] = {};
  std::string violation;  // the first breach of the protocol, or empty
  std::string error;      // the first access answered with an error since it was cleared, or empty
  uint64_t fail_low = 0, fail_high = 0;  // accesses that touch this range answer SLVERR

  Memory(uint64_t size, const Timing &timing, uint64_t seed)
      : contents(size), timing(timing), random(seed) {
    read_rate.configure(timing);
    write_rate.configure(timing);
  }

  uint8_t *data() { return contents.data(); }

  // The interconnect was reset together with the master: forget everything under way.
  void reset() {
    reads.clear(), writes.clear(), answers.clear(), beats.clear();
    rvalid = bvalid = false;
    last_ar.valid = last_aw.valid = last_w.valid = false;
    violation.clear();
  }

  void drive() {
    read_rate.tick();
    write_rate.tick();
    arready = reads.size() < timing.outstanding && !stalls();
    awready = writes.size() < timing.outstanding && !stalls();
    bool write_turn = timing.shared && last_w.valid && !wrote_last;
    if (!rvalid && !reads.empty() && reads.front().due <= now && read_rate.ready() && !write_turn
        && !stalls()) {
      read_rate.take();
      wrote_last = false;
      offer_read();
    }
    wready = beats.size() < 256 && answers.size() < timing.outstanding && write_pace().ready()
             && !stalls();
    if (!bvalid && !answers.empty() && answers.front().due <= now && !stalls()) offer_answer();
  }

  void clock(const Address &ar, const Address &aw, const Data &w, bool rready, bool bready) {
    hold("AR", last_ar, ar);
    hold("AW", last_aw, aw);
    hold("W", last_w, w);
    if (ar.valid && arready) accept_read(ar);
    if (aw.valid && awready && check(aw, "AW")) writes.push_back({aw.addr, aw.len + 1, 0, OKAY, {}});
    if (w.valid && wready) {
      write_pace().take();
      wrote_last = true;
      beats.push_back(w);
    }
    gather();
    last_ar = ar, last_aw = aw, last_w = w;
    if (arready) last_ar.valid = false;
    if (awready) last_aw.valid = false;
    if (wready) last_w.valid = false;
    if (rvalid && rready) rvalid = false;
    if (bvalid && bready) bvalid = false;
    now++;
  }

 private:
  struct Burst {
    uint32_t addr, left;
    uint64_t due;
    int resp;
    std::vector<uint8_t> early;  // the contents at address time; empty: read them with each beat
  };

  bool stalls() { return timing.stall && random.next() < timing.stall; }
  Bandwidth &write_pace() { return timing.shared ? read_rate : write_rate; }

  void breach(const char *channel, const char *what, uint32_t addr) {
    if (!violation.empty()) return;
    char text[160];
    snprintf(text, sizeof text, "cycle %llu, %s: %s (address 0x%08x)", (unsigned long long)now,
             channel, what, addr);
    violation = text;
  }

  template <class T>
  void hold(const char *channel, const T &before, const T &present) {
    if (before.valid && !(before == present))
      breach(channel, "valid or payload changed before ready", 0);
  }

  bool check(const Address &a, const char *channel) {
    uint32_t bytes = (a.len + 1) * BYTES;
    if (a.burst != 1) breach(channel, "burst type is not INCR", a.addr);
    if (1u << a.size != BYTES) breach(channel, "beats narrower or wider than the bus", a.addr);
    if (a.addr % BYTES) breach(channel, "address is not a multiple of the beat", a.addr);
    if ((a.addr & 4095) + bytes > 4096) breach(channel, "burst crosses 4 KiB", a.addr);
    return violation.empty();
  }

  int response(const char *what, uint64_t addr, uint64_t bytes) {
    bool outside = addr + bytes > contents.size();
    if (!outside && (addr >= fail_high || addr + bytes <= fail_low)) return OKAY;
    if (error.empty()) {
      char text[80];
      snprintf(text, sizeof text, "%s of %u bytes at 0x%08x%s", what, unsigned(bytes), unsigned(addr),
               outside ? ", outside of the memory" : "");
      error = text;
    }
    return outside ? DECERR : SLVERR;
  }

  void accept_read(const Address &a) {
    if (!check(a, "AR")) return;
    uint32_t bytes = (a.len + 1) * BYTES;
    Burst burst{a.addr, a.len + 1, now + timing.latency, response("read", a.addr, bytes), {}};
    if (burst.resp == OKAY && random.next() & 1)
      burst.early.assign(&contents[a.addr], &contents[a.addr] + bytes);
    reads.push_back(std::move(burst));
  }

  void offer_read() {
    Burst &burst = reads.front();
    if (burst.resp != OKAY)
      memset(rdata, 0xee, BYTES);
    else if (!burst.early.empty())
      memcpy(rdata, burst.early.data() + burst.early.size() - burst.left * BYTES, BYTES);
    else
      memcpy(rdata, &contents[burst.addr], BYTES);
    rvalid = true;
    rresp = burst.resp;
    rlast = burst.left == 1;
    burst.addr += BYTES;
    if (--burst.left == 0) reads.pop_front();
  }

  // Moves a write burst whose beats are all here to the answers.
  void gather() {
    if (writes.empty() || beats.size() < writes.front().left) return;
    Burst burst = std::move(writes.front());
    writes.pop_front();
    for (uint32_t i = 0; i < burst.left; i++) {
      const Data &beat = beats.front();
      if (beat.last != (i == burst.left - 1)) breach("W", "last is not on the last beat", burst.addr);
      if (beat.strobe != (1u << BYTES) - 1) breach("W", "not all bytes enabled", burst.addr);
      burst.early.insert(burst.early.end(), beat.bytes, beat.bytes + BYTES);
      beats.pop_front();
    }
    burst.resp = response("write", burst.addr, burst.early.size());
    burst.due = now + timing.latency;
    answers.push_back(std::move(burst));
  }

  void offer_answer() {
    Burst &burst = answers.front();
    if (burst.resp == OKAY) memcpy(&contents[burst.addr], burst.early.data(), burst.early.size());
    bvalid = true;
    bresp = burst.resp;
    answers.pop_front();
  }

  std::vector<uint8_t> contents;
  Timing timing;
  Random random;
  Bandwidth read_rate, write_rate;
  uint64_t now = 0;
  bool wrote_last = false;  // of the beats that share the bandwidth
  std::deque<Burst> reads, writes, answers;
  std::deque<Data> beats;
  Address last_ar{}, last_aw{};
  Data last_w{};
};
