"""The whole device but for its bus adapters."""

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.arbiter import ReadArbiter, WriteArbiter
from gradgate.hw.buffer import TileBuffer
from gradgate.hw.compute import ComputeUnit
from gradgate.hw.config import check_config
from gradgate.hw.control import CorePort
from gradgate.hw.isa import Unit
from gradgate.hw.load import LoadUnit
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.post import PostUnit
from gradgate.hw.quiesce import Quiesce
from gradgate.hw.sequencer import UNITS, Sequencer

__all__ = ["Core"]


class Core(wiring.Component):
    """Sequencer, units and buffers, with burst ports to memory.

    Start and reset both bring everything to its initial state first: no new burst is begun, memory
    finishes the old ones, then two cycles of reset. With nothing outstanding a program starts 4
    cycles after `start`. Start is ignored while a program runs; after a reset it waits for its
    turn.

    Parameters
    ----------
    config : Config

    Members
    -------
    control : In(CorePort)
    read : Out(ReadPort).array(read_ports)
    write : Out(WritePort).array(write_ports)
        docs/architecture.md, section 2, says who uses which.
    bus_error : In(1)
        One cycle high: memory has answered an access with an error.
    unit_start, unit_done, unit_active, unit_waiting : Out(4)
        By unit number: it accepts an instruction, completes one, does useful work, lacks a token
        for the one at hand.

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
            "read": Out(ReadPort(config.beat_bits)).array(config.read_ports),
            "write": Out(WritePort(config.beat_bits)).array(config.write_ports),
            "bus_error": In(1),
            "unit_start": Out(len(UNITS)),
            "unit_done": Out(len(UNITS)),
            "unit_active": Out(len(UNITS)),
            "unit_waiting": Out(len(UNITS)),
        })

    def elaborate(self, platform):
        m = Module()
        config, control = self._config, self.control

        # each block has a register of its own that resets it, a cycle after `resetting`
        resetting = Signal()

        def inner(name, block):
            near = Signal(name=f"near_reset_{name}", reset_less=True)
            m.d.sync += near.eq(resetting)
            m.submodules[name] = ResetInserter(near)(block)

        sequencer = Sequencer(config)
        load_a, load_b = LoadUnit(config), LoadUnit(config)
        buffer_a = TileBuffer(config, config.a_depth)
        buffer_b = TileBuffer(config, config.b_depth)
        compute = ComputeUnit(config)
        post = PostUnit(config)
        inner("sequencer", sequencer)
        inner("load_a", load_a)
        inner("load_b", load_b)
        inner("buffer_a", buffer_a)
        inner("buffer_b", buffer_b)
        inner("compute", compute)
        inner("post", post)

        # memory: `reads` are the initiators of every port
        reads = [[load_a.port, load_a.tags], [load_b.port, load_b.tags, post.mom],
                 [sequencer.port, post.src, post.opd]]
        if config.read_ports == 1:
            reads = [sum(reads, [])]
        valves = []
        for k in range(max(config.read_ports, config.write_ports)):
            m.submodules[f"quiesce{k}"] = valve = Quiesce(config)
            valves.append(valve)
        for k, initiators in enumerate(reads):
            arbiter = ReadArbiter(config, len(initiators))
            inner(f"read_arbiter{k}", arbiter)
            for port, its in zip(initiators, arbiter.ports, strict=True):
                wiring.connect(m, port, its)
            wiring.connect(m, arbiter.port, valves[k].read)
            wiring.connect(m, valves[k].bus_read, wiring.flipped(self.read[k]))
        writes = [post.out, post.aux]
        if config.write_ports == 1:
            arbiter = WriteArbiter(config, len(writes))
            inner("write_arbiter", arbiter)
            for port, its in zip(writes, arbiter.ports, strict=True):
                wiring.connect(m, port, its)
            writes = [arbiter.port]
        for k, port in enumerate(writes):
            wiring.connect(m, port, valves[k].write)
            wiring.connect(m, valves[k].bus_write, wiring.flipped(self.write[k]))
        read_beats = Cat(valve.read_beat for valve in valves)
        write_beats = Cat(valve.write_beat for valve in valves)
        hold = Signal()  # a register, as the commands of a cycle depend on it
        empty = Signal()
        m.d.comb += [valve.hold.eq(hold) for valve in valves]
        m.d.comb += empty.eq(Cat(valve.idle for valve in valves).all())

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
                self.unit_start[u].eq(unit.i.valid & unit.i.ready),
            ]
        m.d.comb += [
            sequencer.address.eq(control.address),
            sequencer.timeout.eq(control.timeout),
            sequencer.beat.eq(read_beats.any() | write_beats.any()),
            sequencer.fault.eq(self.bus_error),
            self.unit_done.eq(sequencer.done),
            self.unit_active.eq(sequencer.active),
            self.unit_waiting.eq(sequencer.waiting),
        ]

        # start and reset: empty the bus, reset, begin
        begin = Signal()
        stopping = Signal()
        clear = Signal()  # the blocks are being reset
        with m.FSM(name="life"):
            with m.State("RUN"):
                with m.If(control.reset | (control.start & ~sequencer.busy)):
                    m.d.sync += [begin.eq(control.start), hold.eq(1)]
                    m.d.comb += stopping.eq(1)
                    m.next = "EMPTY"
            with m.State("EMPTY"):
                m.d.comb += stopping.eq(1)
                with m.If(control.start | control.reset):
                    m.d.sync += begin.eq(control.start)
                with m.If(empty):
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.comb += [stopping.eq(1), resetting.eq(1)]
                with m.If(control.start | control.reset):
                    m.d.sync += begin.eq(control.start)
                m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += [stopping.eq(1), clear.eq(1)]
                m.d.sync += hold.eq(0)
                with m.If(control.start | control.reset):
                    m.d.sync += begin.eq(control.start)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += stopping.eq(1)
                with m.If(control.reset):
                    m.d.sync += [begin.eq(control.start), hold.eq(1)]
                    m.next = "EMPTY"
                with m.Else():
                    m.d.comb += sequencer.start.eq(begin | control.start)
                    m.next = "RUN"

        # what the registers show
        nonfinite, overflow = Signal(), Signal()
        with m.If(clear):
            m.d.sync += [nonfinite.eq(0), overflow.eq(0)]
        with m.Else():
            for flag, name in ((nonfinite, "nonfinite"), (overflow, "overflow")):
                with m.If(Cat(getattr(unit, name) for unit in units.values()).any()):
                    m.d.sync += flag.eq(1)
        m.d.comb += [
            control.clear.eq(clear),
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
            control.read_beats.eq(sum(read_beats)),
            control.write_beats.eq(sum(write_beats)),
        ]
        return m
