"""The UCI handwritten digits that scikit-learn carries: 1,797 images of 8x8 pixels."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["digits"]


def digits(seed=0):
    """Training and held-out images and labels: ((x, y), (x, y)).

    Parameters
    ----------
    seed : int
        Seed of the split. A fifth of the images, with the same share of every digit, is held out.

    Returns
    -------
    x : float32 [n][1][8][8], pixels scaled to -1..1; y : int64 [n].
    """
    data = load_digits()
    x = (data.images[:, None] / 8.0 - 1.0).astype(np.float32)
    parts = train_test_split(
        x, data.target.astype(np.int64), test_size=0.2, stratify=data.target, random_state=seed
    )
    x_train, x_test, y_train, y_test = map(torch.from_numpy, parts)
    return (x_train, y_train), (x_test, y_test)
