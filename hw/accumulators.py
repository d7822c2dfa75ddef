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
        Those of group g, vlanes rows, Accumulators.LATENCY + g cycles after `addr`.
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
    """The engine's writes, seen from the engine: into `addr` when `en`, `data` of group g 1 + g
    cycles later."""

    def __init__(self, config):
        super().__init__(config, {"en": Out(1), "addr": Out(16),
                                  "data": Out(data.ArrayLayout(32, config.tm))})


class Accumulators(wiring.Component):
    """Two memories of acc_depth words per row: one fills while the other drains.

    Groups of vlanes rows, each with memories of its own, work a cycle one after the other, and pass
    on to the next what is to be done: so no wire goes to all of them. The engine's read, the
    engine's write, and the drain's read each take place in every cycle. A read sees the writes of
    all cycles before its own. When engine and drain read the same region in the same cycle, the
    drain's data is undefined. Costs 2 * Tm * acc_depth words of RAM.

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
        top = (self.config.acc_depth - 1).bit_length()
        read, write, drain = self.read, self.write, self.drain

        # what the first group does, of which the others do what the one before does
        now = Signal(data.StructLayout({
            "regions": data.ArrayLayout(data.StructLayout({"r_addr": top, "w_en": 1}), 2),
            "w_addr": top, "upper": 1, "clear": 1, "drain_upper": 1}))
        for r, region in enumerate(now.regions):
            engine = read.en & (read.addr[top] == r)
            m.d.comb += [
                region.r_addr.eq(Mux(engine, read.addr, drain.addr)),
                region.w_en.eq(write.en & (write.addr[top] == r)),
            ]
        m.d.comb += [
            now.w_addr.eq(write.addr),
            now.upper.eq(read.addr[top]),
            now.clear.eq(read.clear),
            now.drain_upper.eq(drain.addr[top]),
        ]
        width = 32 * self.config.vlanes
        for g in range(self.config.groups):
            m.submodules[f"group_{g}"] = group = _Group(self.config, now.shape())
            m.d.comb += [
                group.i.eq(now),
                group.data.eq(write.data.as_value().word_select(g, width)),
                read.data.as_value().word_select(g, width).eq(group.read),
                drain.data.as_value().word_select(g, width).eq(group.drain),
            ]
            now = group.o
        return m


class _Group(wiring.Component):
    """The memories of a group: does `i`, a cycle later, and passes it on as `o`."""

    def __init__(self, config, layout):
        self._depth = config.acc_depth
        words = 32 * config.vlanes
        super().__init__({"i": In(layout), "o": Out(layout), "data": In(words),
                          "read": Out(words), "drain": Out(words)})

    def elaborate(self, platform):
        m = Module()
        # without reset: what is written then means nothing any more
        here = Signal(self.i.shape(), reset_less=True)
        m.d.sync += here.eq(self.i)
        m.d.comb += self.o.eq(here)
        words = []
        for r, region in enumerate(here.regions):
            m.submodules[f"region_{r}"] = ram = memory.Memory(
                shape=len(self.data), depth=self._depth, init=[])
            w_port, r_port = ram.write_port(), ram.read_port()
            words.append(r_port.data)
            m.d.comb += [
                r_port.addr.eq(region.r_addr),
                w_port.en.eq(region.w_en),
                w_port.addr.eq(here.w_addr),
                w_port.data.eq(self.data),
            ]
        upper, clear, drain_upper = (Signal(name=name, reset_less=True)
                                     for name in ("upper", "clear", "drain_upper"))
        read, drain = (Signal(len(self.data), name=f"{name}_words", reset_less=True)
                       for name in ("read", "drain"))
        m.d.sync += [
            upper.eq(here.upper), clear.eq(here.clear), drain_upper.eq(here.drain_upper),
            read.eq(Mux(clear, 0, Mux(upper, words[1], words[0]))),
            drain.eq(Mux(drain_upper, words[1], words[0])),
        ]
        m.d.comb += [self.read.eq(read), self.drain.eq(drain)]
        return m
