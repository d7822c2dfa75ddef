// Clock, reset, registers and memory around the Verilated top level, as a C interface for ctypes.
//
// Compiled with -DBEAT_BYTES=<bytes>, and -DTRACE when the model was Verilated with --trace-vcd. The
// top level tells by its ports how many buses to memory it has (m_axi, m_axi1, m_axi2).
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "Vtop.h"
#include "memory.h"
#include "records.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr int RESET_CYCLES = 8;
constexpr int REGISTER_CYCLES = 1000;  // a register access that takes longer has hung

thread_local std::string stop_message;

using Port = AxiPort<BEAT_BYTES>;

template <class Top>
constexpr int count_ports() {
  if constexpr (requires(Top & t) { t.m_axi2_arvalid; }) return 3;
  if constexpr (requires(Top & t) { t.m_axi1_arvalid; }) return 2;
  return 1;
}

// A bus to memory of the top level: sets its inputs from a port, and hands its outputs to one. A top
// level with transaction identifiers has only one: 0.
#define BUS(NAME)                                                                                  \
  template <class Top>                                                                             \
  void set_##NAME(Top &top, const Port &port) {                                                    \
    top.NAME##_arready = port.arready;                                                             \
    top.NAME##_awready = port.awready;                                                             \
    top.NAME##_wready = port.wready;                                                               \
    top.NAME##_rvalid = port.rvalid;                                                               \
    top.NAME##_rlast = port.rlast;                                                                 \
    top.NAME##_rresp = port.rresp;                                                                 \
    memcpy(&top.NAME##_rdata, port.rdata, BEAT_BYTES);                                             \
    top.NAME##_bvalid = port.bvalid;                                                               \
    top.NAME##_bresp = port.bresp;                                                                 \
    if constexpr (requires { top.NAME##_rid; }) top.NAME##_rid = 0;                                \
    if constexpr (requires { top.NAME##_bid; }) top.NAME##_bid = 0;                                \
  }                                                                                                \
  template <class Top>                                                                             \
  void clock_##NAME(const Top &top, Port &port, uint64_t now) {                                    \
    Port::Data w{bool(top.NAME##_wvalid), bool(top.NAME##_wlast), uint32_t(top.NAME##_wstrb), {}}; \
    if (w.valid) memcpy(w.bytes, &top.NAME##_wdata, BEAT_BYTES);                                   \
    port.clock(now,                                                                                \
               {bool(top.NAME##_arvalid), top.NAME##_araddr, top.NAME##_arlen, top.NAME##_arsize,  \
                top.NAME##_arburst},                                                               \
               {bool(top.NAME##_awvalid), top.NAME##_awaddr, top.NAME##_awlen, top.NAME##_awsize,  \
                top.NAME##_awburst},                                                               \
               w, top.NAME##_rready, top.NAME##_bready);                                           \
  }
BUS(m_axi)
BUS(m_axi1)
BUS(m_axi2)
#undef BUS

template <class Top>
void set_buses(Top &top, const Memory<BEAT_BYTES> &memory) {
  set_m_axi(top, memory.ports[0]);
  if constexpr (count_ports<Top>() > 1) set_m_axi1(top, memory.ports[1]);
  if constexpr (count_ports<Top>() > 2) set_m_axi2(top, memory.ports[2]);
}

template <class Top>
void clock_buses(const Top &top, Memory<BEAT_BYTES> &memory) {
  uint64_t now = memory.cycle();
  clock_m_axi(top, memory.ports[0], now);
  if constexpr (count_ports<Top>() > 1) clock_m_axi1(top, memory.ports[1], now);
  if constexpr (count_ports<Top>() > 2) clock_m_axi2(top, memory.ports[2], now);
}

// Events of the units; a top level without any has no units.
template <class Top>
void record(const Top &top, Records &records, uint64_t cycle) {
  if constexpr (requires { top.unit_start; })
    records.clock(cycle, top.unit_start, top.unit_done, top.unit_active, top.unit_waiting);
}

struct Harness {
  VerilatedContext context;
  std::unique_ptr<Vtop> top;
  Memory<BEAT_BYTES> memory;
  Records records;
  uint64_t cycles = 0;
  uint64_t ended = 0;  // cycle in which irq rose last
  bool irq = false;
  std::string message;
#ifdef TRACE
  std::unique_ptr<VerilatedVcdC> trace;
#endif

  Harness(uint64_t size, const Timing &timing, uint64_t seed, const char *path)
      : memory(size, count_ports<Vtop>(), timing, seed) {
    context.randReset(2);  // registers and memories without an initial value start at random
    context.randSeed(int(seed % 0x7fffffff) + 1);
    context.fatalOnError(false);
#ifdef TRACE
    context.traceEverOn(true);
#endif
    top = std::make_unique<Vtop>(&context);
#ifdef TRACE
    if (path && *path) {
      trace = std::make_unique<VerilatedVcdC>();
      top->trace(trace.get(), 99);
      trace->open(path);
    }
#endif
    top->clk = top->rst = 0;
    top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_arvalid = 0;
    top->s_axil_bready = top->s_axil_rready = 1;
    reset();
  }

  ~Harness() {
#ifdef TRACE
    if (trace) trace->close();
#endif
    top->final();
  }

  void dump(int phase) {
#ifdef TRACE
    if (trace) trace->dump(cycles * 10 + phase);
#endif
  }

  // The first half of a cycle: inputs are set and have settled; outputs may be read.
  void settle() {
    memory.drive();
    set_buses(*top, memory);
    top->clk = 0;
    top->eval();
    dump(0);
  }

  void edge() {
    clock_buses(*top, memory);
    memory.finish();
    record(*top, records, cycles);
    if (top->irq && !irq) ended = cycles;
    irq = top->irq;
    top->clk = 1;
    top->eval();
    dump(5);
    cycles++;
  }

  void reset() {
    context.assertOn(false);
    top->rst = 1;
    for (int i = 0; i < RESET_CYCLES; i++) {
      memory.reset();
      settle();
      edge();
    }
    memory.reset();
    top->rst = 0;
    context.assertOn(true);
    context.gotFinish(false);
    stop_message.clear();
    message.clear();
  }

  bool healthy() {
    if (!memory.store.violation.empty())
      message = "AXI master broke the protocol: " + memory.store.violation;
    else if (context.gotFinish())
      message = stop_message.empty() ? "the simulation stopped itself" : stop_message;
    return message.empty();
  }

  // 0, or -1 with a message.
  int write_register(uint32_t offset, uint32_t value) {
    top->s_axil_awaddr = offset;
    top->s_axil_wdata = value;
    top->s_axil_wstrb = 15;
    top->s_axil_awvalid = top->s_axil_wvalid = 1;
    for (int i = 0; i < REGISTER_CYCLES; i++) {
      settle();
      bool address = top->s_axil_awready, data = top->s_axil_wready, done = top->s_axil_bvalid;
      edge();
      if (!healthy()) return -1;
      if (address) top->s_axil_awvalid = 0;
      if (data) top->s_axil_wvalid = 0;
      if (done) return 0;
    }
    message = "no answer to a register write";
    return -1;
  }

  int read_register(uint32_t offset, uint32_t *value) {
    top->s_axil_araddr = offset;
    top->s_axil_arvalid = 1;
    for (int i = 0; i < REGISTER_CYCLES; i++) {
      settle();
      bool address = top->s_axil_arready, done = top->s_axil_rvalid;
      if (done) *value = top->s_axil_rdata;
      edge();
      if (!healthy()) return -1;
      if (address) top->s_axil_arvalid = 0;
      if (done) return 0;
    }
    message = "no answer to a register read";
    return -1;
  }

  // Clocks until irq or for `limit` cycles: 1 irq, 0 limit, -1 with a message.
  int run(uint64_t limit) {
    for (uint64_t end = cycles + limit; cycles < end;) {
      settle();
      edge();
      if (context.gotFinish() || !memory.store.violation.empty()) return healthy(), -1;
      if (irq) return 1;
    }
    return 0;
  }
};

}  // namespace

// Verilator calls this on $stop and on a failed assertion, whose text it has printed.
void vl_stop(const char *file, int line, const char *) VL_MT_UNSAFE {
  stop_message = std::string("assertion failed: ") + file + ":" + std::to_string(line);
  Verilated::threadContextp()->gotFinish(true);
}

#define API extern "C" __attribute__((visibility("default")))

API void *gradgate_open(uint64_t size, const Timing *timing, uint64_t seed, const char *trace) {
  try {
    return new Harness(size, *timing, seed, trace);
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}
API void gradgate_close(void *h) { delete static_cast<Harness *>(h); }
API uint8_t *gradgate_memory(void *h) { return static_cast<Harness *>(h)->memory.data(); }
API uint64_t gradgate_cycles(void *h) { return static_cast<Harness *>(h)->cycles; }
API const char *gradgate_message(void *h) { return static_cast<Harness *>(h)->message.c_str(); }
API const char *gradgate_bus_error(void *h) { return static_cast<Harness *>(h)->memory.store.error.c_str(); }
API void gradgate_clear_error(void *h) { static_cast<Harness *>(h)->memory.store.error.clear(); }
API void gradgate_reset(void *h) { static_cast<Harness *>(h)->reset(); }
API void gradgate_fail(void *h, uint64_t low, uint64_t high) {
  auto &store = static_cast<Harness *>(h)->memory.store;
  store.fail_low = low, store.fail_high = high;
}
API int gradgate_write_register(void *h, uint32_t offset, uint32_t value) {
  return static_cast<Harness *>(h)->write_register(offset, value);
}
API int gradgate_read_register(void *h, uint32_t offset, uint32_t *value) {
  return static_cast<Harness *>(h)->read_register(offset, value);
}
API void gradgate_restart_refresh(void *h) { static_cast<Harness *>(h)->memory.restart_refresh(); }
API int gradgate_run(void *h, uint64_t limit) { return static_cast<Harness *>(h)->run(limit); }
API uint64_t gradgate_ended(void *h) { return static_cast<Harness *>(h)->ended; }
API void gradgate_clear_records(void *h) { static_cast<Harness *>(h)->records.clear(); }
API const Record *gradgate_records(void *h, uint32_t unit, uint64_t *count) {
  const auto &records = static_cast<Harness *>(h)->records.of(unit);
  *count = records.size();
  return records.data();
}
