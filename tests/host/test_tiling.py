"""Chunks cover the work exactly once; windows of a pooling cover what is loaded."""

from gradgate.tiling import Window, chunks_of, sizes, splits
from hypothesis import given
from hypothesis import strategies as st


def covers(chunks, channels, kernel):
    seen = set()
    for c in chunks:
        for key in ((ch, kr, kc) for ch in range(c.c0, c.c0 + c.channels)
                    for kr in range(c.kr0, c.kr0 + c.rows) for kc in range(c.kc0, c.kc0 + c.cols)):
            assert key not in seen
            seen.add(key)
    return len(seen) == channels * kernel[0] * kernel[1]


@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 30), st.integers(-5, 40))
def test_rows_worked_off_while_a_pooling_is_undone(kernel, more, count, first):
    stride = kernel + more
    w = Window(1, 1, 1, (50, 50), (50, 50), pool=((kernel, kernel), (stride, 1)))
    windows = {row // stride for row in range(first, first + count)}
    assert w.unpooled(0, count) >= len(windows) * stride
    windows = {row // stride for row in range(count)}
    assert w.unpooled(0, count, aligned=True) == len(windows) * stride
    assert max(len({row // stride for row in range(at, at + count)}) for at in range(stride)
               ) * stride == w.unpooled(0, count)
    assert Window(1, 1, 1, (50, 50), (50, 50)).unpooled(0, count) == count


def test_chunks():
    assert covers(chunks_of(37, (5, 3), 16, 2, 3), 37, (5, 3))
    assert [c.last(16) for c in chunks_of(37, (1, 1), 32, 1, 1)] == [16, 5]


def test_sizes():
    assert sizes(14) == [14, 7, 5, 4, 3, 2, 1]
    assert sizes(14, 14) == list(range(14, 0, -1))


def test_splits():
    """All lane groups, then parts of the taps; fewer channels than lanes where they may be."""
    assert list(splits(40, (2, 2), 16, 16)) == [(48, 2, 2), (32, 2, 2), (16, 2, 2), (16, 1, 2),
                                                (16, 1, 1)]
    assert set(splits(16, (2, 1), 16, 8)) == {(16, 2, 1), (16, 1, 1), (8, 2, 1), (8, 1, 1)}


@st.composite
def strided(draw):
    kernel, stride, padding = (draw(st.integers(*r)) for r in ((1, 5), (1, 4), (0, 3)))
    out = draw(st.integers(1, 12))
    size = (out - 1) * stride + kernel - 2 * padding
    return Window(1, 1, 1, (size, 1), (out, 1), (kernel, 1), (stride, 1), (padding, 0))


@given(strided(), st.data())
def test_rows_under_and_rows_met(w, data):
    kernel, stride, padding = w.kernel[0], w.stride[0], w.padding[0]
    tap = data.draw(st.integers(0, kernel - 1))
    taps = data.draw(st.integers(1, kernel - tap))
    at, count = data.draw(st.integers(0, 9)), data.draw(st.integers(1, 9))

    inputs = {row * stride - padding + t for row in range(at, at + count)
              for t in range(tap, tap + taps)}
    first, n = w.under(0, at, count, tap, taps)
    assert (min(inputs), max(inputs)) == (first, first + n - 1)

    # of the outputs that an input row meets through any tap, all are there
    outputs = {(row + padding - t) // stride for row in range(at, at + count)
               for t in range(tap, tap + taps) if (row + padding - t) % stride == 0}
    first, n = w.met(0, at, count, tap, taps)
    assert outputs <= set(range(first, first + n))
    if stride == 1:
        assert (min(outputs), max(outputs)) == (first, first + n - 1)


@given(st.integers(1, 4), st.integers(0, 30), st.integers(1, 9))
def test_windows_of_a_pooling(step, first, count):
    w = Window(1, 1, 1, (50, 50), (50, 50), pool=((1, 1), (step, step)))
    touched = {row // step for row in range(first, first + count)}
    assert w.windows(0, first, count) == (min(touched), len(touched))
