"""What the page says of several nodes, and of a million streams."""

from __future__ import annotations

from collections.abc import Iterable

from bench.figures import Found, median, ratio_of, span, spread, table
from broker import Settings

STREAMS, NODE_STREAMS = 1_000_000, 10_000
MILLION = {"one_at_a_time_8000", "idle", "growth_subscribers", "bursts", "nodes_followers"}
READERS = Settings().reader_threads


def several_nodes(found: Found) -> Iterable[str]:
    if "nodes_singles" in found:
        yield "Durable inserts through one node and through three on one PostgreSQL, beside SQLite, each server as fast as it is"
        yield "answered (`Prefer: return=minimal`). PostgreSQL, the nodes and the load generator share this machine's cores, so this"
        yield "is what sharing a log costs, not what more machines bring: every insert of every node goes through one lock, in turn."
        yield ""
        yield from table(
            ("log", "clients", "records in a request", "records/s", "× SQLite", "answered p50 / p99, ms"),
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
        yield ""
    if "nodes_latency" in found:
        part = found["nodes_latency"]
        yield f"From an insert to its receipt at a subscriber, {part['per_s']} inserts a second, one at a time:"
        yield ""
        yield from table(
            ("log, and where the subscriber is", "p50, ms", "p99, ms"),
            ((name, spread(rows, "p50_ms"), spread(rows, "p99_ms")) for name, rows in part["rounds"].items()),
        )
        yield ""
    if "nodes_followers" in found:
        part = found["nodes_followers"]
        yield f"What a node costs that only follows, without a subscriber: {part['per_s']} single inserts a second at one node, and more"
        yield "and more others. Each asks PostgreSQL once for each commit of another."
        yield ""
        yield from table(
            ("nodes", "CPU of PostgreSQL for each insert, µs", "CPU of each other node, µs", "connections to PostgreSQL for each",
             "memory of each, MiB"),
            (
                (row["nodes"], span(row["postgres_us"], 0), span(row["node_us"], 0) if row["nodes"] > 1 else "–",
                 f"{row['connections']:.1f}", f"{row['memory_mb']:.0f}")
                for row in part["rows"]
            ),
        )  # fmt: skip
        yield ""
    if "nodes_workers" in found:
        part = found["nodes_workers"]
        yield f"Fan-out with `--workers`: one event at a time to {part['subscribers']:,} subscribers, the next when all have it. The load"
        yield "generator shares the cores: where there are few, more workers have less than a core each to run on."
        yield ""
        yield from table(
            ("workers", "deliveries/s", "× one", "CPU for each delivery, µs", "load generator"),
            (
                (
                    name,
                    spread(rows, "per_s", 0),
                    f"{ratio_of(rows, part['rounds']['1'], 'per_s'):.2f}",
                    spread(rows, "us"),
                    f"{median(rows, 'load_busy'):.0%}",
                )
                for name, rows in part["rounds"].items()
            ),
        )


def a_million(found: Found) -> Iterable[str]:
    nodes = STREAMS // NODE_STREAMS
    kib = found["one_at_a_time_8000"]["memory_kb"]["broker"]
    idle = found["idle"]["cpu"] / found["idle"]["connections"]
    us = found["growth_subscribers"][-1]["broker"]["median"]
    burst_us = 1e6 / median(found["bursts"]["broker, one batch"], "per_cpu_s")
    rows = found["nodes_followers"]["rows"]
    first_us, last_us = rows[0]["postgres_us"]["median"], rows[-1]["postgres_us"]["median"]
    follow_us = (last_us - first_us) / (rows[-1]["nodes"] - 1)
    commits = 1e6 / (first_us + follow_us * (nodes - 1))
    yield f"Not measured, but reckoned from the figures above: {nodes} nodes (or workers) of {NODE_STREAMS:,} streams, each with a core."
    yield ""
    yield from table(
        ("what", "reckoned", "from"),
        (
            ("memory of the streams", f"{STREAMS * kib / 2**20:.1f} GiB in all", f"{kib:.2f} KiB for each"),
            (
                "memory of the nodes themselves",
                f"{nodes * rows[0]['memory_mb'] / 1024:.1f} GiB, and {nodes} times the snapshot",
                f"{rows[0]['memory_mb']:.0f} MiB for each",
            ),
            ("heartbeats", f"{STREAMS * idle:.1f} cores", f"{idle * 8_000:.2%} of a core for 8,000"),
            (
                "one event to all",
                f"{NODE_STREAMS * us / 1e6:.2f} s until the last one has it; {STREAMS * us / 1e6:.0f} s of CPU",
                f"{us:.1f} µs for each delivery, one at a time",
            ),
            (
                "events to all, at most",
                f"{1e6 / NODE_STREAMS / us:.0f} a second one by one; {1e6 / NODE_STREAMS / burst_us:,.0f} in bursts of 100",
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
                f"{first_us:.0f} µs for each, and {follow_us:.0f} µs for each node that hears of it",
            ),
        ),
    )
    yield ""
    yield "So PostgreSQL is first at its limit, as every node reads every commit. Beyond it nothing is lost: a node that comes late"
    yield "with asking gets all that was committed meanwhile in one answer, so events come later, and more at a time."
