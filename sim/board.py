"""The design of a board, simulated behind a pseudo-terminal.

    python -m gradgate.sim.board icebreaker

prints the URL of the port and runs until it is interrupted.
"""

import argparse
import signal
import sys
import threading

from amaranth.back import verilog as back
from amaranth.hdl import IOPort, Value
from amaranth.hdl._ir import PortDirection
from gradgate.boards import board as named
from gradgate.dram import controller
from gradgate.errors import GradgateError
from gradgate.hw.link_format import Identity
from gradgate.hw.sdram import SDRAM
from gradgate.hw.soc import SoC
from gradgate.hw.spram import SPRAM
from gradgate.sim import line, verilate

__all__ = ["BoardSimulation", "verilog"]

DIVISOR = 4  # cycles per bit: as few as the UART can do, a simulated second is dear
TOP = "SoC"
SDRAM_BYTES = 32 << 20  # of the chip that sdram.h simulates


def verilog(board, divisor=DIVISOR, sdram=None):
    """The SoC of `board` as Verilog: module `SoC`, its memory the portable twin of the one of an
    iCE40UP5K, or, with the gradgate.dram.Controller `sdram`, hw/sdram.py, whose pins are ports."""
    identity = Identity(board=board.name, config=board.config, memory_size=board.memory_size,
                        clock_hz=round(board.clock_hz))
    if sdram is None:
        return back.convert(SoC(identity, SPRAM(board.config), divisor), name=TOP, emit_src=False)
    dq = IOPort(16, name="dq")
    memory = SDRAM(board.config, sdram.init, dq)
    soc = SoC(identity, memory, divisor)
    ports = {"dq": (dq, PortDirection.Inout), "rx": (soc.rx, PortDirection.Input)}
    for component, names in ((soc, ("tx", "running")), (memory, SDRAM.PINS)):
        for name in names:
            ports[name] = Value.cast(getattr(component, name)), PortDirection.Output
    return back.convert(soc, name=TOP, ports=ports, emit_src=False)


class BoardSimulation(line.SimulatedPort):
    """A board that runs in a thread; its memory and registers are random at first.

    The first use of a design compiles it, which takes about a minute.

    Parameters
    ----------
    board : Board
        With 128 KiB of memory, as an iCE40UP5K has it, or 32 MiB, an SDRAM behind LiteDRAM.
    divisor : int
        Clock cycles per bit of the serial line, at least 4.
    seed : int
        Of what is random.
    chip_hz : float or None
        Clock by which the times of an SDRAM count; None: the board's.

    Members
    -------
    port : str
        The pseudo-terminal.
    url : str
        For `gradgate.device(url, board=board)`.

    Raises
    ------
    GradgateError
        No memory of this size can be simulated, or there is no LiteDRAM.
    """

    def __init__(self, board, *, divisor=DIVISOR, seed=0, chip_hz=None):
        sdram = None
        if board.memory_size == SDRAM_BYTES:
            sdram = controller(board.clock_hz)
        elif board.memory_size != SPRAM.SIZE:
            raise GradgateError(
                f"no memory to simulate for board {board.name}: it has {board.memory_size} bytes, "
                f"not {SPRAM.SIZE} of SPRAM or {SDRAM_BYTES} of SDRAM")
        name = f"soc_{board.name}"
        text = verilate.generated(name, f"{board!r} {divisor} {sdram!r}",
                                  lambda: verilog(board, divisor, sdram))
        super().__init__(line.library(name, text, TOP, busy=True, sdram=sdram), divisor, seed=seed,
                         clock_hz=chip_hz or board.clock_hz)
        self.url = f"serial://{self.port}?baud=1000000&patience={line.PATIENCE}"


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
