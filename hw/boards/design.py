"""What a bitstream is made from."""

from dataclasses import dataclass, field

from amaranth.build import Platform
from amaranth.hdl import Elaboratable

__all__ = ["Design"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """A board's top level and the platform that it is built for.

    Parameters
    ----------
    platform : Platform
        Of amaranth-boards or our own: chip, pins and clock. A fresh one, as a platform is used up
        by a build.
    top : Elaboratable
        Makes its own clock domain `sync`.
    files : dict of str to str
        Verilog that the design needs besides, by file name.
    options : dict
        Of `platform.build`: for instance `synth_opts`, `nextpnr_opts`, `script_after_read`. The
        seed is added by whoever builds.
    target_hz : float
        Clock that the routed design must reach: that of the profile.

    Raises
    ------
    TypeError
        `platform` or `top` is something else.
    """

    platform: Platform
    top: Elaboratable
    files: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    target_hz: float

    def __post_init__(self):
        for name, kind in (("platform", Platform), ("top", Elaboratable)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be of type {kind.__name__}, not {value!r}")
