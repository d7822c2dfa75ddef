"""A board without an engine: UART, link, memory and registers; for tests of the link."""

from amaranth.back import verilog as back
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.control import Control
from gradgate.hw.link import Link, connect_registers
from gradgate.hw.uart import UARTReceiver, UARTTransmitter

_DURATION = 3000  # cycles of a program


class LinkTop(wiring.Component):
    """`identity` says how large memory is; a "program" is busy for some time and then done.

    `memory` takes the place of a plain one; see gradgate.hw.soc.SoC.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)

    def __init__(self, identity, divisor, memory=None):
        self._identity, self._divisor, self._memory = identity, divisor, memory
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        config = self._identity.config
        m.submodules.receiver = receiver = UARTReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UARTTransmitter(self._divisor)
        m.submodules.link = link = Link(self._identity)
        m.submodules.control = control = Control(config)
        wiring.connect(m, receiver.o, link.i)
        wiring.connect(m, link.o, transmitter.i)
        connect_registers(m, link.registers, control)
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]

        if self._memory is None:
            self._plain_memory(m, link)
        else:
            m.submodules.memory = self._memory
            wiring.connect(m, link.read, self._memory.read)
            wiring.connect(m, link.write, self._memory.write)

        # what stands for the engine
        core, left, ran = control.core, Signal(range(_DURATION)), Signal()
        m.d.comb += [core.status.busy.eq(left != 0), core.running.eq(left != 0),
                     core.clear.eq(core.start), core.status.done.eq(ran & (left == 0))]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(core.start):
            m.d.sync += [left.eq(_DURATION - 1), ran.eq(1)]
        with m.If(core.reset):
            m.d.sync += [left.eq(0), ran.eq(0)]
        return m

    def _plain_memory(self, m, link):
        """Memory of single beats."""
        config = self._identity.config
        m.submodules.memory = memory = Memory(
            shape=config.beat_bits, depth=self._identity.memory_size // config.beat_bytes, init=[])
        w_port, r_port = memory.write_port(), memory.read_port()
        shift = config.beat_bytes.bit_length() - 1
        read, write = link.read, link.write
        write_address = Signal(32)
        m.d.comb += [
            read.cmd.ready.eq(~read.data.valid),
            r_port.addr.eq(read.cmd.payload.addr >> shift),
            r_port.en.eq(read.cmd.valid & read.cmd.ready),
            read.data.payload.eq(r_port.data),
            write.cmd.ready.eq(1),
            write.data.ready.eq(1),
            w_port.addr.eq(write_address >> shift),
            w_port.data.eq(write.data.payload),
            w_port.en.eq(write.data.valid),
        ]
        m.d.sync += write.ack.eq(write.data.valid)
        with m.If(read.data.ready):
            m.d.sync += read.data.valid.eq(0)
        with m.If(r_port.en):
            m.d.sync += read.data.valid.eq(1)
        with m.If(write.cmd.valid):
            m.d.sync += write_address.eq(write.cmd.payload.addr)


def verilog(identity, divisor, memory=None, platform=None):
    """LinkTop as Verilog, module `LinkTop`."""
    return back.convert(LinkTop(identity, divisor, memory), name="LinkTop", platform=platform,
                        emit_src=False)
