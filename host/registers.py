"""What the registers of a device say, read all at once."""

from gradgate.hw import isa
from gradgate.hw.control import REGISTERS

from .device import UNITS, Counters
from .errors import BusError, DeviceTimeout, NumericError, ProgramError

__all__ = ["COUNT", "RESET", "START", "Registers"]

START, RESET = 1, 2  # CTRL
COUNT = REGISTERS["WRITE_BEATS"] // 4 + 2  # registers, from address 0 on

STATES = ("executing", "waiting for tokens", "queue empty")  # bits of a unit's byte of STATE
# bit of STATUS, exception, what happened; the first that is set is reported
FAULTS = (
    (5, BusError, "memory answered an access with an error"),
    (4, ProgramError, "unknown unit number in the program"),
    (3, ProgramError, "a token counter overflowed"),
    (2, DeviceTimeout, "no progress"),
    (8, ProgramError, "tokens left at the end of the program"),
    (6, NumericError, "an infinity or NaN was read"),
    (7, NumericError, "a number overflowed"),
)


class Registers:
    """Values of the registers of docs/architecture.md, section 3.

    Parameters
    ----------
    values : list of int
        COUNT of them, read in order from address 0 on.
    """

    def __init__(self, values):
        self._values = values

    def __getitem__(self, name):
        return self._values[REGISTERS[name] // 4]

    def wide(self, name):
        """A counter of 64 bits."""
        at = REGISTERS[name] // 4
        return self._values[at] | self._values[at + 1] << 32

    @property
    def ended(self):
        """A program has come to its end or was stopped by an error."""
        status = self["STATUS"]
        return not status & 1 and bool(status & 0b111110)

    @property
    def progress(self):
        """What changes when the device gets anywhere."""
        return self["FETCHED"], *(self[f"COUNT_{unit}"] for unit in UNITS), self.wide("READ_BEATS")

    def fault(self):
        """(exception class, what happened) of the error in STATUS, or None."""
        status = self["STATUS"]
        return next(((kind, what) for bit, kind, what in FAULTS if status >> bit & 1), None)

    def counters(self, config):
        """Counters, without records."""

        def units(read, prefix):
            return {unit: read(f"{prefix}_{unit}") for unit in UNITS}

        return Counters(
            cycles=self.wide("CYCLES"),
            busy=units(self.wide, "BUSY"),
            starved=units(self.wide, "STARVED"),
            active=units(self.wide, "ACTIVE"),
            instructions=units(self.__getitem__, "COUNT"),
            read_bytes=self.wide("READ_BEATS") * config.beat_bytes,
            write_bytes=self.wide("WRITE_BEATS") * config.beat_bytes,
        )

    def situation(self, address, read):
        """Where every unit is, for error messages: state, instruction at hand, tokens.

        The program is at `address`; `read(address, size)` reads memory.
        """
        fetched = self["FETCHED"]
        program = _program(read(address, isa.BYTES * fetched)) if fetched else []
        lines = [f"program at {address:#x}, {fetched} instructions fetched"]
        for u, name in enumerate(UNITS):
            byte = self["STATE"] >> 8 * u
            words = [word for bit, word in enumerate(STATES) if byte >> bit & 1]
            done = self[f"COUNT_{name}"]
            own = [(number, fields) for number, fields in program if fields["unit"] == u]
            lines.append(f"{name}: {', '.join(words) or 'idle'}; {done} completed")
            if done < len(own):
                number, fields = own[done]
                shown = " ".join(f"{k}={v}" for k, v in fields.items() if k != "unit" and v)
                lines.append(f"    at instruction {number}: {shown}")
        return "\n".join([*lines, f"tokens: {', '.join(self._tokens()) or 'none'}"])

    def _tokens(self):
        """Counters that are not 0, as `from -> to: count`."""
        for register, producers in (("TOKENS0", (0, 1)), ("TOKENS1", (2, 3))):
            value = self[register]
            for producer in producers:
                for consumer in range(4):
                    if consumer != producer:
                        if value & 15:
                            yield f"{UNITS[producer]} -> {UNITS[consumer]}: {value & 15}"
                        value >>= 4


def _program(data):
    """The instructions in `data` that can be decoded, as (number, fields)."""
    program = []
    for at in range(0, len(data) - isa.BYTES + 1, isa.BYTES):
        words = [
            int.from_bytes(data[k : k + 4], "little") for k in range(at, at + 4 * isa.WORDS, 4)
        ]
        try:
            program.append((at // isa.BYTES, isa.decode(words)))
        except ValueError:  # not an instruction
            continue
    return program
