"""Pictures of benchmark results, as SVG for inline use in HTML.

Each function takes a result of `gradgate bench` (host/bench.py) and returns SVG text, or None if
the result lacks what the picture would show. `key`, of letters and digits, tells the pictures of a
page from each other.
"""

import io
import re

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402  (the backend must be chosen first)
from matplotlib.collections import PathCollection, PolyCollection  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import FuncFormatter, PercentFormatter  # noqa: E402

from .device import UNITS  # noqa: E402

__all__ = ["COLOURS", "cycles_of", "prediction", "roofline", "timeline", "utilisation"]

COLOURS = {"forward": "#3566b0", "dX": "#dd8a2e", "dW": "#2f9463", "update": "#8b6bb5"}
GREY, LIGHT = "#5b6472", "#e7eaef"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "text.color": "#1d2430",
    "axes.edgecolor": "#b8bfca",
    "axes.labelcolor": "#1d2430",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
}


def _picture(name, draw, size, **subplots):
    """SVG text of a figure that `draw(figure, axes)` fills."""
    with plt.rc_context(STYLE | {"svg.hashsalt": name}):
        figure, axes = plt.subplots(figsize=size, layout="constrained", **subplots)
        draw(figure, axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", dpi=200, transparent=True, metadata={"Date": None})
        plt.close(figure)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # the page decides the size; ids must differ between pictures of a page
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r'(id="|"#|url\(#)', rf"\g<1>{name}_", text)


def _colour(kind):
    return COLOURS.get(kind, GREY)


def _kinds(rows):
    return list(dict.fromkeys([k for k in COLOURS if any(r["pass"] == k for r in rows)]))


def cycles_of(row):
    """Measured cycles of a pass or of the total; predicted ones where nothing was measured."""
    return row["predicted_cycles"] if row["rtl_cycles"] is None else row["rtl_cycles"]


def utilisation(result, key=""):
    """Bars of the utilisation per layer, one per pass, and the mean of the whole step."""
    rows = [r for r in result["passes"] if r["utilisation"] and r["macs"]]
    if not rows:
        return None
    layers, kinds = list(dict.fromkeys(r["layer"] for r in rows)), _kinds(rows)
    mean = result["total"]["utilisation"]

    def draw(figure, axes):
        width = 0.8 / len(kinds)
        for k, kind in enumerate(kinds):
            own = [r for r in rows if r["pass"] == kind]
            places = [layers.index(r["layer"]) + (k - (len(kinds) - 1) / 2) * width for r in own]
            heights = [r["utilisation"] for r in own]
            axes.bar(places, heights, width * 0.92, color=_colour(kind), label=kind)
            if len(layers) <= 6:
                for x, y in zip(places, heights, strict=True):
                    text = axes.text(x, y + 0.02, f"{y:.0%}", ha="center", size=8, color=GREY)
                    text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        axes.axhline(mean, color="#1d2430", linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"whole step {mean:.1%}",
            (1, mean),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=9,
        )
        axes.set_xticks(range(len(layers)), layers, rotation=0 if len(layers) <= 9 else 40)
        axes.set(ylim=(0, 1.06), ylabel="utilisation of the array")
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=len(kinds))

    return _picture(f"utilisation{key}", draw, (10, 3.8))


def roofline(result, key=""):
    """Speed of each pass over its multiply-accumulates per byte, below the board's ceilings."""
    rows = [r for r in result["passes"] if r["macs"] and r["bytes"] and cycles_of(r)]
    if not rows:
        return None
    x = np.array([r["macs"] / r["bytes"] for r in rows])
    y = np.array([r["macs"] / cycles_of(r) for r in rows]) * result["clock_hz"] / 1e9
    share = np.array([cycles_of(r) for r in rows]) / cycles_of(result["total"])
    peak = result["ceilings"]["macs_per_s"] / 1e9
    memory = result["ceilings"]["memory_bytes_per_s"] / 1e9
    channels, knee = result["ceilings"]["memory_channels"], peak / memory

    def draw(figure, axes):
        left, right = min(x.min(), knee) / 1.8, max(x.max(), knee) * 1.8
        bottom = min(y.min(), left * memory / channels) / 1.3
        line = np.array([left, knee, right])
        axes.fill_between(line, np.minimum(line * memory, peak), bottom, color="#f3f5f8", lw=0)
        axes.plot(line, np.minimum(line * memory, peak), color="#1d2430", linewidth=1.5)
        if channels > 1:
            label = f"one of the memory's {channels} ports"
            axes.plot(
                [left, knee * channels],
                [left * memory / channels, peak],
                color=GREY,
                linewidth=1,
                linestyle=(0, (4, 3)),
                label=label,
            )
        for kind in _kinds(rows):
            own = [i for i, r in enumerate(rows) if r["pass"] == kind]
            axes.scatter(
                x[own],
                y[own],
                30 + 900 * share[own],
                color=to_rgba(_colour(kind), 0.6),
                edgecolor=_colour(kind),
                label=kind,
            )
        whole = result["total"]
        axes.scatter(
            whole["macs"] / whole["bytes"],
            whole["macs"] / cycles_of(whole) * result["clock_hz"] / 1e9,
            70,
            marker="D",
            color="#1d2430",
            label="whole step",
        )
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(left, right),
            ylim=(bottom, peak * 2),
            xlabel="multiply-accumulates per byte to or from memory",
            ylabel="10⁹ multiply-accumulates per second",
        )
        note = {"textcoords": "offset points", "size": 9, "color": GREY}
        axes.annotate(f"array: {peak:,.1f} GMAC/s", (right, peak), (-4, 6), ha="right", **note)
        slope = (max(left, bottom / memory) * knee) ** 0.5
        axes.annotate(
            f"memory: {memory:,.2f} GB/s", (slope, slope * memory), (-10, 2), ha="right", **note
        )
        _name_points(axes, [r["layer"] for r in rows], x, y, np.argsort(-share))
        legend = figure.legend(loc="outside upper left", ncols=5)
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([60])

    return _picture(f"roofline{key}", draw, (10, 4.6))


def _name_points(axes, names, x, y, order):
    """Write names at points, in the given order, where no other name is in the way."""
    places = axes.transData.transform(np.stack([x, y], 1))
    taken = []
    for i in order:
        if all(abs(places[i][0] - p) > 42 or abs(places[i][1] - q) > 14 for p, q in taken):
            taken.append(places[i])
            axes.annotate(
                names[i], (x[i], y[i]), (0, -16), textcoords="offset points", size=8, ha="center"
            )


def timeline(result, key=""):
    """What each unit did when, coloured by pass."""
    units, rows = result["timeline"], result["passes"]
    total = cycles_of(result["total"])
    if not units or not total:
        return None

    def draw(figure, axes):
        for place, unit in enumerate(reversed(UNITS)):
            part = {name: np.array(values) for name, values in units[unit].items()}
            axes.axhspan(place - 0.38, place + 0.38, color=LIGHT, linewidth=0)
            if not len(part["start"]):
                continue
            colours = np.array([to_rgba(_colour(rows[p]["pass"])) for p in part["pass"]])
            length = np.maximum(part["end"] - part["start"], 1)
            pale = colours * [1, 1, 1, 0.35]
            for share, colour in (
                (part["busy"] / length, pale),
                (part["active"] / length, colours),
            ):
                top = place - 0.38 + 0.76 * np.minimum(share, 1)
                low = np.full(len(top), place - 0.38)
                corners = [
                    [part["start"], part["start"], part["end"], part["end"]],
                    [low, top, top, low],
                ]
                axes.add_collection(
                    PolyCollection(
                        np.moveaxis(np.array(corners, float), 2, 0).swapaxes(1, 2),
                        facecolors=colour,
                        linewidths=0,
                        rasterized=True,
                    )
                )
        _layers(axes, rows, total)
        axes.set(xlim=(0, total), ylim=(-0.5, len(UNITS) + 0.05), xlabel="cycles")
        axes.set_yticks(range(len(UNITS)), reversed(UNITS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(visible=False)
        scale = 1e3 / result["clock_hz"]
        above = axes.secondary_xaxis("top", functions=(lambda c: c * scale, lambda t: t / scale))
        above.set_xlabel("milliseconds")
        handles = [Patch(color=_colour(kind), label=kind) for kind in _kinds(rows)]
        figure.legend(handles=handles, loc="outside upper left", ncols=4)

    return _picture(f"timeline{key}", draw, (10, 4.2))


def _layers(axes, rows, total):
    """Ends of the passes, and their layers where there is room for the name."""
    begin = 0
    for row in rows:
        end = begin + cycles_of(row)
        axes.plot([end, end], [-0.5, len(UNITS) - 0.45], color="white", linewidth=0.6)
        if (end - begin) / total > 0.0065 * max(3, len(row["layer"])):
            axes.text(
                (begin + end) / 2,
                len(UNITS) - 0.42,
                row["layer"],
                ha="center",
                va="bottom",
                size=7.5,
                color=_colour(row["pass"]),
            )
        begin = end


def prediction(result, key=""):
    """Predicted over measured cycles per pass, and the error of each."""
    rows = [r for r in result["passes"] if r["rtl_cycles"] and r["predicted_cycles"]]
    if not rows:
        return None
    real, guess = (
        np.array([r[k] for r in rows], float) for k in ("rtl_cycles", "predicted_cycles")
    )
    error = guess / real - 1
    worst = max(0.012, np.abs(error).max() * 1.15)

    def draw(figure, axes):
        left, right = axes
        ends = [min(real.min(), guess.min()) / 1.6, max(real.max(), guess.max()) * 1.6]
        left.plot(ends, ends, color=GREY, linewidth=1)
        right.axhspan(-0.01, 0.01, color="#eef3ee", linewidth=0, label="within 1 %")
        right.axhline(0, color=GREY, linewidth=1)
        for kind in _kinds(rows):
            own = [i for i, r in enumerate(rows) if r["pass"] == kind]
            style = {"color": _colour(kind), "s": 34, "edgecolor": "white", "linewidth": 0.5}
            left.scatter(real[own], guess[own], label=kind, **style)
            right.vlines(own, 0, error[own], color=_colour(kind), linewidth=1.5)
            right.scatter(own, error[own], **style)
        left.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            aspect="equal",
            xlabel="measured cycles",
            ylabel="predicted cycles",
        )
        right.set(ylim=(-worst, worst), xlim=(-0.7, len(rows) - 0.3), ylabel="error of prediction")
        right.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        right.set_xticks(
            range(len(rows)), [f"{r['layer']} {r['pass']}" for r in rows], rotation=90, size=7
        )
        right.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=5)

    return _picture(
        f"prediction{key}",
        draw,
        (10, 4.4),
        ncols=2,
        gridspec_kw={"width_ratios": (1, 1.7)},
    )
