"""The digits split: what is held out is held out, and every run sees the same."""

import torch
from gradgate.data import digits


def test_split_is_a_fifth_and_disjoint():
    (x, y), (x_test, y_test) = digits()
    assert x.shape == (1437, 1, 8, 8) and x_test.shape == (360, 1, 8, 8)
    assert len(y) == 1437 and len(y_test) == 360
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.min() == -1 and x.max() == 1
    assert (torch.bincount(y_test) >= 34).all()
    seen = {image.numpy().tobytes() for image in x}
    assert sum(image.numpy().tobytes() in seen for image in x_test) == 0


def test_split_depends_on_the_seed_only():
    assert torch.equal(digits(3)[0][0], digits(3)[0][0])
    assert not torch.equal(digits(3)[0][0], digits(4)[0][0])
