"""A network on a device: weights in memory, programs built per batch size, and running them."""

from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from copy import copy

import numpy as np
from gradgate.hw.fetch import Fetch

from .device import Counters
from .errors import DeviceError
from .memory import ALIGN, Arena, size_text
from .passes import Tensors, backward_program, forward_program, steps_of, update_program
from .scheduler import scheduler

__all__ = ["Runtime"]

PLANS_MAX = 8
LOST = (
    "the weights on the device are unknown: a step that changes them has failed, and the host has "
    "no copy. Load a saved state with load_state_dict(); momentum is then zero, until the "
    "optimizer's state is loaded as well"
)
REMEDY = "This needs a smaller network, or a board with more memory."
FEWER = (
    "Weights and what belongs to them take {always} with any batch; a smaller one needs less of "
    "the rest."
)


class _Plan:
    """Tensors of one batch size in memory, and the programs that work on them."""

    def __init__(self, tensors, arena):
        self.tensors, self.arena = tensors, arena
        self.programs = {}  # key -> (address, Program, bytes)
        self.uploaded = {}  # key -> hyperparameters in memory


class Runtime:
    """A network on a device.

    Parameters
    ----------
    network : Network
    device : Device

    Raises OutOfMemoryError if the weights do not fit.
    """

    def __init__(self, network, device):
        self.network, self._device = network, device
        self.config, self.timing = device.config, device.timing
        self.steps = steps_of(network, self.config)
        self.scheduler = scheduler(self.config, device.timing)
        self.counters = {}  # pass -> Counters of all its runs
        self.ran = {}  # pass -> (Program, images, Counters) of its last run
        self.generation = 0  # counts what overwrites activations
        self.lost = None  # why the weights in memory are unknown, for the message
        self._buffers = None  # the plan whose `forward` left its weights in the tile buffers
        arena = Arena(0, device.memory_size, device.memory_size, remedy=REMEDY)
        wanted = []
        for w in self.weights:
            wanted += [(f"{w.name} weights", w.size), (f"{w.name} momentum", w.size)]
            if w.copied:
                wanted.append((f"{w.name} weights, operand copy", w.copy_size))
        places = iter(arena.place_all(wanted))
        for w in self.weights:
            w.master, w.momentum = next(places), next(places)
            w.copy = next(places) if w.copied else w.master
        self._base, self._taken, self._limit = arena.end, arena.taken, device.memory_size
        self._gradients = False
        self._plans = OrderedDict()
        self._resident = None
        self.leave = lambda: None  # what to do before another network takes the device
        device.resident = self

    @property
    def device(self):
        """The Device. Raises DeviceError if another network has been compiled for it since."""
        if self._device.resident is not self:
            raise DeviceError(
                "another network has been compiled for this device since; make a "
                "device for each network that is in use"
            )
        return self._device

    @property
    def weights(self):
        """The Weights of all layers that have any."""
        return [step.weights for step in self.steps if step.weights is not None]

    def reserve_gradients(self):
        """Make room for weight gradients, at the upper end of memory."""
        if self._gradients:
            return
        total = sum(-(-w.size // 64) * 64 for w in self.weights)
        wanted = [(f"{w.name} gradient", w.size) for w in self.weights]
        start = (self.device.memory_size - total) // 64 * 64
        size = self.device.memory_size
        arena = Arena(max(start, self._base), size, size, self._taken, REMEDY)
        for w, address in zip(self.weights, arena.place_all(wanted), strict=True):
            w.gradient = address
        self._taken, self._limit, self._gradients = arena.taken, start, True
        self._plans = OrderedDict((k, p) for k, p in self._plans.items() if p.arena.end <= start)
        for plan in self._plans.values():
            plan.arena.limit = start
        if self._resident not in self._plans.values():
            self._resident = None

    def plan(self, images, *, train, input_gradient=False):
        """The plan for a batch of `images`. Raises OutOfMemoryError."""
        key = images, train, input_gradient
        plan = self._plans.get(key)
        if plan is None:
            tensors = Tensors(
                self.network, self.steps, self.scheduler, images, train, input_gradient
            )
            always = size_text(sum(size for _, size in self._taken))
            remedy = FEWER.format(always=always) if images > 1 else REMEDY
            size = self.device.memory_size
            arena = Arena(self._base, self._limit, size, self._taken, remedy)
            tensors.place(arena)
            plan = self._plans[key] = _Plan(tensors, arena)
            while len(self._plans) > PLANS_MAX:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _run(self, plan, kind, key, build, hyper=None):
        """Run a program of a plan, built on first use; one that updates weights has `hyper`, which
        fills its patches."""
        self._check_known()
        if key not in plan.programs:
            program = build()
            data = program.assemble()
            (address,) = self._place(plan.arena, [(f"{kind} program", len(data))])
            plan.programs[key] = address, program, data
        address, program, data = plan.programs[key]
        self._use(plan)
        self._buffers = None
        if key not in plan.uploaded:
            self.device.write(address, data)
            plan.uploaded[key] = None
        if hyper is not None and plan.uploaded[key] != hyper:
            for offset, words in program.patched(hyper):
                self.device.write(address + offset, words)
            plan.uploaded[key] = hyper
        try:
            with nullcontext() if hyper is None else self._updating():
                counters = self.device.run(address)
        except DeviceError as error:
            text = f"{kind} pass, batch of {plan.tensors.images}: {error}"
            raise type(error)(f"{text}\n{self.lost}" if self.lost else text) from error
        self.counters[kind] = self.counters.get(kind, Counters()) + counters
        self.ran[kind] = program, plan.tensors.images, counters

    def _use(self, plan):
        """Make `plan` the one whose tensors and programs are in memory."""
        if self._resident is not plan:
            plan.uploaded = {}
            self._resident = plan
            self.generation += 1

    def forward(self, plan, x):
        """Output array [image, channel, row, column] of `x`, a float array with the input's
        shape."""
        t = plan.tensors
        data = t.x.pack(np.asarray(x).reshape(t.images, *self.network.source))
        self._use(plan)
        self.generation += 1
        self.device.write(t.x.address, data)
        self._run(
            plan, "forward" if t.train else "inference", "forward", lambda: forward_program(t)
        )
        self._buffers = plan
        out = t.outputs[-1]
        return out.unpack(self.device.read(out.address, out.size))

    def backward(self, plan, gradient, train, hyper=None):
        """Run the backward pass on the activations that the last `forward` of `plan` left.

        Parameters
        ----------
        gradient : float array with the shape of the network's output
            Of the loss with respect to the output.
        train : list of (bool, bool)
            Per step whether the weight, the bias is trained.
        hyper : dict or None
            Per trained step (weight decay, momentum, learning rate): update at once. None: store
            the gradients.
        """
        t = plan.tensors
        target = t.loss_gradient
        data = target.pack(gradient.reshape(t.images, *self.steps[-1].layer.output))
        self.device.write(target.address, data)
        train, momentum = tuple(train), None if hyper is None else self._with_momentum(hyper)
        resident = self._buffers is plan
        self._run(
            plan,
            "backward",
            ("backward", train, momentum, resident),
            lambda: backward_program(t, train, momentum, resident),
            hyper,
        )

    def _with_momentum(self, hyper):
        """Per step whether its update uses momentum."""
        return tuple(i in hyper and hyper[i][1] != 0 for i in range(len(self.steps)))

    def _place(self, arena, programs):
        """Addresses for programs (name, bytes); the first at a multiple of its bursts, so that all
        of them are whole ones."""
        config = self.device.config
        return arena.place_all(programs, max(ALIGN, Fetch.burst(config) * config.beat_bytes))

    def step_programs(self, images, momentum=True, notify=lambda text: None):
        """What a fused training step of `images` runs, with or without momentum, and what is in
        memory then. `notify` is called with the name of each pass before it is compiled.

        Returns ([forward Program, backward Program], [(name, bytes)]). Raises OutOfMemoryError.
        """
        plan = self.plan(images, train=True)
        train = tuple((step.weights is not None,) * 2 for step in self.steps)
        programs = [
            forward_program(plan.tensors, notify),
            backward_program(plan.tensors, train, (momentum,) * len(self.steps), True, notify),
        ]
        arena = copy(plan.arena)  # what a step will need, without taking it
        arena.taken = list(arena.taken)
        names = ("forward program", "backward program")
        sizes = [len(program.assemble()) for program in programs]
        self._place(arena, list(zip(names, sizes, strict=True)))
        return programs, arena.taken

    def input_gradient(self, plan):
        """Gradient of the input after `backward`, [image, channel, row, column]."""
        dx = plan.tensors.dx
        return dx.unpack(self.device.read(dx.address, dx.size)).copy()

    def update(self, train, hyper):
        """Update weights by the gradients in memory; parameters as for `backward`."""
        plan = self._resident or self.plan(1, train=False)
        train, momentum = tuple(train), self._with_momentum(hyper)
        self._run(
            plan,
            "update",
            ("update", train, momentum),
            lambda: update_program(self.steps, self.scheduler, train, momentum),
            hyper,
        )

    @contextmanager
    def _updating(self):
        """Inside, a program changes weights. If it fails they are put back as they were; on a
        device that is slow to read they have become unknown: what needs them raises DeviceError
        from then on, until all are written and `lost` is None again."""
        places = []
        for w in self.weights if self._device.reads_are_cheap else ():
            places += [(w.master, w.size), (w.momentum, w.size)]
            places += [(w.copy, w.copy_size)] if w.copied else []
        before = [(address, self.device.read(address, size)) for address, size in places]
        try:
            yield
        except BaseException:
            if not self._device.reads_are_cheap:
                self.lost = LOST
            for address, data in before:
                self.device.write(address, data)
            raise

    def _check_known(self):
        if self.lost:
            raise DeviceError(self.lost)

    def read_weights(self, step, shape):
        """(weight, bias) of a Step, arrays; `shape` is the weight's. Raises DeviceError if they are
        unknown since an update has failed."""
        self._check_known()
        w = step.weights
        return w.unpack(self.device.read(w.master, w.size), shape)

    def write_weights(self, step, weight, bias):
        """Set weight and bias of a Step. Raises NumericError if a value is not finite."""
        w = step.weights
        self._buffers = None
        written = [(w.master, w.pack(weight, bias))]
        if w.copied:
            written.append((w.copy, w.pack_copy(weight, bias)))
        for address, data in written:
            self.device.write(address, data)

    def read_momentum(self, step, shape):
        """Momentum of (weight, bias) of a Step, arrays; as for weights."""
        self._check_known()
        w = step.weights
        return w.unpack(self.device.read(w.momentum, w.size), shape)

    def write_momentum(self, step, weight, bias):
        """Set the momentum of weight and bias. Raises NumericError if a value is not finite."""
        w = step.weights
        self.device.write(w.momentum, w.pack(weight, bias, "momentum of "))

    def read_gradient(self, step, shape):
        """(weight gradient, bias gradient) that the last backward pass stored."""
        w = step.weights
        return w.unpack(self.device.read(w.gradient, w.size), shape)

    def write_gradient(self, step, weight, bias):
        """Set the gradient in memory. Raises NumericError if a value is not finite."""
        w = step.weights
        self.device.write(w.gradient, w.pack(weight, bias, "gradient of "))
