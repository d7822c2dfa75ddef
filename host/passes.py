"""From layers to programs: tensors of one batch size, and the passes over them."""

import struct
from dataclasses import dataclass
from functools import cached_property

from .backward import InputGradient
from .buffers import Lowering
from .forward import Forward
from .prediction import predict
from .resident import residents
from .tensors import FeatureMap, Weights
from .tiling import Window
from .update import WeightGradient, refresh, sgd

PAUSES = 50, 150, 400, None  # tried out where gradients wait in the accumulators

__all__ = ["Step", "steps_of", "Tensors", "forward_program", "backward_program", "update_program"]


@dataclass
class Step:
    """A layer as the device sees it.

    `m`, `n` are channels out and in as counted in memory; `weights` is None without parameters.
    """

    layer: object
    m: int
    n: int
    weights: Weights | None

    def window(self, images, config, thin):
        """The Window of the forward pass; `thin` says that its input map has blocks of four."""
        layer = self.layer
        if layer.linear:
            return Window(images, self.n, self.m, (1, 1), (1, 1))
        packed = config.tn // 4 if thin else 0
        pool = layer.pool and (layer.pool.kernel, layer.pool.stride)
        return Window(
            images,
            self.n,
            self.m,
            layer.source[1:],
            layer.shape[1:],
            layer.kernel,
            layer.stride,
            layer.padding,
            packed=packed,
            pool=pool,
        )


def _padded(channels, config):
    return -(-channels // config.tm) * config.tm


def steps_of(network, config):
    """One Step per layer of `network`."""
    steps = []
    for layer in network.layers:
        channels, rows, cols = layer.source
        weights, n, m = None, channels, layer.shape[0]
        if layer.op == "conv":
            kernel, flattened = layer.kernel, None
            if layer.linear and (rows, cols) != (1, 1):
                n, flattened = _padded(channels, config) * rows * cols, layer.source
            weights = Weights(layer.name, m, n, *kernel, config, flattened)
        steps.append(Step(layer, m, n, weights))
    return steps


def _scale(layer):
    return struct.unpack("<I", struct.pack("<f", layer.scale))[0]


class Tensors:
    """All feature maps, tags and gradients for one batch size.

    Parameters
    ----------
    network : Network
    scheduler : Scheduler
    images : int
        Batch size.
    train : bool
        Keep what the backward pass needs; else outputs of layers share two pieces of memory.
    input_gradient : bool
        Make room for the gradient of the input.
    """

    def __init__(self, network, steps, scheduler, images, train, input_gradient):
        self.scheduler, self.steps, self.images = scheduler, steps, images
        config = self.config = scheduler.config
        self.train, self.input_gradient = train, input_gradient
        first = steps[0].layer
        self.thin = (
            first.op == "conv"
            and not first.linear
            and config.tn >= 8
            and network.source[0] <= 4
            and 4 % config.beat_elems == 0
        )
        block = 4 if self.thin else config.tm
        self._all = []
        self.x = self._map("input", network.source, block=block, region="input")
        self.outputs, self.tags = [], []
        for i, step in enumerate(steps):
            layer, last = step.layer, i == len(steps) - 1
            region = f"{layer.name} output" if train or last else f"features {i % 2}"
            self.outputs.append(
                self._map(
                    f"{layer.name} output",
                    layer.output,
                    region=region,
                    fmt="fp32" if last else config.fmt,
                )
            )
            pooled = layer.pool is not None or layer.op == "maxpool"
            self.tags.append(
                self._map(f"{layer.name} tags", layer.output, region=f"{layer.name} tags")
                if train and pooled
                else None
            )
        self.gradients, self.dx, self.unmasked = [None] * len(steps), None, None
        if train:
            self._backward()

    def _map(self, name, shape, block=None, fmt=None, region=""):
        found = FeatureMap(
            name,
            self.images,
            *shape,
            block or self.config.tm,
            fmt or self.config.fmt,
            region=region,
        )
        self._all.append(found)
        return found

    def _backward(self):
        """Gradients of outputs and of the input, in two regions."""
        side = 0
        for i in range(len(self.steps) - 1, -1, -1):
            layer = self.steps[i].layer
            if i == len(self.steps) - 1:
                self.gradients[i] = self._map(
                    f"{layer.name} output gradient", layer.output, region=f"gradients {side}"
                )
                if layer.relu:
                    # in the format of the output, which masks it
                    self.unmasked = self._map(
                        "loss gradient", layer.output, fmt="fp32", region="loss gradient"
                    )
            if i and layer.op != "relu":
                side ^= 1
                self.gradients[i - 1] = self._map(
                    f"{layer.name} input gradient", layer.source, region=f"gradients {side}"
                )
        if self.input_gradient:
            first = self.steps[0].layer
            # nothing masks it, so it need not be rounded to the operand format
            self.dx = (
                self.gradients[0]
                if first.op == "relu"
                else self._map("input gradient", first.source, fmt="fp32", region="input gradient")
            )

    @cached_property
    def residents(self):
        """{number of the step: Resident} of weights that `forward_program` leaves in buffer A."""
        return residents(self) if self.train else {}

    @property
    def loss_gradient(self):
        """Where the host puts the gradient of the network's output."""
        return self.unmasked or self.gradients[-1]

    def source(self, i):
        """The feature map that step `i` reads."""
        return self.x if i == 0 else self.outputs[i - 1]

    def windows(self, i):
        """The Window of step `i`, for layers with weights."""
        return self.steps[i].window(self.images, self.config, self.thin and i == 0)

    def pooling(self, i):
        """The Window of step `i` in the backward pass, for a pooling."""
        step = self.steps[i]
        return _pooling(step.layer, self.images, step.n, self.config, back=True)

    def place(self, arena):
        """Give every tensor its address. Raises OutOfMemoryError."""
        sizes = {}
        for tensor in self._all:
            sizes[tensor.region] = max(tensor.size, sizes.get(tensor.region, 0))
        places = dict(zip(sizes, arena.place_all(list(sizes.items())), strict=True))
        for tensor in self._all:
            tensor.address = places[tensor.region]


def _view(step, tensor):
    """A map as the passes of `step` want it: one pixel per image for a linear layer."""
    return tensor.flattened() if step.layer.linear and tensor is not None else tensor


def _pooling(window, images, channels, config, *, back):
    """Window of a pooling layer's backward pass, or of its forward pass for an average."""
    n, m = (channels, config.tm) if back else (config.tm, channels)
    return Window(
        images,
        n,
        m,
        window.source[1:],
        window.shape[1:],
        window.kernel,
        window.stride,
        window.padding,
        ident=True,
    )


def forward_program(t, notify=lambda text: None):
    """The Program that takes `t.x` to the output of the last step; `notify` is called with the name
    of each pass before its tile is chosen."""
    lw = Lowering(t.scheduler, notify)
    for i, step in enumerate(t.steps):
        layer, out, tags = step.layer, t.outputs[i], t.tags[i]
        lw.program.label = layer.name, "forward"
        x = _view(step, t.source(i))
        what = {"relu": layer.relu, "tags": tags}
        if layer.op == "conv":
            w = t.windows(i)
            what |= {"weights": step.weights, "bias": layer.bias is not None}
            what["resident"] = t.residents.get(i)
        elif layer.op == "maxpool":
            size = tuple(s + 2 * p for s, p in zip(layer.source[1:], layer.padding, strict=True))
            w = Window(
                t.images,
                t.config.tm,
                step.m,
                layer.source[1:],
                size,
                padding=layer.padding,
                ident=True,
                pool=(layer.kernel, layer.stride),
            )
            what["padneg"] = True
        else:
            w = _pooling(layer, t.images, step.m, t.config, back=False)
            what["scale"] = _scale(layer) if layer.op == "avgpool" else None
        Forward(lw, w, x, out, **what).emit()
    return lw.finished()


def _mask_loss(lw, t):
    """Emit the mask of the last step's ReLU on what the host has written."""
    loss, output, target = t.unmasked, t.outputs[-1], t.gradients[-1]
    source = {
        "src_mem": 1,
        "src_fp32": 1,
        "src_base": loss.address,
        "p2": loss.images,
        "p1": loss.blocks * loss.rows,
        "p0": loss.cols,
    }

    def loops(tensor):
        return [
            (tensor.images, tensor.image_bytes),
            (tensor.image_bytes // tensor.pixel_bytes, tensor.pixel_bytes),
        ], tensor.pixel_bytes

    # first in the format of the output, then to operands: a mask has the beats of its result
    here, images = lw.memory(loss), range(t.images)
    lw.post(
        [*here, *lw.memory(output, images)],
        here,
        *loops(loss),
        loss.address,
        opd_base=output.address,
        mask=1,
        opd_fp32=1,
        out_fp32=1,
        **source,
    )
    lw.post(here, lw.memory(target, images), *loops(target), target.address, **source)


def backward_program(t, train, momentum=None, resident=False, notify=lambda text: None):
    """The Program from the gradient of the output to gradients or updates of the weights.

    Parameters
    ----------
    t : Tensors
    train : list of (bool, bool)
        Per step whether the weight, the bias is trained.
    momentum : list of bool, or None
        Per step whether its update uses momentum; patch key of an update is the number of the step.
        None: store the gradients instead of updating.
    resident : bool
        Whether `forward_program` ran right before, so that buffer A holds `t.residents`.
    notify : function
        As for `forward_program`.

    The input gradient is made if `t` has room for it. Gradients of features use the weights from
    before the update. Gradients of what needs none are not computed.
    """
    first, *others = PAUSES
    program, waited = _backward(t, train, momentum, resident, notify, first)
    if not waited:
        return program
    found = [program]
    for pause in others:
        found.append(_backward(t, train, momentum, resident, lambda text: None, pause)[0])
    timing = t.scheduler.timing
    return min(found, key=lambda program: predict(program, t.config, timing).cycles)


def _backward(t, train, momentum, resident, notify, pause):
    """(backward Program, whether any gradient waits in the accumulators)."""
    lw, fused = Lowering(t.scheduler, notify, pause), momentum is not None
    wanted = [any(flags) for flags in train]
    if t.unmasked is not None:
        lw.program.label = t.steps[-1].layer.name, "dX"
        _mask_loss(lw, t)
    held = {}
    if resident:
        held = {i: (r, lw.a.hold(1, r.words)) for i, r in t.residents.items()}
    updated, late, waited = [], [], False
    for i in range(len(t.steps) - 1, -1, -1):
        step, dy = t.steps[i], t.gradients[i]
        layer, below = step.layer, t.input_gradient or any(wanted[:i])
        if not (below or wanted[i]):
            break
        lw.program.label = layer.name, "dX"
        x, dx = t.source(i), t.gradients[i - 1] if i else t.dx
        mask = x if i and t.steps[i - 1].layer.relu else None
        if below and layer.op != "relu":
            if layer.op == "conv":
                InputGradient(
                    lw,
                    t.windows(i),
                    dy,
                    _view(step, dx),
                    weights=step.weights,
                    tags=t.tags[i],
                    mask=_view(step, mask),
                    resident=held.get(i),
                ).emit()
            else:
                InputGradient(
                    lw,
                    t.pooling(i),
                    dy,
                    dx,
                    tags=t.tags[i],
                    mask=mask,
                    scale=_scale(layer) if layer.op == "avgpool" else None,
                ).emit()
        if i in held:
            lw.a.release()
        if wanted[i]:
            # here, because the vector unit has little to do while weight gradients accumulate
            _refresh_all(lw, updated)
            lw.program.label = layer.name, "dW"
            gradient = WeightGradient(
                lw,
                t.windows(i),
                _view(step, x),
                dy,
                step.weights,
                tags=t.tags[i],
                train=train[i],
                key=i if fused else None,
                momentum=fused and momentum[i],
            )
            # not before other linear layers, for whose weights the array will have to wait anyway
            wait = layer.linear and any(wanted[:i]) and not any(s.layer.linear for s in t.steps[:i])
            waits = gradient.emit(wait)
            waited |= waits
            updated = [step] if fused and not waits else []
            late += [step] if fused and waits else []
    lw.background.finish()
    _refresh_all(lw, updated + late)
    return lw.finished(), waited


def _refresh_all(lw, steps):
    for step in steps:
        lw.program.label = step.layer.name, "update"
        refresh(lw, step.weights)


def update_program(steps, scheduler, train, momentum):
    """The Program that updates weights by the gradients in memory; parameters as for
    `backward_program`."""
    lw = Lowering(scheduler)
    for i, (step, flags) in enumerate(zip(steps, train, strict=True)):
        if any(flags):
            lw.program.label = step.layer.name, "update"
            sgd(lw, step.weights, i, momentum[i], flags)
            refresh(lw, step.weights)
    return lw.finished()
