"""Whatever happens to rules, roles and memberships, a stream shows nothing that its reader may not read, and everything
that the reader may read."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import Broker, Settings
from broker.live.frames import Form
from broker.live.subscription import Subscription
from broker.names import RULES_EVENT, USER_EVENT, Filter
from broker.records import NewRecord, make_uuid
from broker.rules.file import parse_file
from broker.rules.rights import encode_rules
from broker.rules.rules import Rules
from broker.rules.who import Person
from broker.store.postgres import listener
from broker.users import STRANGER_ACTOR, Actor
from tests.support.postgres import a_database
from tests.support.rules import random_rules
from tests.support.servers import until
from tests.support.stream_client import StreamClient

_T = TypeVar("_T")

EXAMPLES = {"SQLite": 80, "PostgreSQL": 8}
STEPS = 20
USERS = {"": STRANGER_ACTOR, "ada": Actor("1", "ada"), "bob": Actor("2", "bob")}
REPLAY_MAX = 8
RESUMES = 60  # at the end of each history

ROOMS = """
[[event]]
name = "room/{room}/member/{_}"
read = "if room/{room}/member/{me}"

[[event]]
name = "room/{room}/message/*"
read = ["if room/{room}/member/{me}", "if room/{room}/open"]

[[event]]
name = "inbox/{to}/*"
read = "{to}"

[[event]]
name = "news/*"
read = "public"
"""
ROLES = """
roles = ["r", "s"]
[[event]]
name = "news/*"
read = ["@r", "@s"]

[[event]]
name = "inbox/{to}/*"
read = ["{to} and @r", "user and if room/1/open"]

[[event]]
name = "room/{room}/*"
read = ["if room/{room}/member/{me}", "@s"]
"""
NEARLY_OPEN = """
[[event]]
name = "*"
read = "public"
open = true

[[event]]
name = "inbox/{to}/{_}"
read = "{to}"
"""
OPEN = NEARLY_OPEN.partition('[[event]]\nname = "inbox')[0]

# There are few names and users, so that the steps of a short history have much to do with each other.
_rules = st.sampled_from([ROOMS, ROOMS, ROOMS, ROLES, ROLES, NEARLY_OPEN, OPEN, ""]) | random_rules()
_conditions = st.sampled_from(["room/1/member/ada", "room/1/member/ada", "room/1/open", "m/ada"])
_others = st.sampled_from(["room/1/message/1", "room/1/message/2", "inbox/ada/1", "news/1", "news/1", "ada/a"])
_puts = st.tuples(_conditions | _others, st.sampled_from(["x", "x", "x", "null", "false"]))
_batch = st.lists(_puts, min_size=1, max_size=4)
_users = st.sampled_from(sorted(USERS))
_roles = st.sampled_from([[], ["r"], ["s"], ["s", "r"], ["admin"]])
_ada = st.integers(0, 9)  # mostly one of hers
STEP = st.one_of(
    st.tuples(st.just("put"), _batch),
    st.tuples(st.just("put"), _batch),
    st.tuples(st.just("resume"), _ada, st.lists(_batch, max_size=2), _rules | st.none(), _roles | st.none()),
    st.tuples(st.just("resume"), _ada, _batch.map(lambda batch: [batch]), st.none(), st.none()),
    st.tuples(st.just("resume"), _ada, st.just([]), st.none(), _roles),
    st.tuples(st.just("connect"), _users, st.just([]) | st.sampled_from([["room/1/*"], ["inbox/ada/1", "news*"]])),
    st.tuples(st.just("rules"), _rules, st.lists(_puts, max_size=2), st.lists(_puts, max_size=2)),
    st.tuples(st.just("roles"), st.just("ada"), _roles),
    st.tuples(st.just("disable"), st.just("bob")),
    st.tuples(st.just("restart")),
)


class Moment(NamedTuple):
    """The rights and the state as of a position."""

    rules: Rules | None
    roles: dict[str, tuple[str, ...]]
    latest: dict[str, str]

    def may_read(self, username: str, event: str) -> bool:
        person = Person(username or None, frozenset(self.roles.get(username, ())))
        holds = {name for name, data in self.latest.items() if data != "false"}
        return self.rules is None or self.rules.allows("read", event, person, holds.__contains__)


class Client(StreamClient):
    """A client that keeps the state as the documentation says, and resumes from its last id when it connects again."""

    def __init__(self, username: str, patterns: list[str], form: Form) -> None:
        super().__init__(USERS[username])
        self.username = username
        self.patterns = patterns
        self.filter = Filter.parse(patterns, 10)
        self.form = form
        self.state: dict[str, str] = {}
        self.states: dict[str, dict[str, str]] = {}  # after the frames with each id
        self.taken = 0
        self.position = 0  # of the last record that came on this connection
        self.last_id = ""
        self.broker: Broker
        self.saw_login = False

    def connect(self, broker: Broker) -> None:
        self.broker, self.taken, self.position = broker, 0, 0
        self.open_stream(broker, Subscription(self.filter, self.form), self.last_id or None)


class History:
    """Carries out the steps, and compares what the streams show with what the rules say."""

    def __init__(self, database: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.database = database
        if database:
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute("DROP SCHEMA IF EXISTS broker CASCADE")
        self.now_us = 1_700_000_000_000_000
        self.numbers = itertools.count(1)
        self.brokers = [self.start() for _ in range(3 if database else 1)]
        self.moments = [Moment(None, {}, {})]  # as of each position
        self.disabled: set[str] = set()
        self.clients: list[Client] = []
        self.left: list[Client] = []
        self.judged_from = 0

    def run(self, work: Awaitable[_T]) -> _T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def start(self) -> Broker:
        given = Settings(data=self.folder, database=self.database, replay_max=REPLAY_MAX, rights_reset_s=0.0001)
        broker = Broker(given, clock=lambda: self.now_us)
        self.run(broker.start())
        return broker

    @property
    def node(self) -> Broker:
        return self.brokers[next(self.numbers) % len(self.brokers)]

    def step(self, kind: str, *values: Any) -> None:
        self.now_us += 10
        self.judged_from = len(self.moments) - 1
        getattr(self, kind)(*values)
        self.settle()

    # Steps

    def append(self, items: list[tuple[str, str]]) -> None:
        records = [
            NewRecord(make_uuid(next(self.numbers)), event, data.encode(), "ada", uuid_given=True)
            for event, data in items
        ]
        self.run(self.node.store.append(records))
        for event, data in items:
            rules, roles, latest = self.moments[-1]
            if event == RULES_EVENT:
                rules = parse_file(json.loads(data)["toml"]).rules
            elif event.startswith(USER_EVENT):
                name = next(name for name, actor in USERS.items() if f"{USER_EVENT}{actor.user_id}" == event)
                roles = roles | {name: tuple(json.loads(data).get("roles", ()))}
            else:
                latest = latest | {event: data}
                if data == "null":
                    del latest[event]
            self.moments.append(Moment(rules, roles, latest))

    def secrets(self, items: Any) -> list[tuple[str, str]]:
        return [(event, f'"secret {next(self.numbers)}"' if data == "x" else data) for event, data in items]

    def put(self, items: list[tuple[str, str]]) -> None:
        self.append(self.secrets(items))

    def rules(self, toml: str, before: Any = (), after: Any = ()) -> None:
        self.append([*self.secrets(before), (RULES_EVENT, encode_rules(toml).decode()), *self.secrets(after)])

    def roles(self, username: str, roles: list[str]) -> None:
        if username not in self.disabled:
            self.append([(f"{USER_EVENT}{USERS[username].user_id}", json.dumps({"roles": roles}))])

    def disable(self, username: str) -> None:
        self.disabled.add(username)
        self.append([(f"{USER_EVENT}{USERS[username].user_id}", json.dumps({"disabled": True}))])
        for client in [client for client in self.clients if client.username == username]:
            self.clients.remove(client)
            self.wait(lambda client=client: client.subscriber.closed)
            self.read(client)
            assert client.saw_login

    def connect(self, username: str, patterns: list[str]) -> None:
        if username not in self.disabled and len(self.clients) < 8:
            form = Form.NAMED if next(self.numbers) % 2 else Form.RECORD_WITH_USER
            self.open_stream(Client(username, patterns, form))

    def resume(
        self, which: int, batches: list[list[tuple[str, str]]], rules: str | None, roles: list[str] | None
    ) -> None:
        """A client is disconnected while things happen, and then resumes with its last id."""
        client = None
        adas = [client for client in self.clients if client.username == "ada"]
        if chosen := adas if which < 7 and adas else self.clients:
            client = chosen[which % len(chosen)]
            self.clients.remove(client)
            client.close()
        if rules is not None:
            self.rules(rules)
        if roles is not None:
            self.roles("ada", roles)
        for batch in batches:
            self.put(batch)
        if client is not None and client.username not in self.disabled:
            self.settle()
            self.judged_from = len(self.moments) - 1
            self.open_stream(client)

    def restart(self) -> None:
        broker = self.brokers.pop(0)
        self.run(broker.stop())
        for client in [client for client in self.clients if client.broker is broker]:
            self.clients.remove(client)
            self.read(client)
            self.left.append(client)
        self.brokers.append(self.start())
        for client in self.left:
            self.open_stream(client)
        self.left = []

    def open_stream(self, client: Client) -> None:
        async def connect() -> None:
            client.connect(self.node)

        self.run(connect())
        self.clients.append(client)

    # What must hold

    def wait(self, condition: Any) -> None:
        self.run(until(condition))

    def settle(self) -> None:
        head = len(self.moments) - 1
        self.wait(lambda: all(broker.hub.position == broker.relay.position == head for broker in self.brokers))
        self.wait(lambda: all(client.subscriber.group is not None for client in self.clients))
        now = self.moments[-1]
        for client in self.clients:
            self.read(client)
            assert client.state == {
                event: data
                for event, data in now.latest.items()
                if client.filter.matches(event) and now.may_read(client.username, event)
            }

    def read(self, client: Client) -> None:
        """Takes the frames that have come, each of which the client must have been allowed to read since the step."""
        head = len(self.moments) - 1
        frames = client.reader.frames[client.taken :]
        client.taken = len(client.reader.frames)
        for frame in frames:
            client.last_id = frame.id or client.last_id
            if frame.event == "$reset":
                client.state, client.position = {}, 0
            client.saw_login = frame.event == "$login"
            if frame.event.startswith("$"):
                continue
            assert frame.position > client.position, "records come in order, and once"
            client.position = frame.position
            event, data = frame.event, frame.data
            if client.form is not Form.NAMED:
                record = json.loads(frame.data)
                event, data = record["event"], json.dumps(record["data"])
            since = max(frame.position, self.judged_from)
            assert any(self.moments[at].may_read(client.username, event) for at in range(since, head + 1)), (
                f"{client.username or 'a stranger'} has received {event} at {frame.position}"
            )
            if data == "null":
                client.state.pop(event, None)
            else:
                client.state[event] = data
            client.states[client.last_id] = dict(client.state)

    def resume_at_every_id(self) -> None:
        """Clients that were cut off after some frame, at any time, resume with the state that they had then."""
        self.judged_from = len(self.moments) - 1
        met = [(client, last_id) for client in self.clients for last_id in client.states]
        for client in self.clients:
            client.close()
        self.clients = []
        for client, last_id in met[:: len(met) // RESUMES + 1]:
            again = Client(client.username, client.patterns, client.form)
            again.last_id, again.state = last_id, dict(client.states[last_id])
            self.open_stream(again)
        self.settle()

    def end(self) -> None:
        for broker in self.brokers:
            self.run(broker.stop())
        self.loop.close()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_a_stream_shows_exactly_what_its_reader_may_read(
    store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = a_database(request.getfixturevalue("postgres")) if store == "PostgreSQL" else ""
    monkeypatch.setattr(listener, "_WAIT_S", 0.01)  # so that a restart takes no half second

    @settings(max_examples=EXAMPLES[store], deadline=None, suppress_health_check=list(HealthCheck))
    @given(_rules, st.lists(STEP, min_size=3, max_size=STEPS))
    def run_history(rules: str, steps: list[Any]) -> None:
        history = History(database)
        try:
            history.step("rules", rules)
            for username in USERS:
                history.step("connect", username, [])
            for kind, *values in steps:
                history.step(kind, *values)
            history.resume_at_every_id()
        finally:
            history.end()

    run_history()
