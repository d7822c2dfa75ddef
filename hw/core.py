"""The whole device but for its bus adapters."""

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.arbiter import ReadArbiter
from gradgate.hw.buffer import TileBuffer
from gradgate.hw.compute import ComputeUnit
from gradgate.hw.config import check_config
from gradgate.hw.control import CorePort
from gradgate.hw.isa import Unit
from gradgate.hw.load import LoadUnit
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.post import PostUnit
from gradgate.hw.quiesce import Quiesce
from gradgate.hw.sequencer import Sequencer

__all__ = ["Core"]


class Core(wiring.Component):
    """Sequencer, units and buffers, with burst ports to memory.

    Start and reset both bring everything to its initial state first: no new burst is begun, memory
    finishes the old ones, then one cycle of reset. With nothing outstanding a program starts 3
    cycles after `start`. Start is ignored while a program runs; after a reset it waits for its
    turn.

    Parameters
    ----------
    config : Config

    Members
    -------
    control : In(CorePort)
    read : Out(ReadPort)
    write : Out(WritePort)
    bus_error : In(1)
        One cycle high: memory has answered an access with an error.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        super().__init__({
            "control": In(CorePort()),
            "read": Out(ReadPort(config.beat_bits)),
            "write": Out(WritePort(config.beat_bits)),
            "bus_error": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, control = self._config, self.control

        reset = Signal()
        inner = ResetInserter(reset)
        sequencer = Sequencer(config)
        load_a, load_b = LoadUnit(config), LoadUnit(config)
        buffer_a = TileBuffer(config, config.a_depth)
        buffer_b = TileBuffer(config, config.b_depth)
        compute = ComputeUnit(config)
        post = PostUnit(config)
        arbiter = ReadArbiter(config, 5)
        m.submodules.sequencer = inner(sequencer)
        m.submodules.load_a = inner(load_a)
        m.submodules.load_b = inner(load_b)
        m.submodules.buffer_a = inner(buffer_a)
        m.submodules.buffer_b = inner(buffer_b)
        m.submodules.compute = inner(compute)
        m.submodules.post = inner(post)
        m.submodules.arbiter = inner(arbiter)
        m.submodules.quiesce = quiesce = Quiesce(config)

        # memory
        for k, port in enumerate((sequencer.port, load_a.port, load_b.port, post.src, post.opd)):
            wiring.connect(m, port, arbiter.ports[k])
        wiring.connect(m, arbiter.port, quiesce.read)
        wiring.connect(m, post.out, quiesce.write)
        wiring.connect(m, quiesce.bus_read, wiring.flipped(self.read))
        wiring.connect(m, quiesce.bus_write, wiring.flipped(self.write))

        # buffers
        wiring.connect(m, load_a.buf, buffer_a.write)
        wiring.connect(m, load_b.buf, buffer_b.write)
        wiring.connect(m, compute.a, buffer_a.read)
        wiring.connect(m, compute.b, buffer_b.read)
        wiring.connect(m, post.drain, compute.drain)

        # instructions
        units = {Unit.LOAD_A: load_a, Unit.LOAD_B: load_b, Unit.COMPUTE: compute, Unit.POST: post}
        for u, unit in units.items():
            wiring.connect(m, sequencer.units[u], unit.i)
            m.d.comb += [
                sequencer.done[u].eq(unit.done),
                sequencer.active[u].eq(unit.active),
            ]
        m.d.comb += [
            sequencer.address.eq(control.address),
            sequencer.timeout.eq(control.timeout),
            sequencer.beat.eq(quiesce.read_beat | quiesce.write_beat),
            sequencer.fault.eq(self.bus_error),
        ]

        # start and reset: empty the bus, reset, begin
        begin = Signal()
        stopping = Signal()
        with m.FSM(name="life"):
            with m.State("RUN"):
                with m.If(control.reset | (control.start & ~sequencer.busy)):
                    m.d.sync += begin.eq(control.start)
                    m.d.comb += stopping.eq(1)
                    m.next = "EMPTY"
            with m.State("EMPTY"):
                m.d.comb += [stopping.eq(1), quiesce.hold.eq(1)]
                with m.If(control.start | control.reset):
                    m.d.sync += begin.eq(control.start)
                with m.If(quiesce.idle):
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += [stopping.eq(1), quiesce.hold.eq(1), reset.eq(1)]
                with m.If(control.start | control.reset):
                    m.d.sync += begin.eq(control.start)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += stopping.eq(1)
                with m.If(control.reset):
                    m.d.sync += begin.eq(control.start)
                    m.next = "EMPTY"
                with m.Else():
                    m.d.comb += sequencer.start.eq(begin | control.start)
                    m.next = "RUN"

        # what the registers show
        nonfinite, overflow = Signal(), Signal()
        with m.If(reset):
            m.d.sync += [nonfinite.eq(0), overflow.eq(0)]
        with m.Else():
            for flag, name in ((nonfinite, "nonfinite"), (overflow, "overflow")):
                with m.If(Cat(getattr(unit, name) for unit in units.values()).any()):
                    m.d.sync += flag.eq(1)
        m.d.comb += [
            control.clear.eq(reset),
            control.running.eq(sequencer.busy),
            control.status.busy.eq(sequencer.busy | stopping),
            control.status.done.eq(sequencer.ended),
            control.status.errors.eq(sequencer.errors),
            control.status.nonfinite.eq(nonfinite),
            control.status.overflow.eq(overflow),
            control.status.tokens_left.eq(sequencer.tokens_left),
            control.executing.eq(sequencer.executing),
            control.waiting.eq(sequencer.waiting),
            control.empty.eq(sequencer.empty),
            control.active.eq(sequencer.active),
            control.done.eq(sequencer.done),
            control.fetched.eq(sequencer.fetched),
            control.tokens.eq(sequencer.tokens),
            control.read_beat.eq(quiesce.read_beat),
            control.write_beat.eq(quiesce.write_beat),
        ]
        return m
