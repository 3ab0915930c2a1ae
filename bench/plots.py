"""The page's plots, as SVG. The same data gives the same file."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

from bench.figures import Found, name_of

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "broker", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of how it draws
from matplotlib.axes import Axes  # noqa: E402

Part = Callable[[Found, Axes], None]
COLOURS = {
    "floor": "#888888",
    "broker": "#1f5fbf",
    "nchan": "#2a8c4a",
    "starlette": "#c77d1e",
    "sse-starlette": "#b03a48",
}


def draw(found: Found, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    _draw(folder / "peers.svg", found, _peers, _bursts)
    _draw(folder / "subscribers.svg", found, _subscribers)
    _draw(folder / "growth.svg", found, _inserts, _starts)


def _draw(file: Path, found: Found, *parts: Part) -> None:
    """Nothing if none of the parts was measured."""
    figure, axes = plt.subplots(1, len(parts), figsize=(4.5 * len(parts), 3.6), layout="constrained", squeeze=False)
    for axis, part in zip(axes[0], parts, strict=True):
        part(found, axis)
        if not axis.has_data():  # not in this run
            axis.set_axis_off()
    if any(axis.has_data() for axis in axes[0]):
        figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _subscribers(found: Found, axis: Axes) -> None:
    rows = found.get("growth_subscribers")
    if not rows:
        return
    counts = [row["subscribers"] for row in rows]
    for name, mark in (("broker", "o"), ("floor", "s")):
        low, middle, high = ([row[name][key] for row in rows] for key in ("min", "median", "max"))
        axis.fill_between(counts, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axis.plot(counts, middle, mark + "-", color=COLOURS[name], label=name_of(name))
    axis.set(xscale="log", xlabel="subscribers", ylabel="CPU for each delivery, µs", ylim=(0, None))
    axis.legend(frameon=False)


def _peers(found: Found, axis: Axes) -> None:
    rounds = found.get("one_at_a_time_1000", {}).get("rounds")
    if not rounds:
        return
    _bars(axis, {name: [row["us"] for row in rows] for name, rows in rounds.items()}, 1)
    axis.set(xlabel="CPU for each delivery, µs (1,000 subscribers)")


def _bursts(found: Found, axis: Axes) -> None:
    rows = found.get("bursts")
    if not rows:
        return
    _bars(axis, {name: [row["per_s"] / 1e6 for row in each] for name, each in rows.items()}, 2)
    axis.set(xlabel="bursts of 100 events: million deliveries/s")


def _bars(axis: Axes, found: dict[str, list[float]], digits: int) -> None:
    """Medians, with the least and the most as a line."""
    middles = [statistics.median(values) for values in found.values()]
    spread = [
        [middle - min(values) for middle, values in zip(middles, found.values(), strict=True)],
        [max(values) - middle for middle, values in zip(middles, found.values(), strict=True)],
    ]
    names = [name_of(name) for name in found]
    colours = [COLOURS.get(name, COLOURS["broker"]) for name in found]
    axis.barh(names, middles, xerr=spread, color=colours, error_kw={"ecolor": "#444444", "elinewidth": 1})
    for index, (middle, values) in enumerate(zip(middles, found.values(), strict=True)):
        axis.text(max(values), index, f" {middle:.{digits}f}", va="center")
    axis.invert_yaxis()
    axis.set(xlim=(0, max(map(max, found.values())) * 1.2))


def _inserts(found: Found, axis: Axes) -> None:
    rows = found.get("growth_records", {}).get("inserts")
    if not rows:
        return
    held = [row["held"] / 1e6 for row in rows]
    low, middle, high = ([row["ratio"][key] for row in rows] for key in ("min", "median", "max"))
    axis.fill_between(held, low, high, color=COLOURS["broker"], alpha=0.15, linewidth=0)
    axis.plot(held, middle, "o-", color=COLOURS["broker"])
    axis.set(xlabel="million records in the log", ylabel="CPU for each insert, × an empty log's", ylim=(0, None))


def _starts(found: Found, axis: Axes) -> None:
    rows = found.get("growth_records", {}).get("starts")
    if not rows:
        return
    axis.plot(
        [row["records"] / 1e6 for row in rows], [row["s"]["median"] for row in rows], "o-", color=COLOURS["broker"]
    )
    axis.axhline(1, color="#888888", linestyle=":", label="the goal")
    axis.set(xlabel="million records in the log", ylabel="start to the first answer, s", ylim=(0, 1.2))
    axis.legend(frameon=False)
