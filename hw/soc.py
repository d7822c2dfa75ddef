"""A whole device behind a serial line: what a board's top level has inside.

Control registers are reset.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.arbiter import ReadArbiter, WriteArbiter
from gradgate.hw.control import Control
from gradgate.hw.core import Core
from gradgate.hw.link import Link, connect_registers
from gradgate.hw.link_format import Identity
from gradgate.hw.micro.core import MicroCore
from gradgate.hw.slice import ReadSlice, WriteSlice
from gradgate.hw.turns import ReadTurns, WriteTurns
from gradgate.hw.uart import UARTReceiver, UARTTransmitter

__all__ = ["SoC"]


class SoC(wiring.Component):
    """Core, registers and link on one memory, in one clock domain.

    All memory ports of the core and those of the link take turns at the memory, a burst each: one
    more cycle of latency than the memory has.

    Parameters
    ----------
    identity : Identity
        What the host is told that this is; its Config is that of the core.
    memory : Component
        With members read : In(ReadPort(beat_bits)), write : In(WritePort(beat_bits)) and
        error : Out(1), one cycle high per access to where there is none; becomes a submodule.
        Pins of its own are the caller's concern.
    divisor : int
        Clock cycles per bit of the serial line, at least 4.

    Members
    -------
    rx : In(1)
        Serial line from the host, idle high, not synchronised.
    tx : Out(1)
        Serial line to the host.
    running : Out(1)
        A program runs, or a reset waits for memory.
    error : Out(1)
        The last program has ended in an error, also if it has been reset since; low from the next
        start on.
    idle : Out(1)
        Neither.

    Raises
    ------
    TypeError
        `identity` is not an Identity, or `divisor` not an int.
    ValueError
        `divisor` is less than 4.
    """

    def __init__(self, identity, memory, divisor):
        if not isinstance(identity, Identity):
            raise TypeError(f"identity must be an Identity, not {identity!r}")
        self._identity, self._memory = identity, memory
        self._receiver, self._transmitter = UARTReceiver(divisor), UARTTransmitter(divisor)
        super().__init__({
            "rx": In(1, init=1),
            "tx": Out(1, init=1),
            "running": Out(1),
            "error": Out(1),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._identity.config
        m.submodules.link = link = Link(self._identity)
        m.submodules.memory = memory = self._memory
        m.submodules.receiver = receiver = self._receiver
        m.submodules.transmitter = transmitter = self._transmitter

        # the host
        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        wiring.connect(m, receiver.o, link.i)
        wiring.connect(m, link.o, transmitter.i)
        if config.core == "micro":
            m.submodules.core = core = MicroCore(config)
            connect_registers(m, link.registers, core)
            arbiters = ReadTurns(config), WriteTurns(config)
            running, failed = core.running, core.failed
        else:
            m.submodules.core = core = Core(config)
            m.submodules.control = control = Control(config)
            connect_registers(m, link.registers, control)
            wiring.connect(m, control.core, core.control)
            arbiters = (ReadArbiter(config, len(core.read) + 1),
                        WriteArbiter(config, len(core.write) + 1))
            running, failed = self._status(m, control.core)

        # memory
        for name, arbiter in zip(("read", "write"), arbiters, strict=True):
            m.submodules[f"{name}_arbiter"] = arbiter
            initiators = [*getattr(core, name), getattr(link, name)]
            for number, (port, its) in enumerate(zip(initiators, arbiter.ports, strict=True)):
                if config.core == "units":
                    # arbiters behind arbiters would be too long a path
                    part = (ReadSlice if name == "read" else WriteSlice)(config.beat_bits)
                    m.submodules[f"{name}_slice_{number}"] = part
                    wiring.connect(m, port, part.i)
                    port = part.o
                wiring.connect(m, port, its)
            wiring.connect(m, arbiter.port, getattr(memory, name))
        m.d.comb += [
            core.bus_error.eq(memory.error),
            self.running.eq(running),
            self.error.eq(failed & ~running),
            self.idle.eq(~failed & ~running),
        ]
        return m

    @staticmethod
    def _status(m, control):
        """Whether a program runs, and whether the last one failed: the host resets after an error
        at once, which nobody would see."""
        status = control.status
        failed = Signal()
        with m.If(control.start):
            m.d.sync += failed.eq(0)
        with m.Elif(~status.busy & (status.errors.as_value().any() | status.nonfinite
                                    | status.overflow | status.tokens_left)):
            m.d.sync += failed.eq(1)
        return status.busy, failed
