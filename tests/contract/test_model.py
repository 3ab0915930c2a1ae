"""Any sequence of inserts, schedules, cancels, clock advances, connects, resumes and restarts, at any node, gives each
subscriber exactly the stream that a small model predicts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker import Broker, Settings
from broker.errors import Conflict
from broker.names import Filter
from broker.records import NewRecord, make_uuid
from broker.store.postgres import listener
from broker.users import User
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.postgres import a_database

_T = TypeVar("_T")

EXAMPLES = {"SQLite": 40, "PostgreSQL": 10}
REPLAY_MAX = 4
START_US = 1_700_000_000_000_000
EVENTS = st.sampled_from(["a", "ab", "b", "orders/1", "orders/2"])
NODES = st.integers(0, 1)
FILTERS = st.lists(st.sampled_from(["a", "a*", "b", "orders/*", "orders/2", "none"]), max_size=2)
LAST_IDS = st.none() | st.sampled_from(["", "zz", "00000000-1", "{epoch}-999", "{epoch}-0"])


@dataclass
class Model:
    """The whole of Broker, for the purpose of its streams."""

    now_us: int = START_US
    published: list[tuple[str, str]] = field(default_factory=list)  # event, data; the position is the index + 1
    pending: list[tuple[int, int, str, str]] = field(default_factory=list)  # due, number, event, data
    number: int = 0

    def publish_due(self) -> None:
        due = sorted(each for each in self.pending if each[0] <= self.now_us)
        self.pending = [each for each in self.pending if each[0] > self.now_us]
        self.published += [(event, data) for _, _, event, data in due]

    def insert(self, event: str, data: str, due_us: int | None) -> int:
        self.publish_due()
        self.number += 1
        if due_us is None or due_us <= self.now_us:
            self.published.append((event, data))
        else:
            self.pending.append((due_us, self.number, event, data))
        return self.number

    def cancel(self, number: int) -> bool:
        self.publish_due()
        before = len(self.pending)
        self.pending = [each for each in self.pending if each[1] != number]
        return len(self.pending) < before

    def records(self, after: int, filter: Filter) -> list[tuple[int, str, str]]:
        rows = [(at, event, data) for at, (event, data) in enumerate(self.published, 1)]
        return [row for row in rows if row[0] > after and filter.matches(row[1])]

    def latest(self, after: int, filter: Filter) -> list[tuple[int, str, str]]:
        return sorted({event: (at, event, data) for at, event, data in self.records(after, filter)}.values())

    def catch_up(self, position: int | None, known: bool, filter: Filter) -> list[tuple[int, str, str]]:
        head = len(self.published)
        if position is None:
            frames = self.latest(0, filter)
        elif not known or position > head:
            frames = [(0, "$reset", '{"reason":"unknown-id"}'), *self.latest(0, filter)]
        elif head - position > REPLAY_MAX:
            frames = [(0, "$skipped", f'{{"positions":{head - position}}}'), *self.latest(position, filter)]
        else:
            frames = self.records(position, filter)
        return [*frames, (head, "$ready", "")]


@dataclass
class Seat:
    """One subscriber: what it got, and what the model says it should have got."""

    broker: Broker
    stream: AsgiStream
    filter: Filter
    patterns: list[str]
    expected: list[tuple[int, str, str]]


class Streams(RuleBasedStateMachine):
    database = ""  # of PostgreSQL, where each example begins anew, with two nodes; none: SQLite, and one

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        if self.database:
            with psycopg.connect(self.database, autocommit=True) as connection:
                connection.execute("DROP SCHEMA IF EXISTS broker CASCADE")
        self.model = Model()
        self.seats: list[Seat] = []
        self.left: list[tuple[str, list[str]]] = []  # last ids to resume from, with their filters
        self.uuids: dict[int, Any] = {}
        self.brokers: list[Broker] = []
        for _ in range(2 if self.database else 1):
            self.start()

    def start(self) -> None:
        settings = Settings(
            data=self.folder, database=self.database, replay_max=REPLAY_MAX, scheduler_sleep_max_s=0.002,
            user_age_max_s=1,
        )  # fmt: skip
        self.brokers.append(Broker(settings, clock=lambda: self.model.now_us))
        self.run(self.brokers[-1].start())

    def node(self, number: int) -> Broker:
        return self.brokers[number % len(self.brokers)]

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @rule(node=NODES, event=EVENTS, later_us=st.none() | st.integers(-5, 30), log_only=st.booleans())
    def insert(self, node: int, event: str, later_us: int | None, log_only: bool) -> None:
        due_us = None if later_us is None else self.model.now_us + later_us
        data = json.dumps({"n": self.model.number})
        uuid = make_uuid(self.model.number)
        new = NewRecord(uuid, event, data.encode(), "ada", due_us=due_us, log_only=log_only)
        self.run(self.node(node).insert([new]))
        if log_only:
            self.model.number += 1
            return
        before = len(self.model.published)
        self.uuids[self.model.insert(event, data, due_us)] = uuid
        self.heard(before)

    @rule(us=st.integers(1, 20))
    def advance(self, us: int) -> None:
        before = len(self.model.published)
        self.model.now_us += us
        self.model.publish_due()
        self.heard(before)

    @precondition(lambda self: self.uuids)
    @rule(node=NODES, data=st.data())
    def cancel(self, node: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.uuids)))
        cancelled = True
        try:
            self.run(self.node(node).cancel(self.uuids[number], User("1", "ada", b"null", "")))
        except Conflict:
            cancelled = False
        if self.model.cancel(number):
            del self.uuids[number]
            assert cancelled
        else:
            assert not cancelled

    @rule(node=NODES, patterns=FILTERS, last_id=LAST_IDS)
    def connect(self, node: int, patterns: list[str], last_id: str | None) -> None:
        last_id = (last_id or "").replace("{epoch}", self.brokers[0].relay.epoch)
        self.sit(self.node(node), patterns, last_id)

    @precondition(lambda self: self.seats)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        seat = self.seats.pop(data.draw(st.integers(0, len(self.seats) - 1)))
        self.run(seat.stream.leave())
        self.left.append((seat.stream.reader.last_id, seat.patterns))

    @precondition(lambda self: self.left)
    @rule(node=NODES, data=st.data())
    def resume(self, node: int, data: st.DataObject) -> None:
        last_id, patterns = data.draw(st.sampled_from(self.left))
        self.sit(self.node(node), patterns, last_id)

    @rule(node=NODES, downtime_us=st.integers(0, 20))
    def restart(self, node: int, downtime_us: int) -> None:
        broker = self.node(node)
        self.brokers.remove(broker)
        self.run(broker.stop())
        for seat in [seat for seat in self.seats if seat.broker is broker]:
            self.seats.remove(seat)
            self.run(asyncio.wait_for(asyncio.shield(seat.stream.task), 5))
            self.left.append((seat.stream.reader.last_id, seat.patterns))
        self.advance(downtime_us)
        self.start()

    def sit(self, broker: Broker, patterns: list[str], last_id: str) -> None:
        filter = Filter.parse(patterns, 10)
        self.settle()  # what fell due at a restart has gone out: the model has no moment in between
        epoch, _, position = last_id.partition("-")
        known = epoch == broker.relay.epoch and position.isdigit()
        expected = self.model.catch_up((int(position) if known else -1) if last_id else None, known, filter)
        query = "&".join(f"event={pattern}" for pattern in patterns)

        async def connect() -> AsgiStream:
            return AsgiStream(App(broker), query=query, last_id=last_id)

        self.seats.append(Seat(broker, self.run(connect()), filter, patterns, expected))

    def heard(self, before: int) -> None:
        for at, (event, data) in enumerate(self.model.published[before:], before + 1):
            for seat in self.seats:
                if seat.filter.matches(event):
                    seat.expected.append((at, event, data))

    @invariant()
    def settle(self) -> None:
        """Every subscriber has exactly what the model says, and the server is where the model is."""

        def settled() -> bool:
            return all(broker.relay.position >= len(self.model.published) for broker in self.brokers) and all(
                len(seat.stream.frames) >= len(seat.expected) for seat in self.seats
            )

        async def until() -> None:
            while not settled():  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.0005)

        with contextlib.suppress(TimeoutError):  # the comparison shows what is missing
            self.run(until())
        assert {broker.relay.position for broker in self.brokers} == {len(self.model.published)}
        for seat in self.seats:
            got = [
                (frame.position if frame.id else 0, frame.event, "" if frame.event == "$ready" else frame.data)
                for frame in seat.stream.frames
            ]
            assert got == seat.expected

    def teardown(self) -> None:
        if hasattr(self, "brokers"):
            for broker in self.brokers:
                with contextlib.suppress(TimeoutError):
                    self.run(broker.stop())
            for seat in self.seats:
                self.run(seat.stream.leave())
            self.loop.close()
            shutil.rmtree(self.folder)


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_each_subscriber_gets_exactly_what_the_model_predicts(
    store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "PostgreSQL":
        monkeypatch.setattr(Streams, "database", a_database(request.getfixturevalue("postgres")))
    monkeypatch.setattr(listener, "_WAIT_S", 0.01)  # so that a restart takes no half second
    examples = settings(
        max_examples=EXAMPLES[store], stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Streams, settings=examples)
