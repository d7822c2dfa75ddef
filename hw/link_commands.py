"""Carries out the requests of the host: reads and writes of memory and of registers.

Datapath registers are reset-less, control registers are reset.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from gradgate.hw.config import check_config
from gradgate.hw.control import ADDR_BITS
from gradgate.hw.link_format import CHECK, IDENTITY
from gradgate.hw.link_stuffing import Token
from gradgate.hw.port import ReadPort, WritePort

__all__ = ["RegisterPort", "Commands"]

_WORD = 4  # bytes


class RegisterPort(wiring.Signature):
    """AXI4-Lite with 32 data bits, seen from the master; the names of Control's members."""

    def __init__(self):
        super().__init__({
            "awaddr": Out(ADDR_BITS), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(ADDR_BITS), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
        })

    def __eq__(self, other):
        return isinstance(other, RegisterPort)


class Commands(wiring.Component):
    """Takes requests, answers each: docs/link.md, section 3.

    Memory is accessed one beat at a time, each written beat acknowledged before the next, so that
    bursts of the engine never wait for the line. With memory that answers after l cycles a beat
    takes about `l + beat_bytes + 5`, much less than on the line. About 220 LUT4 on iCE40 with beats
    of 32 bits and 17 bits of address.

    Parameters
    ----------
    config : Config
    identity : bytes
        What is read at register address IDENTITY, a multiple of four; at most 256 bytes.

    Members
    -------
    i : In(stream.Signature(8))
        Whole requests.
    o : Out(stream.Signature(Token))
        Responses.
    read : Out(ReadPort(beat_bits))
    write : Out(WritePort(beat_bits))
    registers : Out(RegisterPort)

    Raises
    ------
    TypeError
        `config` is not a Config.
    ValueError
        `identity` has a length that is not possible.
    """

    def __init__(self, config, identity):
        check_config(config)
        if not 0 < len(identity) <= 256 or len(identity) % _WORD:
            raise ValueError(f"identity must be of 4 to 256 bytes, a multiple of four, "
                             f"not of {len(identity)}")
        self._config, self._identity = config, bytes(identity)
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(stream.Signature(Token)),
            "read": Out(ReadPort(config.beat_bits)),
            "write": Out(WritePort(config.beat_bits)),
            "registers": Out(RegisterPort()),
        })

    def elaborate(self, platform):
        m = Module()
        beat_bytes = self._config.beat_bytes
        i, o, registers = self.i, self.o, self.registers

        # the request
        is_write, is_register, repeated = Signal(), Signal(), Signal()
        address = Signal(32, reset_less=True)
        words = Signal(7, reset_less=True)  # to go
        last = Signal(8)  # sequence number of the last write to registers
        fresh = Signal(init=1)  # no session has been opened since reset

        # the unit that is moved, a word of a register or a beat of memory, and a byte in it
        unit = Signal(max(32, self._config.beat_bits), reset_less=True)
        index = Signal(range(max(_WORD, beat_bytes)))
        filled = Mux(is_register, index == _WORD - 1, index == beat_bytes - 1)
        is_done = words == 0

        def take_byte():
            """Count the byte that passes."""
            m.d.sync += index.eq(Mux(filled, 0, index + 1))
            with m.If(index[:2] == _WORD - 1):
                m.d.sync += words.eq(words - 1)

        # tables of this size cost less as RAM than as logic
        m.submodules.identity = rom = Memory(shape=8, depth=256, init=self._identity)
        rom_port = rom.read_port()
        m.d.comb += [
            self.read.cmd.payload.addr.eq(address),
            self.read.cmd.payload.len.eq(1),
            self.write.cmd.payload.addr.eq(address),
            self.write.cmd.payload.len.eq(1),
            self.write.data.payload.eq(unit[-self._config.beat_bits:]),
            rom_port.addr.eq(Cat(index[:2], address[2:8])),
            registers.awaddr.eq(address),
            registers.araddr.eq(address),
            registers.wdata.eq(unit[-32:]),
            registers.wstrb.eq(0b1111),
            o.payload.byte.eq(i.payload),
        ]
        aw_taken, w_taken = Signal(), Signal()  # of the present write to a register
        with m.If(registers.awready):
            m.d.sync += aw_taken.eq(1)
        with m.If(registers.wready):
            m.d.sync += w_taken.eq(1)

        with m.FSM():
            with m.State("OPERATION"):
                m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready), o.payload.byte[7].eq(fresh)]
                m.d.sync += [is_write.eq(i.payload[0]), is_register.eq(i.payload[1]), index.eq(0)]
                with m.If(i.valid & o.ready):
                    m.next = "WORDS"
            with m.State("WORDS"):
                m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready)]
                m.d.sync += words.eq(i.payload)
                with m.If(i.valid & o.ready):
                    m.next = "NUMBER"
            with m.State("NUMBER"):
                m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready)]
                with m.If(i.valid & o.ready):
                    m.d.sync += repeated.eq(i.payload == last)
                    with m.If(is_write & is_register):
                        m.d.sync += [last.eq(i.payload), fresh.eq(fresh & ~is_done)]
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid):
                    m.d.sync += [address.eq(Cat(i.payload, address)), index.eq(index + 1)]
                    with m.If(index[:2] == 3):
                        m.d.sync += index.eq(0)
                        m.next = "NEXT"

            with m.State("NEXT"):
                with m.If(is_done):
                    m.next = "SUM"
                with m.Elif(is_write):
                    m.next = "FILL"
                with m.Elif(~is_register):
                    m.next = "READ_MEMORY"
                with m.Elif((address & IDENTITY).any()):
                    m.next = "LOOK_UP"
                with m.Else():
                    m.next = "READ_REGISTER"
            with m.State("ADVANCE"):
                step = Mux(is_register, 1, beat_bytes // _WORD)
                m.d.sync += address[2:8].eq(address[2:8] + step)  # a request keeps to 256 bytes
                m.next = "NEXT"

            with m.State("FILL"):
                m.d.comb += i.ready.eq(~is_done)
                with m.If(is_done):  # not a multiple of the beat
                    m.d.sync += index.eq(0)
                    m.next = "SUM"
                with m.Elif(i.valid):
                    m.d.sync += unit.eq(Cat(unit[8:], i.payload))
                    take_byte()
                    with m.If(filled):
                        m.next = "WRITE_MEMORY"
                        with m.If(is_register):
                            m.d.sync += [aw_taken.eq(0), w_taken.eq(0)]
                            m.next = "WRITE_REGISTER"
                            with m.If(repeated | fresh):
                                m.next = "ADVANCE"
            with m.State("WRITE_MEMORY"):
                m.d.comb += self.write.cmd.valid.eq(1)
                with m.If(self.write.cmd.ready):
                    m.next = "WRITE_BEAT"
            with m.State("WRITE_BEAT"):
                m.d.comb += self.write.data.valid.eq(1)
                with m.If(self.write.data.ready):
                    m.next = "ACKNOWLEDGE"
            with m.State("ACKNOWLEDGE"):
                with m.If(self.write.ack):
                    m.next = "ADVANCE"
            with m.State("WRITE_REGISTER"):
                m.d.comb += [
                    registers.awvalid.eq(~aw_taken),
                    registers.wvalid.eq(~w_taken),
                    registers.bready.eq(1),
                ]
                with m.If(registers.bvalid):
                    m.next = "ADVANCE"

            with m.State("READ_MEMORY"):
                m.d.comb += self.read.cmd.valid.eq(1)
                with m.If(self.read.cmd.ready):
                    m.next = "READ_BEAT"
            with m.State("READ_BEAT"):
                m.d.comb += self.read.data.ready.eq(1)
                m.d.sync += unit.eq(self.read.data.payload)
                with m.If(self.read.data.valid):
                    m.next = "EMIT"
            with m.State("READ_REGISTER"):
                m.d.comb += registers.arvalid.eq(1)
                with m.If(registers.arready):
                    m.next = "READ_WORD"
            with m.State("READ_WORD"):
                m.d.comb += registers.rready.eq(1)
                m.d.sync += unit.eq(registers.rdata)
                with m.If(registers.rvalid):
                    m.next = "EMIT"
            with m.State("LOOK_UP"):
                m.next = "EMIT_IDENTITY"
            with m.State("EMIT_IDENTITY"):
                m.d.comb += [o.payload.byte.eq(rom_port.data), o.valid.eq(1)]
                with m.If(o.ready):
                    take_byte()
                    m.next = "LOOK_UP"
                    with m.If(filled):
                        m.next = "ADVANCE"
            with m.State("EMIT"):
                m.d.comb += [o.payload.byte.eq(unit[:8]), o.valid.eq(~is_done)]
                with m.If(is_done):  # not a multiple of the beat
                    m.d.sync += index.eq(0)
                    m.next = "SUM"
                with m.Elif(o.ready):
                    m.d.sync += unit.eq(Cat(unit[8:], i.payload))
                    take_byte()
                    with m.If(filled):
                        m.next = "ADVANCE"

            with m.State("SUM"):  # it has been checked
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index[:2] == CHECK - 1):
                        m.next = "END"
            with m.State("END"):
                m.d.comb += [o.valid.eq(1), o.payload.end.eq(1)]
                with m.If(o.ready):
                    m.next = "OPERATION"
        return m
