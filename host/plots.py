"""Pictures of a training run."""

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  (the backend must be chosen first)

__all__ = ["loss_curve"]


def loss_curve(path, losses, accuracies, title):
    """Write the loss of every step and the held-out accuracy of every epoch as a picture.

    Parameters
    ----------
    path : Path
        Where to; the suffix chooses the format.
    losses : list of float
        Loss of each step.
    accuracies : list of (step, accuracy in 0..1)
        Held-out accuracy after that many steps.
    title : str
    """
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    left.plot(losses, color="tab:blue", linewidth=0.8)
    left.set(xlabel="step", ylabel="training loss", title=title, yscale="log")
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    right.plot(*zip(*accuracies, strict=True), "o-", color="tab:orange")
    right.set(ylabel="held-out accuracy", ylim=(0, 1.02))
    right.yaxis.label.set_color("tab:orange")
    figure.savefig(path, dpi=150)
    plt.close(figure)
