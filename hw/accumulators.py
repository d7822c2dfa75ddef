"""The accumulators: Tm fp32 words per address, in two regions."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .port import ConfigSignature

__all__ = ["AccDrain", "AccRead", "AccWrite", "Accumulators"]


class AccDrain(ConfigSignature):
    """Reads the accumulators of all rows at one address, seen from the reader.

    Parameters
    ----------
    config : Config

    Members
    -------
    en : Out(1)
        The data are wanted. For who watches: memories are read in every cycle.
    addr : Out(16)
        Taken modulo 2 * acc_depth; the top bit of that chooses the region.
    data : In(ArrayLayout(32, Tm))
        Accumulators.LATENCY cycles after `addr`.
    """

    def __init__(self, config):
        super().__init__(config, {"en": Out(1), "addr": Out(16),
                                  "data": In(data.ArrayLayout(32, config.tm))})


class AccRead(ConfigSignature):
    """The engine's reads, seen from the engine: AccDrain with `clear`, which makes `data` +0."""

    def __init__(self, config):
        super().__init__(config, {"en": Out(1), "addr": Out(16), "clear": Out(1),
                                  "data": In(data.ArrayLayout(32, config.tm))})


class AccWrite(ConfigSignature):
    """The engine's writes, seen from the engine: `data` into `addr` when `en`."""

    def __init__(self, config):
        super().__init__(config, {"en": Out(1), "addr": Out(16),
                                  "data": Out(data.ArrayLayout(32, config.tm))})


class Accumulators(wiring.Component):
    """Two memories of acc_depth words per row: one fills while the other drains.

    The engine's read, the engine's write, and the drain's read each take place in every cycle. A
    read sees the writes of all cycles before its own. When engine and drain read the same region in
    the same cycle, the drain's data is undefined. Costs 2 * Tm * acc_depth words of RAM.

    Parameters
    ----------
    config : Config

    Members
    -------
    read : In(AccRead(config))
    write : In(AccWrite(config))
    drain : In(AccDrain(config))
    """

    LATENCY = 2  # one for the memory, one for the choice of region

    def __init__(self, config):
        self._config = config
        super().__init__({"read": In(AccRead(config)), "write": In(AccWrite(config)),
                          "drain": In(AccDrain(config))})

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        depth, width = self.config.acc_depth, 32 * self.config.tm
        top = (depth - 1).bit_length()

        words = []
        for r in range(2):
            m.submodules[f"region_{r}"] = region = memory.Memory(shape=width, depth=depth, init=[])
            w_port, r_port = region.write_port(), region.read_port()
            words.append(r_port.data)

            engine = Signal(name=f"engine_{r}")
            m.d.comb += [
                engine.eq(self.read.en & (self.read.addr[top] == r)),
                r_port.addr.eq(Mux(engine, self.read.addr, self.drain.addr)),
                w_port.en.eq(self.write.en & (self.write.addr[top] == r)),
                w_port.addr.eq(self.write.addr),
                w_port.data.eq(self.write.data.as_value()),
            ]

        r1_upper, r1_clear = Signal(reset_less=True), Signal(reset_less=True)
        r1_drain_upper = Signal(reset_less=True)
        r2_read = Signal(width, reset_less=True)
        r2_drain = Signal(width, reset_less=True)
        m.d.sync += [
            r1_upper.eq(self.read.addr[top]),
            r1_clear.eq(self.read.clear),
            r2_read.eq(Mux(r1_clear, 0, Mux(r1_upper, words[1], words[0]))),
            r1_drain_upper.eq(self.drain.addr[top]),
            r2_drain.eq(Mux(r1_drain_upper, words[1], words[0])),
        ]
        m.d.comb += [self.read.data.eq(r2_read), self.drain.data.eq(r2_drain)]
        return m
