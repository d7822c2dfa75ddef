"""The microcoded processor of the small core: a word in two or three cycles.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.control import ADDR_BITS, REGISTERS
from gradgate.hw.floats import FloatMul, NormalAdd, canonicalise
from gradgate.hw.micro.assembler import FIELDS, Condition, Cut, Operation, Port, Source
from gradgate.hw.micro.program import FAULT
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["Processor"]

Word = data.StructLayout(FIELDS)


class Processor(wiring.Component):
    """Executes microcode: reads two registers in one cycle, and does everything else in the next.

    A word takes a third cycle where the next one depends on its result, another one for an access
    to memory, four more for adder and multiplier, and more where it waits for memory or for the
    array. Registers are those that the host sees as well, at their offset / 4; the host
    reads between two words. A start or a reset makes the word after the one at hand word 0, an
    error of memory word FAULT.

    Parameters
    ----------
    words : list of int
        Microcode, at most 1024 words.
    registers : list of int
        Initial values.

    Members
    -------
    read : Out(ReadPort(32))
    write : Out(WritePort(32))
        Bursts of one beat; one access at a time.
    bus_error : In(1)
    aw*, w*, b*, ar*, r*
        As of Control, but words are written whole, whatever the strobe, and only to CTRL,
        PROG_ADDR and TIMEOUT.
    irq : Out(1)
        As of Control.
    running, failed : Out(1)
        A program runs; the last one has ended in an error, also if it has been reset since.
    port, go, a, b, number_b, result, unit_b, add : Out
    stall, sum, product, accumulator, sum_overflow, product_overflow, overflow : In
        See MicroArray.
    unit, started, done : Out(4)
        Of the instruction at hand; events.

    Raises
    ------
    ValueError
        There are too many words or registers.
    """

    def __init__(self, words, registers):
        for name, these, most in (("words", words, 1 << FIELDS["target"]),
                                  ("registers", registers, 1 << FIELDS["a"])):
            if len(these) > most:
                raise ValueError(f"at most {most} {name}, not {len(these)}")
        self._words, self._registers = words, registers
        super().__init__({
            "read": Out(ReadPort(32)), "write": Out(WritePort(32)), "bus_error": In(1),
            "awaddr": In(ADDR_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
            "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
            "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
            "araddr": In(ADDR_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
            "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
            "irq": Out(1), "running": Out(1), "failed": Out(1),
            "port": Out(FIELDS["port"]), "go": Out(1),
            "a": Out(32), "b": Out(32), "number_b": Out(32), "result": Out(32),
            "unit_b": Out(1), "add": Out(1),
            "stall": In(1), "sum": In(32), "product": In(32), "accumulator": In(32),
            "sum_overflow": In(1), "product_overflow": In(1), "overflow": In(1),
            "unit": Out(4), "started": Out(4), "done": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = Memory(shape=unsigned(Word.size), depth=len(self._words),
                                        init=self._words)
        m.submodules.registers = registers = Memory(
            shape=32, depth=1 << FIELDS["a"], init=self._registers)
        rom_port = rom.read_port()
        a_port, b_port = registers.read_port(), registers.read_port()
        d_port = registers.write_port()
        word = Signal(Word)
        execute, advance, go = Signal(), Signal(), Signal()
        first = Signal(init=1)  # there is no word yet
        number = Signal(FIELDS["target"])  # of this word
        m.d.comb += [
            word.eq(rom_port.data),
            rom_port.en.eq(advance),
            self.port.eq(word.port),
            go.eq(advance & ~first),
            self.go.eq(go),
        ]

        # start, reset and errors, between two words
        called, starting, fault = Signal(init=1), Signal(), Signal()

        # operands
        beat = Signal(32, reset_less=True)
        state = Signal(32)
        nonfinite, overflow = Signal(), Signal()
        source = Signal(32)
        m.d.comb += [
            state.eq(Cat((number + 1)[:len(number)], Const(0, 12), nonfinite, overflow,
                         Const(0, 7), starting)),
            self.a.eq(a_port.data),
            self.number_b.eq(b_port.data),
        ]
        with m.Switch(self._early(m, "source", word.source)):
            for code, value in ((Source.REGISTER, b_port.data), (Source.MEMORY, beat),
                                (Source.ACCUMULATOR, self.accumulator), (Source.STATE, state)):
                with m.Case(code):
                    m.d.comb += source.eq(value)
        canonical, infinite = self._cut(m, word.cut, source)

        carry = self._result(m, word, canonical)
        target = self._target(m, word, carry, number, b_port.data, called, fault)
        m.d.comb += rom_port.addr.eq(target)
        with m.If(advance):
            m.d.sync += [number.eq(target), first.eq(0), called.eq(0), fault.eq(0)]
            with m.If(called):
                m.d.sync += self.running.eq(0)

        # the two cycles of a word
        waiting, judged = Signal(), Signal()
        conditional = ~word.condition.matches(Condition.NEVER, Condition.ALWAYS, Condition.RETURN)
        age = Signal(range(NormalAdd.LATENCY + 1))
        memory_waits = self._memory(m, execute & ~first, go, word, beat)
        slow = (((word.operation == Operation.FADD) & (age != NormalAdd.LATENCY))
                | ((word.operation == Operation.FMUL) & (age != FloatMul.LATENCY)))
        m.d.comb += [
            waiting.eq(~first & (self.stall | memory_waits | slow)),
            advance.eq(execute & ~waiting & (first | judged | ~conditional)),
        ]
        m.d.sync += [
            execute.eq(~advance),
            judged.eq(execute & ~waiting & ~advance),
            age.eq(Mux(slow & execute, age + 1, 0)),
        ]

        self._flags(m, go, word, infinite, starting, nonfinite, overflow)
        with m.If(self.bus_error):
            m.d.sync += fault.eq(1)
        self._host(m, execute, go, word, a_port, b_port, d_port, called, starting)
        return m

    def _cut(self, m, cut, source):
        """self.b = what is used of `source`; returns (it as a canonical number, whether it was
        infinite or none)."""
        kind, part = cut[:3], cut[3:]
        is_nibble = kind == Cut.NIBBLE4
        top, odd_byte, odd_nibble, keep_byte, keep_half, whole, signed, wide = (
            self._early(m, name, value) for name, value in (
                ("top", part[1] | is_nibble),
                ("odd_byte", Mux(is_nibble, part[1], (kind == Cut.BYTE0) & part[0])),
                ("odd_nibble", is_nibble & part[0]),
                ("keep_byte", ~is_nibble),
                ("keep_half", ~is_nibble & (kind != Cut.BYTE0)),
                ("whole", kind == Cut.WHOLE),
                ("signed", kind == Cut.SIGNED_LOW),
                ("wide", kind == Cut.FP32)))
        half, byte = Signal(16), Signal(8)
        m.d.comb += [
            half.eq(Mux(top, source[16:], source[:16])),
            byte.eq(Mux(odd_byte, half[8:], half[:8])),
            self.b.eq(Cat(Mux(odd_nibble, byte[4:], byte[:4]),
                          byte[4:] & keep_byte.replicate(4),
                          half[8:] & keep_half.replicate(8),
                          source[16:] & whole.replicate(16) | (signed & half[15]).replicate(16))),
        ]
        return canonicalise("fp32", Mux(wide, source, Cat(Const(0, 16), half)))

    @staticmethod
    def _early(m, name, value):
        """`value`, made of the word, out of a register: the word is there a cycle before it is
        executed, and stays."""
        register = Signal(len(value), name=f"early_{name}", reset_less=True)
        m.d.sync += register.eq(value)
        return register

    def _result(self, m, word, canonical):
        """self.result; returns the carry of its sum."""
        total = Signal(33)
        is_sub = self._early(m, "is_sub", word.operation == Operation.SUB)
        operation = self._early(m, "operation", word.operation)
        m.d.comb += [
            total.eq((Cat(is_sub, self.a) + Cat(is_sub, self.b ^ is_sub.replicate(32))) >> 1),
            self.add.eq(operation == Operation.FADD),
        ]
        with m.Switch(operation):
            for code, value in ((Operation.AND, self.a & self.b), (Operation.XOR, self.a ^ self.b),
                                (Operation.FADD, self.sum), (Operation.FMUL, self.product),
                                (Operation.NUMBER, canonical)):
                with m.Case(code):
                    m.d.comb += self.result.eq(value)
            with m.Default():
                m.d.comb += self.result.eq(total)
        return total[32]

    def _target(self, m, word, carry, number, link, called, fault):
        """Number of the next word. What it depends on of the result is judged a cycle later."""
        target, follow, otherwise = (Signal(len(number), name=name)
                                     for name in ("target", "follow", "otherwise"))
        taken = Signal()
        r_carry, r_negative = Signal(reset_less=True), Signal(reset_less=True)
        r_ones = Signal(8, reset_less=True)  # of four bits of the result each
        m.d.sync += [
            r_carry.eq(carry),
            r_negative.eq(self.result[31]),
            r_ones.eq(Cat(self.result.word_select(k, 4).any() for k in range(8))),
        ]
        is_zero = r_ones == 0
        with m.Switch(word.condition):
            for code, value in ((Condition.ALWAYS, 1), (Condition.ZERO, is_zero),
                                (Condition.NONZERO, ~is_zero),
                                (Condition.CARRY, r_carry), (Condition.NO_CARRY, ~r_carry),
                                (Condition.NEGATIVE, r_negative)):
                with m.Case(code):
                    m.d.comb += taken.eq(value)
        m.d.comb += [
            follow.eq(word.target),
            otherwise.eq(Mux(word.condition == Condition.RETURN, link, number + 1)),
            target.eq(Mux(taken, follow, otherwise)),
        ]
        with m.If(called):
            m.d.comb += [follow.eq(0), otherwise.eq(0)]
        with m.Elif(fault & self.running):
            m.d.comb += [follow.eq(FAULT), otherwise.eq(FAULT)]
        return target

    def _flags(self, m, go, word, infinite, starting, nonfinite, overflow):
        """What words set and clear."""
        def on(port):
            return go & (word.port == port)

        m.d.comb += [self.started.eq(Mux(on(Port.STARTED), self.unit, 0)),
                     self.done.eq(Mux(on(Port.DONE), self.unit, 0)),
                     self.unit_b.eq(self.unit[1])]
        with m.If(on(Port.UNIT)):
            m.d.sync += self.unit.eq(Cat(self.result[8 * u] for u in range(4)))
        with m.If(on(Port.BEGIN)):
            m.d.sync += [nonfinite.eq(0), overflow.eq(0), self.running.eq(starting),
                         starting.eq(0)]
        with m.Else():
            with m.If(go & infinite & (word.operation == Operation.NUMBER)
                      & (word.source == Source.MEMORY)):
                m.d.sync += nonfinite.eq(1)
            with m.If(self.overflow | on(Port.OVERFLOW)
                      | go & self.sum_overflow & (word.operation == Operation.FADD)
                      | go & self.product_overflow & (word.operation == Operation.FMUL)):
                m.d.sync += overflow.eq(1)
        with m.If(on(Port.END)):
            m.d.sync += [self.running.eq(0), self.irq.eq(1), self.failed.eq(self.result != 0)]

    def _memory(self, m, execute, go, word, beat):
        """Accesses to memory; returns whether the word at hand waits for one."""
        read, write = self.read, self.write
        reading, writing = Signal(), Signal()  # a beat is on its way; what is written is, too
        sent = Signal()  # the command of a write has been taken
        accepted = Signal()  # all that the word at hand has for memory; not the same cycle: timing
        begins = execute & ~reading & ~writing & ~accepted
        is_write = execute & (word.port == Port.WRITE)
        m.d.comb += [
            read.cmd.payload.addr.eq(self.a),
            read.cmd.payload.len.eq(1),
            read.cmd.valid.eq(begins & (word.port == Port.READ)),
            read.data.ready.eq(1),
            write.cmd.payload.addr.eq(self.a),
            write.cmd.payload.len.eq(1),
            write.cmd.valid.eq(begins & is_write & ~sent),
            write.data.payload.eq(self.b),
            write.data.valid.eq(is_write & sent),
        ]
        with m.If(go):
            m.d.sync += accepted.eq(0)
        with m.If(read.cmd.valid & read.cmd.ready):
            m.d.sync += [reading.eq(1), accepted.eq(1)]
        with m.If(read.data.valid):
            m.d.sync += [reading.eq(0), beat.eq(read.data.payload)]
        with m.If(write.cmd.valid & write.cmd.ready):
            m.d.sync += sent.eq(1)
        with m.If(write.data.valid & write.data.ready):
            m.d.sync += [sent.eq(0), writing.eq(1), accepted.eq(1)]
        with m.If(write.ack):
            m.d.sync += writing.eq(0)
        waits = Signal()
        with m.Switch(word.port):
            with m.Case(Port.READ, Port.WRITE):
                m.d.comb += waits.eq(~accepted)
            with m.Case(Port.FLUSH):
                m.d.comb += waits.eq(writing)
        return waits | (word.source == Source.MEMORY) & reading

    def _host(self, m, execute, go, word, a_port, b_port, d_port, called, starting):
        """Registers: what words do with them, and the host in between."""
        writes = {name: REGISTERS[name] >> 2 for name in ("PROG_ADDR", "TIMEOUT")}
        pending = Signal()
        is_cycles = Signal(reset_less=True)
        cycles = Signal(32)
        write = Signal()
        m.d.comb += [
            write.eq(self.awvalid & self.wvalid & ~self.bvalid & ~execute),
            self.awready.eq(write),
            self.wready.eq(write),
            self.arready.eq(go & ~self.rvalid & ~pending
                            & (word.d != self.araddr[2:])),
            d_port.en.eq(go),
            d_port.addr.eq(word.d),
            d_port.data.eq(self.result),
            a_port.en.eq(~execute | self.arready),
            a_port.addr.eq(Mux(execute, self.araddr[2:], word.a)),
            b_port.en.eq(~execute),
            b_port.addr.eq(word.b),
        ]
        with m.If(write):
            m.d.comb += [
                d_port.en.eq(Cat(self.awaddr[2:] == index for index in writes.values()).any()),
                d_port.addr.eq(self.awaddr[2:]),
                d_port.data.eq(self.wdata),
            ]
            m.d.sync += self.bvalid.eq(1)
            with m.If((self.awaddr[2:] == REGISTERS["CTRL"] >> 2)
                      & (self.wdata[1] | self.wdata[0] & (called | ~self.running))):
                m.d.sync += [called.eq(1), starting.eq(self.wdata[0]), self.irq.eq(0)]
                with m.If(self.wdata[0]):
                    m.d.sync += self.failed.eq(0)
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)

        m.d.sync += pending.eq(self.arvalid & self.arready)
        with m.If(pending):
            m.d.sync += [self.rvalid.eq(1), self.rdata.eq(Mux(is_cycles, cycles, a_port.data))]
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(self.arvalid & self.arready):
            m.d.sync += is_cycles.eq(self.araddr[2:] == REGISTERS["CYCLES"] >> 2)

        with m.If(go & (word.port == Port.BEGIN)):
            m.d.sync += cycles.eq(0)
        with m.Elif(self.running):
            m.d.sync += cycles.eq(cycles + 1)
