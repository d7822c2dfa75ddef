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
    """The engine's writes, seen from the engine: the `data` of the next cycle into `addr` when
    `en`."""

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

    LATENCY = 3  # one for the way of the address, one for the memory, one for the choice of region

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

            # of each region its own: the memories are many, and far from each other
            engine = self.read.en & (self.read.addr[top] == r)
            r1_addr, w1_addr = (Signal(top, name=f"{name}_addr_{r}", reset_less=True)
                                for name in ("r1", "w1"))
            w1_en = Signal(name=f"w1_en_{r}")
            m.d.sync += [
                r1_addr.eq(Mux(engine, self.read.addr, self.drain.addr)),
                w1_en.eq(self.write.en & (self.write.addr[top] == r)),
                w1_addr.eq(self.write.addr),
            ]
            m.d.comb += [
                r_port.addr.eq(r1_addr),
                w_port.en.eq(w1_en),
                w_port.addr.eq(w1_addr),
                w_port.data.eq(self.write.data.as_value()),
            ]

        def delay(name, value, cycles):
            for k in range(1, cycles + 1):
                later = Signal(name=f"r{k}_{name}", reset_less=True)
                m.d.sync += later.eq(value)
                value = later
            return value

        upper = delay("upper", self.read.addr[top], 2)
        clear = delay("clear", self.read.clear, 2)
        drain_upper = delay("drain_upper", self.drain.addr[top], 2)
        r3_read = Signal(width, reset_less=True)
        r3_drain = Signal(width, reset_less=True)
        m.d.sync += [
            r3_read.eq(Mux(clear, 0, Mux(upper, words[1], words[0]))),
            r3_drain.eq(Mux(drain_upper, words[1], words[0])),
        ]
        m.d.comb += [self.read.data.eq(r3_read), self.drain.data.eq(r3_drain)]
        return m
