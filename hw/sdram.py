"""SDRAM behind the burst port: LiteDRAM's controller and what it needs."""

from amaranth.hdl import ClockSignal, Const, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.dram_init import DRAMInit
from gradgate.hw.litedram import LiteDRAMPort
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["SDRAM"]

CORE = "litedram_core"  # the module of LiteDRAM's Verilog, as host/dram.py has it made
PORT = "user_port_native_0_"


class SDRAM(wiring.Component):
    """Burst ports to a memory of 16-bit words, an SDR SDRAM at the clock of the gateware.

    The controller is a module of Verilog that has to be added to the design. It is started after
    reset; bursts wait until that is done. A beat of n words in a row that is open is on `read.data`
    7 + CL + n cycles after the command of its burst was taken, CL being the memory's CAS latency.

    The clock of the chip is not made here: it is that of `sync`, a quarter of a cycle later.

    Parameters
    ----------
    config : Config
    writes : list of (int, int, int)
        See DRAMInit.
    dq : IOPort
        The 16 data pins. The controller holds their input and output cells, so that none may be
        between.
    addr_bits : int
        Of the address of a word.

    Members
    -------
    read : In(ReadPort(beat_bits))
    write : In(WritePort(beat_bits))
    error : Out(1)
        One cycle high per burst outside of the memory; see LiteDRAMPort.
    ready : Out(1)
        The memory has been started.
    a, ba, ras_n, cas_n, we_n, cs_n, dm, cke
        To the pins of these names; the controller holds their flip-flops.

    Raises
    ------
    TypeError, ValueError
        See LiteDRAMPort, DRAMInit.
    """

    PINS = {"a": 13, "ba": 2, "ras_n": 1, "cas_n": 1, "we_n": 1, "cs_n": 1, "dm": 2, "cke": 1}

    def __init__(self, config, writes, dq, *, addr_bits=24):
        self._port = LiteDRAMPort(config, addr_bits=addr_bits)
        self._init = DRAMInit(writes)
        self._dq = dq
        super().__init__({
            "read": In(ReadPort(config.beat_bits)), "write": In(WritePort(config.beat_bits)),
            "error": Out(1), "ready": Out(1),
            **{name: Out(width) for name, width in self.PINS.items()},
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.port = port = self._port
        m.submodules.init = init = self._init
        wiring.connect(m, wiring.flipped(self.read), port.read)
        wiring.connect(m, wiring.flipped(self.write), port.write)
        m.d.comb += self.error.eq(port.error)

        # its inputs are our outputs and the other way round
        connections = {"i_wb_ctrl_cti": Const(0, 3), "i_wb_ctrl_bte": Const(0, 2)}
        for component, prefix in ((port, PORT), (init, "wb_ctrl_")):
            for name, member in component.signature.members.items():
                if name not in ("read", "write", "error", "done"):
                    kind = "i" if member.flow == Out else "o"
                    connections[f"{kind}_{prefix}{name}"] = getattr(component, name)
        for name in self.PINS:
            connections[f"o_sdram_{name}"] = getattr(self, name)
        m.submodules.core = Instance(
            CORE, i_clk=ClockSignal(), i_rst=ResetSignal(allow_reset_less=True),
            o_init_done=self.ready, io_sdram_dq=self._dq, **connections)
        return m
