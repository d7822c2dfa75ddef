"""Simulation speed of the RTL backend: seconds to build, cycles per second with all units at work.

python benchmarks/rtl_speed.py [--tm 8 --tn 16 --fmt bf16 ...] [--seconds 5]
"""

import argparse
import random
import time
from dataclasses import fields

from gradgate.hw.config import Config
from gradgate.hw.isa import Unit, encode
from gradgate.sim import verilate
from gradgate.sim.rtl import MemoryTiming, RTLDevice

INSTRUCTIONS, DATA, RESULTS = 60, 0x10000, 0x80000
SIZE = 1 << 20


def program(config):
    """Tiles of a 3x3 convolution: buffers filled, swept and drained in turn, units overlapping."""
    sweep = min(config.acc_depth, config.b_depth // 4)
    pixels = sweep + 2
    spp = config.tn // config.beat_elems
    linear = {"d_base": DATA, "d_n1": 1, "d_n2": 1, "d_n3": 1, "spp": spp, "nb": 1, "n2": 1,
              "n1": 1, "hi1": 1, "sd1": 1, "sd0": 1}
    beats = config.tm * sweep * config.elem_bytes // config.beat_bytes
    weights = 9 * config.tm
    words = []
    for tile in range(INSTRUCTIONS):
        region = tile % 2
        wait_compute, wait_post = (1 << Unit.COMPUTE) * (tile >= 2), (1 << Unit.POST) * (tile >= 2)
        release = tile < INSTRUCTIONS - 2
        words += [
            encode(Unit.LOAD_A, **linear, d_len=weights * spp, n0=weights, hi0=weights,
                   abase=region * config.a_depth // 2, wait=wait_compute, signal=1 << Unit.COMPUTE),
            encode(Unit.LOAD_B, **linear, d_len=pixels * spp, n0=pixels, hi0=pixels,
                   abase=region * config.b_depth // 2, wait=wait_compute, signal=1 << Unit.COMPUTE),
            encode(Unit.COMPUTE, first=1, abase=region * config.a_depth // 2,
                   bbase=region * config.b_depth // 2, cbase=region * config.acc_depth,
                   rows=config.tm, lanes_last=config.tn, ng=1, t1=1, t0=9, q2=1, q1=1, q0=sweep,
                   np=sweep, at0=config.tm, ar=1, bq0=1, cq0=1, al_n=1, sd1=1, sd0=1, fence=1,
                   wait=1 << Unit.LOAD_A | 1 << Unit.LOAD_B | wait_post,
                   signal=1 << Unit.POST | 3 * release),
            encode(Unit.POST, src_base=region * config.acc_depth, p2=1, p1=1, p0=sweep, w1=1, w0=1,
                   as0=1, relu=1, out_base=RESULTS, o_len=beats, o_n1=1, o_n2=1,
                   wait=1 << Unit.COMPUTE, signal=(1 << Unit.COMPUTE) * release)]
    words.append(encode(Unit.END))
    return b"".join(word.to_bytes(4, "little") for instruction in words for word in instruction)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Config):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type,
                            default=field.default)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-asserts", action="store_true")
    parser.add_argument("--trace", help="VCD file")
    options = vars(parser.parse_args())
    seconds, trace = options.pop("seconds"), options.pop("trace")
    asserts = not options.pop("no_asserts")
    config = Config(**options)

    started = time.perf_counter()
    verilate.library(config, trace=bool(trace), asserts=asserts)
    print(f"{config.name}: library ready after {time.perf_counter() - started:.1f} s")
    with RTLDevice(config, SIZE, MemoryTiming(latency=20), asserts=asserts, trace=trace) as device:
        numbers = random.Random(1)
        device.write(DATA, b"".join(numbers.randrange(0x3f00, 0x4000).to_bytes(2, "little")
                                    for _ in range((RESULTS - DATA) // 2)))
        device.write(0, program(config))
        started, cycles, busy = time.process_time(), 0, 0
        while time.process_time() - started < seconds:
            counters = device.run(0)
            cycles += counters.cycles
            busy += counters.active["COMPUTE"]
        took = time.process_time() - started
    rate = cycles / took
    print(f"{cycles} cycles in {took:.1f} s of processor time: {rate / 1e3:.0f} k cycles/s, "
          f"{rate * busy / cycles * config.tm * config.tn / 1e6:.1f} M multiply-accumulates/s "
          f"(array {100 * busy / cycles:.1f} % busy)")


if __name__ == "__main__":
    main()
