"""The goals of the benchmark, and how what was found compares to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.figures import Found, median, name_of, ratio_of

Goal = tuple[str, str, str, str]  # work, goal, measured, met


def _goal(what: str, goal: str, value: float, met: bool, digits: int = 2, unit: str = "") -> Goal:
    return what, goal, f"{value:,.{digits}f}{unit}", "yes" if met else "**no**"


def _goals_one(count: int) -> Callable[[Found], Iterable[Goal]]:
    def goals(found: Found) -> Iterable[Goal]:
        rounds = found[f"one_at_a_time_{count}"]["rounds"]
        for peer, limit in (("floor", 1.3), ("nchan", 0.9), ("sse-starlette", 1 / 6)):
            if peer in rounds:
                ratio = ratio_of(rounds["broker"], rounds[peer], "us")
                text = "1/6" if peer == "sse-starlette" else f"{limit:g}"
                yield _goal(
                    f"one event at a time, {count:,} subscribers: CPU for each delivery",
                    f"≤ {text} × {name_of(peer)}", ratio, ratio <= limit, unit=" ×",
                )  # fmt: skip

    return goals


def _goals_bursts(found: Found) -> Iterable[Goal]:
    rows = found["bursts"]
    what = "bursts of 100 inserts, 1,000 subscribers: deliveries for each second of CPU"
    if "nchan" in rows:
        ratio = ratio_of(rows["broker"], rows["nchan"], "per_cpu_s")
        yield _goal(what, "≥ 25 × nginx + Nchan", ratio, ratio >= 25, 1, " ×")
    rate = median(rows["broker"], "per_cpu_s") / 1e6
    yield _goal(what, "≥ 2 million", rate, rate >= 2, 2, " million")


def _goals_steady(found: Found) -> Iterable[Goal]:
    row = found["steady"]["rows"][0]
    what = f"500 inserts/s to 1,000 subscribers for {found['steady']['seconds']} s"
    lost = row["published"] - row["received_min"]
    yield _goal(f"{what}: lost", "0", lost, lost == 0 and row["failed"] == 0 and row["closed"] == 0, 0)
    yield _goal(f"{what}: publish to receive, p99", "≤ 60 ms", row["p99_ms"], row["p99_ms"] <= 60, 1, " ms")


def _goals_memory(found: Found) -> Iterable[Goal]:
    memory = found["one_at_a_time_8000"]["memory_kb"]
    what = "memory for each idle connection, at 8,000"
    yield _goal(what, "≤ 3 KiB", memory["broker"], memory["broker"] <= 3, 2, " KiB")
    if "nchan" in memory:
        ratio = memory["broker"] / memory["nchan"]
        yield _goal(what, "≤ 1/3 × nginx + Nchan", ratio, ratio <= 1 / 3, 2, " ×")


def _goals_idle(found: Found) -> Iterable[Goal]:
    idle = found["idle"]
    yield _goal(
        "CPU of 8,000 idle streams with heartbeats", "≤ 1 % of a core", idle["cpu"] * 100, idle["cpu"] <= 0.01, 2, " %"
    )
    longest = idle["longest_turn_ms"]
    yield _goal(
        "the longest iteration of the event loop with 8,000 idle streams",
        "≤ 10 ms",
        longest,
        longest <= 10,
        1,
        " ms",
    )


def _goals_singles(found: Found) -> Iterable[Goal]:
    rounds = found["singles"]["rounds"]
    for peer, limit in (("pocketbase", 2.5), ("broker without a store", 0.6)):
        if peer in rounds:
            ratio = ratio_of(rounds["broker"], rounds[peer], "per_s")
            yield _goal(
                "durable single inserts/s, 64 clients", f"≥ {limit} × {name_of(peer)}", ratio, ratio >= limit, 2, " ×"
            )


def _goals_batches(found: Found) -> Iterable[Goal]:
    best = max(found["batches"], key=lambda row: row["per_s"]["median"])
    rate = best["per_s"]["median"]
    yield _goal("batched inserts, durable, in the best size of a batch: records/s", "≥ 60,000", rate, rate >= 60_000, 0)


def _goals_schedule(found: Found) -> Iterable[Goal]:
    nothing, due, *_ = found["schedule"]["rounds"].values()
    what = "100,000 pending, 1,000 falling due each second"
    early = sum(row["early"] for row in due)
    yield _goal(f"{what}: early", "0", early, early == 0, 0)
    late = median(due, "late_p99_ms")
    yield _goal(f"{what}: late, p99", "≤ 5 ms", late, late <= 5, 2, " ms")
    harm = median(due, "live_p99_ms") - median(nothing, "live_p99_ms")
    yield _goal(f"{what}: live traffic's p99 grows by", "unharmed: ≤ 5 ms", harm, harm <= 5, 2, " ms")


def _goals_storm(found: Found) -> Iterable[Goal]:
    rounds = found["storm"]["rounds"]
    ratio = ratio_of(rounds["snapshot"], rounds["floor"], "us")
    yield _goal(
        "1,000 clients reconnect at once, each gets a snapshot of 10,000 events: CPU for each",
        "≤ 2 × `send()` of the same bytes", ratio, ratio <= 2, 2, " ×",
    )  # fmt: skip


def _goals_filters(found: Found) -> Iterable[Goal]:
    rows = found["filters"]
    ratio = rows[-1]["us"]["median"] / rows[0]["us"]["median"]
    yield _goal(
        "CPU of an event that matches one of 10,000 different filters, against one filter",
        "flat: ≤ 1.2 ×",
        ratio,
        ratio <= 1.2,
        2,
        " ×",
    )


def _goals_growth(found: Found) -> Iterable[Goal]:
    rows = found["growth_subscribers"]
    ratio = rows[-1]["broker"]["median"] / rows[-1]["floor"]["median"]
    first = rows[2]["broker"]["median"] / rows[2]["floor"]["median"]
    growth = ratio / first
    yield _goal(
        "CPU for each delivery as a multiple of the floor's: with 10,000 subscribers, compared with 1,000",
        "flat: ≤ 1.2 ×",
        growth,
        growth <= 1.2,
        2,
        " ×",
    )


def _goals_records(found: Found) -> Iterable[Goal]:
    rows, starts = found["growth_records"]["inserts"], found["growth_records"]["starts"]
    ratio = rows[-1]["ratio"]["median"]
    yield _goal(
        f"CPU of an insert with {rows[-1]['held']:,} records in the log, against an empty one",
        "flat: ≤ 1.2 ×",
        ratio,
        ratio <= 1.2,
        2,
        " ×",
    )
    start = starts[-1]["s"]["median"]
    yield _goal(f"start with {starts[-1]['records']:,} records", "≤ 1 s", start, start <= 1, 2, " s")


def _goals_node_singles(found: Found) -> Iterable[Goal]:
    rounds = found["nodes_singles"]["rounds"]
    ratio = ratio_of(rounds["PostgreSQL, one node"], rounds["SQLite"], "per_s")
    yield _goal("durable single inserts/s on PostgreSQL, one node", "≥ 0.5 × SQLite", ratio, ratio >= 0.5, 2, " ×")


def _goals_node_batches(found: Found) -> Iterable[Goal]:
    for name in ("PostgreSQL, one node", "PostgreSQL, three nodes"):
        rate = median(found["nodes_batches"]["rounds"][name], "per_s")
        yield _goal(f"batched inserts on {name}: records/s", "≥ 20,000", rate, rate >= 20_000, 0)


def _goals_node_latency(found: Found) -> Iterable[Goal]:
    late = median(found["nodes_latency"]["rounds"]["PostgreSQL, another node"], "p50_ms")
    yield _goal("insert on one node to receive on another, p50", "≤ 5 ms", late, late <= 5, 2, " ms")


GOALS: dict[str, Callable[[Found], Iterable[Goal]]] = {
    "one_at_a_time_1000": _goals_one(1_000),
    "one_at_a_time_8000": lambda found: (*_goals_one(8_000)(found), *_goals_memory(found)),
    "bursts": _goals_bursts,
    "steady": _goals_steady,
    "idle": _goals_idle,
    "singles": _goals_singles,
    "batches": _goals_batches,
    "schedule": _goals_schedule,
    "storm": _goals_storm,
    "filters": _goals_filters,
    "growth_subscribers": _goals_growth,
    "growth_records": _goals_records,
    "nodes_singles": _goals_node_singles,
    "nodes_batches": _goals_node_batches,
    "nodes_latency": _goals_node_latency,
}


def goals_of(found: Found) -> Iterable[Goal]:
    return (goal for key, goals in GOALS.items() if key in found for goal in goals(found))
