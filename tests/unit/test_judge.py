"""What a transaction permits is what the rules say about a model of the state; and it reads rows in few queries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from broker.errors import BrokerError, Forbidden, Unauthorized
from broker.names import RULES_EVENT, USER_EVENT
from broker.operations.content import empty_log
from broker.records import NewRecord, make_uuid
from broker.rules.file import parse_file
from broker.rules.rights import Rights, Version, encode_rules
from broker.rules.rules import Operation, Rules
from broker.rules.who import STRANGER, Person
from broker.settings import Settings
from broker.store.batch import Batch
from broker.store.judge import KnownRules
from broker.store.sqlite.statements import SQLiteTables
from broker.store.transaction import Transaction
from broker.users import OPERATOR, STRANGER_ACTOR, Actor, User, UserState
from tests.support.rules import NAMES, random_rules

SETTINGS = Settings(data=Path())
ROLES = {"ada": ("r",), "bob": ("r", "s"), "a": ()}
ACTORS = {name: Actor(name, name) for name in ROLES}
DATA = ["1", "false", "null"]
CONDITIONS = ["m/ada", "m/bob", "m/a", "m/b"]


@dataclass
class Log:
    """A log in memory, of which each transaction is committed."""

    db: sqlite3.Connection
    rights: Rights = field(default_factory=Rights)
    known: KnownRules = field(default_factory=KnownRules)
    now_us: int = 1_000_000
    epoch: str = "0123abcd"

    def begin(self) -> Transaction:
        tables = SQLiteTables(self.db)
        return Transaction(tables, self.now_us, SETTINGS, self.epoch, self.rights, self.known)

    def append(self, *batches: Batch) -> list[str]:
        """Returns "" or the name of the error of each batch."""
        transaction = self.begin()
        transaction.publish_due()
        results = transaction.append(batches)
        transaction.finish()
        return [type(result).__name__ if isinstance(result, BrokerError) else "" for result in results]

    def rows(self, select: str) -> list[Any]:
        return self.db.execute(select).fetchall()

    def arrive(self, toml: str) -> None:
        transaction = self.begin()
        for name in ROLES:
            transaction.add_user(User(name, name, b"null", "hash"), OPERATOR)
        for name, roles in ROLES.items():
            transaction.change_user(name, lambda user, roles=roles: _with(user, roles), OPERATOR)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        transaction.finish()
        assert self.append(Batch([new(RULES_EVENT, encode_rules(toml).decode())], OPERATOR)) == [""]

    def advance(self) -> None:
        """Makes the node's view as new as the store."""
        select = """SELECT event, CAST(data AS BLOB), position FROM events JOIN publications USING (position)
            JOIN records USING (number, event) WHERE event GLOB '$*' ORDER BY position"""
        for event, data, position in self.db.execute(select).fetchall():
            self.rights.apply(event, data, Version(self.epoch, position))


def _with(user: User, roles: tuple[str, ...]) -> User:
    return User(user.id, user.username, user.info, user.password_hash, UserState(roles=roles))


FAR_US = 10**15  # an end that no test waits for


def new(event: str, data: str = "1", user: str = "", due_us: int | None = None, *, ends: bool = False) -> NewRecord:
    timestamp = None if due_us is None else f"{due_us}e-6"
    until_us, until = (FAR_US, f"{FAR_US}e-6") if ends and data != "null" else (None, None)
    return NewRecord(
        make_uuid(1), event, data.encode(), user, timestamp, due_us, until_us=until_us, until=until,
    )  # fmt: skip


@pytest.fixture
def log() -> Iterator[Log]:
    with empty_log() as db:
        db.isolation_level = None
        yield Log(db)


class Model:
    """The state of the events, and what the rules say about it."""

    def __init__(self, toml: str) -> None:
        self.rules: Rules = parse_file(toml).rules
        self.state: dict[str, str] = {}

    def insert(self, event: str, data: str, name: str | None, *, ends: bool = False) -> str:
        """Returns "" if this person may insert it, and inserts it; or the name of the error."""
        person = STRANGER if name is None else Person(name, frozenset(ROLES[name]))
        operations: set[Operation] = {"remove"} if data == "null" else {"insert", "remove"} if ends else {"insert"}
        for operation in operations:
            if not self.rules.allows(operation, event, person, lambda other: self.state.get(other, "false") != "false"):
                return (Unauthorized if name is None else Forbidden).__name__
        self.put(event, data)
        return ""

    def put(self, event: str, data: str) -> None:
        if data == "null":
            self.state.pop(event, None)
        else:
            self.state[event] = data


Writes = list[tuple[str, str, str | None, bool]]  # event, data, who inserts it, and whether it is to end by itself

_data = st.sampled_from(DATA)
_writes = st.lists(
    st.tuples(st.sampled_from(NAMES + 9 * CONDITIONS), _data, st.sampled_from([*ROLES, None]), st.booleans()),
    max_size=6,
)
_states = st.lists(st.tuples(st.sampled_from(CONDITIONS), _data), max_size=6)


@given(random_rules(), st.lists(st.tuples(_states, _writes, _writes, st.booleans()), min_size=1, max_size=3))
@bounds(max_examples=60, deadline=None)
def test_a_transaction_permits_what_the_rules_say(
    toml: str, transactions: list[tuple[list[tuple[str, str]], Writes, Writes, bool]]
) -> None:
    """Each one publishes what comes due, and then inserts what arrives; whether or not the node has read as far as the
    store. The operator may do everything, and so sets the states that rights depend on."""
    with empty_log() as db:
        db.isolation_level = None
        log, model = Log(db), Model(toml)
        log.arrive(toml)
        for states, scheduled, arriving, as_far in transactions:
            if as_far:
                log.advance()
            due = [
                new(event, data, who or "", log.now_us + at, ends=ends)
                for at, (event, data, who, ends) in enumerate(scheduled, 1)
            ]
            log.append(*(Batch([new(event, data)], OPERATOR) for event, data in states), Batch(due, OPERATOR))
            for event, data in states:
                model.put(event, data)
            log.now_us += 1_000
            results = log.append(
                *(
                    Batch([new(event, data, who or "", ends=ends)], ACTORS[who] if who else STRANGER_ACTOR)
                    for event, data, who, ends in arriving
                )
            )
            cancelled = {uuid for (uuid,) in log.rows("SELECT uuid FROM records JOIN cancellations USING (number)")}
            refusals = [model.insert(event, data, who, ends=ends) != "" for event, data, who, ends in scheduled]
            assert [each.uuid.bytes in cancelled for each in due] == refusals
            assert results == [model.insert(event, data, who, ends=ends) for event, data, who, ends in arriving]
        state = log.rows("""SELECT event, data FROM events JOIN publications USING (position)
            JOIN records USING (number, event) WHERE NOT removed AND event NOT GLOB '$*'""")
        assert dict(state) == model.state


def test_what_is_open_to_every_user_is_not_open_to_strangers(log: Log) -> None:
    for rules in ("", '[[event]]\nname = "a"\ninsert = "user"\n'):
        if rules:
            log.arrive(rules)
        assert log.append(Batch([new("a", "1", "ada")], ACTORS["ada"])) == [""]
        assert log.append(Batch([new("a")], STRANGER_ACTOR)) == ["Unauthorized"]


@pytest.mark.parametrize("rules", ["", '[[event]]\nname = "*"\ninsert = "user"\nread = "user"\nopen = true\n'])
def test_brokers_own_events_are_open_to_nobody_but_administrators(log: Log, rules: str) -> None:
    if rules:
        log.arrive(rules)
    attempt = new(RULES_EVENT, encode_rules("").decode())
    batches = Batch([attempt], ACTORS["ada"]), Batch([attempt], STRANGER_ACTOR)
    assert log.append(*batches) == ["Forbidden", "Unauthorized"]


ABSENT = """
roles = ["r"]
[[event]]
name = "m/{who}/*"
insert = ["if vip/{who} and @r", "if other/{me}", "user and @r"]
remove = ["if gone/{who} and @r", "user and @r"]
max_bytes = 99
"""


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("as_far", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_the_rows_that_rights_depend_on_are_read_together_and_once(
    log: Log, *, scheduled: bool, as_far: bool, ends: bool
) -> None:
    """On PostgreSQL each query is a round trip, for which all nodes wait. None of these events has a row."""
    log.arrive(ABSENT)
    if as_far:
        log.advance()
    events, batches = [f"m/{number % 50}/{number}" for number in range(200)], []
    if scheduled:
        log.append(Batch([new(event, "1", "ada", log.now_us + 1, ends=ends) for event in events], OPERATOR))
        log.now_us += 1_000
    else:
        batches = [Batch([new(event, "1", "ada", ends=ends) for event in events], ACTORS["ada"])]
    statements: list[str] = []
    log.db.set_trace_callback(statements.append)
    assert not any(log.append(*batches))
    log.db.set_trace_callback(None)
    assert log.rows("SELECT count(*) FROM events WHERE event GLOB 'm/*' AND position") == [(200,)]
    # Of 251 or 301 names: portions of 128 rows, and the rest. And the row of the rules, if the node does not know them.
    assert sum("FROM events\n" in each and "event IN" in each for each in statements) <= 2 + ends + (not as_far)


def test_a_log_without_rights_is_asked_nothing_about_them(log: Log) -> None:
    statements: list[str] = []
    log.append(Batch([new("a", "1", "ada")], ACTORS["ada"]))
    log.db.set_trace_callback(statements.append)
    log.append(Batch([new("a", "2", "ada"), new("b", "2", "ada")], ACTORS["ada"]))
    log.db.set_trace_callback(None)
    assert not any("users" in each or RULES_EVENT in each or USER_EVENT in each for each in statements)
