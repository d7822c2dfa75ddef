"""The HTML page of benchmark results: one file, no scripts, nothing from the network."""

from html import escape

from . import charts
from .charts import COLOURS, cycles_of
from .device import UNITS

__all__ = ["page"]

CSS = """
:root { color-scheme: light; --ink: #1d2430; --grey: #5b6472; --line: #dfe3ea; --back: #f5f6f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 21px; margin: 44px 0 2px; }
h3 { font-size: 16px; margin: 0 0 2px; } p { margin: 4px 0 10px; } .grey { color: var(--grey); }
section.card, figure { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 20px; margin: 14px 0; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { color: var(--grey); margin-bottom: 10px; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 12px 0; }
.tile { flex: 1 1 150px; background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 14px; }
.tile b { display: block; font-size: 20px; } .tile span { color: var(--grey); font-size: 13px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: 3px 9px; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--line); }
th { color: var(--grey); font-weight: 600; } tr.total td { font-weight: 700; border-bottom: 0; }
td.left, th.left { text-align: left; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 6px; }
.bad { color: #b3261e; } code { background: #eef0f4; border-radius: 4px; padding: 1px 5px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 16px; margin: 8px 0 0; }
dt { font-weight: 600; } dd { margin: 0; }
"""

GLOSSARY = {
    "forward": "the network computes its outputs",
    "dX": "gradients flow back from a layer's output to its input; the first layer needs none",
    "dW": "gradients of a layer's weights, and with them the update of the weights",
    "update": "weights are converted to the number format of the array, where that differs",
    "MAC": "a multiply-accumulate; only those that the network defines count; it makes two"
    " floating-point operations (FLOP)",
    "utilisation": "MACs / (cycles x multipliers of the array): 100 % means that every multiplier"
    " did useful work in every cycle",
    "LOAD_A, LOAD_B": "units that fill the tile buffers from memory",
    "COMPUTE": "the array of multipliers",
    "POST": "the unit that takes results to memory: bias, ReLU, pooling, weight update",
}

PICTURES = (
    (
        "Utilisation",
        charts.utilisation,
        "How to read it: the higher a bar, the larger the share of the multipliers that did useful"
        " work during that layer and pass; the dashed line is the whole training step.",
    ),
    (
        "Roofline",
        charts.roofline,
        "How to read it: the black line is what memory (on the slope) and the array (where it is"
        " flat) allow; the closer a circle comes to it, the better, the larger it is, the more of"
        " the time it takes, and only a pass whose transfers run during its neighbours' time can be"
        " above the slope.",
    ),
    (
        "Timeline",
        charts.timeline,
        "How to read it: time runs from left to right through one training step; where a unit's"
        " band is pale it is busy, where it is solid it does useful work (the height is the share"
        " of the cycles), and where it is grey it has nothing to do or waits for another unit.",
    ),
    (
        "Predicted against measured",
        charts.prediction,
        "How to read it: each point is one layer and pass; on the left, points on the line are"
        " predicted exactly, and on the right, points in the green band to within 1 %.",
    ),
)


def page(results):
    """HTML text for a list of results of `gradgate bench` (host/bench.py)."""
    title = "gradgate: where the cycles of a training step go"
    parts = [
        f"<h1>{title}</h1>",
        '<p class="grey">One training step (forward, backward, weight update) of each network,'
        " cycle by cycle.</p>",
        _overview(results) if len(results) > 1 else "",
        _glossary(),
        *(_result(result, f"r{i}") for i, result in enumerate(results)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body>\n</html>\n"
    )


def _glossary():
    terms = "".join(
        f"<dt>{_dot(name)}{name}</dt><dd>{escape(text)}</dd>" for name, text in GLOSSARY.items()
    )
    return f'<section class="card"><h3>Words</h3><dl>{terms}</dl></section>'


def _dot(kind):
    colour = COLOURS.get(kind)
    return f'<span class="dot" style="background:{colour}"></span>' if colour else ""


def _number(value, form=",.0f", unit=""):
    return "–" if value is None else format(value, form) + unit


def _speed(result):
    """(images per second, GFLOP/s), or (None, None)."""
    seconds = result["total"]["seconds"]
    if not seconds:
        return None, None
    return result["batch"] / seconds, 2e-9 * result["total"]["macs"] / seconds


def _heading(result):
    return f"{escape(result['net'])}, batch {result['batch']}, on {escape(result['board'])}"


def _table(heads, rows, left):
    """A table; `rows` are (class, cells), the first `left` columns hold words."""

    def cells(tag, values):
        return "".join(
            f"<{tag}{' class=left' if i < left else ''}>{value}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "".join(f'<tr class="{kind}">{cells("td", values)}</tr>\n' for kind, values in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", heads)}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _overview(results):
    heads = "network", "cycles", "predicted", "utilisation", "images/s", "GFLOP/s"
    rows = []
    for i, result in enumerate(results):
        total, (images, flops) = result["total"], _speed(result)
        rows.append(
            (
                "",
                (
                    f'<a href="#r{i}">{_heading(result)}</a>',
                    _number(total["rtl_cycles"]),
                    _number(total["predicted_cycles"]),
                    _number(total["utilisation"], ".1%"),
                    _number(images, ",.1f"),
                    _number(flops, ",.2f"),
                ),
            )
        )
    return f'<section class="card"><h3>Results</h3>{_table(heads, rows, 1)}</section>'


def _result(result, anchor):
    parts = [
        f'<h2 id="{anchor}">{_heading(result)}</h2>',
        f'<p class="grey">{escape(result["description"])}; {result["clock_hz"] / 1e6:g} MHz; '
        f"commit {escape(result['commit'])}, {escape(result['date'][:10])}; "
        f"<code>{escape(result['command'])}</code></p>",
        _verdict(result),
        _tiles(result),
    ]
    for title, draw, caption in PICTURES:
        svg = draw(result, anchor)
        if svg:
            parts.append(
                f"<figure><h3>{title}</h3><figcaption>{caption}</figcaption>{svg}</figure>"
            )
    parts += [_passes(result), _units(result)]
    return "\n".join(parts)


def _verdict(result):
    different = result["different"]
    if different is None:
        return "<p>Not run: cycles are predicted, and nothing was compared.</p>"
    if different:
        names = escape(", ".join(different))
        return f'<p class="bad"><b>Not the bits of the reference model: {names}</b></p>'
    return "<p>Output and all weights equal the reference model's bit for bit.</p>"


def _tiles(result):
    total, (images, flops) = result["total"], _speed(result)
    kind = "cycles, predicted" if result["extrapolated"] else "cycles, measured"
    tiles = {
        kind: _number(cycles_of(total)),
        f"per step at {result['clock_hz'] / 1e6:g} MHz": _number(
            total["seconds"] and total["seconds"] * 1e3, ",.2f", " ms"
        ),
        "utilisation": _number(total["utilisation"], ".1%"),
        "images per second": _number(images, ",.1f"),
        "GFLOP/s": _number(flops, ",.2f"),
        "error of the prediction": _number(total["error"], "+.2%"),
    }
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
            for name, value in tiles.items()
        )
        + "</div>"
    )


def _label(row):
    return escape(row["layer"]), _dot(row["pass"]) + escape(row["pass"])


def _passes(result):
    heads = (
        *("layer", "pass", "MACs", "cycles", "predicted", "error", "utilisation"),
        *("bytes read", "bytes written"),
    )
    rows = [
        (
            "",
            (
                *_label(row),
                _number(row["macs"]),
                _number(row["rtl_cycles"]),
                _number(row["predicted_cycles"]),
                _number(row["error"], "+.1%"),
                _number(row["utilisation"], ".1%"),
                _number(row["read_bytes"]),
                _number(row["write_bytes"]),
            ),
        )
        for row in result["passes"]
    ]
    total = result["total"]
    sums = (sum(r[k] for r in result["passes"]) for k in ("read_bytes", "write_bytes"))
    rows.append(
        (
            "total",
            (
                *("total", ""),
                _number(total["macs"]),
                _number(total["rtl_cycles"]),
                _number(total["predicted_cycles"]),
                _number(total["error"], "+.1%"),
                _number(total["utilisation"], ".1%"),
                *map(_number, sums),
            ),
        )
    )
    return (
        '<section class="card"><h3>Passes</h3><p class="grey">A pass ends when its last'
        " multiplication is done; what needs none is hidden behind others and has 0 cycles.</p>"
        f"{_table(heads, rows, 2)}</section>"
    )


def _units(result):
    if not all(row["units"] for row in result["passes"]):
        return ""
    kinds = ("active", "blocked", "starved")
    heads = ("layer", "pass", *(f"{unit}<br>{kind}" for unit in UNITS for kind in kinds))
    rows = [
        (
            "",
            (*_label(row), *(_number(row["units"][u][k]) for u in UNITS for k in kinds)),
        )
        for row in result["passes"]
    ]
    return (
        '<section class="card"><h3>Units</h3><p class="grey">Cycles in which a unit did useful work'
        " for a pass (active), was busy without doing any, because of memory or filling and"
        " draining (blocked), or waited for another unit (starved). Units work ahead, so their"
        f" cycles may be more than those of the pass.</p>{_table(heads, rows, 2)}</section>"
    )
