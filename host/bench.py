"""One training step of a network, measured and predicted, as one JSON object."""

import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F

from .compiled import compile
from .optim import SGD
from .prediction import predict
from .profile import pass_macs, pass_times
from .trace import Run, segments

__all__ = ["Step", "ceilings", "commit", "result"]

LEARNING_RATE = 0.01


class Step:
    """A fused training step of a network on one device, with random data and SGD.

    Parameters
    ----------
    module : torch.nn.Module
    shape : tuple of int
        Of one input.
    device : Device
    batch : int
        Images.
    momentum : float
    seed : int
        Of the data. The weights are those of `module`.
    """

    def __init__(self, module, shape, device, batch, momentum, seed):
        self.batch, self.device = batch, device
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn((batch, *shape), generator=generator)
        self.model = compile(module, example_inputs=(self.x[:1],), device=device)
        self.optimizer = SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=momentum)
        self.momentum = momentum
        classes, *rest = self.network.output_shape
        self.y = torch.randint(classes, (batch, *rest), generator=generator)

    @property
    def network(self):
        return self.model.runtime.network

    def run(self):
        """Run the step; returns the programs as they ran, a list of Run (without records on a
        device that has no clock)."""
        self.model.train_step(self.x, self.y, F.cross_entropy, optimizer=self.optimizer)
        ran = [self.model.runtime.ran[name] for name in ("forward", "backward")]
        return [Run(program, c.records, c.cycles) for program, _, c in ran]

    def predicted(self, programs):
        """The same for a list of programs, as the analytical model sees them."""
        config, timing = self.device.config, self.device.timing
        runs = [predict(program, config, timing) for program in programs]
        return [Run(p, run.records, run.cycles) for p, run in zip(programs, runs, strict=True)]

    def values(self):
        """{name: bytes} of all that the step has made: output, weights, momenta."""
        output = self.model.runtime.plan(self.batch, train=True).tensors.outputs[-1]
        found = {"output": self.device.read(output.address, output.size)}
        state = self.model.state_dict()
        if self.momentum:
            momenta = self.model.momenta()
            state |= {f"momentum of {n}": momenta[p] for n, p in self.model.named_parameters()}
        return found | {name: value.numpy().tobytes() for name, value in state.items()}


def commit():
    """Short hash of the checkout that this package is in, with "-dirty" if files in it have been
    changed; "unknown" if it is in none."""

    def git(*arguments):
        done = subprocess.run(
            ["git", "-C", Path(__file__).parent, *arguments], capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
            return "unknown"
        changed = git("status", "--porcelain", "--untracked-files=no")
        return f"{git('rev-parse', '--short', 'HEAD')}{'-dirty' if changed else ''}"
    except OSError:  # no git
        return "unknown"


def ceilings(board):
    """What the board can do at most: MAC/s of the array, bytes/s of all channels of its memory, and
    how many channels these are.

    Refreshes are taken off, changes of rows are not.
    """
    timing, config = board.timing, board.config
    channels = 1 if timing.shared else config.read_ports + config.write_ports
    per_second = channels * config.beat_bytes / float(timing.beat_cycles) * board.clock_hz
    per_second *= timing.capacity
    return {
        "macs_per_s": board.peak_macs,
        "memory_bytes_per_s": per_second,
        "memory_channels": channels,
    }


def _total(values):
    values = list(values)
    return None if None in values else sum(values)


def result(name, board, step, measured, forecast, programs, at=None):
    """The result as a dict that can be written as JSON.

    Parameters
    ----------
    name : str
        Of the network.
    board : Board
    step : Step
    measured, forecast : list of Run, or None
        Of the forward and the backward program; what there is of them.
    programs : list of Program
        Those two.
    at : str or None
        Commit of what was measured; None: the present one.

    `passes` has one dict per layer and pass, in order; cycles are None where they are not known,
    `utilisation` is of the measured cycles or else of the predicted ones. `units` says of each unit
    what its cycles were spent on (host/profile.py), `timeline` when (trace.segments; the number of
    a pass is its place in `passes`).
    """
    macs = pass_macs(step.network, step.batch)
    source = measured or forecast
    rows = []
    for i, program in enumerate(programs):
        sides = [
            pass_times(program, board.config, macs, side[i].records, side[i].cycles)
            if side
            else pass_times(program, board.config, macs)
            for side in (measured, forecast)
        ]
        for real, guess in zip(*sides, strict=True):
            best = real if measured else guess
            rows.append(
                {
                    "layer": best.layer,
                    "pass": best.kind,
                    "macs": best.macs,
                    "rtl_cycles": real.cycles,
                    "predicted_cycles": guess.cycles,
                    "error": _error(real.cycles, guess.cycles),
                    "utilisation": best.utilisation(board.config),
                    "bytes": best.read_bytes + best.write_bytes,
                    "read_bytes": best.read_bytes,
                    "write_bytes": best.write_bytes,
                    "instructions": best.instructions,
                    "array_cycles": best.array_cycles,
                    "units": {
                        unit: asdict(time) | {"blocked": time.blocked}
                        for unit, time in best.units.items()
                    },
                }
            )
    total = {
        key: _total(row[key] for row in rows)
        for key in ("macs", "rtl_cycles", "predicted_cycles", "bytes")
    }
    cycles = total["rtl_cycles"] or total["predicted_cycles"]
    total["error"] = _error(total["rtl_cycles"], total["predicted_cycles"])
    total["utilisation"] = total["macs"] / (cycles * board.config.macs) if cycles else None
    total["seconds"] = cycles / board.clock_hz if cycles else None
    return {
        "net": name,
        "board": board.name,
        "batch": step.batch,
        "momentum": step.momentum,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"gradgate": version("gradgate"), "torch": torch.__version__},
        "description": board.description,
        "clock_hz": board.clock_hz,
        "array": {"tm": board.config.tm, "tn": board.config.tn, "fmt": board.config.fmt},
        "ceilings": ceilings(board),
        "commit": at or commit(),
        "extrapolated": measured is None,
        "total": total,
        "passes": rows,
        "timeline": segments(source) if source else None,
    }


def _error(cycles, predicted):
    return predicted / cycles - 1 if cycles and predicted is not None else None
