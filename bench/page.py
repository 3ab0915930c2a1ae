"""``docs/performance.md``, from what a run found. The sentences are in ``page.md``; tables and figures are made here.

``page.md`` is Markdown with the fields of ``str.format``: what a run found, by its name (``{idle[cpu]:.2%}``), what is
computed from it here (``{figures[storm_mb]}``), and tables (``{tables[bursts]}``). What stands between
``<!-- with NAME NAME -->`` and ``<!-- end -->`` is left out unless the run found all of these
(``<!-- with any NAME NAME -->``: one of them), and so is a section of which nothing remains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.figures import Found, median, name_of, ratio_of, span, spread, table
from bench.goals import goals_of
from bench.page_nodes import NODE_STREAMS, NODE_TABLES, STREAMS

Rows = Iterable[str]

TEMPLATE = Path(__file__).parent / "page.md"
_PART = re.compile(r"<!-- with (any )?([^>]*) -->\n(.*?)<!-- end -->\n", re.DOTALL)
_EMPTY_SECTION = re.compile(r"^## .*\n\n(?=## )", re.MULTILINE)


def page_of(results: Found) -> str:
    found = results["found"]
    known = {name for name in (*found, "quick") if found.get(name, results.get(name))}

    def part(match: re.Match[str]) -> str:
        some, names, text = match.groups()
        measured = [name in known for name in names.split()]
        return text if (any if some else all)(measured) else ""

    page = _EMPTY_SECTION.sub("", _PART.sub(part, TEMPLATE.read_text()))
    values = {
        **found,
        **{name: results[name] for name in ("date", "minutes", "machine")},
        "peers": "; ".join(
            f"{name_of(name)} ({version or 'not here, so not measured'})"
            for name, version in results["versions"].items()
        ),
        "million": {"nodes": STREAMS // NODE_STREAMS, "node_streams": NODE_STREAMS},
        "figures": _Made(FIGURES, found),
        "tables": _Made({name: _text(make) for name, make in (TABLES | NODE_TABLES).items()}, found),
    }
    return page.format_map(values)


class _Made:
    """Makes a figure, or a table, when the page asks for it by its name."""

    def __init__(self, makers: Mapping[str, Callable[[Found], Any]], found: Found) -> None:
        self._makers = makers
        self._found = found

    def __getitem__(self, name: str) -> Any:
        return self._makers[name](self._found)


def _text(make: Callable[[Found], Rows]) -> Callable[[Found], str]:
    return lambda found: "\n".join(make(found))


FIGURES: dict[str, Callable[[Found], Any]] = {
    "rounds_of_1000": lambda found: len(found["one_at_a_time_1000"]["rounds"]["broker"]),
    "rounds_of_8000": lambda found: len(found["one_at_a_time_8000"]["rounds"]["broker"]),
    "streams_in_a_gib": lambda found: 2**20 / found["one_at_a_time_8000"]["memory_kb"]["broker"],
    "storm_mb": lambda found: found["storm"]["bytes"] / 1e6,
    "storm_alone": lambda found: span(found["storm"]["alone_ms"], 1),
}


def _goals(found: Found) -> Rows:
    return table(("work", "goal", "measured", "met"), goals_of(found))


def _one_at_a_time(count: int) -> Callable[[Found], Rows]:
    def make(found: Found) -> Rows:
        part = found[f"one_at_a_time_{count}"]
        rounds = part["rounds"]
        return table(
            (
                "server",
                "CPU for each delivery, µs",
                "× floor",
                "latency p50 / p99, ms",
                "KiB for each connection",
                "load generator",
            ),
            (
                (
                    name_of(name),
                    spread(rows, "us"),
                    f"{ratio_of(rows, rounds['floor'], 'us'):.2f}",
                    f"{median(rows, 'p50_us') / 1e3:.1f} / {median(rows, 'p99_us') / 1e3:.1f}",
                    f"{part['memory_kb'][name]:.2f}" if name in part["memory_kb"] else "–",
                    f"{median(rows, 'load_busy'):.0%}",
                )
                for name, rows in rounds.items()
            ),
        )

    return make


def _bursts(found: Found) -> Rows:
    rows = found["bursts"]
    return table(
        ("server", "million deliveries for each second of CPU", "× Nchan", "million deliveries/s", "load generator"),
        (
            (
                name_of(name),
                spread(each, "per_cpu_s", 3, 1e-6),
                f"{ratio_of(each, rows['nchan'], 'per_cpu_s'):.1f}" if "nchan" in rows else "–",
                spread(each, "per_s", 3, 1e-6),
                f"{median(each, 'load_busy'):.0%}",
            )
            for name, each in rows.items()
        ),
    )


def _steady(found: Found) -> Rows:
    steady = found["steady"]
    return table(
        ("subscribers", "published", "received by each", "p50 / p99 / maximum, ms", "insert response p99, ms",
         "server CPU", "CPU for each delivery, µs", "load generator"),
        (
            (
                f"{row['subscribers']:,}",
                f"{row['published']:,}",
                f"{row['received_min']:,} to {row['received_max']:,}",
                f"{row['p50_ms']:.1f} / {row['p99_ms']:.1f} / {row['max_ms']:.1f}",
                f"{row['answer_p99_ms']:.1f}",
                f"{row['server_cpu']:.0%}",
                f"{row['us']:.2f}",
                f"{row['load_cpu'] + row['publish_cpu']:.0%}",
            )
            for row in steady["rows"]
        ),
    )  # fmt: skip


MEMORY = {
    "asyncio/runners.py": "memory of the event loop: uvloop's transport, libuv's handle, their buffer lists",
    "protocols/utils.py": "the addresses of both ends, which uvloop keeps with the transport",
    "broker/server.py": "the socket object for direct sends",
    "broker/protocol.py": "the socket object for direct sends",
    "server/handover.py": "the socket object for direct sends",
    "broker/hub.py": "the subscriber's entries in the set of all subscribers and in its group",
    "live/hub.py": "the subscriber's entries in the set of all subscribers and in its group",
    "python3.11/weakref.py": "uvloop's table of transports",
    "web/stream.py": "the subscriber itself",
    "broker/broker.py": "the subscriber itself",
}


def _memory(found: Found) -> Rows:
    memory = found["idle"]["memory"]
    return table(
        ("source file that allocated it", "bytes for each stream", "what it is"),
        (
            *(
                (f"`{file}`", f"{memory[file]:,.0f}", MEMORY.get(file, ""))
                for file in sorted(memory, key=lambda f: -memory[f])
            ),
            ("all", f"{sum(memory.values()):,.0f}", ""),
        ),
    )


def _singles(part: str) -> Callable[[Found], Rows]:
    return lambda found: _inserts(found[part]["rounds"])


def _opening(found: Found) -> Rows:
    return table(
        ("", "CPU for each stream, µs", "all are open after, s", "refused"),
        (
            (name_of(name), spread(rows, "us", 0), spread(rows, "s"), spread(rows, "refused", 0))
            for name, rows in found["opening"]["rounds"].items()
        ),
    )


def _inserts(rounds: Mapping[str, Any]) -> Rows:
    return table(
        ("server", "inserts/s", "CPU for each insert, µs", "response p50 / p99, ms", "load generator"),
        (
            (
                name_of(name),
                spread(rows, "per_s", 0),
                spread(rows, "us", 0),
                f"{median(rows, 'p50_ms'):.1f} / {median(rows, 'p99_ms'):.1f}",
                f"{median(rows, 'load_busy'):.0%}",
            )
            for name, rows in rounds.items()
        ),
    )


def _batches(found: Found) -> Rows:
    return table(
        ("records in a request", "clients", "response", "records/s", "CPU for each record, µs"),
        (
            (f"{row['batch']:,}", row["clients"], row["answer"], span(row["per_s"], 0), span(row["us"], 1))
            for row in found["batches"]
        ),
    )


def _schedule(found: Found) -> Rows:
    part = found["schedule"]
    return table(
        (
            "falling due",
            "records a round",
            "early",
            "late p50, ms",
            "late p99, ms",
            "late maximum, ms",
            "live p99, ms",
            "server CPU",
        ),
        (
            (
                name,
                *(
                    (
                        f"{rows[0]['published']:,} of {rows[0]['due']:,}",
                        sum(row["early"] for row in rows),
                        spread(rows, "late_p50_ms"),
                        spread(rows, "late_p99_ms"),
                        spread(rows, "late_p100_ms"),
                    )
                    if "due" in rows[0]
                    else ("–",) * 5
                ),
                spread(rows, "live_p99_ms", 1),
                f"{median(rows, 'server_cpu'):.0%}",
            )
            for name, rows in part["rounds"].items()
        ),
    )


def _storm(found: Found) -> Rows:
    storm = found["storm"]
    return table(
        (
            "what each client gets",
            "CPU for each client, µs",
            "all clients ready after, ms",
            "bytes for each client",
            "load generator",
        ),
        (
            (
                {
                    "snapshot": "the snapshot",
                    "floor": "the same bytes, from the C floor",
                    "resume of 100": "the 100 records that it missed",
                }[name],
                spread(rows, "us", 0),
                f"{median(rows, 'ready_max_ms'):,.0f}",
                f"{median(rows, 'bytes'):,.0f}",
                f"{median(rows, 'load_busy'):.0%}",
            )
            for name, rows in storm["rounds"].items()
        ),
    )


def _filters(found: Found) -> Rows:
    return table(
        ("different filters", "CPU for each event, including its insert, µs"),
        ((f"{row['filters']:,}", span(row["us"], 0)) for row in found["filters"]),
    )


def _growth_subscribers(found: Found) -> Rows:
    return table(
        ("subscribers", "Broker", "C floor"),
        ((f"{row['subscribers']:,}", span(row["broker"]), span(row["floor"])) for row in found["growth_subscribers"]),
    )


def _growth_records(found: Found) -> Rows:
    part = found["growth_records"]
    return table(
        ("records in the log", "CPU for each insert, µs", "× an empty log", "inserts/s", "time of a start, s"),
        (
            (f"{row['held']:,}", span(row["us"], 0), span(row["ratio"]), span(row["per_s"], 0), span(start["s"]))
            for row, start in zip(part["inserts"], part["starts"], strict=True)
        ),
    )


TABLES: dict[str, Callable[[Found], Rows]] = {
    "goals": _goals,
    "one_at_a_time_1000": _one_at_a_time(1_000),
    "one_at_a_time_8000": _one_at_a_time(8_000),
    "bursts": _bursts,
    "steady": _steady,
    "memory": _memory,
    "singles": _singles("singles"),
    "single": _singles("single"),
    "opening": _opening,
    "batches": _batches,
    "schedule": _schedule,
    "storm": _storm,
    "filters": _filters,
    "growth_subscribers": _growth_subscribers,
    "growth_records": _growth_records,
}
