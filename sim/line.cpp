// A design with the ports clk, rst, rx and tx behind a pseudo-terminal, as a C interface for ctypes: what
// is written to the terminal goes to rx bit by bit, 8N1, and what tx says can be read from it. With
// HAS_RUNNING there is a port `running` as well, high while the design is busy; with HAS_SDRAM ports to
// the chip of sdram.h.
#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated.h"
#if HAS_SDRAM
#include "sdram.h"
#endif

namespace {

constexpr int RESET_CYCLES = 8;
constexpr int FRAME_BITS = 10;  // start, data, stop

std::string stop_message;

// Both ends of the serial line, apart from the design's. Times are in cycles; bits may take a fraction.
struct Line {
  double bit;                    // cycles
  double begin = 0;              // of the byte being sent
  int sending = -1, sent = 0;    // byte on rx, or -1; bits of it
  int sampling = -1, bits = 0;   // bits of the byte on tx that have been sampled, or -1; they
  double next = 0;               // time of the next sample
  uint64_t to_device = 0, from_device = 0, lost = 0;  // bytes; those without a stop bit

  // The level of rx at `now`; takes the next byte from `source` when the last one is over.
  template <class Source>
  bool drive(double now, Source source) {
    if (sending >= 0 && now >= begin + FRAME_BITS * bit) {
      begin += FRAME_BITS * bit;
      sending = source();
      to_device += sending >= 0;
    } else if (sending < 0 && (sending = source()) >= 0) {
      begin = now;
      to_device++;
    }
    if (sending < 0) return true;
    int position = int((now - begin) / bit);
    return position == 0 ? false : position > 8 ? true : sending >> (position - 1) & 1;
  }

  // Looks at `level` of tx at `now`; hands whole bytes to `sink`.
  template <class Sink>
  void sample(double now, bool level, Sink sink) {
    if (sampling < 0) {
      if (!level) sampling = 0, bits = 0, next = now + bit / 2;
    } else if (now >= next) {
      if (sampling == FRAME_BITS - 1) {
        if (level) sink(bits), from_device++;
        else lost++;
        sampling = -1;
        return;
      }
      if (sampling > 0) bits |= level << (sampling - 1);
      sampling++;
      next += bit;
    }
  }

  bool idle() const { return sending < 0 && sampling < 0; }
};

struct Terminal {
  int master = -1;
  std::string port, out;
  unsigned char in[4096];
  int have = 0, used = 0;

  bool open() {
    master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (master < 0 || grantpt(master) || unlockpt(master)) return false;
    port = ptsname(master);
    // raw from the beginning; open for as long as this is, so that the host may come and go
    slave = ::open(port.c_str(), O_RDWR | O_NOCTTY);
    termios settings;
    if (slave < 0 || tcgetattr(slave, &settings)) return false;
    cfmakeraw(&settings);
    return !tcsetattr(slave, TCSANOW, &settings);
  }

  ~Terminal() {
    if (slave >= 0) close(slave);
    if (master >= 0) close(master);
  }

  void fetch() {
    if (used < have) return;
    have = int(read(master, in, sizeof in));
    used = 0;
  }

  int take() { return used < have ? in[used++] : -1; }

  void flush() {
    if (out.empty()) return;
    auto count = write(master, out.data(), out.size());
    if (count > 0) out.erase(0, count);
  }

 private:
  int slave = -1;
};

struct Simulation {
  VerilatedContext context;
  std::unique_ptr<Vtop> top;
  Terminal terminal;
  Line line;
  uint64_t cycles = 0;
  std::string message;  // what has failed
#if HAS_SDRAM
  Sdram chip;
  uint16_t noise;  // on data pins that nobody drives

  Simulation(double bit, uint64_t seed, double clock_hz)
      : line{bit}, chip(clock_hz), noise(uint16_t(seed)) {
#else
  Simulation(double bit, uint64_t seed, double) : line{bit} {
#endif
    context.randReset(2);  // registers without an initial value start at random
    context.randSeed(int(seed % 0x7fffffff) + 1);
    context.fatalOnError(false);
    top = std::make_unique<Vtop>(&context);
    top->clk = 0;
    top->rx = 1;
    reset();
  }

  ~Simulation() { top->final(); }

  bool busy() const {
#if HAS_RUNNING
    return top->running;
#else
    return false;
#endif
  }

  void cycle() {
    top->clk = 0;
    top->eval();
#if HAS_SDRAM
    chip.clock({bool(top->cke), bool(top->cs_n), bool(top->ras_n), bool(top->cas_n), bool(top->we_n),
                top->ba, top->a, top->dm, top->dq__en != 0, top->dq__out});
    top->dq = chip.driving ? chip.dq : noise = uint16_t(noise * 25173 + 13849);
    top->eval();
#endif
    top->clk = 1;
    top->eval();
    cycles++;
  }

  bool healthy() {
    if (context.gotFinish()) message = stop_message;
#if HAS_SDRAM
    else message = chip.violation;
#endif
    return message.empty() && !context.gotFinish();
  }

  void reset() {
    context.assertOn(false);
    top->rst = 1;
    for (int i = 0; i < RESET_CYCLES; i++) cycle();
    top->rst = 0;
    context.assertOn(true);
  }

  // Clocks `count` cycles; -1 if something failed (line_message), else whether the line has been used or the design
  // is busy.
  int run(uint64_t count) {
    uint64_t before = line.to_device + line.from_device, look = cycles;
    for (uint64_t end = cycles + count; cycles < end;) {
      if (cycles >= look) {  // as often as a byte can be over
        terminal.fetch();
        terminal.flush();
        look = cycles + uint64_t(line.bit);
      }
      top->rx = line.drive(double(cycles), [this] { return terminal.take(); });
      cycle();
      line.sample(double(cycles), top->tx, [this](int byte) { terminal.out += char(byte); });
      if (!healthy()) return -1;
    }
    terminal.flush();
    return !line.idle() || busy() || before != line.to_device + line.from_device;
  }
};

}  // namespace

// Verilator calls this on $stop and on a failed assertion, whose text it has printed.
void vl_stop(const char *file, int number, const char *) VL_MT_UNSAFE {
  stop_message = std::string("assertion failed: ") + file + ":" + std::to_string(number);
  Verilated::threadContextp()->gotFinish(true);
}

#define API extern "C" __attribute__((visibility("default")))

API void *line_open(double bit, uint64_t seed, double clock_hz) {
  auto simulation = std::make_unique<Simulation>(bit, seed, clock_hz);
  return simulation->terminal.open() ? simulation.release() : nullptr;
}
API void line_close(void *s) { delete static_cast<Simulation *>(s); }
API const char *line_port(void *s) { return static_cast<Simulation *>(s)->terminal.port.c_str(); }
API const char *line_message(void *s) { return static_cast<Simulation *>(s)->message.c_str(); }
API void line_reset(void *s) { static_cast<Simulation *>(s)->reset(); }
API int line_run(void *s, uint64_t count) { return static_cast<Simulation *>(s)->run(count); }
API uint64_t line_cycles(void *s) { return static_cast<Simulation *>(s)->cycles; }
API void line_bytes(void *s, uint64_t *counts) {
  const Line &line = static_cast<Simulation *>(s)->line;
  counts[0] = line.to_device, counts[1] = line.from_device, counts[2] = line.lost;
}
