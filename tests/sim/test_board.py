"""The design of a board, all of it, on its pins: trained by the driver of serial ports."""

import json
import random
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import gradgate
import pytest
import torch
from gradgate.hw.link_format import Identity
from gradgate.hw.spram import SPRAM
from gradgate.sim.board import BoardSimulation
from gradgate.sim.line import PATIENCE, SimulatedPort, library
from sklearn.datasets import load_digits
from torch import nn

from tests.sim.line_top import verilog

BOARD = replace(gradgate.board("tiny"), memory_size=SPRAM.SIZE)
PRIMITIVE = Path(__file__).with_name("sb_spram256ka.v")
BATCH, STEPS = 4, 4


@pytest.fixture(scope="module")
def simulation():
    with BoardSimulation(BOARD) as simulation:
        yield simulation


def batches():
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:BATCH * STEPS], dtype=torch.float32).reshape(STEPS, BATCH, 1, 8, 8)
    return list(zip(x / 16, torch.tensor(labels[:BATCH * STEPS]).reshape(STEPS, BATCH),
                    strict=True))


def started(device):
    """(model, optimizer) of a small CNN on `device`."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
    model = gradgate.compile(net, example_inputs=(batches()[0][0],), device=device)
    return model, gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def trained(device, steps=STEPS, each=lambda: None):
    """(losses, state) after `steps`; `each` is called after every one."""
    model, optimizer = started(device)
    losses = []
    for x, y in batches()[:steps]:
        losses.append(float(model.train_step(x, y, optimizer=optimizer)))
        each()
    return losses, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_training(simulation):
    """Losses and weights equal to the model's; a step moves little more than its tensors."""
    with gradgate.device(simulation.url, board=BOARD) as device:
        s, seen = device.link.statistics, []
        found = trained(device, each=lambda: seen.append((s.sent, s.received, s.requests)))
        cycles = device.resident.counters["backward"].cycles
        assert (s.repeated, s.damaged, s.ignored) == (0, 0, 0)
    assert found == trained(gradgate.device("model", board=BOARD))
    assert cycles > 0 and simulation.alive
    steps = [tuple(b - a for a, b in zip(*pair, strict=True))
             for pair in zip(seen, seen[1:], strict=False)]
    print("bytes to, bytes from, requests, per step:", steps)
    image, gradient = BATCH * 64 * 2 * 2, BATCH * 10 * 2  # two channels for one; bf16
    for sent, received, requests in steps:
        # besides: a frame per 256 bytes, two starts; the registers, as often as they are asked
        assert sent < 1.06 * (image + gradient) + 14 * requests
        assert received < BATCH * 10 * 4 + 210 * requests


def test_reset_in_a_step(simulation):
    """The step ends in an exception that says what is lost; the next session is as good as new."""
    url = simulation.url
    x, y = batches()[0]
    with gradgate.device(url, board=BOARD) as device:
        model, optimizer = started(device)
        model.train_step(x, y, optimizer=optimizer)
        wait, programs = device._wait, []

        def reset(address, timeout):
            programs.append(address)
            if len(programs) == 2:  # forward has passed, backward with the update has begun
                simulation.reset()
            return wait(address, timeout)

        device._wait = reset
        with pytest.raises(gradgate.DeviceReset) as caught:
            model.train_step(x, y, optimizer=optimizer)
        text = str(caught.value)
        assert text.startswith(f"backward pass, batch of {BATCH}: the device on {simulation.port}")
        assert "has been reset" in text and "the weights on the device are unknown" in text
        with pytest.raises(gradgate.DeviceError, match="unknown"):
            model.state_dict()
        with pytest.raises(gradgate.DeviceReset):
            device.read(0, 4)
    with gradgate.device(url, board=BOARD) as device:
        found = trained(device, steps=1)
    assert found == trained(gradgate.device("model", board=BOARD), steps=1)


def test_by_hand(tmp_path):
    """What the command prints can be opened, and an interrupt ends it."""
    file = tmp_path / "small.toml"
    tables = {"": asdict(BOARD), "[config]": asdict(BOARD.config), "[timing]": asdict(BOARD.timing)}
    file.write_text("\n".join(
        "\n".join([title, *(f"{name} = {json.dumps(value)}" for name, value in values.items()
                            if not isinstance(value, dict))])
        for title, values in tables.items()))
    with subprocess.Popen([sys.executable, "-m", "gradgate.sim.board", str(file)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            with gradgate.device(url) as device:
                device.write(7, b"by hand")
                assert device.read(7, 7) == b"by hand"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0 and not process.stderr.read()
        finally:
            process.kill()


def test_no_such_memory():
    with pytest.raises(gradgate.GradgateError, match="^no memory to simulate for board tiny: it "
                                                     "has 4194304 bytes, not 131072 of SPRAM "
                                                     "or 33554432 of SDRAM$"):
        BoardSimulation(gradgate.board("tiny"))


def test_primitives():
    """The memory as it is built for the chip, behind the link: words of all blocks are kept."""
    identity = Identity(board=BOARD.name, config=BOARD.config, memory_size=BOARD.memory_size,
                        clock_hz=round(BOARD.clock_hz))
    text = verilog(identity, 4, memory=SPRAM(BOARD.config), platform=object())
    assert text.count("SB_SPRAM256KA") == 4
    path = library("spram", text + PRIMITIVE.read_text(), "LinkTop")
    rng = random.Random(0)
    pieces = {address: rng.randbytes(512) for address in
              (*range(0, SPRAM.SIZE, SPRAM.SIZE // 16), SPRAM.SIZE - 512)}
    with SimulatedPort(path, 4) as port:
        url = f"serial://{port.port}?baud=1000000&patience={PATIENCE}"
        with gradgate.device(url, board=BOARD) as device:
            for address, piece in pieces.items():
                device.write(address, piece)
            for address, piece in pieces.items():
                assert device.read(address, len(piece)) == piece
