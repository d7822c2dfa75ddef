"""`gradgate selftest`: is the device right, and would we notice if it were not?"""

import gradgate
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "check memory and every pass of a device against the model"
DEVICE = "rtl"
DESCRIPTION = """\
Write and read back memory, then run forward, backward and update of a small network on the device
and on the model; all results must be equal to the last bit. Then flip a bit in the device's memory
and make sure that each check notices. Exit status 1 if a check fails."""

MEMORY_BYTES = 1 << 16


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of weights, data and memory pattern (default: %(default)s)",
    )


def _network():
    return nn.Sequential(
        nn.Conv2d(3, 10, (3, 2), stride=(2, 1), padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(10, 5, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d((2, 3), stride=2),
        nn.Flatten(),
        nn.Linear(10, 4),
    )


def _check_memory(device, seed):
    pattern = np.random.default_rng(seed).integers(0, 256, MEMORY_BYTES, np.uint8).tobytes()
    size = min(MEMORY_BYTES, device.memory_size)
    for address in (0, device.memory_size - size):
        device.write(address, pattern[:size])
    return all(
        device.read(address, size) == pattern[:size] for address in (0, device.memory_size - size)
    )


def _results(device, seed, corrupt=False):
    """{pass: list of tensors} of one training step on `device`, the same for every device.

    With `corrupt`, one bit of a weight in the device's memory is flipped before.
    """
    torch.manual_seed(seed)
    x, y = torch.randn(5, 3, 11, 9, requires_grad=True), torch.tensor([0, 3, 1, 2, 3])
    model = gradgate.compile(_network(), example_inputs=(x.detach(),), device=device)
    optimizer = gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    if corrupt:
        for weights in model.runtime.weights:
            word = bytearray(device.read(weights.copy, 2))
            word[0] ^= 1 << 6
            device.write(weights.copy, word)
    output = model(x)
    F.cross_entropy(output, y).backward()
    optimizer.step()
    return {
        "forward": [output.detach()],
        "dX": [x.grad],
        "dW": [p.grad.clone() for p in model.parameters()],
        "update": list(model.state_dict().values()),
    }


def _differs(ours, theirs):
    """The passes in which two results are not the same bits."""
    return {
        name
        for name in ours
        if any(
            a.numpy().tobytes() != b.numpy().tobytes()
            for a, b in zip(ours[name], theirs[name], strict=True)
        )
    }


def run(args, console):
    """Check; returns (result for --json, exit status)."""
    checks = {}

    def report(name, good, text):
        checks[name] = good
        console.print(f"{'[green]ok[/]    ' if good else '[red]FAILED[/]'} {text}", highlight=False)

    with (
        gradgate.device(args.device, board=args.board) as device,
        gradgate.device("model", board=args.board) as model,
    ):
        report("memory", _check_memory(device, args.seed), "memory keeps what is written to it")
        wanted = _results(model, args.seed)
        wrong = _differs(_results(device, args.seed), wanted)
        for name in wanted:
            report(name, name not in wrong, f"{name} equals the model bit for bit")
        noticed = _differs(_results(device, args.seed, corrupt=True), wanted)
        for name in wanted:
            report(
                f"{name}_corrupted",
                name in noticed,
                f"{name} with one flipped bit per layer's weights is told from the model's",
            )
    passed = all(checks.values())
    console.print("selftest passed" if passed else "selftest FAILED")
    return {
        "backend": args.device,
        "board": args.board,
        "passed": passed,
        "checks": checks,
    }, not passed
