"""The design of a board, simulated behind a pseudo-terminal.

    python -m gradgate.sim.board icebreaker

prints the port and runs until it is interrupted.
"""

import argparse
import signal
import sys
import threading

from gradgate.boards import board as named
from gradgate.errors import GradgateError
from gradgate.hw.link_format import Identity
from gradgate.sim import line, verilate

__all__ = ["BoardSimulation", "verilog"]

DIVISOR = 4  # cycles per bit: as few as the UART can do, a simulated second is dear
TOP = "SoC"
PATIENCE = 5  # seconds for the host to wait: on a busy machine a simulation hardly gets on


def verilog(board, divisor=DIVISOR):
    """The SoC of `board` with the portable twin of its memory, as Verilog: module `SoC`.

    Raises GradgateError if its memory is not that of an iCE40UP5K.
    """
    from amaranth.back import verilog as back  # takes a second; a warm start does without
    from gradgate.hw.soc import SoC
    from gradgate.hw.spram import SPRAM

    if board.memory_size != SPRAM.SIZE:
        raise GradgateError(f"no memory to simulate for board {board.name}: it has "
                            f"{board.memory_size} bytes, not {SPRAM.SIZE} in SPRAM")
    identity = Identity(board=board.name, config=board.config, memory_size=board.memory_size,
                        clock_hz=round(board.clock_hz))
    soc = SoC(identity, SPRAM(board.config), divisor)
    return back.convert(soc, name=TOP, emit_src=False)


class BoardSimulation(line.SimulatedPort):
    """A board that runs in a thread; its memory and registers are random at first.

    The first use of a design compiles it, which takes about a minute.

    Parameters
    ----------
    board : Board
        With 128 KiB of memory.
    divisor : int
        Clock cycles per bit of the serial line, at least 4.
    seed : int
        Of what is random.

    Members
    -------
    port : str
        The pseudo-terminal.
    url : str
        For `gradgate.device(url, board=board)`.

    Raises
    ------
    GradgateError
        No memory of this size can be simulated.
    """

    def __init__(self, board, *, divisor=DIVISOR, seed=0):
        name = f"soc_{board.name}"
        text = verilate.generated(name, f"{board!r} {divisor}", lambda: verilog(board, divisor))
        super().__init__(line.library(name, text, TOP, busy=True), divisor, seed=seed)
        self.url = f"serial://{self.port}?baud=1000000&patience={PATIENCE}"


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m gradgate.sim.board",
        description="Simulate the design of a board behind a pseudo-terminal, until interrupted.")
    parser.add_argument("board", help="name of a board, or a file ending in .toml")
    parser.add_argument("--divisor", type=int, default=DIVISOR,
                        help="clock cycles per bit of the serial line (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is random at power-up")
    options = parser.parse_args(argv)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        with BoardSimulation(named(options.board), divisor=options.divisor,
                             seed=options.seed) as simulation:
            print(f"{simulation.url}&board={options.board}", flush=True)
            while simulation.alive and not over.wait(0.2):
                pass
    except (GradgateError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
