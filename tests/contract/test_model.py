"""Any sequence of inserts, schedules, cancels, clock advances, connects, resumes and restarts, at any node, gives each
subscriber exactly the stream that a small model predicts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Coroutine
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

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
from broker.errors import BadRequest, BrokerError, Conflict, Late, NotFound, PreconditionFailed
from broker.live import history
from broker.live.listing import Selection
from broker.names import Filter
from broker.records import Cancel, EventId, IfLatest, NewRecord, make_uuid
from broker.store.postgres import listener
from broker.users import OPERATOR
from broker.web.app import App
from tests.support.asgi import AsgiStream
from tests.support.postgres import a_database
from tests.support.servers import until

_T = TypeVar("_T")

EXAMPLES = {"SQLite": 40, "PostgreSQL": 10}
REPLAY_MAX = 4
START_US = 1_700_000_000_000_000
EVENTS = st.sampled_from(["a", "ab", "b", "orders/1", "orders/2"])
NODES = st.integers(0, 1)
REMOVALS_KEPT = 2


@dataclass(frozen=True)
class Draw:
    """What an item of a batch is made of."""

    event: str
    cancels: bool
    removes: bool
    log_only: bool
    later_us: int | None
    lasts_us: int | None
    if_latest: str
    late_refused: bool
    which: int


def _often(value: bool, *others: bool) -> st.SearchStrategy[bool]:
    return st.sampled_from([value] * 4 + [*others])


ITEMS = st.builds(
    Draw,
    event=EVENTS,
    cancels=_often(False, True),
    removes=_often(False, True, True),
    log_only=_often(False, True),
    later_us=st.none() | st.sampled_from([-6_000_000, -5, 0, 1, 2, 3, 5, 8, 30]),
    lasts_us=st.none() | st.sampled_from([1, 2, 3, 6, 20]),
    if_latest=st.sampled_from(["", "", "", "none", "id", "uuid", "wrong id", "wrong uuid"]),
    late_refused=_often(False, True),
    which=st.integers(0, 5),
)
FILTERS = st.lists(st.sampled_from(["a", "a*", "b", "orders/*", "orders/2", "none"]), max_size=2)
LAST_IDS = st.none() | st.sampled_from(["", "zz", "00000000-1", "{epoch}-999", "{epoch}-0"])


@dataclass(frozen=True)
class Version:
    """One record of the model. ``position`` is 0 as long as it is pending."""

    number: int
    uuid: UUID
    event: str
    data: str
    due_us: int
    until_us: int | None = None
    position: int = 0


@dataclass
class Removals:
    """Those that a node, or the store, still knows: the positions by event."""

    known: dict[str, int] = field(default_factory=dict)
    floor: int = 0

    def drop(self, droppable: set[str]) -> None:
        """Drops the oldest, so that REMOVALS_KEPT of those that may be dropped are left."""
        oldest = sorted((at, event) for event, at in self.known.items() if event in droppable)
        if len(oldest) > REMOVALS_KEPT + REMOVALS_KEPT // 10:
            for at, event in oldest[: len(oldest) - REMOVALS_KEPT]:
                del self.known[event]
                self.floor = at


@dataclass
class Model:
    """The whole of Broker, for the purpose of its streams."""

    now_us: int = START_US
    published: list[tuple[str, str]] = field(default_factory=list)  # event, data; the position is the index + 1
    times: list[int] = field(default_factory=list)  # when each of them was published
    versions: dict[UUID, Version] = field(default_factory=dict)  # of every insert
    latest: dict[str, Version] = field(default_factory=dict)  # of events that have state
    removed: dict[str, Version] = field(default_factory=dict)  # the removal of events that had state
    pending: list[Version] = field(default_factory=list)
    cancelled: set[UUID] = field(default_factory=set)
    log_only: set[UUID] = field(default_factory=set)
    number: int = 0

    def publish_due(self) -> None:
        """All publications and endings in the order of their times, one after the other."""
        while True:
            due = [(each.due_us, 0, each.number, each) for each in self.pending if each.due_us <= self.now_us]
            due += [
                (each.until_us, 1, each.number, each)
                for each in self.latest.values()
                if each.until_us is not None and each.until_us <= self.now_us
            ]
            if not due:
                return
            _, ending, _, version = min(due, key=lambda each: each[:3])
            if ending:
                self.publish(replace(version, data="null", until_us=None, uuid=UUID(int=0)))
            else:
                self.pending.remove(version)
                self.publish(version)

    def publish(self, version: Version) -> None:
        self.published.append((version.event, version.data))
        self.times.append(self.now_us)
        version = replace(version, position=len(self.published))
        if version.uuid.int:
            self.versions[version.uuid] = version
        if version.data != "null":
            self.latest[version.event] = version
            self.removed.pop(version.event, None)
        elif version.event in self.latest:
            del self.latest[version.event]
            self.removed[version.event] = version

    def apply(self, items: list[NewRecord | Cancel], ended: dict[str, int]) -> type[BrokerError] | None:
        """Carries out all items, or returns the error of the first that is refused; the model is then of no use.
        ``ended``: the last position of each earlier epoch, and of the current one."""
        self.publish_due()
        inserts, again = 0, False
        for item in items:
            if isinstance(item, Cancel):
                if item.uuid in self.cancelled:
                    again = True
                elif item.uuid in {each.uuid for each in self.pending}:
                    self.pending = [each for each in self.pending if each.uuid != item.uuid]
                    self.cancelled.add(item.uuid)
                else:
                    return Conflict if item.uuid in self.versions or item.uuid in self.log_only else NotFound
                continue
            if error := self.refusal(item, ended):
                return error
            inserts += 1
            self.number += 1
            due_us = self.now_us if item.due_us is None else item.due_us
            version = Version(self.number, item.uuid, item.event, item.data.decode(), due_us, item.until_us)
            if item.log_only:
                self.log_only.add(item.uuid)
                continue
            self.versions[item.uuid] = version
            if due_us <= self.now_us:
                self.publish(version)
            else:
                self.pending.append(version)
        return Conflict if again and inserts else None

    def refusal(self, new: NewRecord, ended: dict[str, int]) -> type[BrokerError] | None:
        due_us = self.now_us if new.due_us is None else new.due_us
        over = new.until_us is not None and new.until_us <= self.now_us
        if new.late_refused and (over or due_us < self.now_us - 5_000_000):
            return Late
        if over:
            return BadRequest
        if new.if_latest is None:
            return None
        if due_us > self.now_us:
            return BadRequest
        newest = self.latest.get(new.event) or self.removed.get(new.event)
        if isinstance(new.if_latest, UUID):
            met = newest is not None and newest.uuid == new.if_latest
        elif isinstance(new.if_latest, EventId):
            epoch, position = new.if_latest
            met = newest is not None and newest.position == position and position <= ended.get(epoch, -1)
        else:
            met = new.event not in self.latest
        return None if met else PreconditionFailed

    def records(self, after: int, filter: Filter) -> list[tuple[int, str, str]]:
        rows = [(at, event, data) for at, (event, data) in enumerate(self.published, 1)]
        return [row for row in rows if row[0] > after and filter.matches(row[1])]

    def state(self, after: int, filter: Filter, removals: Removals | None = None) -> list[tuple[int, str, str]]:
        rows = [(each.position, each.event, each.data) for each in self.latest.values()]
        rows += [(at, event, "null") for event, at in removals.known.items()] if removals is not None else []
        return sorted(row for row in rows if row[0] > after and filter.matches(row[1]))

    def state_at(self, time_us: int) -> list[tuple[int | None, str, str]]:
        """What a subscriber had received by then, or, in the future, what it will have received, if nothing happens."""
        if time_us <= self.now_us:
            head = max((at for at, each in enumerate(self.times, 1) if each <= time_us), default=0)
            newest = {event: (at, event, data) for at, (event, data) in enumerate(self.published[:head], 1)}
            return sorted((row for row in newest.values() if row[2] != "null"), key=lambda row: row[1])
        future = deepcopy(self)
        future.now_us = time_us
        future.publish_due()
        known = len(self.published)
        rows = [(each.position if each.position <= known else None, each) for each in future.latest.values()]
        return sorted(((at, each.event, each.data) for at, each in rows), key=lambda row: row[1])

    def catch_up(
        self, position: int | None, known: bool, filter: Filter, removals: Removals
    ) -> list[tuple[int, str, str]]:
        head = len(self.published)
        if position is None:
            frames = self.state(0, filter)
        elif not known or position > head:
            frames = [(0, "$reset", '{"reason":"unknown-id"}'), *self.state(0, filter)]
        elif head - position <= REPLAY_MAX:
            frames = self.records(position, filter)
        elif 0 < position < removals.floor:
            frames = [(0, "$reset", '{"reason":"too-old"}'), *self.state(0, filter)]
        else:
            skipped = (0, "$skipped", f'{{"positions":{head - position}}}')
            frames = [skipped, *self.state(position, filter, removals if position else None)]
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
        self.stored = Removals()  # the removals that the store knows
        self.seats: list[Seat] = []
        self.left: list[tuple[str, list[str]]] = []  # last ids to resume from, with their filters
        self.brokers: list[Broker] = []
        self.removals: dict[Broker, Removals] = {}  # those that each node knows
        for _ in range(2 if self.database else 1):
            self.start()

    def start(self) -> None:
        settings = Settings(
            data=self.folder, database=self.database, replay_max=REPLAY_MAX, scheduler_sleep_max_s=0.002,
            user_age_max_s=1, removals_kept=REMOVALS_KEPT,
        )  # fmt: skip
        broker = Broker(settings, clock=lambda: self.model.now_us)
        # What is due is published by the first transaction, before or after the relay has read the state.
        self.run(broker.store.start(lambda commit: None))
        self.run(broker.store.publish_due())
        self.run(broker.store.stop())
        broker = Broker(settings, clock=lambda: self.model.now_us)
        self.brokers.append(broker)
        self.run(broker.start())
        self.removals[broker] = deepcopy(self.stored)

    def node(self, number: int) -> Broker:
        return self.brokers[number % len(self.brokers)]

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def insert(self, node: int, items: list[NewRecord | Cancel]) -> None:
        """Carries the items out, at the node and in the model, which must agree."""
        before = len(self.model.published)
        model = deepcopy(self.model)
        epoch = self.brokers[0].relay.epoch
        expected = model.apply(items, {epoch: 10**9})
        refusal: BrokerError | None = None
        try:
            self.run(self.node(node).insert(items, OPERATOR))
        except BrokerError as error:
            refusal = error
        assert (refusal and type(refusal)) is expected, refusal
        if refusal is None:
            self.model = model
        self.heard(before)

    @rule(node=NODES, item=ITEMS)
    def insert_one(self, node: int, item: Draw) -> None:
        self.insert(node, [self.item(item)])

    @rule(node=NODES, items=st.lists(ITEMS, min_size=2, max_size=4))
    def insert_batch(self, node: int, items: list[Draw]) -> None:
        self.insert(node, [self.item(item) for item in items])

    def item(self, draw: Draw) -> NewRecord | Cancel:
        uuids = list(self.model.versions)
        if draw.cancels and uuids:
            return Cancel(uuids[-1 - draw.which % min(len(uuids), 6)], "ada")
        due_us = None if draw.later_us is None else self.model.now_us + draw.later_us
        until_us = None
        if draw.lasts_us is not None and not draw.removes and not draw.log_only:
            until_us = (self.model.now_us if due_us is None else due_us) + draw.lasts_us
        self.count += 1
        data = "null" if draw.removes else json.dumps({"n": self.count})
        return NewRecord(
            make_uuid(self.count), draw.event, data.encode(), "ada", due_us=due_us, log_only=draw.log_only,
            uuid_given=True, until=None if until_us is None else f"{until_us}e-6", until_us=until_us,
            if_latest=None if draw.log_only else self.condition(draw, uuids), late_refused=draw.late_refused,
        )  # fmt: skip

    def condition(self, draw: Draw, uuids: list[UUID]) -> IfLatest:
        newest = self.model.latest.get(draw.event) or self.model.removed.get(draw.event)
        epoch = self.brokers[0].relay.epoch
        if draw.if_latest == "id" and newest is not None:
            return EventId(epoch, newest.position)
        if draw.if_latest == "uuid" and newest is not None and newest.uuid.int:
            return newest.uuid
        if draw.if_latest == "wrong id":
            return EventId(epoch, draw.which + 1)
        if draw.if_latest == "wrong uuid" and uuids:
            return uuids[draw.which % len(uuids)]
        return "none" if draw.if_latest == "none" else None

    count = 0  # of the records that were made so far

    @rule(us=st.integers(1, 20))
    def advance(self, us: int) -> None:
        before = len(self.model.published)
        self.model.now_us += us
        self.model.publish_due()
        self.heard(before)

    @rule(us=st.integers(1, 20))
    def set_the_clock_back(self, us: int) -> None:
        self.model.now_us -= us

    @rule(node=NODES, us=st.integers(-60, 60))
    def look_at_another_time(self, node: int, us: int) -> None:
        broker, time_us = self.node(node), self.model.now_us + us

        async def look() -> list[tuple[int | None, str, str]]:
            event_id = await broker.id_at(time_us)
            versions, _ = await broker.state_at(time_us, event_id, Selection(), OPERATOR)
            records = [record async for portion in broker.reads.versions(versions, OPERATOR, ()) for record in portion]
            return [(record.position, record.event, record.data.decode()) for record in records]

        assert self.run(look()) == self.model.state_at(time_us)

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
        del self.removals[broker]
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
        expected = self.model.catch_up(
            (int(position) if known else -1) if last_id else None, known, filter, self.removals[broker]
        )
        query = "&".join(f"event={pattern}" for pattern in patterns)

        async def connect() -> AsgiStream:
            return AsgiStream(App(broker), query=query, last_id=last_id)

        self.seats.append(Seat(broker, self.run(connect()), filter, patterns, expected))

    def heard(self, before: int) -> None:
        """What the model has published since goes to every seat, and the nodes and the store learn of removals."""
        known = dict(self.stored.known)
        for at, (event, data) in enumerate(self.model.published[before:], before + 1):
            for seat in self.seats:
                if seat.filter.matches(event):
                    seat.expected.append((at, event, data))
            for removals in self.removals.values():
                if event in self.had_state and data == "null":
                    removals.known[event] = at
                    removals.drop(set(removals.known))
                elif data != "null":
                    removals.known.pop(event, None)
            if data == "null" and event in self.had_state:
                known[event] = at
            elif data != "null":
                known.pop(event, None)
            self.had_state = self.had_state - {event} if data == "null" else self.had_state | {event}
        self.stored.known = known
        self.stored.drop(set(known) - {each.event for each in self.model.pending})

    had_state: frozenset[str] = frozenset()  # the events that have state, as of the last publication that was heard

    @invariant()
    def settle(self) -> None:
        """Every subscriber has exactly what the model says, and the server is where the model is."""

        def settled() -> bool:
            return all(broker.relay.position >= len(self.model.published) for broker in self.brokers) and all(
                len(seat.stream.frames) >= len(seat.expected) for seat in self.seats
            )

        with contextlib.suppress(TimeoutError):  # the comparison shows what is missing
            self.run(until(settled))
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
    monkeypatch.setattr(history, "_SPACING", 4)  # so that there are checkpoints, and records between them
    monkeypatch.setattr(history, "_LOOK_S", 0.001)
    examples = settings(
        max_examples=EXAMPLES[store], stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Streams, settings=examples)
