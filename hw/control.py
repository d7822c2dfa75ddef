"""The registers of the device behind an AXI4-Lite slave."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.counters import Counters
from gradgate.hw.sequencer import TOKENS, UNITS, Errors

__all__ = ["Control", "CorePort", "Status", "REGISTERS", "ID", "VERSION", "ADDR_BITS",
           "config_registers"]

ID = 0x47474154  # "GGAT"
VERSION = 1
ADDR_BITS = 8

REGISTERS = {
    "ID": 0x00, "VERSION": 0x04, "CONFIG0": 0x08, "CONFIG1": 0x0c, "CTRL": 0x10, "STATUS": 0x14,
    "PROG_ADDR": 0x18, "TIMEOUT": 0x1c, "STATE": 0x20, "FETCHED": 0x24,
    **{f"COUNT_{u.name}": 0x28 + 4 * u for u in UNITS},
    "TOKENS0": 0x38, "TOKENS1": 0x3c, "CYCLES": 0x40,
    **{f"BUSY_{u.name}": 0x48 + 16 * u for u in UNITS},
    **{f"STARVED_{u.name}": 0x50 + 16 * u for u in UNITS},
    **{f"ACTIVE_{u.name}": 0x88 + 8 * u for u in UNITS},
    "READ_BEATS": 0xa8, "WRITE_BEATS": 0xb0,
}

_NARROW = {"FETCHED", *(f"COUNT_{u.name}" for u in UNITS)}  # counters shown with 32 bits


def config_registers(config):
    """Values of CONFIG0 and CONFIG1."""
    def log2(value):
        return value.bit_length() - 1

    return (config.tm | config.tn << 8 | (config.fmt == "fp32") << 16
            | log2(config.beat_bytes) << 20 | log2(config.max_burst) << 24
            | (config.read_ports == 3) << 28 | (config.write_ports == 2) << 29,
            log2(config.a_depth) | log2(config.b_depth) << 8 | log2(config.acc_depth) << 16)


class Status(data.Struct):
    """STATUS, bit by bit."""

    busy: 1
    done: 1
    errors: Errors
    nonfinite: 1
    overflow: 1
    tokens_left: 1


class CorePort(wiring.Signature):
    """Between the registers and the core, seen from the registers.

    Members
    -------
    start, reset : Out(1)
        One cycle high: run the program at `address`; stop and reset everything.
    address, timeout : Out(32)
    clear : In(1)
        Clear the counters.
    running : In(1)
        A program runs: counters count.
    status : In(Status)
    executing, waiting, empty, active, done : In(4)
        By unit number.
    fetched : In(1)
    read_beats, write_beats : In(2)
        How many of them pass.
    tokens : In(ArrayLayout(8, 12))
    """

    def __init__(self):
        super().__init__({
            "start": Out(1),
            "reset": Out(1),
            "address": Out(32),
            "timeout": Out(32),
            "clear": In(1),
            "running": In(1),
            "status": In(Status),
            "executing": In(len(UNITS)),
            "waiting": In(len(UNITS)),
            "empty": In(len(UNITS)),
            "active": In(len(UNITS)),
            "done": In(len(UNITS)),
            "fetched": In(1),
            "read_beats": In(2),
            "write_beats": In(2),
            "tokens": In(data.ArrayLayout(8, len(TOKENS))),
        })

    def __eq__(self, other):
        return isinstance(other, CorePort)


class Control(wiring.Component):
    """AXI4-Lite slave with the register table of docs/architecture.md, section 3.

    One read and one write at a time, each answered OKAY two cycles after its last part has come,
    the read of a counter up to 25 cycles after; what is not there reads as 0. A read of the low
    half of a counter keeps its high half for the next read of a high half. Counters are 0 after
    `core.clear`, not after a reset. Costs are mostly those of Counters.

    Parameters
    ----------
    config : Config

    Members
    -------
    aw*, w*, b*, ar*, r*
        AXI4-Lite with 32 data bits; names in the usual spelling, without a prefix.
    core : Out(CorePort)
    irq : Out(1)
        A program has ended or has been stopped by an error; low again after start or reset.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "awaddr": In(ADDR_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
            "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
            "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
            "araddr": In(ADDR_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
            "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
            "core": Out(CorePort()),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        status = self.core.status
        self._write(m)
        self._read(m, self._plain_registers(m), self._count(m))
        m.d.comb += self.irq.eq(~status.busy & (status.done | status.errors.as_value().any()))
        return m

    def _write(self, m):
        core = self.core
        address = Signal(ADDR_BITS - 2, reset_less=True)
        word = Signal(32, reset_less=True)
        strobe = Signal(4, reset_less=True)
        have_address = Signal()
        have_word = Signal()
        perform = Signal()

        # either part may come first
        m.d.comb += [
            self.awready.eq(~have_address),
            self.wready.eq(~have_word),
            perform.eq(have_address & have_word & ~self.bvalid),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [have_address.eq(1), address.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [have_word.eq(1), word.eq(self.wdata), strobe.eq(self.wstrb)]
        with m.If(self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(perform):
            m.d.sync += [have_address.eq(0), have_word.eq(0), self.bvalid.eq(1)]

        m.d.sync += [core.start.eq(0), core.reset.eq(0)]
        with m.If(perform):
            with m.Switch(address):
                with m.Case(REGISTERS["CTRL"] >> 2):
                    m.d.sync += [
                        core.start.eq(word[0] & strobe[0]),
                        core.reset.eq(word[1] & strobe[0]),
                    ]
                for name, register in (("PROG_ADDR", core.address), ("TIMEOUT", core.timeout)):
                    with m.Case(REGISTERS[name] >> 2):
                        for k in range(4):
                            with m.If(strobe[k]):
                                m.d.sync += register[8 * k:8 * k + 8].eq(word[8 * k:8 * k + 8])

    def _plain_registers(self, m):
        """Name -> value of the registers that are no counters."""
        core = self.core
        config0, config1 = config_registers(self._config)
        shown = [Mux(core.tokens[k] > 15, 15, core.tokens[k][:4]) for k in range(len(TOKENS))]
        half = len(TOKENS) // 2
        # of the cycle before, as units are far
        units = Signal(8 * len(UNITS), reset_less=True)
        m.d.sync += units.eq(Cat(Cat(core.executing[u], core.waiting[u], core.empty[u],
                                     Const(0, 5)) for u in UNITS))
        return {
            "ID": ID,
            "VERSION": VERSION,
            "CONFIG0": config0,
            "CONFIG1": config1,
            "STATUS": core.status.as_value(),
            "PROG_ADDR": core.address,
            "TIMEOUT": core.timeout,
            "STATE": units,
            "TOKENS0": Cat(shown[:half]),
            "TOKENS1": Cat(shown[half:]),
        }

    def _count(self, m):
        """Names of what is counted while a program runs."""
        core = self.core
        events = {"FETCHED": core.fetched, "CYCLES": 1, "READ_BEATS": core.read_beats,
                  "WRITE_BEATS": core.write_beats}
        for u in UNITS:
            events[f"COUNT_{u.name}"] = core.done[u]
            events[f"BUSY_{u.name}"] = core.executing[u]
            events[f"STARVED_{u.name}"] = core.waiting[u]
            events[f"ACTIVE_{u.name}"] = core.active[u]
        m.submodules.counters = counters = Counters(len(events))
        m.d.comb += counters.clear.eq(core.clear)
        for seen, event in zip(counters.events, events.values(), strict=True):
            m.d.sync += seen.eq(Mux(core.running & ~core.clear, event, 0))
        return list(events)

    def _read(self, m, registers, counted):
        counters = m.submodules.counters
        address = Signal(ADDR_BITS - 2, reset_less=True)
        have_address = Signal()
        perform = Signal()
        high = Signal(32, reset_less=True)

        m.d.comb += self.arready.eq(~have_address)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [have_address.eq(1), address.eq(self.araddr[2:])]
        with m.If(self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(perform):
            m.d.sync += [have_address.eq(0), self.rvalid.eq(1)]

        # a counter is there when it comes by, with all that was before the address
        wanted, counts, wide = Signal.like(counters.index), Signal(), Signal()
        asked = Signal(4)
        m.d.sync += asked.eq(Mux(perform, 0, Cat(have_address, asked)))
        known = counts & asked.all() & (counters.index == wanted)
        m.d.comb += perform.eq(have_address & ~self.rvalid & (~counts | known))
        with m.If(perform):
            m.d.sync += self.rdata.eq(0)
            with m.If(counts):
                m.d.sync += self.rdata.eq(counters.value)
            with m.If(wide):
                m.d.sync += high.eq(counters.value[32:])
        with m.Switch(address):
            for name, value in registers.items():
                with m.Case(REGISTERS[name] >> 2), m.If(perform):
                    m.d.sync += self.rdata.eq(value)
            for number, name in enumerate(counted):
                with m.Case(REGISTERS[name] >> 2):
                    m.d.comb += [counts.eq(1), wanted.eq(number)]
                    m.d.comb += wide.eq(name not in _NARROW)
                if name not in _NARROW:
                    with m.Case((REGISTERS[name] >> 2) + 1), m.If(perform):
                        m.d.sync += self.rdata.eq(high)
        return m
