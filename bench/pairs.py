"""Two things measured in turn on one machine.

The speed of a machine drifts by more than what is looked for, so a round of the one follows a round of the other, in
alternating order, and what counts is the median of the rounds' ratios."""

from __future__ import annotations

from collections.abc import Callable

from bench.bench import Bench, median

Round = Callable[[], dict[str, float]]  # of each figure, the less the better


class Pairs:
    """The figures of two sides, by the names of the figures."""

    def __init__(self, one: str, other: str) -> None:
        """What the two sides are called in the table."""
        self._columns = one, other
        self._rows: dict[str, list[tuple[float, float]]] = {}

    def measure(self, bench: Bench, one: Round, other: Round, times: int) -> None:
        """So many rounds of each side, after one that warms up."""
        rounds = one, other
        for number in range(times + 1):
            order = (0, 1) if number % 2 else (1, 0)
            found = {which: rounds[which]() for which in order}
            for name, value in found[0].items() if number else ():
                self._rows.setdefault(name, []).append((value, found[1][name]))
            values = (f"{name} {value:.4g} and {found[1][name]:.4g}" for name, value in found[0].items())
            bench.tell(f"  round {number}: " + ", ".join(values))

    def table(self, title: str = "") -> str:
        width = max([36, len(title), *map(len, self._rows)])
        one, other = self._columns
        lines = [f"{title:{width}} {one:>9} {other:>9} {'ratio':>7}  lowest and highest"]
        for name, pairs in self._rows.items():
            ratios = sorted(this / that for this, that in pairs)
            this, that = (median([pair[which] for pair in pairs]) for which in (0, 1))
            lines.append(
                f"{name:{width}} {this:9.4g} {that:9.4g} {median(ratios):7.3f}  {ratios[0]:.3f} {ratios[-1]:.3f}"
            )
        return "\n".join(lines)
