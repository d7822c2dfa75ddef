"""`gradgate train`: train a CNN on handwritten digits."""

import time
from pathlib import Path

import gradgate
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..boards import board
from ..data import digits
from ..errors import GradgateError
from ..nets import NETS, net
from ..plots import loss_curve
from .options import add_batch, check_counts

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "train a CNN on handwritten digits"
DEVICE = "rtl"
DESCRIPTION = """\
Train a small CNN (two convolutions, pooling, a linear layer) on the 1,797 UCI handwritten digits,
a fifth of them held out. Forward, backward and update run on the device; the host only computes the
loss. Writes checkpoint.pt and loss.png to the --out directory."""


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "--net",
        choices=[name for name in NETS if name.startswith("digits")],
        default="digits",
        help="digits-small is for boards with little memory (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs", type=int, default=6, help="passes over the data (default: %(default)s)"
    )
    add_batch(parser)
    parser.add_argument(
        "--lr",
        type=float,
        default=0.15,
        help="highest learning rate of the one-cycle schedule (default: %(default)s)",
    )
    parser.add_argument("--momentum", type=float, default=0.9, help="(default: %(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="(default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights and batch order (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/train"),
        metavar="DIR",
        help="where checkpoint.pt and loss.png go (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from this checkpoint, to the same weights as without the break",
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")


class Run:
    """One training run: everything that a checkpoint holds, and how to advance it by an epoch."""

    def __init__(self, args, device):
        self.args = args
        self.train, self.test = digits()
        torch.manual_seed(args.seed)
        self.order = torch.Generator().manual_seed(args.seed)
        self.net, _ = net(args.net)
        self.model = gradgate.compile(
            self.net, example_inputs=(self.train[0][: args.batch],), device=device
        )
        self.optimizer = gradgate.optim.SGD(
            self.model.parameters(),
            lr=args.lr,
            momentum=args.momentum,
            weight_decay=args.weight_decay,
        )
        self.steps_per_epoch = -(-len(self.train[0]) // args.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=args.lr,
            total_steps=args.epochs * self.steps_per_epoch,
            pct_start=0.2,
            cycle_momentum=False,
        )
        self.epoch = 0
        self.losses = []
        self.accuracies = []
        self.earlier = gradgate.Counters()  # of the runs that this one resumes

    @property
    def counters(self):
        """What the device counted in all training steps; testing is not among them."""
        return sum(
            (counters for name, counters in self.model.profile().items() if name != "inference"),
            self.earlier,
        )

    def options(self):
        """What must be the same when a run is resumed."""
        names = "net epochs batch lr momentum weight_decay seed board device".split()
        return {name: getattr(self.args, name) for name in names}

    def save(self, path):
        """Write a checkpoint from which `load` continues bit for bit."""
        torch.save(
            {
                "net": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "order": self.order.get_state(),
                "epoch": self.epoch,
                "losses": self.losses,
                "accuracies": self.accuracies,
                "counters": vars(self.counters),
                "options": self.options(),
            },
            path,
        )

    def load(self, path):
        """Continue from a checkpoint; raises GradgateError if it is damaged or of another run."""
        try:
            state = torch.load(path, weights_only=True)
            options = state["options"]
        except OSError:
            raise
        except Exception as error:
            raise GradgateError(f"{path} is not a complete checkpoint: {error}") from error
        other = [
            f"--{k.replace('_', '-')} {v}" for k, v in options.items() if self.options()[k] != v
        ]
        if other:
            raise GradgateError(f"{path} was made with {' '.join(other)}; resume with the same")
        self.model.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"])
        self.epoch, self.losses, self.accuracies = (
            state[k] for k in ("epoch", "losses", "accuracies")
        )
        self.earlier = gradgate.Counters(**state["counters"])

    def train_epoch(self, advance):
        """One pass over the training images; calls `advance(loss)` after every step."""
        images, labels = self.train
        order = torch.randperm(len(images), generator=self.order)
        for batch in order.split(self.args.batch):
            loss = self.model.train_step(images[batch], labels[batch], optimizer=self.optimizer)
            self.schedule.step()
            self.losses.append(float(loss))
            advance(self.losses[-1])
        self.epoch += 1

    def test_accuracy(self):
        """Share of the held-out images that the device classifies rightly."""
        images, labels = self.test
        self.model.eval()
        with torch.no_grad():
            outputs = torch.cat([self.model(x) for x in images.split(self.args.batch)])
        self.model.train()
        return (outputs.argmax(1) == labels).double().mean().item()


def _progress(console):
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def run(args, console):
    """Train; returns (result for --json, exit status)."""
    check_counts(args, "epochs", "batch")
    profile = board(args.board)
    args.out.mkdir(parents=True, exist_ok=True)
    with gradgate.device(args.device, board=args.board) as device:
        training = Run(args, device)
        if args.resume:
            training.load(args.resume)
        parameters = sum(p.numel() for p in training.model.parameters())
        console.print(
            f"{parameters:,} parameters, {len(training.train[0])} training and "
            f"{len(training.test[0])} held-out images; {profile.description}; "
            f"backend {args.device}"
        )
        started = time.perf_counter()
        with _progress(console) as progress:
            task = progress.add_task(
                "",
                total=args.epochs * training.steps_per_epoch,
                loss=float("nan"),
                accuracy="-",
                completed=len(training.losses),
            )
            while training.epoch < args.epochs:
                progress.update(task, description=f"epoch {training.epoch + 1}/{args.epochs}")
                training.train_epoch(lambda loss: progress.update(task, advance=1, loss=loss))
                accuracy = training.test_accuracy()
                training.accuracies.append((len(training.losses), accuracy))
                progress.update(task, accuracy=f"{accuracy:.2%}")
                recent = training.losses[-training.steps_per_epoch :]
                console.print(
                    f"epoch {training.epoch}/{args.epochs}: loss {sum(recent) / len(recent):.4f}, "
                    f"held-out accuracy {accuracy:.2%}, {time.perf_counter() - started:.1f} s"
                )
                training.save(args.out / "checkpoint.pt")
        wall = time.perf_counter() - started
    return _report(args, console, profile, training, parameters, wall), 0


def _report(args, console, profile, training, parameters, wall):
    loss_curve(
        args.out / "loss.png",
        training.losses,
        training.accuracies,
        f"UCI digits on {args.device}, board {args.board}",
    )
    macs = training.model.train_macs() * len(training.train[0]) * args.epochs
    cycles = training.counters.cycles
    config = profile.config
    result = {
        "backend": args.device,
        "board": args.board,
        "net": args.net,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
        "parameters": parameters,
        "test_accuracy": training.accuracies[-1][1],
        "train_macs": macs,
        "cycles": cycles,
        "mac_utilisation": macs / (cycles * config.macs) if cycles else None,
        "board_s": cycles / profile.clock_hz if cycles else None,
        "wall_s": wall,
    }
    console.print(
        f"held-out accuracy {result['test_accuracy']:.2%} after {args.epochs} epochs, {wall:.1f} s"
    )
    if cycles:
        console.print(
            f"{cycles:,} device cycles for training, {result['mac_utilisation']:.1%} of the "
            f"{config.macs} multipliers busy; {result['board_s']:.2f} s of the "
            f"device's time at {profile.clock_hz / 1e6:g} MHz, transfers from the host not counted"
        )
    console.print(f"wrote {args.out / 'checkpoint.pt'} and {args.out / 'loss.png'}")
    return result
