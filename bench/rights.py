"""What rights cost: ``make bench ARGS=--rights``. Each table compares two cases that are measured in
turn, mostly one with rules and one without."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.against import Setup, fan_out, inserts
from bench.bench import ALL_CPUS, DATA, DATA_BYTES, LOAD_CPU, SERVER_CPU, Bench, check, publisher
from bench.load import Publisher, Subscribers
from bench.pairs import Pairs, Round
from bench.servers import MANY_NAMES, USER, Server, apply_rules, broker, broker_token, insert_all
from bench.world import World, streams_max

OPEN = '[[event]]\nname = "*"\nread = "public"\ninsert = "user"\nopen = true\n'
ROOMS = """
[[event]]
name = "room/{room}/member/{_}"
read = "if room/{room}/member/{me}"
insert = "user"
remove = "user"
[[event]]
name = "room/{room}/message/*"
read = "if room/{room}/member/{me}"
insert = "if room/{room}/member/{me}"
[[event]]
name = "inbox/{to}/*"
read = "{to}"
[[event]]
name = "news/*"
read = "public"
"""
PARTS = """
[[event]]
name = "inbox/{to}/*"
read = "{to}"
[[event]]
name = "room/{room}/*"
read = "if member/{room}/{me}"
[[event]]
name = "news/*"
read = "public"
"""
PAYLOAD = b'"' + b"x" * (DATA_BYTES - 2) + b'"'
JOINERS = 10  # users who join and leave a room of their own
BATCH = 1_000


def compare(bench: Bench) -> str:
    """All tables."""
    parts = (_restrict_nobody, _receivers, _joins, _partial)
    return "\n\n".join(part(bench) for part in parts)


def _rules(toml: str) -> Setup:
    return lambda folder: apply_rules(folder, toml)


def _restrict_nobody(bench: Bench) -> str:
    pairs = Pairs("rules", "none")
    for title, setting in (("fan-out", fan_out), ("inserts", inserts)):
        bench.tell(f"{title}: with rules that restrict nobody, and without rules, in turn")
        with setting(bench, setup=_rules(OPEN)) as ruled, setting(bench) as free:
            pairs.measure(bench, ruled, free, bench.times(15, 3))
    return pairs.table("rules that restrict nobody")


def _receivers(bench: Bench) -> str:
    return asyncio.run(_receivers_in_process(bench))


async def _receivers_in_process(bench: Bench) -> str:
    """In this process: 10,000 users would take minutes to sign up. ``async`` because a hub needs a running loop."""
    few, members = bench.times(100, 10), bench.times(1_000, 100)
    many = streams_max(bench.times(10_000, 1_000), others=members)
    users = [f"u{n}" for n in range(many)]
    rounds = bench.times(15, 3)
    os.sched_setaffinity(0, {SERVER_CPU})
    tables = []
    bench.tell(f"a room of {members:,} among {many:,} streams, and a public event to {members:,}, in turn")
    room = [f"room/1/member/{user}" for user in users[:members]]
    with World(ROOMS, users, room) as ruled, World("", users[:members]) as free:
        pairs = Pairs("room", "public")
        pairs.measure(
            bench,
            lambda: {"CPU of an event, µs": ruled.cost("room/1/message/1", PAYLOAD, 20, members)},
            lambda: {"CPU of an event, µs": free.cost("news/1", PAYLOAD, 20, members)},
            rounds,
        )
        tables.append(pairs.table(f"a room of {members:,} among {many:,} streams; a public event to {members:,}"))
    bench.tell(f"one of {many:,} inboxes, and one of {few:,}, in turn")
    with World(ROOMS, users) as all_users, World(ROOMS, users[:few]) as some:
        pairs = Pairs(f"{many:,}", f"{few:,}")
        pairs.measure(
            bench,
            lambda: {"CPU of an event, µs": all_users.cost("inbox/u5/1", PAYLOAD, 100, 1)},
            lambda: {"CPU of an event, µs": some.cost("inbox/u5/1", PAYLOAD, 100, 1)},
            rounds,
        )
        tables.append(pairs.table(f"one inbox, on unfiltered streams of {many:,} users and of {few:,}"))
    return "\n\n".join(tables)


def _joins(bench: Bench) -> str:
    """Inserts into a room, at a steady rate, while others join and leave rooms, and while nobody does."""
    rate, joins, seconds = bench.times(5_000, 500), bench.times(200, 40), bench.times(10, 2)
    bench.tell(f"{rate:,} inserts a second, with {joins} joins a second and without, in turn")
    os.sched_setaffinity(0, ALL_CPUS)
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        server = stack.enter_context(broker(folder))
        apply_rules(folder, ROOMS)
        token = broker_token(server)
        members = [f"room/0/member/{USER}", *(f"room/r{n}/member/joiner{n}" for n in range(JOINERS))]
        insert_all(server, token, [f'{{"event":"{name}","data":true}}' for name in members])
        _open(bench, stack, server, token, 10)
        for n in range(JOINERS):
            _open(bench, stack, server, broker_token(server, user=f"joiner{n}"), 2)
        room = "room/0/message/1"
        messages = stack.enter_context(publisher(bench, server, clients=64, token=token, event=room))
        # Each name is removed half a turn after it was set, and the other way round, so that every insert is a change.
        coming = stack.enter_context(_members(bench, server, token, "true", first=JOINERS))
        going = stack.enter_context(_members(bench, server, token, "null", first=JOINERS + JOINERS // 2))

        def latency(joining: bool) -> dict[str, float]:
            others = [each.start_rate(joins / 2, seconds) for each in ((coming, going) if joining else ())]
            done = messages.rate(rate, seconds)
            for each in (done, *(other.answer() for other in others)):
                check(each)
            return {"p50, ms": done.latency_us.p50 / 1e3, "p99, ms": done.latency_us.p99 / 1e3}

        pairs = Pairs("joins", "none")
        pairs.measure(bench, lambda: latency(True), lambda: latency(False), bench.times(9, 3))
    return pairs.table(f"latency of {rate:,} inserts a second, with {joins} joins a second")


def _open(bench: Bench, stack: ExitStack, server: Server, token: str, count: int) -> None:
    """Streams of one user."""
    headers = {"Authorization": f"Bearer {token}"}
    subscribers = Subscribers(bench.programs, server.port, headers=headers, ready=True, order=False)
    opened = stack.enter_context(subscribers).open(count, "/events")
    assert opened.connections == count, f"{opened}"


def _members(bench: Bench, server: Server, token: str, data: str, first: int) -> Publisher:
    return Publisher(
        bench.programs,
        server.port,
        path="/insert",
        body=f'{{"event":"room/r@E@/member/joiner@E@","data":{data}}}',
        clients=16,
        events=JOINERS,
        headers={"Authorization": f"Bearer {token}"},
        count_from=first,
    )


def _partial(bench: Bench) -> str:
    """Many streams at once, all of one user, that show a part of many names, or all of them."""
    names, streams = bench.times(100_000, 5_000), bench.times(1_000, 100)
    bench.tell(f"{streams:,} streams at once over {names:,} names, with rules and without, in turn")
    pairs = Pairs("partial", "all")
    with _storm(bench, names, streams, PARTS) as partial, _storm(bench, names, streams, "") as everything:
        pairs.measure(bench, partial, everything, bench.times(5, 2))
    return pairs.table(f"{streams:,} streams at once over {names:,} names, of which rules show a part")


@contextmanager
def _storm(bench: Bench, names: int, streams: int, rules: str) -> Iterator[Round]:
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        folder = stack.enter_context(bench.data())
        server = stack.enter_context(broker(folder, *MANY_NAMES, cpus={SERVER_CPU}))
        token = broker_token(server)
        events = [f"member/{room}/{USER}" for room in range(10)]
        events += [_name(n) for n in range(len(events), names)]
        for first in range(0, len(events), BATCH):
            batch = events[first : first + BATCH]
            insert_all(server, token, [f'{{"event":"{event}","data":{DATA}}}' for event in batch])
        if rules:
            apply_rules(folder, rules)
        headers = {"Authorization": f"Bearer {token}"}
        subscribers = stack.enter_context(
            Subscribers(bench.programs, server.port, headers=headers, ready=True, order=False, open_timeout=600)
        )

        def run() -> dict[str, float]:
            subscribers.mark()
            before = server.cpu_s()
            got = subscribers.storm(streams, "/events")
            assert (got.connections, got.refused) == (streams, 0), f"{got}"
            found = {
                "until all are ready, s": got.ready_us.max / 1e6,
                "CPU of the server, s": server.cpu_s() - before,
                "KiB that a stream receives": got.bytes / streams / 1024,
            }
            subscribers.storm(0, "/events")  # all away before the next
            return found

        yield run


def _name(n: int) -> str:
    """Of ten names, six are in the inboxes of 1,000 users, three in 300 rooms, and one is public."""
    kind = n % 10
    if kind < 6:
        user = n // 10 % 1_000
        return f"inbox/{f'u{user}' if user else USER}/{n}"
    return f"room/{n // 10 % 300}/{n}" if kind < 9 else f"news/{n}"
