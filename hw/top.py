"""The device with its buses, and its Verilog."""

import argparse
import re
import sys
from dataclasses import fields

from amaranth.back import verilog as back
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from gradgate.hw.axi import AXIMaster
from gradgate.hw.config import Config, check_config
from gradgate.hw.control import Control
from gradgate.hw.core import Core
from gradgate.hw.link_commands import RegisterPort
from gradgate.hw.micro.core import MicroCore
from gradgate.hw.sequencer import UNITS

__all__ = ["AXITop", "verilog"]

NAME = "AXITop"
EVENTS = ("unit_start", "unit_done", "unit_active", "unit_waiting")


def _outer(component, prefix, names):
    """Signature members of `component` that are plain bus signals, renamed for the outside."""
    return {prefix + name: component.signature.members[name] for name in names}


class AXITop(wiring.Component):
    """Core with AXI4 masters to memory and an AXI4-Lite slave for the host.

    docs/architecture.md, sections 3 and 4. Clock `clk`, synchronous reset `rst`.

    Parameters
    ----------
    config : Config

    Members
    -------
    m_axi_*, m_axi1_*, m_axi2_*
        AXI4 masters, one per memory port: 32-bit addresses, beat_bits of data, one ID; see
        AXIMaster.
    s_axil_*
        AXI4-Lite slave; see Control.
    irq : Out(1)
        A program has ended or has been stopped by an error; low again after start or reset.
    unit_start, unit_done, unit_active, unit_waiting : Out(4)
        Events, by unit number; see Core.

    Raises
    ------
    TypeError
        `config` is not a Config.
    """

    def __init__(self, config):
        check_config(config)
        self._config = config
        self._masters = [AXIMaster(config) for _ in
                         range(max(config.read_ports, config.write_ports))]
        self._control = MicroCore(config) if config.core == "micro" else Control(config)
        control_names = list(RegisterPort().members)
        master_names = [n for n in self._masters[0].signature.members
                        if n not in ("read", "write", "error")]
        self._buses = [(self._control, "s_axil_", control_names)]
        for k, master in enumerate(self._masters):
            self._buses.append((master, f"m_axi{k or ''}_", master_names))
        members = {"irq": Out(1)} | {name: Out(len(UNITS)) for name in EVENTS}
        for bus in self._buses:
            members |= _outer(*bus)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.control = core = control = self._control
        if self._config.core == "units":
            m.submodules.core = core = Core(self._config)
            wiring.connect(m, control.core, core.control)
        for k, master in enumerate(self._masters):
            m.submodules[f"master{k}"] = master
        for port, master in zip(core.read, self._masters, strict=False):
            wiring.connect(m, port, master.read)
        for port, master in zip(core.write, self._masters, strict=False):
            wiring.connect(m, port, master.write)
        m.d.comb += [
            core.bus_error.eq(Cat(master.error for master in self._masters).any()),
            self.irq.eq(control.irq),
        ]
        m.d.comb += [getattr(self, name).eq(getattr(core, name)) for name in EVENTS]

        for inner, prefix, names in self._buses:
            for name in names:
                mine, its = getattr(self, prefix + name), getattr(inner, name)
                if inner.signature.members[name].flow == In:
                    m.d.comb += its.eq(mine)
                else:
                    m.d.comb += mine.eq(its)
        return m


def _settle(text):
    """Let constants take effect: `always @*` that reads nothing never runs.

    The back end writes that for constant bits of a signal whose other bits are not. Where it
    knows of the trap it reads a dummy register, which we do here as well.
    """
    def repair(module):
        dummy = re.search(r"^  reg (\\\$auto\$verilog_backend\S+ ) *= 0;$", module, re.M)
        constant = re.compile(r"^  always @\*\n(    \S.* = \d+'\w+;)$", re.M)
        if dummy is None:
            assert not constant.search(module)
            return module
        settled = f"  always @* begin\n    if ({dummy[1]}) begin end\n%s\n  end"
        return constant.sub(lambda found: settled % found[1], module)

    return "endmodule".join(map(repair, text.split("endmodule")))


def _without_empty(text):
    """Drop signals of width 0: nothing refers to them, and Verilog has none."""
    return re.sub(r"^  (?:wire|reg) \[-1:0\] .*;\n", "", text, flags=re.M)


def verilog(config):
    """AXITop as Verilog, module `AXITop`; the same text for the same configuration."""
    return _without_empty(_settle(back.convert(AXITop(config), name=NAME, emit_src=False)))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m gradgate.hw.top",
                                     description="Write the Verilog of a device.")
    for field in fields(Config):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type,
                            default=field.default, help=f"default {field.default}")
    options = parser.parse_args(argv)
    try:
        config = Config(**vars(options))
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(verilog(config))


if __name__ == "__main__":
    main()
