// An SDR SDRAM chip of 16-bit words: 4 banks of 8192 rows of 512 columns, CAS latency 2 or 3,
// bursts of one word (MT48LC16M16A2, speed grade -75). What its data sheet forbids is a violation,
// whose text names the cycle; so is a memory that is not refreshed in time.
//
// clock() is one rising edge of the chip's clock, which comes within a cycle of the controller: the
// chip sees the pins of that cycle, and what it drives is sampled at the controller's edge at the
// end of it. Hence a word read is on the pins CAS latency - 1 cycles after its command. Not
// modelled: power down, self refresh, longer bursts, and data masks of reads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

class Sdram {
 public:
  static constexpr int BANKS = 4, ROWS = 8192, COLUMNS = 512;
  static constexpr size_t WORDS = size_t(BANKS) * ROWS * COLUMNS;

  struct Pins {
    bool cke, cs_n, ras_n, cas_n, we_n;
    uint32_t ba, a, dm;
    bool driven;  // the controller drives the data pins
    uint16_t dq;
  };
  struct Counts {
    uint64_t activates, reads, writes, refreshes;
  };

  explicit Sdram(double clock_hz) : hz(clock_hz) {
    words = static_cast<uint16_t *>(calloc(WORDS, sizeof(uint16_t)));
    if (!words) throw std::bad_alloc();
  }
  Sdram(const Sdram &) = delete;
  Sdram &operator=(const Sdram &) = delete;
  ~Sdram() { free(words); }

  // In the order of LiteDRAM's addresses: column, bank, row from the low bits up.
  uint16_t *words;
  std::string violation;  // the first one, or empty
  Counts counts{};
  bool driving = false;  // the chip drives the data pins, until the next clock()
  uint16_t dq = 0;

  void clock(const Pins &pins) {
    now++;
    if (pins.driven && (driving || coming[0].valid)) fail("data pins driven from both sides");
    driving = coming[0].valid;
    dq = coming[0].word;
    for (int i = 0; i + 1 < PIPELINE; i++) coming[i] = coming[i + 1];
    coming[PIPELINE - 1].valid = false;
    if (!pins.cke) powered = now;
    for (auto &bank : banks)
      if (bank.open && bank.precharges && now >= bank.precharges) close(bank, bank.precharges);
    if (pins.cke && !pins.cs_n) command(pins);
    if (started() && (debt += 1 / (REFRESH * hz)) > POSTPONED) fail("rows not refreshed in time");
  }

 private:
  static constexpr int PIPELINE = 3;
  // seconds
  static constexpr double POWER_UP = 100e-6, RCD = 20e-9, RP = 20e-9, RAS = 44e-9, RC = 66e-9,
                          RFC = 66e-9, RRD = 15e-9, WR = 15e-9, WR_AUTO = 7.5e-9,
                          REFRESH = 64e-3 / ROWS;
  static constexpr int MRD = 2, POSTPONED = 9;  // cycles; refreshes that may be late

  struct Bank {
    bool open = false;
    uint32_t row = 0;
    int64_t activated = LONG_AGO, precharged = LONG_AGO, written = LONG_AGO;
    int64_t precharges = 0;  // by itself, in this cycle; 0: it does not
  };
  struct Word {
    bool valid = false;
    uint16_t word = 0;
  };
  static constexpr int64_t LONG_AGO = -1000000;

  void fail(const char *what) {
    if (!violation.empty()) return;
    char text[120];
    snprintf(text, sizeof text, "SDRAM cycle %lld: %s", (long long)now, what);
    violation = text;
  }

  int64_t cycles(double seconds) const { return int64_t(std::ceil(seconds * hz - 1e-6)); }
  void since(int64_t then, double seconds, const char *what) {
    if (now - then < cycles(seconds)) fail(what);
  }
  bool started() const { return latency != 0; }

  void close(Bank &bank, int64_t when) {
    bank.open = false;
    bank.precharged = when;
    bank.precharges = 0;
  }

  void command(const Pins &pins) {
    int code = !pins.ras_n << 2 | !pins.cas_n << 1 | !pins.we_n;
    if (code == 0) return;
    if (now - powered < cycles(POWER_UP)) fail("command before the chip has powered up");
    if (now - mode_set < MRD) fail("tMRD: command after a mode register was set");
    since(refreshed, RFC, "tRFC: command during a refresh");
    switch (code) {
      case 0b100: return activate(pins);
      case 0b010: return read(pins);
      case 0b011: return write(pins);
      case 0b101: return precharge(pins);
      case 0b110: return refresh();
      case 0b111: return set_mode(pins);
      default: return fail("a command that bursts of one word do not need");
    }
  }

  void activate(const Pins &pins) {
    Bank &bank = banks[pins.ba];
    if (!started() || refreshes_at_start < 2) fail("row activated before the chip was initialised");
    if (bank.open) fail("row activated in a bank with an open row");
    since(bank.precharged, RP, "tRP: row activated after a precharge");
    since(bank.activated, RC, "tRC: row activated after another of the bank");
    since(activated, RRD, "tRRD: row activated after another");
    bank.open = true;
    bank.row = pins.a % ROWS;
    bank.activated = activated = now;
    counts.activates++;
  }

  // The word that a read or write is about, or null.
  uint16_t *place(const Pins &pins) {
    Bank &bank = banks[pins.ba];
    if (!bank.open) return fail("access to a bank without an open row"), nullptr;
    if (bank.precharges) return fail("access to a row that is being closed"), nullptr;
    since(bank.activated, RCD, "tRCD: access after a row was activated");
    return words + (size_t(bank.row) * BANKS + pins.ba) * COLUMNS + pins.a % COLUMNS;
  }

  void close_after(const Pins &pins, int64_t cycles_of_access) {
    Bank &bank = banks[pins.ba];
    if (pins.a >> 10 & 1)
      bank.precharges = std::max(now + cycles_of_access, bank.activated + cycles(RAS));
  }

  void read(const Pins &pins) {
    counts.reads++;
    if (const uint16_t *word = place(pins)) {
      coming[latency - 2] = {true, *word};
      close_after(pins, 1);
    }
  }

  void write(const Pins &pins) {
    counts.writes++;
    if (!pins.driven) fail("write without data");
    if (uint16_t *word = place(pins)) {
      uint16_t mask = (pins.dm & 1 ? 0 : 0x00ff) | (pins.dm & 2 ? 0 : 0xff00);
      *word = (*word & ~mask) | (pins.dq & mask);
      banks[pins.ba].written = now;
      close_after(pins, 1 + cycles(WR_AUTO));
    }
  }

  void precharge(const Pins &pins) {
    bool all = pins.a >> 10 & 1;
    for (uint32_t i = 0; i < BANKS; i++) {
      Bank &bank = banks[i];
      if (!(all || i == pins.ba) || !bank.open) continue;
      since(bank.activated, RAS, "tRAS: row closed after it was activated");
      since(bank.written, WR, "tWR: row closed after a write");
      close(bank, now);
    }
    if (all) precharged_at_start = true;
  }

  void idle(const char *what) {
    for (auto &bank : banks) {
      if (bank.open) fail(what);
      since(bank.precharged, RP, "tRP: refresh or mode after a precharge");
    }
    if (!precharged_at_start) fail("chip initialised without closing its rows first");
  }

  void refresh() {
    idle("refresh with an open row");
    counts.refreshes++;
    refreshed = now;
    refreshes_at_start++;
    debt = std::max(debt - 1, -double(POSTPONED));
  }

  void set_mode(const Pins &pins) {
    idle("mode register set with an open row");
    int chosen = pins.a >> 4 & 7;
    if (chosen != 2 && chosen != 3) fail("CAS latency is neither 2 nor 3");
    if (pins.a & 7) fail("bursts of more than one word");
    latency = chosen == 3 ? 3 : 2;
    mode_set = now;
    debt = 0;
  }

  const double hz;
  Bank banks[BANKS];
  Word coming[PIPELINE];
  int64_t now = 0, powered = 0, activated = LONG_AGO, refreshed = LONG_AGO, mode_set = LONG_AGO;
  int latency = 0, refreshes_at_start = 0;
  bool precharged_at_start = false;
  double debt = 0;  // refreshes that should have been
};
