"""Networks ready to use, as ordinary PyTorch modules."""

from torch import nn

__all__ = ["digits_cnn"]


def digits_cnn():
    """Two convolutions, two poolings and a linear layer for 1x8x8 images; 12,010 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 10),
    )
