"""`gradgate report`: results of `gradgate bench` as a page with pictures."""

import json
from pathlib import Path

from ..errors import GradgateError
from ..page import page

__all__ = ["HELP", "DESCRIPTION", "DEVICE", "arguments", "run"]

HELP = "make a page with pictures of results of `gradgate bench`"
DEVICE = None
DESCRIPTION = """\
Make one HTML file, to be opened in a browser, of results that `gradgate bench --json` has written:
utilisation per layer and pass, roofline, timeline of the units, predicted against measured cycles,
and all numbers as tables. The file needs nothing else, and no network."""

KEYS = {
    *("net", "board", "batch", "commit", "date", "command", "description", "clock_hz", "ceilings"),
    *("extrapolated", "different", "total", "passes", "timeline"),
}


def arguments(parser):
    """Add the options of this command."""
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="BENCH.json", help="results to show, in this order"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="where the page goes (default: the first result's name with .html)",
    )


def _load(path):
    """The result in a file. Raises GradgateError if it holds no such thing."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise GradgateError(f"{path} is not JSON: {error}") from error
    missing = sorted(KEYS - set(found)) if isinstance(found, dict) else sorted(KEYS)
    if missing:
        raise GradgateError(
            f"{path} is no result of `gradgate bench --json`: it has no {', '.join(missing)}"
        )
    return found


def run(args, console):
    """Write the page; returns (None, exit status)."""
    out = args.out or args.results[0].with_suffix(".html")
    text = page([_load(path) for path in args.results])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    console.print(f"wrote {out}")
    return None, 0
