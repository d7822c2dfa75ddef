// Stands for AXITop where the harness itself is under test: the registers it needs, and an engine that
// copies BEATS beats from PROG_ADDR to PROG_ADDR + 4096 in bursts of BURST, reading ahead as far as the
// memory lets it. PROG_ADDR bit 0 set: breaks the protocol;
// bit 1: fails an assertion.
module AXITop #(parameter BEATS = 256, parameter BURST = 16, parameter LANES = 8) (
    input clk, input rst, output irq,
    output reg [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst, output m_axi_arvalid, input m_axi_arready,
    input [8*LANES-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid,
    output m_axi_rready,
    output reg [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst, output m_axi_awvalid, input m_axi_awready,
    output [8*LANES-1:0] m_axi_wdata, output [LANES-1:0] m_axi_wstrb, output m_axi_wlast,
    output m_axi_wvalid, input m_axi_wready,
    input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    input [7:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [7:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid,
    input s_axil_rready);

  reg [31:0] base, cycles;
  reg [15:0] to_ask, to_send, to_announce, to_confirm, head, tail;
  reg busy, done, fault;
  reg [8*LANES-1:0] fifo [0:BEATS-1];

  assign m_axi_arlen = BURST - 1;
  assign m_axi_awlen = BURST - 1;
  assign m_axi_arsize = $clog2(LANES);
  assign m_axi_awsize = $clog2(LANES);
  assign m_axi_arburst = 1;
  assign m_axi_awburst = base[0] ? 0 : 1;
  assign m_axi_arvalid = busy && to_ask != 0;
  assign m_axi_rready = 1;
  assign m_axi_awvalid = busy && to_announce != 0;
  assign m_axi_wdata = fifo[tail];
  assign m_axi_wstrb = ~0;
  assign m_axi_wvalid = busy && head != tail;
  assign m_axi_wlast = tail % BURST == BURST - 1;
  assign m_axi_bready = 1;
  assign irq = done;

  wire write = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;
  assign s_axil_awready = write;
  assign s_axil_wready = write;
  assign s_axil_arready = s_axil_arvalid && !s_axil_rvalid;
  assign s_axil_bresp = 0;
  assign s_axil_rresp = 0;

  always @(posedge clk) begin
    s_axil_bvalid <= write;
    s_axil_rvalid <= s_axil_arready;
    case (s_axil_araddr)
      8'h14: s_axil_rdata <= {26'b0, fault, 3'b0, done, busy};
      8'h40: s_axil_rdata <= cycles;
      default: s_axil_rdata <= 0;
    endcase
    if (busy) cycles <= cycles + 1;
    if (m_axi_arvalid && m_axi_arready) begin
      m_axi_araddr <= m_axi_araddr + BURST * LANES;
      to_ask <= to_ask - 1;
    end
    if (m_axi_rvalid) begin
      fifo[head] <= m_axi_rdata;
      head <= head + 1;
      if (m_axi_rresp != 0) fault <= 1;
    end
    if (m_axi_awvalid && m_axi_awready) begin
      m_axi_awaddr <= m_axi_awaddr + BURST * LANES;
      to_announce <= to_announce - 1;
    end
    if (m_axi_wvalid && m_axi_wready) tail <= tail + 1;
    if (m_axi_bvalid) begin
      to_confirm <= to_confirm - 1;
      if (m_axi_bresp != 0) fault <= 1;
      if (to_confirm == 1) begin
        busy <= 0;
        done <= 1;
      end
    end
    if (write && s_axil_awaddr == 8'h18) base <= s_axil_wdata;
    if (write && s_axil_awaddr == 8'h10 && s_axil_wdata[0]) begin
      m_axi_araddr <= base & ~3;
      m_axi_awaddr <= (base & ~3) + 4096;
      to_ask <= BEATS / BURST;
      to_announce <= BEATS / BURST;
      to_confirm <= BEATS / BURST;
      head <= 0;
      tail <= 0;
      cycles <= 0;
      busy <= 1;
      done <= 0;
      fault <= 0;
    end
    if (rst) begin
      head <= 0;
      tail <= 0;
      busy <= 0;
      done <= 0;
      s_axil_bvalid <= 0;
      s_axil_rvalid <= 0;
    end
    assert (rst || tail <= head && !(busy && base[1]));
  end
endmodule
