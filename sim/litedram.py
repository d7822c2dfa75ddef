"""LiteDRAM's Verilog in simulations."""

from pathlib import Path

__all__ = ["options"]

CELLS = Path(__file__).parent / "ecp5.v"


def options(controller):
    """Arguments of verilate.build for a design around the Verilog of a gradgate.dram.Controller.

    The data pins `dq` become `dq`, what the chip drives, `dq__out` and `dq__en`.
    """
    return {"others": controller.verilog + CELLS.read_text(),
            "flags": ["--pins-inout-enables", "--timescale", "1ns/1ps"]}
