"""The tables of several nodes, and of a million streams, for ``page.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.figures import Found, median, ratio_of, span, spread, table
from broker import Settings

STREAMS, NODE_STREAMS = 1_000_000, 10_000
READERS = Settings().reader_threads


def _inserts(found: Found) -> Iterable[str]:
    return table(
        ("log", "clients", "records in a request", "records/s", "× SQLite", "response p50 / p99, ms"),
        (
            (
                name,
                part["clients"],
                part["batch"],
                spread(rows, "per_s", 0),
                f"{ratio_of(rows, part['rounds']['SQLite'], 'per_s'):.2f}",
                f"{median(rows, 'p50_ms'):.1f} / {median(rows, 'p99_ms'):.1f}",
            )
            for part in (found["nodes_singles"], found["nodes_batches"])
            for name, rows in part["rounds"].items()
        ),
    )


def _latency(found: Found) -> Iterable[str]:
    return table(
        ("log, and where the subscriber is", "p50, ms", "p99, ms"),
        (
            (name, spread(rows, "p50_ms"), spread(rows, "p99_ms"))
            for name, rows in found["nodes_latency"]["rounds"].items()
        ),
    )


def _followers(found: Found) -> Iterable[str]:
    return table(
        ("nodes", "CPU of PostgreSQL for each insert, µs", "CPU of every further node for each insert, µs",
         "connections to PostgreSQL for each node", "memory of each node, MiB"),
        (
            (row["nodes"], span(row["postgres_us"], 0), span(row["node_us"], 0) if row["nodes"] > 1 else "–",
             f"{row['connections']:.1f}", f"{row['memory_mb']:.0f}")
            for row in found["nodes_followers"]["rows"]
        ),
    )  # fmt: skip


def _workers(found: Found) -> Iterable[str]:
    rounds = found["nodes_workers"]["rounds"]
    return table(
        ("workers", "deliveries/s", "× one worker", "CPU for each delivery, µs", "load generator"),
        (
            (
                name,
                spread(rows, "per_s", 0),
                f"{ratio_of(rows, rounds['1'], 'per_s'):.2f}",
                spread(rows, "us"),
                f"{median(rows, 'load_busy'):.0%}",
            )
            for name, rows in rounds.items()
        ),
    )


def _million(found: Found) -> Iterable[str]:
    nodes = STREAMS // NODE_STREAMS
    kib = found["one_at_a_time_8000"]["memory_kb"]["broker"]
    idle = found["idle"]["cpu"] / found["idle"]["connections"]
    us = found["growth_subscribers"][-1]["broker"]["median"]
    burst_us = 1e6 / median(found["bursts"]["broker, one batch"], "per_cpu_s")
    rows = found["nodes_followers"]["rows"]
    first_us, last_us = rows[0]["postgres_us"]["median"], rows[-1]["postgres_us"]["median"]
    follow_us = (last_us - first_us) / (rows[-1]["nodes"] - 1)
    commits = 1e6 / (first_us + follow_us * (nodes - 1))
    return table(
        ("what", "calculated", "from"),
        (
            ("memory of the streams", f"{STREAMS * kib / 2**20:.1f} GiB in all", f"{kib:.2f} KiB for each stream"),
            (
                "memory of the nodes themselves",
                f"{nodes * rows[0]['memory_mb'] / 1024:.1f} GiB, and {nodes} times the snapshot",
                f"{rows[0]['memory_mb']:.0f} MiB for each node",
            ),
            ("heartbeats", f"{STREAMS * idle:.1f} cores", f"{idle * 8_000:.2%} of a core for 8,000 streams"),
            (
                "one event to all",
                f"{NODE_STREAMS * us / 1e6:.2f} s until the last one has it; {STREAMS * us / 1e6:.0f} s of CPU",
                f"{us:.1f} µs for each delivery, one at a time",
            ),
            (
                "events to all, at most",
                f"{1e6 / NODE_STREAMS / us:.0f} a second one by one; "
                f"{1e6 / NODE_STREAMS / burst_us:,.0f} in bursts of 100",
                f"{burst_us:.2f} µs for each delivery of a burst",
            ),
            (
                "connections to PostgreSQL",
                f"{nodes * (READERS + 2):,} at most",
                f"for each node a writer, a listener, {READERS} readers",
            ),
            (
                "commits a second for each core of PostgreSQL",
                f"{commits:.0f}",
                f"{first_us:.0f} µs for each commit, and {follow_us:.0f} µs for each node that reads it",
            ),
        ),
    )


NODE_TABLES: dict[str, Callable[[Found], Iterable[str]]] = {
    "nodes_inserts": _inserts,
    "nodes_latency": _latency,
    "nodes_followers": _followers,
    "nodes_workers": _workers,
    "million": _million,
}
