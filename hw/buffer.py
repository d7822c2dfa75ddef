"""The tile buffer: Tn banks that read channel vectors and pixel vectors (docs/program.md, 2)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .port import ConfigSignature

__all__ = ["BufferWrite", "BufferRead", "TileBuffer"]


class BufferWrite(ConfigSignature):
    """Writes one beat per cycle, seen from the writer.

    Parameters
    ----------
    config : Config

    Members
    -------
    en : Out(1)
    addr : Out(16)
        Word, taken modulo the depth.
    bank : Out(lane_bits)
    data : Out(beat_bits)
        Element x, lowest first, goes to bank (bank + x) mod Tn.
    """

    def __init__(self, config):
        super().__init__(config, {"en": Out(1), "addr": Out(16), "bank": Out(config.lane_bits),
                                  "data": Out(config.beat_bits)})


class BufferRead(ConfigSignature):
    """Reads one operand per lane and cycle, seen from the reader.

    Parameters
    ----------
    config : Config

    Members
    -------
    en : Out(1)
        The operands are wanted. For who watches: memories are read in every cycle.
    addr : Out(ArrayLayout(16, Tn))
        Word of each lane, taken modulo the depth.
    rot : Out(lane_bits)
        Lane i reads bank (i + rot) mod Tn.
    data : In(ArrayLayout(elem_bits, Tn))
        The operands, TileBuffer.LATENCY cycles after `addr`.
    """

    def __init__(self, config):
        super().__init__(config, {
            "en": Out(1), "addr": Out(data.ArrayLayout(16, config.tn)),
            "rot": Out(config.lane_bits),
            "data": In(data.ArrayLayout(config.elem_bits, config.tn))})


class TileBuffer(wiring.Component):
    """Tn banks of `depth` operands, with a rotator each for write data, addresses, and read data.

    One write and one read per cycle. A read sees the writes of its own cycle and of all before.
    Costs Tn memories of `depth` operands, no multipliers.

    Parameters
    ----------
    config : Config
    depth : int
        Words per bank: a power of two, 16..32768.

    Members
    -------
    write : In(BufferWrite(config))
    read : In(BufferRead(config))

    Raises
    ------
    ValueError
        `depth` is out of range.
    """

    LATENCY = 6  # two for the addresses, two for the banks, two for the data

    def __init__(self, config, depth):
        if not 16 <= depth <= 32768 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two in 16..32768, not {depth!r}")
        self._config = config
        self._depth = depth
        super().__init__({"write": In(BufferWrite(config)), "read": In(BufferRead(config))})

    @property
    def config(self):
        return self._config

    @property
    def depth(self):
        return self._depth

    def elaborate(self, platform):
        m = Module()
        tn, elem_bits, elems = self.config.tn, self.config.elem_bits, self.config.beat_elems
        levels = range(self.config.lane_bits)
        near, far = levels[:len(levels) // 2], levels[len(levels) // 2:]
        addr_bits = (self.depth - 1).bit_length()

        banks = []
        for b in range(tn):
            m.submodules[f"bank_{b}"] = bank = memory.Memory(shape=elem_bits, depth=self.depth,
                                                             init=[])
            banks.append((bank.write_port(), bank.read_port()))

        # Write: bank b takes element (b - bank) mod Tn, if the beat has it.
        w_addr = Signal(addr_bits, reset_less=True)
        w_data = Signal(self.config.beat_bits, reset_less=True)
        turned = self.write.data
        for level in range(elems.bit_length() - 1):
            turned = Mux(self.write.bank[level], turned.rotate_left(elem_bits << level), turned)
        m.d.sync += [w_addr.eq(self.write.addr), w_data.eq(turned)]
        for b, (w_port, _) in enumerate(banks):
            w_en = Signal(name=f"w_en_{b}")
            element = Signal(self.config.lane_bits, name=f"element_{b}")
            m.d.comb += element.eq(b - self.write.bank)
            m.d.sync += w_en.eq(self.write.en & (element < elems))
            m.d.comb += [w_port.en.eq(w_en), w_port.addr.eq(w_addr),
                         w_port.data.eq(w_data.word_select(b % elems, elem_bits))]

        # Read: addresses turn up to their banks, operands turn down to their lanes.
        def turn(value, rot, levels, width, up):
            for level in levels:
                turned = value.rotate_left(width << level) if up \
                    else value.rotate_right(width << level)
                value = Mux(rot[level], turned, value)
            return value

        def stage(value, name):
            register = Signal(len(value), name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        rot = [self.read.rot]
        for k in range(1, 6):
            rot.append(stage(rot[-1], f"rot_{k}"))

        addr = Cat(a[:addr_bits] for a in self.read.addr)
        addr = stage(turn(addr, rot[0], near, addr_bits, up=True), "r1_addr")
        addr = stage(turn(addr, rot[1], far, addr_bits, up=True), "r2_addr")
        for b, (_, r_port) in enumerate(banks):
            m.d.comb += r_port.addr.eq(addr.word_select(b, addr_bits))
        # what leaves a RAM has the rest of its cycle for the way to here
        operands = stage(Cat(r_port.data for _, r_port in banks), "r4_data")
        operands = stage(turn(operands, rot[4], near, elem_bits, up=False), "r5_data")
        operands = stage(turn(operands, rot[5], far, elem_bits, up=False), "r6_data")
        m.d.comb += self.read.data.eq(operands)
        return m
