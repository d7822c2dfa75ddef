// hw/sdram.py in front of the chip of sdram.h, with masters at its burst ports that note in which
// cycle what happens; a C interface for ctypes.
#include "sdram.h"

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int RESET_CYCLES = 8;
constexpr int BEAT_WORDS = BEAT_BYTES / 2;

// As in tests/sim/memory_driver.cpp: cycles of the command, of the first and the last beat, and of
// the acknowledgement of a write or, once more, the last beat of a read.
struct Transfer {
  uint32_t port, write, addr, beats;
  uint64_t earliest, address, first, last, answer;
};

std::string stop_message;

struct Bench {
  VerilatedContext context;
  std::unique_ptr<Vtop> top;
  Sdram chip;
  uint64_t now = 0;
  std::mt19937 random;
  std::vector<uint16_t> data;  // what is written next, or was read last
  std::string message;

  Bench(double clock_hz, uint32_t seed) : chip(clock_hz), random(seed) {
    context.randReset(2);
    context.randSeed(int(seed % 0x7fffffff) + 1);
    top = std::make_unique<Vtop>(&context);
    top->clk = 0;
    top->read_cmd_valid = top->write_cmd_valid = top->write_data_valid = top->read_data_ready = 0;
    top->rst = 1;
    for (int i = 0; i < RESET_CYCLES; i++) cycle();
    top->rst = 0;
  }

  // Outputs of the design settle between settle() and edge().
  void settle() {
    top->clk = 0;
    top->eval();
  }

  void edge() {
    if (!top->rst) {
      chip.clock({bool(top->cke), bool(top->cs_n), bool(top->ras_n), bool(top->cas_n),
                  bool(top->we_n), top->ba, top->a, top->dm, top->dq__en != 0, top->dq__out});
      top->dq = chip.driving ? chip.dq : uint16_t(random());
      top->eval();
    }
    top->clk = 1;
    top->eval();
    now++;
  }

  void cycle() {
    settle();
    edge();
  }

  bool healthy() {
    if (message.empty()) message = stop_message.empty() ? chip.violation : stop_message;
    return message.empty();
  }
};

// The bursts of one direction, in order.
struct Master {
  std::vector<Transfer *> todo;
  size_t asked = 0, moving = 0, answered = 0;  // next to be asked, to move beats, to be answered
  uint32_t beat = 0;

  bool offers(uint64_t now, uint32_t outstanding) const {
    return asked < todo.size() && asked < answered + outstanding && todo[asked]->earliest <= now;
  }
  bool over() const { return answered == todo.size(); }
  // A beat has moved: whether it was the last one of its burst.
  bool moved(uint64_t now) {
    Transfer &t = *todo[moving];
    if (beat == 0) t.first = now;
    if (++beat < t.beats) return false;
    t.last = now, beat = 0, moving++;
    return true;
  }
};

}  // namespace

// Verilator calls this on $stop and on a failed assertion, whose text it has printed.
void vl_stop(const char *file, int number, const char *) VL_MT_UNSAFE {
  stop_message = std::string("assertion failed: ") + file + ":" + std::to_string(number);
}

#define API extern "C" __attribute__((visibility("default")))

API void *sdram_open(double clock_hz, uint32_t seed) { return new Bench(clock_hz, seed); }
API void sdram_close(void *b) { delete static_cast<Bench *>(b); }
API uint16_t *sdram_words(void *b) { return static_cast<Bench *>(b)->chip.words; }
API const char *sdram_message(void *b) { return static_cast<Bench *>(b)->message.c_str(); }
API uint64_t sdram_cycles(void *b) { return static_cast<Bench *>(b)->now; }
API const Sdram::Counts *sdram_counts(void *b) { return &static_cast<Bench *>(b)->chip.counts; }

// Clocks until the memory is ready, at most `limit` cycles; whether it is.
API int sdram_start(void *b, uint64_t limit) {
  auto &bench = *static_cast<Bench *>(b);
  for (uint64_t i = 0; i < limit && !bench.top->ready && bench.healthy(); i++) bench.cycle();
  return bench.top->ready && bench.healthy();
}

// Does all transfers, those of a direction in order and `outstanding` at most under way, from
// cycle 0 of this call on. The words written come from `in`, those read go to `out`. With `stall`
// / 2^32 as probability, a master lets a cycle pass. Returns the cycles it took, or 0: see
// sdram_message.
API uint64_t sdram_run(void *b, Transfer *list, uint32_t count, uint32_t outstanding,
                       uint32_t stall, const uint16_t *in, uint16_t *out, uint64_t limit) {
  auto &bench = *static_cast<Bench *>(b);
  Vtop &top = *bench.top;
  Master reads, writes;
  for (uint32_t i = 0; i < count; i++) (list[i].write ? writes : reads).todo.push_back(&list[i]);
  auto go = [&] { return !stall || bench.random() >= stall; };
  auto command = [](const Transfer &t) { return uint64_t(t.beats) << 32 | t.addr; };
  for (uint64_t now = 0; now < limit; now++) {
    // what is offered stands until it is taken
    if (!top.read_cmd_valid && reads.offers(now, outstanding) && go()) {
      top.read_cmd_valid = 1;
      top.read_cmd_payload = command(*reads.todo[reads.asked]);
    }
    if (!top.write_cmd_valid && writes.offers(now, outstanding) && go()) {
      top.write_cmd_valid = 1;
      top.write_cmd_payload = command(*writes.todo[writes.asked]);
    }
    if (!top.write_data_valid && writes.moving < writes.asked && go()) {
      top.write_data_valid = 1;
      memcpy(&top.write_data_payload, in, BEAT_BYTES);
    }
    top.read_data_ready = go();
    bench.settle();
    bool read_asked = top.read_cmd_valid && top.read_cmd_ready;
    bool write_asked = top.write_cmd_valid && top.write_cmd_ready;
    bool written = top.write_data_valid && top.write_data_ready;
    bool read = top.read_data_valid && top.read_data_ready;
    bool ack = top.write_ack;
    if (read && reads.moving >= reads.asked) bench.message = "a beat that nobody asked for";
    if (ack && writes.answered >= writes.moving) bench.message = "an early acknowledgement";
    if (!bench.healthy()) return 0;
    if (read) {
      memcpy(out, &top.read_data_payload, BEAT_BYTES);
      out += BEAT_WORDS;
      if (reads.moved(now)) reads.todo[reads.answered++]->answer = now;
    }
    if (ack) writes.todo[writes.answered++]->answer = now;
    if (written) {
      in += BEAT_WORDS;
      writes.moved(now);
    }
    if (read_asked) reads.todo[reads.asked++]->address = now;
    if (write_asked) writes.todo[writes.asked++]->address = now;
    bench.edge();
    if (read_asked) top.read_cmd_valid = 0;
    if (write_asked) top.write_cmd_valid = 0;
    if (written) top.write_data_valid = 0;
    if (!bench.healthy()) return 0;
    if (reads.over() && writes.over()) return now + 1;
  }
  bench.message = "no end";
  return 0;
}
