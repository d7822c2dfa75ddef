"""Memory behind a burst port, and stream ends, with random stalls: for tests of Amaranth blocks.

All sample at the clock edge, then set what they drive for the next cycle. Only `feed` and `watch`
return.
"""

from collections import deque

from gradgate.hw.accumulators import Accumulators


class Memory:
    """Byte-addressed memory that checks the rules of the burst port.

    `latency` is the least number of cycles from a command to its first beat, or from the last beat
    to the acknowledgement; with probability `stall` a handshake is refused for a cycle. `reads` and
    `writes` collect the bursts as (address, length); `in_flight` is the largest number of writes
    that were not acknowledged.
    """

    def __init__(self, config, rng, size=1 << 16, latency=1, stall=0.0):
        self.config, self.rng, self.latency, self.stall = config, rng, latency, stall
        self.data = bytearray(rng.randbytes(size))
        self.reads, self.writes, self.in_flight = [], [], 0

    def beat(self, address):
        size = self.config.beat_bytes
        return int.from_bytes(self.data[address:address + size], "little")

    def go(self):
        return self.rng.random() >= self.stall

    def check(self, address, length):
        size = self.config.beat_bytes
        assert 1 <= length <= self.config.max_burst
        assert address % size == 0
        assert address // 4096 == (address + length * size - 1) // 4096, "burst crosses 4 KiB"
        assert address + length * size <= len(self.data)

    async def serve_reads(self, ctx, port, room=False):
        """Answer `port`, a ReadPort as its initiator shows it.

        With `room`, no beat may have to wait.
        """
        beats, now = deque(), 0
        cmd, data = port.cmd, port.data
        while True:
            ctx.set(cmd.ready, self.go())
            if not ctx.get(data.valid) and beats and beats[0][0] <= now and self.go():
                ctx.set(data.valid, 1)
                ctx.set(data.payload, beats[0][1])
            _, _, do_cmd, command, offered, do_beat = await ctx.tick().sample(
                cmd.valid & cmd.ready, cmd.payload, data.valid, data.valid & data.ready)
            now += 1
            assert do_beat or not (room and offered)
            if do_beat:
                beats.popleft()
                ctx.set(data.valid, 0)
            if do_cmd:
                self.check(command.addr, command.len)
                self.reads.append((command.addr, command.len))
                beats.extend((now + self.latency - 1,
                              self.beat(command.addr + i * self.config.beat_bytes))
                             for i in range(command.len))

    async def serve_writes(self, ctx, port):
        """Answer `port`, a WritePort as its initiator shows it."""
        size = self.config.beat_bytes
        places, acks, acked, now = deque(), deque(), 0, 0
        cmd, data = port.cmd, port.data
        while True:
            ctx.set(cmd.ready, self.go())
            ctx.set(data.ready, self.go())
            ack = bool(acks) and acks[0] <= now and self.go()
            ctx.set(port.ack, ack)
            if ack:
                acks.popleft()
                acked += 1
            _, _, do_cmd, command, do_beat, beat = await ctx.tick().sample(
                cmd.valid & cmd.ready, cmd.payload, data.valid & data.ready, data.payload)
            now += 1
            if do_beat:
                address, last = places.popleft()  # raises for a beat without a command
                self.data[address:address + size] = beat.to_bytes(size, "little")
                if last:
                    acks.append(now + self.latency - 1)
            if do_cmd:
                self.check(command.addr, command.len)
                self.writes.append((command.addr, command.len))
                self.in_flight = max(self.in_flight, len(self.writes) - acked)
                places.extend((command.addr + i * size, i == command.len - 1)
                              for i in range(command.len))


async def feed(ctx, stream, items, rng, stall=0.0):
    """Offer `items` in order, each after a random pause; valid stays until taken."""
    for item in items:
        while rng.random() < stall:
            await ctx.tick()
        ctx.set(stream.payload, item)
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)


async def collect(ctx, stream, items, rng, stall=0.0, stamps=None):
    """Append what `stream` hands over to `items`, and its cycle to `stamps`."""
    now = 0
    while True:
        ctx.set(stream.ready, rng.random() >= stall)
        _, _, do, item = await ctx.tick().sample(stream.valid & stream.ready, stream.payload)
        if do:
            items.append(item)
            if stamps is not None:
                stamps.append(now)
        now += 1


async def stands(ctx, valid, ready, payload):
    """What is offered, a list of signals, must stand until it is taken."""
    before = None
    while True:
        _, _, offered, taken, *now = await ctx.tick().sample(valid, ready, *payload)
        assert before is None or (offered and now == before)
        before = now if offered and not taken else None


async def watch(ctx, done, limit):
    """Return when `done()` holds; fail after `limit` cycles."""
    for _ in range(limit):
        if done():
            return
        await ctx.tick()
    raise AssertionError(f"no end after {limit} cycles")


async def serve_drain(ctx, port, config, acc, rng):
    """Accumulators `acc`, rows by address, behind the AccDrain `port`; noise where none is asked
    for."""
    past = deque([[0] * config.tm] * (Accumulators.LATENCY + config.groups - 1))
    while True:
        _, _, en, addr = await ctx.tick().sample(port.en, port.addr)
        past.appendleft(acc[addr % len(acc)] if en
                        else [rng.getrandbits(32) for _ in range(config.tm)])
        past.pop()
        ctx.set(port.data, [past[Accumulators.LATENCY - 1 + r // config.vlanes][r]
                            for r in range(config.tm)])
