"""What opens streams ends on every node: each kind of credential, whatever ends it, with a stream on another node.

Elsewhere, streams outlived their users (HarperFast/harper #1414), and tokens a logout or a reset (pocketbase #7332)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.postgres import a_database
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import ServerProcess, StreamReader, open_stream, wait_for

PROMISED_S = 5.0  # at most, from the response to the end of the stream
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def nodes(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    database, folder = a_database(postgres), tmp_path_factory.mktemp("credentials")
    limits: dict[str, Any] = {"signups_per_address": "999/minute", "password_hashes_max": 999}
    with (
        ServerProcess(folder / "here", "--database", database, **limits) as here,
        ServerProcess(folder / "there", "--database", database, **limits) as there,
    ):
        yield here, there


class Login:
    """A user with a session, and what opens streams by it."""

    def __init__(self, node: ServerProcess) -> None:
        self.node = node
        self.name = f"u{uuid4().hex[:12]}"
        self.headers = {"Authorization": f"Bearer {node.token(self.name)}"}
        cookie = httpx.post(f"{node.url}/session", headers=self.headers).headers["set-cookie"].partition(";")[0]
        ticket = httpx.post(f"{node.url}/session", headers=self.headers, json={"ticket": True}).json()["ticket"]
        self.requests = {
            "token": ("/events", f"Authorization: {self.headers['Authorization']}\r\n"),
            "cookie": ("/events", f"Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n"),
            "ticket": (f"/events?ticket={ticket}", ""),
        }
        self.id = operate(node, "GET", f"/users?name={self.name}")[0]["id"]


def post(login: Login, path: str, body: object = None) -> None:
    httpx.post(f"{login.node.url}{path}", headers=login.headers, json=body).raise_for_status()


ENDS: dict[str, tuple[Callable[[Login], Any], str]] = {
    "a logout": (lambda login: post(login, "/logout"), "ended"),
    "another password": (
        lambda login: post(login, "/users/me/password", {"old": PASSWORD, "password": "battery staple"}), "ended",
    ),
    "an administrator who disables the user": (
        lambda login: operate(login.node, "POST", f"/users/{login.id}/disable"), "disabled",
    ),
    "an administrator who erases the user": (
        lambda login: operate(login.node, "POST", f"/users/{login.id}/erase"), "disabled",
    ),
}  # fmt: skip


def ended_in_time(reader: StreamReader, reason: str) -> None:
    reader.wait("$login", bound_s=PROMISED_S)
    assert reader.frames[-1].json() == {"reason": reason}
    reader.close()


def refused_in_time(node: ServerProcess, path: str, headers: str) -> None:
    """On PostgreSQL an operator is a node, too, so each of the two others learns for itself what the operator does."""
    wait_for(lambda: "401" in head_of(node, path, headers), bound_s=PROMISED_S)


def head_of(node: ServerProcess, path: str, headers: str) -> str:
    reader = open_stream(node, path, headers=f"{headers}Connection: close\r\n")
    wait_for(lambda: reader.ended)
    reader.close()
    return reader.head.partition("\r\n")[0]


@pytest.mark.parametrize("end", ENDS)
def test_a_token_a_cookie_and_a_ticket_end_on_another_node(
    nodes: tuple[ServerProcess, ServerProcess], end: str
) -> None:
    here, there = nodes
    login = Login(here)
    streams = [open_stream(there, path, headers=headers) for path, headers in login.requests.values()]
    for stream in streams:
        stream.wait("$ready")
    act, reason = ENDS[end]
    act(login)
    for stream in streams:
        ended_in_time(stream, reason)
    for path, headers in login.requests.values():
        for node in nodes:
            refused_in_time(node, path, headers)


def test_a_role_takes_effect_on_streams_of_every_kind_on_another_node(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database, folder = a_database(postgres), tmp_path_factory.mktemp("roles")
    with (
        ServerProcess(folder / "here", "--database", database) as here,
        ServerProcess(folder / "there", "--database", database) as there,
    ):
        apply_rules(here, 'roles = ["staff"]\n[[event]]\nname = "a/*"\nread = "@staff"\ninsert = "user"\n')
        login = Login(here)
        httpx.post(f"{here.url}/insert", headers=login.headers, json={"event": "a/1", "data": 1}).raise_for_status()
        key = operate(here, "POST", "/keys", {"name": "program"})
        requests = login.requests | {"key": ("/events", f"Authorization: Bearer {key['key']}\r\n")}
        streams = [open_stream(there, path, headers=headers) for path, headers in requests.values()]
        for stream in streams:
            assert [frame.event for frame in stream.wait("$ready")] == ["$ready"]
        for name in (login.name, "program"):
            give_roles(here, name, "staff")
        for stream in streams:
            stream.wait("a/1", bound_s=PROMISED_S)
            assert [frame.json() for frame in stream.frames if frame.event == "$reset"] == [{"reason": "rights"}]
            stream.close()


@pytest.mark.parametrize("end", ["revoke", "disable", "erase"])
def test_a_key_ends_on_another_node(nodes: tuple[ServerProcess, ServerProcess], end: str) -> None:
    here, there = nodes
    key = operate(here, "POST", "/keys", {"name": f"p{uuid4().hex[:12]}"})
    headers = f"Authorization: Bearer {key['key']}\r\n"
    stream = open_stream(there, headers=headers)
    stream.wait("$ready")
    if end == "revoke":
        operate(here, "POST", f"/keys/{key['id']}/revoke")
    else:
        (user,) = operate(here, "GET", f"/users?name={key['name']}")
        operate(here, "POST", f"/users/{user['id']}/{end}")
    ended_in_time(stream, "ended" if end == "revoke" else "disabled")
    for node in nodes:
        answer = httpx.get(f"{node.url}/users/me", headers={"Authorization": f"Bearer {key['key']}"})
        assert answer.status_code == 401


def test_a_key_that_was_just_made_counts_on_every_node_at_once(nodes: tuple[ServerProcess, ServerProcess]) -> None:
    here, there = nodes
    name = f"p{uuid4().hex[:12]}"
    for _ in range(2):  # the second one while the other node knows the program already
        key = operate(here, "POST", "/keys", {"name": name})
        answer = httpx.get(f"{there.url}/users/me", headers={"Authorization": f"Bearer {key['key']}"})
        assert answer.json()["username"] == name


def test_one_user_has_the_same_limits_on_all_nodes(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    database, folder = a_database(postgres), tmp_path_factory.mktemp("quotas")
    with (
        ServerProcess(folder / "here", "--database", database, event_names_per_user_max=10) as here,
        ServerProcess(folder / "there", "--database", database, event_names_per_user_max=10) as there,
        here.client("eve") as one,
        there.client("eve") as other,
    ):
        statuses = [
            (one, other)[n % 2].post("/insert", json={"event": f"e/{n}", "data": n}).status_code for n in range(14)
        ]
        assert statuses == [201] * 10 + [403] * 4
