// Clock, reset, registers and memory around the Verilated top level, as a C interface for ctypes.
//
// Compiled with -DBEAT_BYTES=<bytes>, and -DTRACE when the model was Verilated with --trace-vcd.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "Vtop.h"
#include "memory.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr int RESET_CYCLES = 8;
constexpr int REGISTER_CYCLES = 1000;  // a register access that takes longer has hung

thread_local std::string stop_message;

// A top level with transaction identifiers has only one: 0.
template <class Top>
void set_identifiers(Top &top) {
  if constexpr (requires { top.m_axi_rid; }) top.m_axi_rid = 0;
  if constexpr (requires { top.m_axi_bid; }) top.m_axi_bid = 0;
}

struct Harness {
  VerilatedContext context;
  std::unique_ptr<Vtop> top;
  Memory<BEAT_BYTES> memory;
  uint64_t cycles = 0;
  std::string message;
#ifdef TRACE
  std::unique_ptr<VerilatedVcdC> trace;
#endif

  Harness(uint64_t size, const Timing &timing, uint64_t seed, const char *path)
      : memory(size, timing, seed) {
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
    set_identifiers(*top);
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
    top->m_axi_arready = memory.arready;
    top->m_axi_awready = memory.awready;
    top->m_axi_wready = memory.wready;
    top->m_axi_rvalid = memory.rvalid;
    top->m_axi_rlast = memory.rlast;
    top->m_axi_rresp = memory.rresp;
    memcpy(&top->m_axi_rdata, memory.rdata, BEAT_BYTES);
    top->m_axi_bvalid = memory.bvalid;
    top->m_axi_bresp = memory.bresp;
    top->clk = 0;
    top->eval();
    dump(0);
  }

  void edge() {
    Memory<BEAT_BYTES>::Data w{bool(top->m_axi_wvalid), bool(top->m_axi_wlast),
                               uint32_t(top->m_axi_wstrb), {}};
    if (w.valid) memcpy(w.bytes, &top->m_axi_wdata, BEAT_BYTES);
    memory.clock({bool(top->m_axi_arvalid), top->m_axi_araddr, top->m_axi_arlen, top->m_axi_arsize,
                  top->m_axi_arburst},
                 {bool(top->m_axi_awvalid), top->m_axi_awaddr, top->m_axi_awlen, top->m_axi_awsize,
                  top->m_axi_awburst},
                 w, top->m_axi_rready, top->m_axi_bready);
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
    if (!memory.violation.empty())
      message = "AXI master broke the protocol: " + memory.violation;
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
      bool irq = top->irq;
      edge();
      if (context.gotFinish() || !memory.violation.empty()) return healthy(), -1;
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
  return new Harness(size, *timing, seed, trace);
}
API void gradgate_close(void *h) { delete static_cast<Harness *>(h); }
API uint8_t *gradgate_memory(void *h) { return static_cast<Harness *>(h)->memory.data(); }
API uint64_t gradgate_cycles(void *h) { return static_cast<Harness *>(h)->cycles; }
API const char *gradgate_message(void *h) { return static_cast<Harness *>(h)->message.c_str(); }
API const char *gradgate_bus_error(void *h) { return static_cast<Harness *>(h)->memory.error.c_str(); }
API void gradgate_clear_error(void *h) { static_cast<Harness *>(h)->memory.error.clear(); }
API void gradgate_reset(void *h) { static_cast<Harness *>(h)->reset(); }
API void gradgate_fail(void *h, uint64_t low, uint64_t high) {
  auto &memory = static_cast<Harness *>(h)->memory;
  memory.fail_low = low, memory.fail_high = high;
}
API int gradgate_write_register(void *h, uint32_t offset, uint32_t value) {
  return static_cast<Harness *>(h)->write_register(offset, value);
}
API int gradgate_read_register(void *h, uint32_t offset, uint32_t *value) {
  return static_cast<Harness *>(h)->read_register(offset, value);
}
API int gradgate_run(void *h, uint64_t limit) { return static_cast<Harness *>(h)->run(limit); }
