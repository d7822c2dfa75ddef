"""The device behind a serial port: the driver and pyserial as they are, a pseudo-terminal, and a
twin of the device's end of the link that runs programs on the model."""

import random
import re
from dataclasses import replace

import gradgate
import pytest
import torch
import torch.nn.functional as F
from gradgate.errors import DeviceReset, LinkError
from gradgate.hw.control import ID, REGISTERS
from gradgate.hw.link_format import Identity
from gradgate.serial_device import SerialDevice
from gradgate.sim.model import ModelDevice
from torch import nn

from tests.host.link_twin import Noise, Terminal, Twin

BOARD = replace(gradgate.board("tiny"), memory_size=1 << 18)
CTRL, STATUS = REGISTERS["CTRL"], REGISTERS["STATUS"]
DONE = 2


class Device(Twin):
    """A Twin that runs programs on the model, or for the program at `odd` sets STATUS."""

    def __init__(self, *, odd=None, status=DONE, **identity):
        self.model = ModelDevice(BOARD.config, BOARD.memory_size)
        self.odd, self.status = odd, status
        values = {"board": BOARD.name, "config": BOARD.config, "memory_size": BOARD.memory_size,
                  "clock_hz": round(BOARD.clock_hz), "build": b"12345678"}
        super().__init__(Identity(**values | identity).pack(), BOARD.memory_size)

    def reset(self):
        super().reset()
        self.registers[REGISTERS["ID"]] = ID

    def write_register(self, address, value):
        super().write_register(address, value)
        if address != CTRL:
            return
        self.registers[STATUS] = 0
        start = self.registers.get(REGISTERS["PROG_ADDR"], 0)
        if value == 1 and start == self.odd:
            self.registers[STATUS] = self.status
        elif value == 1:
            self.model.write(0, self.memory)
            counters = self.model.run(start)
            self.memory[:] = self.model.read(0, len(self.memory))
            self.registers[REGISTERS["COUNT_COMPUTE"]] = counters.instructions["COMPUTE"]
            self.registers[REGISTERS["READ_BEATS"]] = 5
            self.registers[REGISTERS["CYCLES"] + 4] = 1
            self.registers[STATUS] = DONE

    @property
    def starts(self):
        return self.written.count((CTRL, 1))


def test_memory_in_any_pieces():
    twin, rng = Device(), random.Random(0)
    twin.memory[:] = rng.randbytes(len(twin.memory))
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        expected = bytearray(twin.memory)
        for size in (1, 2, 3, 4, 5, 7, 255, 257, 5000, 0):
            address, data = rng.randrange(10000), rng.randbytes(size)
            device.write(address, data)
            expected[address:address + size] = data
            assert twin.memory == expected
            start = rng.randrange(10000)
            assert device.read(start, size) == expected[start:start + size]
        for address, size in ((-1, 4), (BOARD.memory_size - 3, 4), (0, BOARD.memory_size + 1)):
            with pytest.raises(gradgate.errors.BusError, match="outside the memory"):
                device.read(address, size)
        assert device.build == b"12345678".hex()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


def started(device):
    """(model, optimizer, batch, targets) on `device`."""
    x, y = torch.randn(2, 1, 6, 6, generator=torch.manual_seed(1)), torch.tensor([0, 2])
    model = gradgate.compile(network(), example_inputs=(x,), device=device)
    return model, gradgate.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), x, y


def equal(state, other):
    return state.keys() == other.keys() and all(
        state[name].numpy().tobytes() == value.numpy().tobytes() for name, value in other.items())


def train(device):
    """A network after three training steps and one by hand."""
    model, optimizer, x, y = started(device)
    for _ in range(3):
        model.train_step(x, y, optimizer=optimizer)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    return model


def test_training_on_a_bad_line():
    """Equal to the model to the last bit, with one frame in twenty damaged."""
    twin, noise = Device(), Noise(1, 0.05)
    with Terminal(twin, noise) as terminal, SerialDevice(BOARD, terminal.port) as device:
        trained = train(device).state_dict()
        assert device.link.statistics.repeated > 5 and noise.damaged > 5
        starts = twin.starts
        counters = next(iter(device.resident.counters.values()))
        assert counters.instructions["COMPUTE"] > 0 and counters.cycles >= 1 << 32
        assert counters.read_bytes % (5 * BOARD.config.beat_bytes) == 0
    wanted = train(gradgate.device("model", board=BOARD))
    assert starts == 3 * 2 + 3  # a step is forward and backward; the last has an update of its own
    assert equal(trained, wanted.state_dict())


def test_bytes_of_a_step():
    """Only the batch, the output and the gradient of the loss are moved, once the programs are
    there; with another learning rate its words as well."""
    with Terminal(Device()) as terminal, SerialDevice(BOARD, terminal.port) as device:
        model, optimizer, x, y = started(device)
        model.train_step(x, y, optimizer=optimizer)
        t = model.runtime.plan(len(x), train=True).tensors
        moved, link, s = [], device.link, device.link.statistics
        read, write = device.read, device.write
        device.read = lambda address, size: moved.append(("read", address, size)) or read(
            address, size)
        device.write = lambda address, data: moved.append(("write", address, len(data))) or write(
            address, data)
        wait, polls = device._wait, []
        device._wait = lambda *args: polls.append(s.requests) or wait(*args)

        least = [("write", t.x.address, t.x.size),
                 ("read", t.outputs[-1].address, t.outputs[-1].size),
                 ("write", t.loss_gradient.address, t.loss_gradient.size)]
        before = s.sent, s.received
        model.train_step(x, y, optimizer=optimizer)
        assert moved == least
        # two programs: PROG_ADDR with TIMEOUT, CTRL, and the registers as often as they are asked
        registers, blocks = 2 * (13 + 8 + 13 + 4), 3 + t.x.size // 256
        assert s.sent - before[0] < (t.x.size + t.loss_gradient.size + registers + 16 * blocks
                                     + 16 * 2 * 20)
        assert s.received - before[1] < t.outputs[-1].size + 12 * (blocks + 4) + 210 * 2 * 20
        assert link.statistics.repeated == 0

        optimizer.param_groups[0]["lr"] = 0.05
        moved.clear()
        model.train_step(x, y, optimizer=optimizer)
        assert [m for m in moved if m in least] == least
        programs = model.runtime.plan(len(x), train=True).programs
        address, _, data = next(found for key, found in programs.items() if key[0] == "backward")
        patches = [m for m in moved if m not in least]
        assert 0 < sum(size for _, _, size in patches) < len(data) / 8
        assert all(address <= at < address + len(data) for _, at, _ in patches)


def test_failed_update():
    """Nobody trains on with weights of which part has been updated; a saved state brings them back,
    and then the steps are those that the model makes."""
    twin = Device(status=1 << 7 | DONE)
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        model, optimizer, x, y = started(device)
        model.train_step(x, y, optimizer=optimizer)
        saved, momenta = model.state_dict(), optimizer.state_dict()
        model.train_step(x, y, optimizer=optimizer)
        programs = model.runtime.plan(len(x), train=True).programs
        twin.odd = next(address for key, (address, *_) in programs.items() if key[0] == "backward")
        with pytest.raises(gradgate.NumericError, match="^backward pass(.|\n)*a number overflowed"
                                                        "(.|\n)*\nthe weights on the device are"):
            model.train_step(x, y, optimizer=optimizer)
        twin.odd = None
        for use in (lambda: model.train_step(x, y, optimizer=optimizer), lambda: model(x),
                    model.state_dict, optimizer.state_dict, lambda: next(model.parameters()).sum()):
            with pytest.raises(gradgate.DeviceError, match="^the weights on the device are un"):
                use()
        bias = {"0.bias": saved["0.bias"]}
        with pytest.raises(gradgate.DeviceError, match=r"lacks 0.weight, 3.weight, 3.bias$"):
            model.load_state_dict(bias, strict=False)
        with pytest.raises(RuntimeError, match="size mismatch"):
            model.load_state_dict(saved | {"3.bias": torch.zeros(4)})
        with pytest.raises(gradgate.DeviceError, match="unknown"):
            model.state_dict()

        model.load_state_dict(saved)
        assert all(not m.any() for m in model.momenta().values())
        optimizer.load_state_dict(momenta)
        model.train_step(x, y, optimizer=optimizer)
        trained = model.state_dict()
    model, optimizer, x, y = started(gradgate.device("model", board=BOARD))
    for _ in range(2):
        model.train_step(x, y, optimizer=optimizer)
    assert equal(trained, model.state_dict())


def test_failed_before_the_update():
    """A pass that changes no weights leaves them known, and another network can always come."""
    twin = Device(status=1 << 7 | DONE)
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        model, optimizer, x, y = started(device)
        first = model.state_dict()
        model.train_step(x, y, optimizer=optimizer)
        programs = model.runtime.plan(len(x), train=True).programs
        twin.odd = programs["forward"][0]
        with pytest.raises(gradgate.NumericError, match="forward pass") as caught:
            model.train_step(x, y, optimizer=optimizer)
        assert "unknown" not in str(caught.value)
        assert not equal(model.state_dict(), first)
        twin.odd = next(address for key, (address, *_) in programs.items() if key[0] == "backward")
        with pytest.raises(gradgate.NumericError, match="unknown"):
            model.train_step(x, y, optimizer=optimizer)
        twin.odd = None
        assert not equal(model.state_dict(), first)  # fetched before the step that failed
        other = started(device)[0]
        assert equal(other.state_dict(), first)


def test_by_url():
    with Terminal(Device()) as terminal:
        url = f"serial://{terminal.port}?baud=1000000&patience=3"
        lines = []
        with gradgate.device(url, board=BOARD, progress=lines.append) as device:
            assert device.link.patience == 3
            assert isinstance(device, SerialDevice) and device.timing == BOARD.timing
            device.write(0, bytes(2000))
        assert re.fullmatch(r"write: \d+ of 2000 bytes", lines[0])


def test_wrong_bitstream():
    twin = Device(memory_size=4096, config=replace(BOARD.config, acc_depth=64), board="other")
    with Terminal(twin) as terminal, pytest.raises(gradgate.DeviceError) as caught:
        SerialDevice(BOARD, terminal.port)
    assert str(caught.value) == (
        f"the bitstream on {terminal.port}, build 3132333435363738, is not for board tiny: board "
        "is other, not tiny; memory_size is 4096, not 262144; acc_depth is 64, not 128")


def test_something_else_answers():
    twin = Device()
    twin.identity = b"XXXX" + twin.identity[4:]
    with (Terminal(twin) as terminal,
          pytest.raises(gradgate.DeviceError, match="not a gradgate of this version: it begins")):
        SerialDevice(BOARD, terminal.port)


def test_nothing_answers():
    with Terminal(Device(), lambda data: b"") as terminal:
        with pytest.raises(LinkError, match="no gradgate answers on .* at 9600 baud"):
            SerialDevice(BOARD, terminal.port, baud=9600)
    with pytest.raises(LinkError, match="/dev/there-is-none cannot be opened: "):
        SerialDevice(BOARD, "/dev/there-is-none")


@pytest.mark.parametrize("status, error, message", [
    (1 << 2, gradgate.DeviceTimeout, "no progress"), (1 << 5, gradgate.BusError, "memory answered"),
    (1 << 3, gradgate.ProgramError, "a token counter overflowed"),
    (1 << 6 | DONE, gradgate.NumericError, "an infinity or NaN was read"),
    (0, gradgate.DeviceError, "at 0x400 is not running, and has not ended: STATUS is 0x0")])
def test_faults(status, error, message):
    """The exception that STATUS stands for; the device is reset and can be used."""
    twin = Device(odd=0x400, status=status)
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        with pytest.raises(error, match=message) as caught:
            device.run(0x400)
        assert not status or "tokens: none" in str(caught.value)
        assert twin.written[-1] == (CTRL, 2) and twin.starts == 1
        device.write(0, b"1234")
        assert device.read(0, 4) == b"1234"


def test_no_progress_at_all():
    """Busy for ever, and its own timeout does not come."""
    twin = Device(odd=0x400, status=1)
    low = twin.read_register

    def cycles(address):
        if address == REGISTERS["CYCLES"]:
            twin.registers[address] = twin.registers.get(address, 0) + 40_000_000
        return low(address)

    twin.read_register = cycles
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        with pytest.raises(gradgate.DeviceTimeout, match="no progress, and no timeout\nprogram at"):
            device.run(0x400)
        assert twin.written[-1] == (CTRL, 2)


def test_reset_while_a_program_runs():
    twin = Device(odd=0x400, status=1)
    with Terminal(twin) as terminal, SerialDevice(BOARD, terminal.port) as device:
        requests, answer = [], twin.answer

        def reset(request):
            requests.append(request)
            if len(requests) == 6:
                twin.reset()
            return answer(request)

        twin.answer = reset
        with pytest.raises(DeviceReset, match="may have lost what was in it"):
            device.run(0x400)
        with pytest.raises(DeviceReset):
            device.read(0, 4)


@pytest.mark.parametrize("url, message", [
    ("serial://?board=tiny", "is not a port: it must be like serial:///dev/ttyUSB0"),
    ("serial:///dev/x?speed=3", "is not a port"), ("serial:///dev/x?baud=0", "is not a port"),
    ("serial:///dev/x?patience=0", "patience=SECONDS"),
    ("serial:///dev/x?patience=nan", "more than 0"),
    ("serial:///dev/x?patience=long", "patience=long"),
    ("serial:///dev/x?baud=fast", "baud=fast is not a number"),
    ("serial:///dev/x?board", "bad query"),
    ("serial:///dev/x?board=nexys", "no board 'nexys'")])
def test_mistakes_in_urls(url, message):
    with pytest.raises(gradgate.GradgateError, match=message):
        gradgate.device(url)


def test_mistakes():
    with pytest.raises(TypeError, match="has no option seed; it has progress, timing"):
        gradgate.device("serial:///dev/x", seed=1)
    with pytest.raises(TypeError, match="^board must be a Board, not Config"):
        gradgate.device("serial:///dev/x", board=BOARD.config)
