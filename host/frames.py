"""Frames of the link as bytes, in both directions; docs/link.md, section 2."""

import zlib
from dataclasses import dataclass

from gradgate.hw.link_format import CHECK, HEADER, REGISTERS, WRITE

__all__ = ["Request", "Response", "encode_ahead", "decode_ahead", "encode_behind", "decode_behind"]

_RUN = 254  # bytes that a code can skip


def encode_ahead(frame):
    """`frame` without zeros: each code is before the bytes it skips. COBS."""
    out = bytearray()
    for run in frame.split(b"\0"):
        while len(run) >= _RUN:
            out += b"\xff" + run[:_RUN]
            run = run[_RUN:]
        out.append(len(run) + 1)
        out += run
    return bytes(out)


def decode_ahead(data):
    """The frame of which `encode_ahead` has made `data`, or None if there is none."""
    out, at, length = bytearray(), 0, len(data)
    while at < length:
        code = data[at]
        if not code or at + code > length:
            return None
        out += data[at + 1 : at + code]
        at += code
        if code <= _RUN and at < length:
            out.append(0)
    return bytes(out)


def encode_behind(frame):
    """`frame` without zeros: each code is behind the bytes it skips."""
    out = bytearray()
    for run in frame.split(b"\0"):
        while len(run) >= _RUN:
            out += run[:_RUN] + b"\xff"
            run = run[_RUN:]
        out += run
        out.append(len(run) + 1)
    return bytes(out)


def decode_behind(data):
    """The frame of which `encode_behind` has made `data`, or None if there is none."""
    parts, at = [], len(data) - 1
    while at >= 0:
        code = data[at]
        start = at - code
        if not code or start < -1:
            return None
        if code <= _RUN and parts:
            parts.append(b"\0")
        parts.append(data[start + 1 : at])
        at = start
    return b"".join(reversed(parts))


def _sum(frame):
    return (zlib.crc32(frame) ^ 0xFFFFFFFF).to_bytes(CHECK, "little")


def _checked(frame):
    """`frame` without its CRC, or None if that is wrong."""
    if frame is None or len(frame) < CHECK or _sum(frame[:-CHECK]) != frame[-CHECK:]:
        return None
    return frame[:-CHECK]


@dataclass(frozen=True)
class Request:
    """What the host asks for.

    `operation`: WRITE and REGISTERS of hw/link_format.py, or'ed; `address` in bytes; `words` of 4
    bytes each are read, or written from `payload`; `number` is the sequence number, 0..255.
    """

    operation: int
    address: int
    words: int
    payload: bytes = b""
    number: int = 0

    def __str__(self):
        verb = "write" if self.operation & WRITE else "read"
        space = "registers" if self.operation & REGISTERS else "memory"
        return f"{verb} of {4 * self.words} bytes of {space} at {self.address:#x}"

    def encode(self, number):
        """The bytes on the line, with `number` as sequence number and with the zero at the end."""
        frame = bytes((self.operation, self.words, number)) + self.address.to_bytes(4, "big")
        frame += self.payload
        return encode_ahead(frame + _sum(frame)) + b"\0"

    @classmethod
    def decode(cls, data):
        """The request in `data`, which is without the zero; None if it is damaged."""
        frame = _checked(decode_ahead(data))
        if frame is None or len(frame) < HEADER:
            return None
        payload = frame[HEADER:]
        if len(payload) != (4 * frame[1] if frame[0] & WRITE else 0):
            return None
        return cls(frame[0], int.from_bytes(frame[3:7], "big"), frame[1], payload, frame[2])


@dataclass(frozen=True)
class Response:
    """What the device answers: `operation` of the request, with FRESH or without, its `number` and
    `words`, and in `data` what has been read."""

    operation: int
    number: int
    words: int
    data: bytes = b""

    def encode(self):
        """The bytes on the line, with the zero at the end."""
        frame = bytes((self.operation, self.words, self.number)) + self.data
        return encode_behind(frame + _sum(frame)) + b"\0"

    @classmethod
    def decode(cls, data):
        """The response in `data`, which is without the zero; None if it is damaged."""
        frame = _checked(decode_behind(data))
        if frame is None or len(frame) < 3:
            return None
        if len(frame) - 3 != (0 if frame[0] & WRITE else 4 * frame[1]):
            return None
        return cls(frame[0], frame[2], frame[1], frame[3:])
