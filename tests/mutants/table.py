"""The mutants: each breaks one rule of docs/ in one place, and names the tests that must notice."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutant", "MUTANTS"]


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Parameters
    ----------
    name : str
    file : str
        Path in the tree.
    old, new : str
        The text that is replaced, which occurs once in the file, and what replaces it.
    breaks : str
        The rule that is broken.
    tests : tuple of str
        Files or node ids for pytest: the fastest that notice.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]

    def apply(self, tree):
        """Make the mistake in the copy `tree`. Raises ValueError if `old` is not there once."""
        path = Path(tree) / self.file
        text = path.read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {count} times in {self.file}: {self.old!r}")
        path.write_text(text.replace(self.old, self.new))


MUTANTS = (
    # arithmetic
    Mutant("rounding-dropped", "hw/floats.py",
           "up.eq(guard & (sticky | fraction[0])),", "up.eq(0),",
           "fp32 results are truncated",
           ("tests/hw/test_floats.py::test_result_and_latency",)),
    Mutant("ties-away", "hw/floats.py",
           "up.eq(guard & (sticky | fraction[0])),", "up.eq(guard),",
           "ties round away from zero, not to even",
           ("tests/hw/test_floats.py::test_result_and_latency",)),
    Mutant("sticky-lost", "hw/floats.py",
           "sticky |= r1_distance[bit] & aligned[:step].any()", "pass",
           "bits shifted out of a sum are forgotten, so it rounds twice",
           ("tests/hw/test_floats.py::test_result_and_latency",)),
    Mutant("subnormals-kept", "hw/floats.py",
           "exponent.any() & ~nonfinite", "~nonfinite",
           "subnormals and -0 enter from memory",
           ("tests/hw/test_floats.py::test_canonicalise",)),
    Mutant("negative-products-short", "hw/dot.py",
           "reduce_tree(add, signs))", "0)",
           "every negative product is one unit of the frame too small",
           ("tests/hw/test_dot.py::test_dotacc_and_latency",)),
    Mutant("dead-lanes", "hw/dot.py",
           "Mux(live, exp_a + exp_b, 0)", "exp_a + exp_b",
           "the largest exponent may be that of a lane with a zero",
           ("tests/hw/test_dot.py::test_dotacc_and_latency",)),
    Mutant("masked-lanes", "hw/compute.py",
           "(live(found) & ~other)", "live(found)",
           "the largest exponent may be that of a lane whose tag is another one",
           ("tests/hw/test_compute.py::test_lanes_that_do_not_count",)),
    # array
    Mutant("stationary-tap-step", "hw/stationary.py",
           "((now.at0, now.bt0, now.tg0), (now.at1,", "((now.at1, now.bt0, now.tg0), (now.at1,",
           "the stationary tile of the next column of taps is at the wrong address",
           ("tests/hw/test_stationary.py",)),
    Mutant("moving-tap-step", "hw/moving.py",
           "Mux(now.dw, now.bt1, now.bq1), now.cq1)", "Mux(now.dw, now.bt0, now.bq1), now.cq1)",
           "weight gradient: the next row of taps is at the wrong address",
           ("tests/hw/test_moving.py",)),
    Mutant("tap-skew", "hw/moving.py",
           "row + self.rskew, row)", "row + 1, row)",
           "weight gradient: the skew of a row of taps ignores the width of the map",
           ("tests/hw/test_moving.py",)),
    Mutant("partial-chunk", "hw/stationary.py",
           "limit.eq(Mux(short, left, tn))", "limit.eq(tn)",
           "weight gradient: lanes beyond the last pixel count",
           ("tests/hw/test_stationary.py",)),
    Mutant("stale-tile", "hw/stationary.py",
           "lanes.ready & (rows_done | (do_row & last_row))", "lanes.ready",
           "a sweep begins before its stationary tile is complete",
           ("tests/hw/test_stationary.py",)),
    Mutant("fence-ignored", "hw/moving.py",
           "free & ~(new.fence & self.i.payload.head & settling)", "free",
           "an instruction with `fence` starts before the accumulators are written",
           ("tests/hw/test_moving.py",)),
    Mutant("swapped-lanes", "hw/buffer.py",
           "addr.word_select(b, addr_bits)", "addr.word_select(b ^ 1, addr_bits)",
           "neighbouring banks get each other's address",
           ("tests/hw/test_buffer.py",)),
    Mutant("overwrite-ignored", "hw/accumulators.py",
           "Mux(clear, 0, Mux(upper, words[1], words[0]))",
           "Mux(upper, words[1], words[0])",
           "`first` adds to what is there",
           ("tests/hw/test_accumulators.py",)),
    Mutant("groups-at-once", "hw/accumulators.py",
           "now = group.o", "pass",
           "all groups of rows read and write in the cycle of the first",
           ("tests/hw/test_accumulators.py",)),
    Mutant("tiles-at-once", "hw/operands.py",
           "row, vector, filled, swap = near_row, near_vector, following[:-1], following[-1]",
           "row, vector = near_row, near_vector",
           "all groups of rows take their tile in the cycle of the first",
           ("tests/hw/test_operands.py",)),
    Mutant("drained-at-once", "hw/drain.py",
           "place, tag = following[:len(place)], following[len(place):]", "pass",
           "all groups of rows are reduced in the cycle of the first",
           ("tests/hw/test_drain.py",)),
    # counters
    Mutant("counters-kept", "hw/counters.py",
           "Mux(r1_old, 0, r_port.data)", "r_port.data",
           "counters go on from what the program before has counted",
           ("tests/hw/test_counters.py",)),
    Mutant("counters-too-early", "hw/control.py",
           "counts & asked.all() & (", "counts & (",
           "a counter is shown without the last events before it was asked for",
           ("tests/hw/test_control.py::test_counters_while_they_count",)),
    Mutant("no-high-halves", "hw/control.py",
           "high.eq(counters.value[32:])", "high.eq(0)",
           "counters have 32 bits",
           ("tests/hw/test_control.py::test_counters_beyond_32_bits",)),
    # memory
    Mutant("padding-column", "hw/places.py",
           "(i0 < f.hi0)", "(i0 <= f.hi0)",
           "the first column of padding is read from memory",
           ("tests/hw/test_load.py::test_random",)),
    Mutant("padneg-ignored", "hw/places.py",
           "Mux(f.padneg, lowest, 0)", "0",
           "maximum pooling pads with zero",
           ("tests/hw/test_load.py::test_random",)),
    Mutant("unpooling-stride", "hw/places.py",
           "tap_row + f.v0", "tap_row + f.u0",
           "the tags of a window are counted by the stride of the pooling, not by its kernel",
           ("tests/hw/test_load.py::test_unpool",)),
    Mutant("unpooling-below", "hw/places.py",
           "(row < f.a2)", "(row <= f.a2)",
           "unpooling writes the row below the map",
           ("tests/hw/test_load.py::test_unpool",)),
    Mutant("burst-crosses-4k", "hw/dma.py",
           "piece_end - Mux(joins, burst_low, piece_low)", "piece_end - Mux(joins, burst_low, 0)",
           "bursts are as long as if their block were theirs alone, across 4 KiB boundaries",
           ("tests/hw/test_dma.py::test_bursts_are_aligned",)),
    # vector unit
    Mutant("first-winner", "hw/drain.py",
           "a[:31]) > Cat", "a[:31]) >= Cat",
           "the last of equal elements wins a pooling window",
           ("tests/hw/test_drain.py::test_random_walks",)),
    Mutant("relu-missing", "hw/vector.py",
           "(relu & add[i].o[31]) | ~keep[i]", "~keep[i]",
           "ReLU passes negative numbers",
           ("tests/hw/test_vector.py::test_steps",)),
    Mutant("mask-of-zero", "hw/vector.py",
           "(~opd[31] & opd.any())", "~opd[31]",
           "gradients pass where the output of ReLU is zero",
           ("tests/hw/test_vector.py::test_steps",)),
    Mutant("step-sign", "hw/vector.py",
           "~rate[i].o[31] & rate[i].o.any()", "rate[i].o[31]",
           "SGD ascends",
           ("tests/hw/test_vector.py::test_steps",)),
    Mutant("weight-for-momentum", "hw/vector.py",
           "factors(momentum[i], f\"momentum_{i}\", self.mom[i], mu)",
           "factors(momentum[i], f\"momentum_{i}\", self.opd[i], mu)",
           "SGD scales the weight, not the momentum",
           ("tests/hw/test_vector.py::test_steps",)),
    Mutant("result-read-early", "hw/transfers.py",
           "self.src.valid.eq(self.alone)", "self.src.valid.eq(1)",
           "POST reads a result that is not in memory yet",
           ("tests/hw/test_post.py::test_results_read_again",)),
    Mutant("format-of-another", "hw/post.py",
           "insn.sgd | insn.opd_fp32 | ~(insn.opd_add | insn.mask)",
           "insn.sgd | ~(insn.opd_add | insn.mask)",
           "an operand in fp32 is taken for one of the format of operands",
           ("tests/hw/test_post.py::test_one_by_one",)),
    # memory ports
    Mutant("beats-overflow", "hw/litedram.py",
           "beats.w_level < self.DEPTH - 1", "beats.w_level < self.DEPTH + 1",
           "beats to be written are taken without a place for them",
           ("tests/hw/test_litedram.py::test_random",)),
    Mutant("refresh-twice", "host/dram.py",
           "self.sync += [self.cmd.valid.eq(early.valid), self.cmd.last.eq(early.last)]",
           "self.sync += self.cmd.valid.eq(early.valid); self.comb += self.cmd.last.eq(early.last)",
           "LiteDRAM leaves a refresh before its banks know that it is over",
           ("tests/sim/test_sdram.py::test_streams_take_what_the_profile_says",)),
    Mutant("acknowledgement-astray", "hw/arbiter.py",
           "acks.w_data.eq(grant)", "acks.w_data.eq(0)",
           "all acknowledgements go to the first initiator",
           ("tests/hw/test_arbiter.py::test_random_writes",)),
    Mutant("beat-before-command", "hw/arbiter.py",
           """\
        with m.If(take):
            m.d.sync += [asked.index.eq(grant), asked.len.eq(length)]
        m.d.comb += [
            owners.w_data.eq(asked),
            owners.w_en.eq(cmd.valid & cmd.ready),
""",
           """\
        m.d.comb += [
            asked.index.eq(grant), asked.len.eq(length),
            owners.w_data.eq(asked),
            owners.w_en.eq(take),
""",
           "a beat is offered before the command of its burst has been taken",
           ("tests/hw/test_arbiter.py::test_random_writes",)),
    Mutant("turnaround-free", "sim/channel.h",
           "!open || its != row || queue->write != write", "!open || its != row",
           "a memory that turns from reads to writes loses no time",
           ("tests/sim/test_memory.py::test_random_bursts",)),
    Mutant("refresh-keeps-rows", "sim/memory.h",
           "if (time.tick(now))", "if (time.tick(now) && false)",
           "rows stay open during a refresh",
           ("tests/sim/test_memory.py::test_random_bursts",)),
    # control
    Mutant("token-lost", "hw/sequencer.py",
           "self.tokens[k].eq(self.tokens[k] + give - taken[k])",
           "self.tokens[k].eq(Mux(taken[k], self.tokens[k] - 1, self.tokens[k] + give))",
           "a token that is given while another is taken is lost",
           ("tests/hw/test_sequencer.py::test_random_programs",)),
    Mutant("mask-of-another", "hw/issue.py",
           "masks[oldest], 0)", "_field(head, \"signal\"), 0)",
           "an instruction signals with the mask of the one behind it",
           ("tests/hw/test_sequencer.py::test_masks_stay_with_their_instructions",)),
    # model
    Mutant("small-core-lanes", "hw/micro/array.py",
           "config.lane_bits] < limit)", "config.lane_bits] <= limit)",
           "the small core has a lane more than there are channels",
           ("tests/hw/micro/test_array.py",)),
    Mutant("small-core-unselected", "hw/micro/array.py",
           "Mux(chosen[k], stored[k], 0)", "stored[k]",
           "the small core undoes a pooling without its tags",
           ("tests/hw/micro/test_array.py",)),
    Mutant("model-truncates", "sim/model_numerics.h",
           "(word + 0x7fff + (word >> 16 & 1)) >> 16", "word >> 16",
           "the model truncates to bf16",
           ("tests/sim/test_model.py::test_scalars",)),
    Mutant("model-rounds-twice", "sim/model_array.h",
           "word += step & (rest != 0) & ((word & 1) - 1);", "",
           "the model rounds a sum to double and then to fp32",
           ("tests/sim/test_model.py::test_dotacc_rounds_once",)),
    Mutant("model-rounds-twice-when-small", "sim/model_numerics.h",
           "if (rest != 0 && !(word & 1)) word +=", "if (false) word +=",
           "the same, where a result is close to 2^-126",
           ("tests/sim/test_model.py::test_dotacc_rounds_once_near_the_smallest",)),
    Mutant("model-infinity", "sim/model_array.h",
           "((size < 0x01000000) | (size >= 0x7f800000))", "(size < 0x01000000)",
           "sums of the model do not saturate",
           ("tests/sim/test_model.py::test_dotacc",)),
    Mutant("model-tag", "sim/model_post.cpp",
           "uint32_t tag = j1 * w0 + j0;", "uint32_t tag = j0 * w1 + j1;",
           "the model counts the elements of a pooling window by columns",
           ("tests/sim/test_model.py::test_random_programs",)),
    # compiler
    Mutant("taps-not-rotated", "host/backward.py",
           "\"bt1\": -cols[1],", "\"bt1\": cols[1],",
           "the gradient of a map is a correlation, not the transposed convolution",
           ("tests/host/test_gradients.py::test_layers",)),
    Mutant("bias-misplaced", "host/forward.py",
           "((block + 1) * weights.entries - 1) * weights.entry_bytes",
           "block * weights.entries * weights.entry_bytes",
           "the bias is read from the first entry of a block, not the last",
           ("tests/host/test_gradients.py::test_layers",)),
    Mutant("write-after-read", "host/program.py",
           "(writes, (\"writers\", \"readers\"))", "(writes, (\"writers\",))",
           "a buffer is refilled while it is still read",
           ("tests/host/test_program.py::test_tokens_order_all_hazards",)),
    Mutant("buffer-trusted", "host/runtime.py",
           "resident = self._buffers is plan", "resident = True",
           "dX takes weights from buffer A that are there no more, or are others",
           ("tests/host/test_resident.py",)),
    Mutant("waiting-overwritten", "host/buffers.py",
           "if size > self.background.free(self._region):", "if False:",
           "gradients that wait in the accumulators are overwritten",
           ("tests/host/test_background.py",)),
    Mutant("refresh-served", "host/refreshes.py",
           "begin = self.resumed(begin)", "pass",
           "memory serves from the middle of a refresh on",
           ("tests/host/test_refreshes.py",)),
)
