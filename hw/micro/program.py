"""The whole microcode: programs from their start to their END, and the tokens between units."""

from functools import cache

from gradgate.hw.control import ID, VERSION
from gradgate.hw.isa import BYTES, COMMON, Unit
from gradgate.hw.micro.assembler import Assembler, Condition, Cut, Port
from gradgate.hw.micro.code_compute import compute
from gradgate.hw.micro.code_load import load
from gradgate.hw.micro.code_post import post
from gradgate.hw.sequencer import UNITS

__all__ = ["FAULT", "program"]

FAULT = 1  # the word that is executed after memory has answered with an error

_DONE, _TIMEOUT, _TOKENS, _UNKNOWN, _BUS, _LEFT = (1 << k for k in (1, 2, 3, 4, 5, 8))  # of STATUS


@cache
def program(config0, config1):
    """(words, initial registers) with these values of the registers CONFIG0 and CONFIG1."""
    asm = Assembler()
    for name, value in (("ID", ID), ("VERSION", VERSION), ("CONFIG0", config0),
                        ("CONFIG1", config1)):
        asm.registers[asm.host(name).register] = value
    tokens = {u: asm.register() for u in UNITS}  # of producer u, a byte per consumer
    signals = asm.register()
    _begin(asm, tokens)
    _end(asm, tokens)
    _fetch(asm, tokens)
    _finish(asm, tokens, signals)
    for unit, end in ((load, "load done"), (compute, "compute done"), (post, "post done")):
        asm.release()
        unit(asm, end)
    return asm.words(), asm.registers


def _begin(asm, tokens):
    """Words 0 and FAULT, and what becomes of a start and of a reset."""
    status = asm.host("STATUS")
    asm.jump("reset")
    asm.move(status, asm.constant(_BUS), to="stop")
    asm.label("reset")
    asm.move(None, asm.state, when=Condition.NEGATIVE, to="start")
    asm.move(status, asm.zero, to="clear")
    asm.label("start")
    asm.move(status, asm.constant(1))
    asm.label("clear")
    for name in ("STATE", "FETCHED", "ACTIVE_COMPUTE", *(f"COUNT_{u.name}" for u in UNITS)):
        asm.move(asm.host(name), asm.zero)
    for register in tokens.values():
        asm.move(register, asm.zero)
    asm.move(None, asm.state, port=Port.BEGIN, when=Condition.NEGATIVE, to="run")
    asm.label("idle")
    asm.jump("idle")


def _end(asm, tokens):
    """What stops a program, with STATUS but for the flags."""
    status = asm.host("STATUS")
    asm.label("end")
    asm.move(status, asm.constant(_DONE), port=Port.FLUSH)
    for register in tokens.values():
        asm.move(None, register, when=Condition.NONZERO, to="left")
    asm.label("stop")
    asm.add(status, status, asm.state[Cut.BYTE2])
    asm.xor(None, status, asm.constant(_DONE), port=Port.END, to="idle")
    asm.label("left")
    asm.add(status, status, asm.constant(_LEFT), to="stop")
    for label, error in (("deadlock", _TIMEOUT), ("overflow", _TOKENS), ("unknown", _UNKNOWN)):
        asm.label(label)
        asm.move(status, asm.constant(error), port=Port.FLUSH, to="stop")


def _unit(unit):
    """A bit per unit, in bytes of their own."""
    return 1 << 8 * unit


def _fetch(asm, tokens):
    """The next instruction to `instruction`, its tokens taken; on to the code of its unit."""
    state, fetched, one = asm.host("STATE"), asm.host("FETCHED"), asm.constant(1)
    pointer, own, counter, number = (asm.register() for _ in range(4))
    asm.label("run")
    asm.move(pointer, asm.host("PROG_ADDR"))
    asm.label("fetch")
    for word in asm.instruction:
        asm.add(pointer, pointer, asm.constant(BYTES // len(asm.instruction)), port=Port.READ)
        asm.move(word, asm.memory)
    asm.add(fetched, fetched, one)
    asm.both(number, asm.constant(15), asm.instruction[0], when=Condition.ZERO,
             to=f"unit {Unit.LOAD_A}")
    for unit in UNITS[1:]:
        asm.sub(number, number, one, when=Condition.ZERO, to=f"unit {unit}")
    asm.sub(number, number, asm.constant(Unit.END - UNITS[-1]), when=Condition.ZERO, to="end")
    asm.jump("unknown")
    for unit in UNITS:
        asm.label(f"unit {unit}")
        asm.move(own, asm.constant(_unit(unit)), port=Port.UNIT)
        asm.move(counter, asm.constant(255 * _unit(unit)), to="tokens")

    # tokens
    asm.label("tokens")
    asm.both(None, asm.instruction[0], asm.constant(15 << COMMON["wait"].lo), when=Condition.ZERO,
             to="begin")
    for unit, register in tokens.items():
        asm.both(None, asm.instruction[0], asm.constant(1 << COMMON["wait"].lo + unit),
                 when=Condition.ZERO, to=f"wait {unit}")
        asm.both(None, register, counter, when=Condition.ZERO, to="lacking")
        asm.sub(register, register, own)
        asm.label(f"wait {unit}")
    asm.label("begin")
    asm.move(state, own, port=Port.STARTED)
    asm.sub(None, own, asm.constant(_unit(Unit.COMPUTE)), when=Condition.ZERO, to="compute")
    asm.sub(None, own, asm.constant(_unit(Unit.POST)), when=Condition.ZERO, to="post")
    asm.jump("load")
    asm.label("lacking")
    asm.add(state, own, own, to="deadlock")


def _finish(asm, tokens, signals):
    """After the instruction of each unit: its tokens, and that it is complete."""
    back, part = asm.register(), asm.register()
    asm.label("load done")
    asm.sub(None, asm.host("STATE"), asm.constant(_unit(Unit.LOAD_B)), when=Condition.ZERO,
            to=f"done {Unit.LOAD_B}")
    for unit, label in zip(UNITS, (f"done {Unit.LOAD_A}", f"done {Unit.LOAD_B}", "compute done",
                                   "post done"), strict=True):
        asm.label(label)
        asm.move(signals, tokens[unit])
        asm.call(back, "signal")
        asm.move(tokens[unit], signals)
        count = asm.host(f"COUNT_{unit.name}")
        asm.add(count, count, asm.constant(1), port=Port.DONE, to="fetch")

    asm.label("signal")
    for unit in UNITS:
        asm.both(None, asm.instruction[0], asm.constant(1 << COMMON["signal"].lo + unit),
                 when=Condition.ZERO, to=f"signal {unit}")
        full = asm.constant(255 * _unit(unit))
        asm.both(part, signals, full)
        asm.xor(None, part, full, when=Condition.ZERO, to="overflow")
        asm.add(signals, signals, asm.constant(_unit(unit)))
        asm.label(f"signal {unit}")
    asm.ret(back)
