"""Multiply-accumulates per second of backend `model` on one core, per format and mode.

    python benchmarks/model_speed.py [--seconds 1]
"""

import argparse
import time

import numpy as np
from gradgate.hw.config import Config
from gradgate.hw.isa import Unit, encode
from gradgate.sim.model import ModelDevice

CONFIGS = (Config(), Config(tm=16, fmt="fp32", beat_bits=128), Config(tm=4, tn=8, beat_bits=32),
           Config(tm=2, tn=4, fmt="fp32"))


def fill(config, unit, words):
    """A LOAD that writes `words` words of all tn channels, contiguous in memory."""
    beats = config.tn // config.beat_elems
    return encode(unit, d_base=1 << 16, d_len=words, d_n1=beats, d_n2=1, d_n3=1,
                  d_s1=words * config.beat_bytes, spp=beats, nb=1, n2=1, n1=1, n0=words, hi1=1,
                  hi0=words, sd1=1, sd0=1)


def modes(config):
    """Name and fields of one COMPUTE for each pass of a 3x3 convolution of a 16x16 image."""
    taps = dict(ng=2, t1=3, t0=3, lanes_last=config.tn, rows=config.tm, bg=512, bt1=18, bt0=1)
    image = dict(q2=1, q1=16, q0=16, bq1=18, bq0=1)
    plane = dict(cq1=16, cq0=1)
    yield "forward", dict(first=1, ag=9 * config.tm, at1=3 * config.tm, at0=config.tm, ar=1) | (
        taps | image | plane)
    yield "dX", dict(first=1, a_pix=1, al_n=config.tn, al0=9, ag=144, at1=3, at0=1) | (
        taps | image | plane)
    yield "dW", dict(first=1, dw=1, np=256, rskew=0, sd1=1, sd0=1, ones=1) | taps | image


def measure(config, fields, seconds):
    """MAC/s of programs of one COMPUTE, repeated; loads are not counted."""
    with ModelDevice(config, 1 << 20) as device:
        rng = np.random.default_rng(1)
        data = rng.standard_normal(1 << 16, np.float32).view(np.uint32)
        if config.fmt == "bf16":
            data = (data >> 16).astype(np.uint16)
        device.write(1 << 16, data)
        load = [fill(config, unit, depth) for unit, depth in
                ((Unit.LOAD_A, config.a_depth), (Unit.LOAD_B, config.b_depth))]
        device.write(0, np.array([*load, encode(Unit.END)], np.uint32))
        device.run(0)
        repeat = 20
        device.write(0, np.array([encode(Unit.COMPUTE, **fields)] * repeat + [encode(Unit.END)],
                                 np.uint32))
        macs, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            macs += device.run(0).active["COMPUTE"] * config.tm * config.tn
        return macs / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1, help="per mode")
    seconds = parser.parse_args().seconds
    for config in CONFIGS:
        for name, fields in modes(config):
            speed = measure(config, fields, seconds)
            print(f"{config.tm:2}x{config.tn:<2} {config.fmt} {name:8} {speed / 1e6:8.0f} M MAC/s")


if __name__ == "__main__":
    main()
