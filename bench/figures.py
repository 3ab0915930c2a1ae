"""Figures of rounds: medians, ratios, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Found = dict[str, Any]
Rows = Sequence[dict[str, Any]]

NAMES = {"floor": "C floor", "broker": "Broker", "nchan": "nginx + Nchan", "starlette": "Starlette"}
NAMES |= {
    "broker, one batch": "Broker, one batch",
    "pocketbase": "PocketBase",
    "broker without a store": "Broker without a store",
}


def name_of(name: str) -> str:
    return NAMES.get(name, name)


def median(rows: Rows, key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def ratio_of(rows: Rows, others: Rows, key: str) -> float:
    """The median of the ratios within each round: a machine that drifts does so for both."""
    return float(statistics.median(one[key] / other[key] for one, other in zip(rows, others, strict=True)))


def spread(rows: Rows, key: str, digits: int = 2, scale: float = 1) -> str:
    """Median, least and most."""
    values = [row[key] * scale for row in rows]
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def span(summary: dict[str, float], digits: int = 2) -> str:
    return f"{summary['median']:,.{digits}f} ({summary['min']:,.{digits}f}–{summary['max']:,.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"
