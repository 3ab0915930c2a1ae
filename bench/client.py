"""What the client for pages weighs, and what it costs in a browser: ``make bench ARGS=--client`` writes
``docs/client-performance.md`` from one run. The sentences are in ``client.md``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import frames, loading, sizes
from bench.bench import Bench
from bench.browser import Tab, chromium
from bench.errors import BenchError

TEMPLATE = Path(__file__).parent / "client.md"
Part = Callable[[Bench, Callable[[], Tab]], str]
PARTS: dict[str, Part] = {
    "sizes": lambda bench, open_tab: sizes.compare(bench),
    "loading": loading.measure,
    "frames": frames.frames,
    "memory": frames.memory,
}


def measure(bench: Bench, names: list[str], machine: dict[str, str]) -> str:
    """The page; with names of parts, the tables of these parts alone."""
    return measure_parts(bench, PARTS, TEMPLATE, names, machine)


def measure_parts(
    bench: Bench, parts: dict[str, Part], template: Path, names: list[str], machine: dict[str, str]
) -> str:
    """Measures these parts in a browser, and fills their tables into the template."""
    if unknown := set(names) - set(parts):
        raise BenchError(f"{min(unknown)}: expected some of {', '.join(parts)}")
    with ExitStack() as stack:
        open_tab, browser = stack.enter_context(chromium())
        tables = {}
        for number, name in enumerate(names or parts, 1):
            bench.tell(f"[{number}/{len(names or parts)}] {name}")
            tables[name] = parts[name](bench, open_tab)
    if names:
        return "\n\n".join(tables.values()) + "\n"
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return template.read_text().format(date=date, machine=machine, browser=browser, **tables)
