"""The page's plots, as SVG. The same data gives the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

from bench.figures import Found, median, name_of

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
    _draw(folder / "deliveries.svg", found, _subscribers, _peers)
    _draw(folder / "growth.svg", found, _inserts, _starts)


def _draw(file: Path, found: Found, left: Part, right: Part) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, part in zip(axes, (left, right), strict=True):
        part(found, axis)
        if not axis.has_data():  # not in this run
            axis.set_axis_off()
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
    names = list(rounds)
    values = [median(rounds[name], "us") for name in names]
    axis.barh([name_of(name) for name in names], values, color=[COLOURS[name] for name in names])
    for index, value in enumerate(values):
        axis.text(value, index, f" {value:.1f}", va="center")
    axis.invert_yaxis()
    axis.set(xlabel="CPU for each delivery, µs (1,000 subscribers)", xlim=(0, max(values) * 1.15))


def _inserts(found: Found, axis: Axes) -> None:
    rows = found.get("growth_records", {}).get("inserts")
    if not rows:
        return
    held = [row["held"] for row in rows]
    low, middle, high = ([row["us"][key] for row in rows] for key in ("min", "median", "max"))
    axis.fill_between(held, low, high, color=COLOURS["broker"], alpha=0.15, linewidth=0)
    axis.plot(held, middle, "o-", color=COLOURS["broker"])
    axis.set(xlabel="records in the log", ylabel="CPU for each insert, µs", ylim=(0, None))


def _starts(found: Found, axis: Axes) -> None:
    rows = found.get("growth_records", {}).get("starts")
    if not rows:
        return
    axis.plot([row["records"] for row in rows], [row["s"]["median"] for row in rows], "o-", color=COLOURS["broker"])
    axis.axhline(1, color="#888888", linestyle=":", label="the goal")
    axis.set(xlabel="records in the log", ylabel="start to the first answer, s", ylim=(0, 1.2))
    axis.legend(frameon=False)
