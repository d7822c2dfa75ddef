"""Frames as bytes, there and back; what is damaged is told from what is not."""

import random

import pytest
from gradgate.frames import (
    Request,
    Response,
    decode_ahead,
    decode_behind,
    encode_ahead,
    encode_behind,
)
from gradgate.hw.link_format import WRITE

CODES = [(encode_ahead, decode_ahead), (encode_behind, decode_behind)]
LENGTHS = [0, 1, 2, 253, 254, 255, 256, 507, 508, 509, 600]


@pytest.mark.parametrize("encode, decode", CODES)
def test_there_and_back(encode, decode):
    rng = random.Random(0)
    for length in LENGTHS:
        for zeros in (0, 0.01, 0.5, 1):
            frame = bytes(
                0 if rng.random() < zeros else rng.randrange(1, 256) for _ in range(length)
            )
            data = encode(frame)
            assert 0 not in data
            assert len(data) <= length + length // 254 + 1
            assert decode(data) == frame


def test_the_known_code():
    """Examples of the paper on COBS, and the same the other way round."""
    assert encode_ahead(b"") == encode_behind(b"") == b"\1"
    assert encode_ahead(b"\0\0") == encode_behind(b"\0\0") == b"\1\1\1"
    assert encode_ahead(b"\x11\x22\0\x33") == b"\3\x11\x22\2\x33"
    assert encode_behind(b"\x11\x22\0\x33") == b"\x11\x22\3\x33\2"


@pytest.mark.parametrize("data", [b"\2", b"\0", b"\3\1", b"\1\0", b"\xff\1"])
def test_what_is_no_code(data):
    assert decode_ahead(data) is None
    assert decode_behind(data[::-1]) is None


def test_requests_and_responses():
    rng = random.Random(1)
    for words in (0, 1, 63, 64):
        payload = rng.randbytes(4 * words)
        request = Request(WRITE, 0x12345600, words, payload, 200)
        assert Request.decode(request.encode(200)[:-1]) == request
        response = Response(0x80, 3, words, payload)
        assert Response.decode(response.encode()[:-1]) == response
    assert str(Request(0, 256, 2)) == "read of 8 bytes of memory at 0x100"
    assert str(Request(3, 16, 1, b"1234")) == "write of 4 bytes of registers at 0x10"


@pytest.mark.parametrize("kind", [Request, Response])
def test_damage_is_found(kind):
    rng = random.Random(2)
    one = Request(WRITE, 4096, 5, bytes(range(20))).encode(9)
    whole = (one if kind is Request else Response(0, 9, 5, bytes(range(20))).encode())[:-1]
    assert kind.decode(whole) is not None
    for _ in range(3000):
        bad = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            bad[rng.randrange(len(bad))] ^= rng.randrange(1, 256)
        assert bad == whole or kind.decode(bytes(bad)) is None
    for cut in range(len(whole)):
        assert kind.decode(whole[:cut]) is None
        assert kind.decode(whole[cut + 1 :]) is None


def test_length_must_be_as_said():
    assert Request.decode(Request(WRITE, 0, 3, bytes(8)).encode(0)[:-1]) is None
    assert Request.decode(Request(0, 0, 2, bytes(8)).encode(0)[:-1]) is None
    assert Response.decode(Response(0, 0, 3, bytes(8)).encode()[:-1]) is None
    assert Response.decode(Response(WRITE, 0, 2, bytes(8)).encode()[:-1]) is None
