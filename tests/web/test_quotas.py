"""One user cannot take the server from the others, who need not notice that somebody tries. (At ntfy, users behind one
address hindered each other: #1726, #1963.)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.operators import broker, insert, stderr_of
from tests.support.postgres import options_of
from tests.support.rules import apply_rules, operate
from tests.support.servers import ServerProcess

OTHERS = 50
LIMITS: dict[str, Any] = {
    "event_names_max": 200, "event_names_per_user_max": 100, "snapshot_bytes_max": 60_000,
    "snapshot_bytes_per_user_max": 30_000, "pending_per_user_max": 40, "signups_per_address": "999/minute",
    "password_hashes_max": 999,
}  # fmt: skip


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, *options_of(request.param, request), **LIMITS) as running:
        yield running


@pytest.fixture
def eve(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client("eve") as client:
        yield client


def many(client: httpx.Client, records: list[dict[str, Any]]) -> list[httpx.Response]:
    """One by one, until ten in a row are refused."""
    answers: list[httpx.Response] = []
    for record in records:
        answers.append(client.post("/insert", json=record))
        if len(answers) >= 10 and all(answer.status_code == 403 for answer in answers[-10:]):
            break
    return answers


FLOODS: dict[str, list[dict[str, Any]]] = {
    "names": [{"event": f"eve/{n}", "data": 1} for n in range(1_000)],
    "bytes": [{"event": f"eve/{n}", "data": "x" * 5_000} for n in range(100)],
    "pending": [{"event": f"eve/{n % 30}", "data": n, "timestamp": 3_900_000_000 + n} for n in range(1_000)],
    "bytes of pending records": [
        {"event": f"eve/{n}", "data": "x" * 5_000, "timestamp": 3_900_000_000} for n in range(100)
    ],
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_one_user_is_not_noticed_by_fifty_others_behind_the_same_address(
    server: ServerProcess, eve: httpx.Client, flood: str
) -> None:
    answers = many(eve, FLOODS[flood])
    assert answers[-1].status_code == 403
    problem = answers[-1].json()
    assert problem["type"] == "urn:broker:problem:quota-exceeded"
    accepted = sum(answer.status_code == 201 for answer in answers)
    assert accepted > 0

    def visit(number: int) -> list[int]:
        with server.client(f"user{number}") as other:
            records = [
                {"event": f"note/{number}", "data": "hello"},
                {"event": f"note/{number}", "data": "later", "timestamp": 3_900_000_000},
                {"event": f"note/{number}/2", "data": "x" * 300},
            ]
            return [other.post("/insert", json=record).status_code for record in records]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(visit, range(OTHERS))) == [[201] * 3] * OTHERS
    again = eve.post("/insert", json=FLOODS[flood][len(answers) - 1])
    assert again.status_code == 403
    # Nothing of the others is in the message, so it is the same as before they came.
    assert again.json() == problem


def test_the_message_has_the_users_own_numbers(server: ServerProcess, eve: httpx.Client) -> None:
    with server.client("ada") as ada:
        for n in range(30):
            insert(ada, f"ada/{n}", 1)
    answer = many(eve, FLOODS["names"])[-1].json()
    assert re.findall(r"\d+", answer["detail"]) == ["100", "100"]


def test_a_batch_says_which_record_is_one_too_many(server: ServerProcess, eve: httpx.Client) -> None:
    answer = eve.post("/insert", json=FLOODS["pending"][:50])
    assert (answer.status_code, answer.json()["index"]) == (403, 40)
    assert eve.get("/pending").json() == []


def test_whoever_removes_can_insert_again(server: ServerProcess, eve: httpx.Client) -> None:
    many(eve, FLOODS["names"])
    assert eve.post("/insert", json={"event": "eve/0", "data": None}).status_code == 201
    assert eve.post("/insert", json={"event": "another", "data": 1}).status_code == 201
    assert eve.post("/insert", json={"event": "eve/1", "data": 2}).status_code == 201  # a name that is hers


def test_a_program_has_the_limits_of_one_user_and_the_operator_has_none(server: ServerProcess) -> None:
    key = operate(server, "POST", "/keys", {"name": "importer"})["key"]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as program:
        assert many(program, FLOODS["names"])[-1].status_code == 403
    for n in range(90):
        operate(server, "POST", "/insert", {"event": f"operator/{n}", "data": 1})


def test_a_program_with_the_role_admin_is_judged_like_everybody(server: ServerProcess) -> None:
    """A key of an administrator that passes by every check is how schemas are bypassed elsewhere (supabase #13030)."""
    apply_rules(server, '[[event]]\nname = "small/*"\ninsert = "user"\nmax_bytes = 5\nonce = true\n')
    key = operate(server, "POST", "/keys", {"name": "root", "roles": ["admin"]})["key"]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}) as program:
        assert program.post("/insert", json={"event": "small/1", "data": "too large"}).status_code == 413
        assert program.post("/insert", json={"event": "small/1", "data": 1}).status_code == 201
        assert program.post("/insert", json={"event": "small/1", "data": 2}).status_code == 409
        assert many(program, FLOODS["names"])[-1].status_code == 403


def test_strangers_have_the_limits_of_one_user_together(server: ServerProcess, eve: httpx.Client) -> None:
    apply_rules(
        server,
        '[[event]]\nname = "drop/*"\ninsert = "public"\nmax_bytes = 100\nrate = "9999/minute"\n'
        '[[event]]\nname = "eve/*"\ninsert = "user"\n',
    )
    with httpx.Client(base_url=server.url) as stranger:
        answers = many(stranger, [{"event": f"drop/{uuid4()}", "data": 1} for _ in range(200)])
    assert answers[-1].status_code == 403
    assert sum(answer.status_code == 201 for answer in answers) == 100
    assert not re.search(r"\d", answers[-1].json()["detail"])  # strangers do not learn what others have inserted
    insert(eve, "eve/1", 1)


def test_nothing_is_wrong_with_the_log_after_floods(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, **LIMITS) as server, server.client("eve") as eve, server.client("ada") as ada:
        for number, flood in enumerate(FLOODS.values()):
            many((eve, ada)[number % 2], flood)
        server.process.kill()
    assert "no faults" in stderr_of(broker("verify", "--data", tmp_path))


def test_a_rate_for_each_user_wherever_the_user_inserts(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, inserts_per_user="5/hour") as server, server.client("eve") as eve:
        statuses = [eve.post("/insert", json={"event": f"e/{n}", "data": 1}).status_code for n in range(6)]
        assert statuses == [201] * 5 + [429]
        refused = eve.post("/insert", json=[{"event": "e", "data": 1}])
        assert (refused.status_code, refused.json()["allowed"]) == (429, 0)
        assert "5 per 1 hour (inserts_per_user)" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 60
        with server.client("ada") as ada:
            answer = ada.post("/insert", json=[{"event": "e", "data": n} for n in range(6)])
            assert (answer.status_code, answer.json()["allowed"]) == (429, 5)
            assert ada.post("/insert", json=[{"event": "e", "data": n} for n in range(5)]).status_code == 201
        operate(server, "POST", "/insert", {"event": "e", "data": 1})
