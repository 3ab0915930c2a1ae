"""``docs/performance.md``, from what a run found. Every figure on the page is computed here from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bench.figures import Found, median, name_of, ratio_of, span, spread, table
from bench.goals import goals_of
from bench.page_nodes import MILLION, a_million, several_nodes


def page_of(results: Found) -> str:
    return "\n".join(_page(results)) + "\n"


def _page(results: Found) -> Iterable[str]:
    found = results["found"]
    machine = results["machine"]
    yield from (
        "# Performance",
        "",
        f"Made by `make bench`, from one run on one machine on {results['date']}; nothing here is typed by hand but the",
        "sentences. The data is in [`performance/results.json`](performance/results.json).",
        "",
    )
    if results["quick"]:
        yield from ("**This was a quick run, to try the benchmark: its figures mean little.**", "")
    yield from _method(results, machine)
    yield from ("## Goals", "", *table(("work", "goal", "measured", "met"), goals_of(found)))
    for title, keys, part in PARTS:
        if any(key in found for key in keys) and (part is not a_million or found.keys() >= MILLION):
            yield from ("", f"## {title}", "", *part(found))
    notes = Path(__file__).parent / "notes.md"
    yield from ("", notes.read_text().rstrip())


def _method(results: Found, machine: Found) -> Iterable[str]:
    versions = "; ".join(
        f"{name_of(name)} ({version or 'not here, so not measured'})" for name, version in results["versions"].items()
    )
    yield from (
        f"**Machine**: {machine['processor']}, {machine['memory']}, Linux {machine['kernel']}, Python {machine['python']};",
        f"Broker at {machine['commit']}. **Peers**: {versions}. The run took {results['minutes']} minutes.",
        "",
        "**Method**",
        "",
        "* All servers run on loopback, on the same disk, and are driven by the same load generator: a C program that reads,",
        "  checks and times every frame. Its own share of a core is in the tables: near 100 % it would be the limit.",
        "* What a server costs is the CPU time that the kernel accounts to its processes (user and system). Wall time on a",
        "  shared machine is noise; where it is the point (latency, inserts a second), it is shown.",
        "* Servers that are compared are up at the same time and take turns; each figure is the median over at least 5 rounds,",
        "  with the least and the most behind it. A ratio is the median of the ratios within each round.",
        "* Fan-out: the server has one core, the load generator the other. Inserts use every core, which server and generator",
        "  share.",
        "* The data of an event is 200 bytes of JSON. Broker's inserts carry a token and are on disk (`fsync`) before they are",
        "  answered or published. Nchan and the two Starlette servers keep nothing and ask for no token; PocketBase asks for one,",
        "  and runs SQLite with `synchronous=NORMAL`: it does not sync at each commit.",
        "* The *C floor* is a program that does nothing but `send()` a ready frame to each connection.",
        "* Memory is what the server's resident memory grew by when the connections were opened, in KiB for each.",
        "* How the peers are set up is in [`bench/peers`](../bench/peers) and [`bench/servers.py`](../bench/servers.py).",
        "  Servers that come in no package of Debian, PyPI or npm are not measured.",
        "",
    )


def _one(found: Found) -> Iterable[str]:
    for count in (1_000, 8_000):
        part = found.get(f"one_at_a_time_{count}")
        if part is None:
            continue
        rounds = part["rounds"]
        yield f"One event at a time to {count:,} subscribers; the next is published when all have it. The CPU is all that the server"
        yield "took, so for Broker also the request, the token, the commit and its sync; the floor has no publisher. Latency is"
        yield f"from sending the insert to each subscriber's receipt. {len(part['rounds']['broker'])} rounds."
        yield ""
        yield from table(
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
        yield ""
    if "one_at_a_time_8000" in found:
        kb = found["one_at_a_time_8000"]["memory_kb"]["broker"]
        yield f"One gigabyte (GiB) of the server's memory holds about {2**20 / kb:,.0f} of Broker's idle streams; the kernel's"
        yield "own memory for their sockets comes on top, for every server alike."
    yield from _plot("peers", "CPU for each delivery, and deliveries a second in bursts, of Broker and its peers")


def _bursts(found: Found) -> Iterable[str]:
    rows = found["bursts"]
    yield "A hundred events at once, to 1,000 subscribers: each event its own request on one of a hundred connections; and, for"
    yield "Broker, all in one request. Every subscriber gets every event, in order. Broker joins what is published within one turn"
    yield "of its loop, or [a few milliseconds](decisions/0005-the-hub-rests-after-a-fan-out.md), into one `send` for each"
    yield "subscriber, so a hundred deliveries cost two or three system calls; the peers write each event by itself."
    yield ""
    yield from table(
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


def _steady(found: Found) -> Iterable[str]:
    steady = found["steady"]
    yield f"500 single inserts a second for {steady['seconds']} s, each its own request, with Broker on one core. What bounds it"
    yield "is the system calls of one core: while one fan-out is written, the next records gather and go out with the next one."
    yield ""
    yield from table(
        ("subscribers", "published", "received by each", "p50 / p99 / most, ms", "insert answered p99, ms", "server CPU",
         "CPU for each delivery, µs", "load generator"),
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
    "asyncio/runners.py": "the event loop's: uvloop's transport, libuv's handle, their buffer lists",
    "protocols/utils.py": "the addresses of both ends, which uvloop keeps with the transport",
    "broker/server.py": "the socket object for direct sends",
    "broker/protocol.py": "the socket object for direct sends",
    "broker/hub.py": "its place in the set of all and in its group's",
    "python3.11/weakref.py": "uvloop's table of transports",
    "web/stream.py": "the subscriber itself",
}


def _idle(found: Found) -> Iterable[str]:
    idle = found["idle"]
    yield f"{idle['connections']:,} streams on which nothing is published hear a heartbeat every 15 s: {idle['cpu']:.2%} of a core;"
    yield f"{idle['closed']} of them were lost. The longest turn of the event loop, measured from within in a run of its own:"
    yield f"{idle['longest_turn_ms']:.1f} ms (by a timer that is exact to about 1 ms)."
    yield ""
    yield "Where the bytes of a stream are, again in a run of its own; what is resident beyond them is the allocators' spare room:"
    yield ""
    memory = idle["memory"]
    yield from table(
        ("made in", "bytes for each stream", "what it is"),
        (
            *(
                (f"`{file}`", f"{memory[file]:,.0f}", MEMORY.get(file, ""))
                for file in sorted(memory, key=lambda f: -memory[f])
            ),
            ("all", f"{sum(memory.values()):,.0f}", ""),
        ),
    )


def _singles(found: Found) -> Iterable[str]:
    rounds = found["singles"]["rounds"]
    yield f"{found['singles']['clients']} clients, each as fast as it is answered; every core. *Without a store* is the same server"
    yield "that answers and publishes at once and keeps nothing."
    yield ""
    yield from table(
        ("server", "inserts/s", "CPU for each, µs", "answered p50 / p99, ms", "load generator"),
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


def _batches(found: Found) -> Iterable[str]:
    yield "Many records in one request, all or none, answered after the sync: with the records, or (`Prefer: return=minimal`)"
    yield "with their ids."
    yield ""
    yield from table(
        ("records in a request", "clients", "answer", "records/s", "CPU for each record, µs"),
        (
            (f"{row['batch']:,}", row["clients"], row["answer"], span(row["per_s"], 0), span(row["us"], 1))
            for row in found["batches"]
        ),
    )


def _schedule(found: Found) -> Iterable[str]:
    part = found["schedule"]
    yield f"{part['pending']:,} records are pending all the time; {part['per_s']:,} more fall due each second. Live traffic beside"
    yield "them: 100 inserts a second to 100 subscribers. Lateness is from the due time to the receipt, at a client in Python."
    yield "Each figure is the median over rounds of some seconds, with the best and the worst round behind it."
    yield ""
    yield from table(
        (
            "falling due",
            "records a round",
            "early",
            "late p50, ms",
            "late p99, ms",
            "the latest, ms",
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


def _storm(found: Found) -> Iterable[str]:
    storm = found["storm"]
    yield f"A snapshot of {storm['events']:,} events, {storm['bytes'] / 1e6:.1f} MB. One client alone has `$ready` after"
    yield f"{span(storm['alone_ms'], 1)} ms. {storm['clients']:,} clients that connect at once:"
    yield ""
    yield from table(
        ("what each gets", "CPU for each client, µs", "all ready after, ms", "bytes for each", "load generator"),
        (
            (
                {
                    "snapshot": "the snapshot",
                    "floor": "the same bytes, by the C floor",
                    "resume of 100": "the 100 records it missed",
                }[name],
                spread(rows, "us", 0),
                f"{median(rows, 'ready_max_ms'):,.0f}",
                f"{median(rows, 'bytes'):,.0f}",
                f"{median(rows, 'load_busy'):.0%}",
            )
            for name, rows in storm["rounds"].items()
        ),
    )


def _filters(found: Found) -> Iterable[str]:
    yield "Every subscriber has a filter of its own, and the event that is inserted matches one."
    yield ""
    yield from table(
        ("different filters", "CPU for each event, insert included, µs"),
        ((f"{row['filters']:,}", span(row["us"], 0)) for row in found["filters"]),
    )


def _growth(found: Found) -> Iterable[str]:
    if "growth_subscribers" in found:
        yield "CPU for each delivery, µs, one event at a time; the insert of the event is part of it, which shows with few subscribers."
        yield ""
        yield from table(
            ("subscribers", "Broker", "C floor"),
            (
                (f"{row['subscribers']:,}", span(row["broker"]), span(row["floor"]))
                for row in found["growth_subscribers"]
            ),
        )
        yield from _plot("subscribers", "CPU for each delivery, over the number of subscribers")
        yield ""
    if "growth_records" in found:
        part = found["growth_records"]
        yield "An insert, and a start, with more and more records in the log; in turns with a server whose log was empty just before:"
        yield ""
        yield from table(
            ("records in the log", "CPU for each insert, µs", "× an empty log's", "inserts/s", "start, s"),
            (
                (f"{row['held']:,}", span(row["us"], 0), span(row["ratio"]), span(row["per_s"], 0), span(start["s"]))
                for row, start in zip(part["inserts"], part["starts"], strict=True)
            ),
        )
        yield from _plot("growth", "CPU for each insert and time of a start, over the number of records")


def _plot(name: str, alt: str) -> Iterable[str]:
    return ("", f"![{alt}](performance/{name}.svg)")


PARTS: tuple[tuple[str, tuple[str, ...], Callable[[Found], Iterable[str]]], ...] = (
    ("Fan-out", ("one_at_a_time_1000", "one_at_a_time_8000"), _one),
    ("Bursts", ("bursts",), _bursts),
    ("A steady stream", ("steady",), _steady),
    ("Idle streams", ("idle",), _idle),
    ("Single inserts", ("singles",), _singles),
    ("Batches", ("batches",), _batches),
    ("The schedule", ("schedule",), _schedule),
    ("A storm of connections", ("storm",), _storm),
    ("Filters", ("filters",), _filters),
    ("Growth", ("growth_subscribers", "growth_records"), _growth),
    ("Several nodes", ("nodes_singles", "nodes_latency", "nodes_followers", "nodes_workers"), several_nodes),
    ("A million streams", ("nodes_followers",), a_million),
)
