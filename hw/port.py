"""The burst port between the units and memory, one signature per direction; and their base."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Command", "ConfigSignature", "ReadPort", "WritePort"]


class ConfigSignature(wiring.Signature):
    """Base of signatures whose members follow from a Config: equal if class and Config are."""

    def __init__(self, config, members):
        self._config = config
        super().__init__(members)

    @property
    def config(self):
        return self._config

    def __eq__(self, other):
        return type(other) is type(self) and self.config == other.config


class Command(data.Struct):
    """One burst: `len` beats (1..max_burst) from byte address `addr`, a multiple of the beat.

    A burst never crosses a 4 KiB boundary.
    """

    addr: 32
    len: 9


class ReadPort(wiring.Signature):
    """Reads in bursts, seen from the initiator.

    The initiator issues a command only when it has room for all its beats.

    Parameters
    ----------
    beat_bits : int
        Width of one beat.

    Members
    -------
    cmd : Out(stream.Signature(Command))
    data : In(stream.Signature(beat_bits))
        Beats of all bursts, in order of the commands.
    """

    def __init__(self, beat_bits):
        self._beat_bits = beat_bits
        super().__init__({
            "cmd": Out(stream.Signature(Command)),
            "data": In(stream.Signature(beat_bits)),
        })

    @property
    def beat_bits(self):
        return self._beat_bits

    def __eq__(self, other):
        return isinstance(other, ReadPort) and self.beat_bits == other.beat_bits


class WritePort(wiring.Signature):
    """Writes in bursts, seen from the initiator.

    The initiator issues a command only when it holds all its beats, and offers a beat only after
    the command it belongs to has been taken.

    Parameters
    ----------
    beat_bits : int
        Width of one beat.

    Members
    -------
    cmd : Out(stream.Signature(Command))
    data : Out(stream.Signature(beat_bits))
        Beats of all bursts, in order of the commands.
    ack : In(1)
        One cycle high per burst completed in memory.
    """

    def __init__(self, beat_bits):
        self._beat_bits = beat_bits
        super().__init__({
            "cmd": Out(stream.Signature(Command)),
            "data": Out(stream.Signature(beat_bits)),
            "ack": In(1),
        })

    @property
    def beat_bits(self):
        return self._beat_bits

    def __eq__(self, other):
        return isinstance(other, WritePort) and self.beat_bits == other.beat_bits
