"""The rates of the rules: of each user, and of each address where strangers insert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.rules import apply_rules
from tests.support.servers import ServerProcess

RULES = """
[[event]]
name = "chat/*"
read = "public"
insert = "user"
rate = "5/hour"

[[event]]
name = "form/*"
insert = "public"
max_bytes = 100
rate = "3/hour"

[[event]]
name = "staff/{owner}"
insert = "{owner}"
rate = "1/hour"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path) as running:
        apply_rules(running, RULES)
        yield running


def statuses(client: httpx.Client, event: str, count: int, **headers: str) -> list[int]:
    body = {"event": event, "data": 1}
    return [client.post("/insert", json=body, headers=headers).status_code for _ in range(count)]


def test_each_user_inserts_as_often_as_the_rule_says(server: ServerProcess) -> None:
    with server.client("ada") as ada, server.client("bob") as bob:
        assert statuses(ada, "chat/1", 6) == [201] * 5 + [429]
        assert statuses(bob, "chat/2", 1) == [201]
        refused = ada.post("/insert", json={"event": "chat/1", "data": 1})
        assert int(refused.headers["retry-after"]) > 0
        assert "allowed" not in refused.json()


def test_strangers_are_counted_by_their_address(server: ServerProcess) -> None:
    with server.client() as stranger:
        assert statuses(stranger, "form/1", 4, **{"X-Forwarded-For": "203.0.113.7"}) == [201] * 3 + [429]
        assert statuses(stranger, "form/1", 1, **{"X-Forwarded-For": "203.0.113.8"}) == [201]


def test_a_batch_is_told_how_much_of_it_would_pass(server: ServerProcess) -> None:
    with server.client("ada") as ada:
        assert statuses(ada, "chat/1", 3) == [201] * 3
        answer = ada.post("/insert", json=[{"event": f"chat/{n}", "data": 1} for n in range(4)])
        assert (answer.status_code, answer.json()["allowed"], answer.json()["index"]) == (429, 2, 2)
        assert statuses(ada, "chat/1", 3) == [201, 201, 429]


def test_a_batch_that_is_repeated_is_answered_as_the_first_time(server: ServerProcess) -> None:
    with server.client("ada") as ada:
        batch = [{"event": f"chat/{n}", "data": n, "uuid": str(uuid4())} for n in range(5)]
        first = ada.post("/insert", json=batch)
        assert (first.status_code, statuses(ada, "chat/1", 1)) == (201, [429])
        for again in (batch, batch[:1]):
            repeated = ada.post("/insert", json=again)
            assert (repeated.status_code, repeated.json()) == (200, first.json()[: len(again)])
        more = [*batch, {"event": "chat/9", "data": 1, "uuid": str(uuid4())}]
        assert ada.post("/insert", json=more).status_code == 429


def test_whoever_may_not_insert_does_not_learn_the_rate(server: ServerProcess) -> None:
    with server.client("ada") as ada, server.client("bob") as bob:
        assert statuses(bob, "staff/ada", 3) == [403] * 3
        assert statuses(ada, "staff/ada", 2) == [201, 429]
