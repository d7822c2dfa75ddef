"""How long a program will take, whatever core is to execute it."""

from . import micro, timeline

__all__ = ["predict"]


def predict(program, config, timing):
    """timeline.Prediction for a Program on a device with Config `config` and MemoryTiming `timing`:
    of the four units that work at once, or of the small core."""
    return (micro if config.core == "micro" else timeline).predict(program, config, timing)
