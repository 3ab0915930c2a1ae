"""Rights that change while others insert and listen, on two nodes where there are two. ``BROKER_BIG=1`` does it a
thousand times."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from msgspec import structs

from broker import Broker, Settings
from broker.errors import Forbidden, Unauthorized
from broker.live.subscription import Subscription
from broker.names import RULES_EVENT
from broker.records import NewRecord, make_uuid
from broker.rules.rights import encode_rules
from broker.users import OPERATOR, Actor, User
from tests.support.clock import HOUR_US, Clock
from tests.support.servers import until
from tests.support.store import Workbench, read
from tests.support.stream_client import StreamClient

pytestmark = pytest.mark.anyio

BIG = bool(os.environ.get("BROKER_BIG"))
SWAPS, INSERTS, REVOCATIONS = (1_000, 10_000, 1_000) if BIG else (40, 400, 12)
BOUND_S = 600 if BIG else 30
ROOM = """
[[event]]
name = "room/member/{_}"
read = "if room/member/{me}"

[[event]]
name = "room/message/{from}"
read = "if room/member/{me}"
insert = "{from} and if room/member/{from}"

[[event]]
name = "load"
read = "user"
"""


@asynccontextmanager
async def nodes(workbench: Workbench, clock: Clock) -> AsyncIterator[list[Broker]]:
    """One node on SQLite, and two on PostgreSQL."""
    async with AsyncExitStack() as stack:
        brokers = [
            Broker(Settings(data=workbench.folder, database=workbench.database), clock)
            for _ in range(2 if workbench.database else 1)
        ]
        for broker in brokers:
            await stack.enter_async_context(broker.lifespan())
        yield brokers


def record(event: str, data: bytes, user: str = "", due_us: int | None = None) -> NewRecord:
    return NewRecord(make_uuid(1), event, data, user, None if due_us is None else f"{due_us}e-6", due_us)


async def test_no_record_behind_a_change_is_judged_by_the_rules_before_it(workbench: Workbench) -> None:
    kinds = ["a", "b"]
    rules = {kind: encode_rules(f'[[event]]\nname = "{kind}/*"\ninsert = "user"\nread = "user"\n') for kind in kinds}
    async with nodes(workbench, Clock()) as brokers, asyncio.timeout(BOUND_S):
        here, there = brokers[0], brokers[-1]
        await here.insert([record(RULES_EVENT, rules["a"])], OPERATOR)
        refused = 0

        async def swap() -> None:
            for n in range(SWAPS):
                await here.insert([record(RULES_EVENT, rules[kinds[(n + 1) % 2]])], OPERATOR)

        async def insert(node: Broker, number: int) -> None:
            nonlocal refused
            actor = Actor("1", "ada")
            for n in range(INSERTS // 10):
                try:
                    await node.insert([record(f"{kinds[(n + number) % 2]}/{n}", b"1", "ada")], actor)
                except Forbidden:
                    refused += 1

        await here.store.add_user(User("1", "ada", b"null", "hash"))
        await asyncio.gather(swap(), *(insert(each, n) for n, each in zip(range(10), itertools.cycle((here, there)))))
        in_force = ""
        records = await read(here.store, 0)
        for each in records:
            if each.event == RULES_EVENT:
                in_force = next(kind for kind in kinds if each.data == rules[kind])
            else:
                assert each.event.startswith(in_force)
        assert refused + len(records) == INSERTS + SWAPS + 1
        assert refused > 0


async def test_nothing_behind_the_end_of_a_right_arrives_or_is_accepted_on_another_node(workbench: Workbench) -> None:
    clock = Clock()
    async with nodes(workbench, clock) as brokers, asyncio.timeout(BOUND_S):
        here, there = brokers[0], brokers[-1]
        await here.insert([record(RULES_EVENT, encode_rules(ROOM))], OPERATOR)
        stop = False

        async def load() -> None:
            while not stop:
                await here.insert([record("load", b"1") for _ in range(5)], OPERATOR)
                await asyncio.sleep(0.002)

        loading = asyncio.create_task(load())
        late_s: list[float] = []
        for n in range(REVOCATIONS):
            actor = Actor(str(n), f"user{n}")
            await here.store.add_user(User(actor.user_id, actor.username, b"null", "hash"))
            message, member = f"room/message/{actor.username}", f"room/member/{actor.username}"
            await here.insert([record(member, b"true")], OPERATOR)
            await there.insert([record(message, b'"before"', actor.username)], actor)
            ((pending, _),) = await there.insert(
                [record(message, b'"scheduled"', actor.username, clock() + HOUR_US)], actor
            )
            listener = StreamClient(actor)
            listener.open_stream(there, Subscription())
            await until(lambda: listener.subscriber.group is not None)  # noqa: B023 (awaited here)
            if n % 2:
                await here.store.change_user(actor.user_id, _disabled, OPERATOR)
            else:
                await here.insert([record(member, b"null")], OPERATOR)
            position, ended = (await here.store.head()).position, time.monotonic()
            with pytest.raises(Unauthorized if n % 2 else Forbidden):
                await there.insert([record(message, b'"behind"', actor.username)], actor)
            await here.insert([record("room/message/operator", f'"secret {n}"'.encode())], OPERATOR)
            if n % 2:
                await until(lambda: listener.closed_at is not None)  # noqa: B023 (awaited here)
                assert listener.closed_at is not None
                late_s.append(listener.closed_at - ended)
                assert listener.reader.frames[-1].event == "$login"
                assert all(frame.position <= position for frame in listener.reader.records())
            else:
                await until(lambda: there.hub.position > position)  # noqa: B023 (awaited here)
                assert not any(f"secret {n}" in frame.data for frame in listener.reader.frames)
                listener.close()
            clock.ahead_us += HOUR_US
            await there.store.publish_due()
            page = await there.store.log_end(message, None, None, descending=False)
            assert page.last is not None
            stored = await there.store.log(message, None, page.last, 10**9, descending=False)
            assert [each.data for each in stored if each.position is not None] == [b'"before"']
            assert [bool(each.reason) for each in stored if each.uuid == pending.uuid] == [True]
        stop = True
        await loading
        p99 = statistics.quantiles(late_s, n=100)[98]
        print(f"\n{REVOCATIONS} rights ended: last byte p99 {p99 * 1000:.1f} ms, at most {max(late_s) * 1000:.1f} ms")
        assert max(late_s) < 5


def _disabled(user: User) -> User:
    return replace(user, state=structs.replace(user.state, disabled=True, gen=user.state.gen + 1))
