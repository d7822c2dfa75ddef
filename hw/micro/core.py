"""The small core: processor and array of two rows, with the registers that the host sees."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.control import config_registers
from gradgate.hw.link_commands import RegisterPort
from gradgate.hw.micro.array import MicroArray
from gradgate.hw.micro.processor import Processor
from gradgate.hw.micro.program import program
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["MicroCore"]

_ARRAY = ("port", "go", "a", "b", "number_b", "result", "unit_b", "add", "stall", "sum",
          "product", "accumulator", "sum_overflow", "product_overflow", "overflow")


class MicroCore(wiring.Component):
    """What Core and Control are together, in a fifth of the LUTs: one instruction at a time.

    Parameters
    ----------
    config : Config
        With core "micro".

    Members
    -------
    aw*, w*, b*, ar*, r*, irq
        As of Control; see Processor for what differs.
    read : Out(ReadPort).array(1)
    write : Out(WritePort).array(1)
    bus_error : In(1)
        As of Core.
    running, failed : Out(1)
        A program runs; the last one has ended in an error, also if it has been reset since.
    unit_start, unit_done, unit_active, unit_waiting : Out(4)
        As of Core; the last two are 0.

    Raises
    ------
    TypeError
        `config` is not a Config.
    ValueError
        It is not one of a small core.
    """

    def __init__(self, config):
        check_config(config)
        if config.core != "micro":
            raise ValueError(f"core must be 'micro', not {config.core!r}")
        self._array = MicroArray(config)
        self._processor = Processor(*program(*config_registers(config)))
        bus = {name: self._processor.signature.members[name] for name in RegisterPort().members}
        super().__init__(bus | {
            "irq": Out(1),
            "read": Out(ReadPort(config.beat_bits)).array(1),
            "write": Out(WritePort(config.beat_bits)).array(1),
            "bus_error": In(1),
            "running": Out(1), "failed": Out(1),
            "unit_start": Out(4), "unit_done": Out(4), "unit_active": Out(4),
            "unit_waiting": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.processor = processor = self._processor
        m.submodules.array = array = self._array
        for name in _ARRAY:
            mine, its = getattr(processor, name), getattr(array, name)
            m.d.comb += its.eq(mine) if array.signature.members[name].flow == In else mine.eq(its)
        for name, member in self.signature.members.items():
            if member.is_port and name in processor.signature.members:
                mine, its = getattr(self, name), getattr(processor, name)
                m.d.comb += its.eq(mine) if member.flow == In else mine.eq(its)
        wiring.connect(m, processor.read, wiring.flipped(self.read[0]))
        wiring.connect(m, processor.write, wiring.flipped(self.write[0]))
        m.d.comb += [self.unit_start.eq(processor.started), self.unit_done.eq(processor.done)]
        return m
