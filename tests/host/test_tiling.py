"""Chunks cover the work exactly once; windows of a pooling cover what is loaded."""

from gradgate.tiling import Window, chunks_of
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
