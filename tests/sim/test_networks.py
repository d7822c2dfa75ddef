"""Random networks: the memory of the gateware equals the model's, bit for bit, after every pass."""

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.boards import board
from gradgate.hw.config import Config
from gradgate.sim.model import ModelDevice
from gradgate.sim.rtl import MemoryTiming, RTLDevice
from hypothesis import HealthCheck, given, reject, settings

from tests.host.nets import config_id, networks, representable

CONFIGS = [
    board("tiny").config,
    Config(tm=4, tn=8, fmt="fp32", beat_bits=64, a_depth=128, b_depth=128, acc_depth=64),
    board("ulx3s-85f").config,
    board("icebreaker").config,
]
MEMORY = 4 << 20


class Recorder:
    """A device that keeps the memory it has after every program."""

    def __init__(self, device):
        self.device, self.memories = device, []

    def __getattr__(self, name):
        return getattr(self.device, name)

    def run(self, address, **kwargs):
        counters = self.device.run(address, **kwargs)
        self.memories.append(self.device.read(0, self.device.memory_size))
        return counters


# what gradgate.compile takes for a device
gradgate.Device.register(Recorder)


@pytest.fixture(scope="module", params=CONFIGS, ids=config_id)
def pair(request):
    """Model and gateware of one build; the gateware's memory stalls at random."""
    rtl = RTLDevice(request.param, MEMORY, MemoryTiming(latency=9, stall=0.2), seed=1)
    yield ModelDevice(request.param, MEMORY, timing=rtl.timing, check=True), rtl
    rtl.close()


def steps(device, network, x, y):
    """One step through autograd and one fused step, on blank memory; all memories in between."""
    device.write(0, bytes(MEMORY))
    recorder = Recorder(device)
    model = gradgate.compile(network, example_inputs=(x.detach(),), device=recorder)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    F.mse_loss(model(x), y).backward()
    optimizer.step()
    model.train_step(x.detach(), y, F.mse_loss, optimizer=optimizer)
    model.eval()
    with torch.no_grad():
        model(x[:1])
    return recorder.memories


def compare(pair, drawn):
    network, shape = drawn
    config = pair[0].config
    x = representable(torch.randn(shape), config.fmt).requires_grad_()
    y = torch.randn(network(x).shape)
    try:
        wanted = steps(pair[0], network, x, y)
    except gradgate.UnsupportedError:
        reject()  # a window that does not fit the small buffers
    got = steps(pair[1], network, x, y)
    assert len(wanted) == len(got) >= 6
    for number, (a, b) in enumerate(zip(wanted, got, strict=True)):
        wrong = [hex(i) for i in range(0, MEMORY, 64) if a[i:i + 64] != b[i:i + 64]]
        assert not wrong, f"after program {number}: {len(wanted)} programs, differs at {wrong[:5]}"


quick = settings(max_examples=12, deadline=None, derandomize=True, print_blob=True,
                 suppress_health_check=list(HealthCheck))


@quick
@given(drawn=networks())
def test_random_networks(pair, drawn):
    compare(pair, drawn)


@pytest.mark.slow
@settings(quick, max_examples=150, derandomize=False)
@given(drawn=networks())
def test_many_random_networks(pair, drawn):
    compare(pair, drawn)


def test_a_difference_is_seen(pair):
    """One bit of one weight on one side, and the memories differ after the first program."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, (3, 2), stride=(2, 1)), torch.nn.ReLU())
    x = torch.randn(2, 3, 7, 9)
    y = torch.randn(network(x).shape)
    wanted = steps(pair[0], network, x, y)
    with torch.no_grad():
        network[0].weight[4, 2, 2, 1] *= 1.25
    got = steps(pair[1], network, x, y)
    assert wanted[0] != got[0]
