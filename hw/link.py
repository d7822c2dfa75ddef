"""The device's end of the link to a host; docs/link.md."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.link_commands import Commands, RegisterPort
from gradgate.hw.link_format import Identity
from gradgate.hw.link_receiver import Receiver
from gradgate.hw.link_stuffing import Stuff, Token, Unstuff
from gradgate.hw.link_transmitter import Transmitter
from gradgate.hw.port import ReadPort, WritePort
from gradgate.hw.stage import Stage

__all__ = ["Link", "connect_registers"]


class Link(wiring.Component):
    """Memory and registers for a host at the other end of a stream of bytes.

    Takes a byte every 9 cycles and offers one as often, so it keeps a UART of 10 cycles a byte or
    more busy in both directions at once. Requests are answered in order; a damaged one has no
    effect and no answer. A RAM of 512 bytes; LUTs in docs/link.md.

    Parameters
    ----------
    identity : Identity
        What the host is told that this is; its Config sets the width of the memory ports.

    Members
    -------
    i : In(stream.Signature(8))
        From the host.
    o : Out(stream.Signature(8))
        To the host.
    read : Out(ReadPort(beat_bits))
    write : Out(WritePort(beat_bits))
        Bursts of one beat.
    registers : Out(RegisterPort)
        See `connect_registers`.
    dropped : Out(1)
        One cycle high per damaged request.

    Raises
    ------
    TypeError
        `identity` is not an Identity.
    """

    def __init__(self, identity):
        if not isinstance(identity, Identity):
            raise TypeError(f"identity must be an Identity, not {identity!r}")
        check_config(identity.config)
        self._identity = identity
        beat_bits = identity.config.beat_bits
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(8)),
            "read": Out(ReadPort(beat_bits)),
            "write": Out(WritePort(beat_bits)),
            "registers": Out(RegisterPort()),
            "dropped": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.unstuff = unstuff = Unstuff()
        m.submodules.receiver = receiver = Receiver()
        m.submodules.commands = commands = Commands(self._identity.config, self._identity.pack())
        m.submodules.transmitter = transmitter = Transmitter()
        m.submodules.stuff = stuff = Stuff()
        wiring.connect(m, wiring.flipped(self.i), unstuff.i)
        wiring.connect(m, unstuff.o, receiver.i)
        # a byte takes 9 cycles anyway, and the way through all of them would be long
        m.submodules.requests = requests = Stage(8)
        m.submodules.responses = responses = Stage(Token)
        wiring.connect(m, receiver.o, requests.i)
        wiring.connect(m, requests.o, commands.i)
        wiring.connect(m, commands.o, responses.i)
        wiring.connect(m, responses.o, transmitter.i)
        wiring.connect(m, transmitter.o, stuff.i)
        wiring.connect(m, stuff.o, wiring.flipped(self.o))
        for name in ("read", "write", "registers"):
            wiring.connect(m, getattr(commands, name), wiring.flipped(getattr(self, name)))
        m.d.comb += self.dropped.eq(receiver.dropped)
        return m


def connect_registers(m, port, control):
    """Connect `port`, a RegisterPort as its master shows it, with a Control, in module `m`."""
    for name, member in port.signature.members.items():
        its, mine = getattr(control, name), getattr(port, name)
        m.d.comb += its.eq(mine) if member.flow == Out else mine.eq(its)
