"""Sessions end on the server: by a logout, another password, an administrator, or the time; and streams with them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from broker.broker import Broker
from broker.errors import Unauthorized
from broker.settings import Settings
from broker.users import OPERATOR
from tests.support.postgres import a_database
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import BOUND_S, ServerProcess, StreamReader, open_stream, wait_for

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("sessions"), signups_per_address="999/minute") as running:
        yield running


class Someone:
    """A new user, with one session."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.name = f"u{uuid4().hex[:12]}"
        self.token = server.token(self.name)

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.request(method, f"{self.server.url}{path}", headers=headers, **more)

    def stream(self, token: str = "", query: str = "") -> StreamReader:
        reader = open_stream(self.server, f"/events{query}", headers=f"Authorization: Bearer {token or self.token}\r\n")
        reader.wait("$ready")
        return reader

    @property
    def id(self) -> str:
        return str(operate(self.server, "GET", f"/users?name={self.name}")[0]["id"])


@pytest.fixture
def bob(server: ServerProcess) -> Someone:
    return Someone(server)


def ended(reader: StreamReader, reason: str) -> None:
    """The stream says why it ends, and then ends cleanly, because of a response that is cut short, a browser may drop
    the last bytes (docs/decisions/0007)."""
    wait_for(lambda: reader.ended)
    assert (reader.frames[-1].event, reader.frames[-1].json()) == ("$login", {"reason": reason})
    assert reader.ended == "cleanly"
    reader.close()


def test_a_logout_ends_this_session_and_its_streams_and_no_other(bob: Someone) -> None:
    other = bob.server.token(bob.name)
    renewed = bob.ask("POST", "/token").json()["jwt"]
    streams = bob.stream(), bob.stream(renewed), bob.stream(other)
    assert bob.ask("POST", "/logout").status_code == 200
    for reader in streams[:2]:
        ended(reader, "ended")
    assert [bob.ask("GET", "/users/me", token).status_code for token in (bob.token, renewed, other)] == [401, 401, 200]
    assert bob.ask("POST", "/insert", json={"event": "a", "data": 1}).status_code == 401
    assert not streams[2].ended
    streams[2].close()


def test_another_password_ends_all_sessions_and_gives_a_new_one(bob: Someone) -> None:
    reader = bob.stream()
    body = {"old": PASSWORD, "password": "battery staple"}
    assert bob.ask("POST", "/users/me/password", json=body | {"old": "wrong horse"}).status_code == 403
    answer = bob.ask("POST", "/users/me/password", json=body)
    assert answer.status_code == 200
    ended(reader, "ended")
    assert bob.ask("GET", "/users/me").status_code == 401
    assert bob.ask("GET", "/users/me", answer.json()["jwt"]).status_code == 200
    login = {"username": bob.name, "password": PASSWORD}
    assert httpx.post(f"{bob.server.url}/login", json=login).status_code == 401


def test_a_code_sets_a_new_password_once(bob: Someone) -> None:
    code = operate(bob.server, "POST", f"/users/{bob.id}/reset")["code"]
    body = {"username": bob.name, "code": code, "password": "battery staple"}
    url = f"{bob.server.url}/users/me/password"
    assert httpx.post(url, json=body | {"code": "x"}).status_code == 401
    assert httpx.post(url, json=body | {"username": "nobody-there"}).status_code == 401
    assert httpx.post(url, json=body).status_code == 200
    assert httpx.post(url, json=body).status_code == 401
    assert bob.ask("GET", "/users/me").status_code == 401


@pytest.mark.anyio
async def test_a_wrong_code_waits_for_no_write_so_its_time_does_not_tell_who_has_an_account(tmp_path: Path) -> None:
    async with (node := Broker(Settings(data=tmp_path))).lifespan():
        ada = await node.accounts.sign_up("ada", PASSWORD, b"null")
        await node.administration.reset(ada.user.id, OPERATOR)
        with closing(sqlite3.connect(tmp_path / "broker.db", isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")  # no transaction of the node gets past this
            for name in ("ada", "nobody-there"):
                with pytest.raises(Unauthorized):
                    async with asyncio.timeout(BOUND_S):
                        await node.accounts.reset_password(name, "x", "battery staple")


def test_a_body_that_is_neither_form_is_told_both(bob: Someone) -> None:
    for body in ({"password": "battery staple"}, {"password": "battery staple", "old": PASSWORD, "code": "x"}):
        answer = bob.ask("POST", "/users/me/password", json=body)
        assert (answer.status_code, "old" in answer.text and "code" in answer.text) == (400, True)


def test_who_is_disabled_is_out_at_once_and_comes_back_only_by_a_new_login(bob: Someone) -> None:
    reader = bob.stream()
    operate(bob.server, "POST", f"/users/{bob.id}/disable")
    ended(reader, "disabled")
    assert bob.ask("GET", "/users/me").status_code == 401
    login = {"username": bob.name, "password": PASSWORD}
    assert httpx.post(f"{bob.server.url}/login", json=login).status_code == 401
    operate(bob.server, "POST", f"/users/{bob.id}/enable")
    assert bob.ask("GET", "/users/me").status_code == 401
    assert httpx.post(f"{bob.server.url}/login", json=login).status_code == 200


def test_a_stream_does_not_outlive_its_token(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ServerProcess(tmp_path_factory.mktemp("short"), token_ttl_s=4, session_max_s=9) as server:
        bob = Someone(server)
        reader = bob.stream()
        ended(reader, "expired")
        last_id = reader.last_id
        with server.client("ada") as ada:
            ada.post("/insert", json={"event": "a", "data": 1})
        resumed = open_stream(server, last_id=last_id, headers=f"Authorization: Bearer {server.token(bob.name)}\r\n")
        assert [frame.event for frame in resumed.wait("$ready")] == ["a", "$ready"]
        resumed.close()


@pytest.mark.anyio
async def test_sessions_that_ended_are_remembered_and_one_too_many_ends_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.accounts.accounts.ENDED_SESSIONS_MAX", 3)
    node = Broker(Settings(data=tmp_path))
    async with node.lifespan():
        accounts = node.accounts
        await accounts.sign_up("ada", PASSWORD, b"null")
        tokens = [(await accounts.log_in("ada", PASSWORD)).token for _ in range(5)]
        for ended, token in enumerate(tokens[:4]):
            assert (await accounts.authenticate(tokens[4])).actor.gen == 0
            await accounts.log_out(await accounts.authenticate(token))
            for each in tokens[: ended + 1]:
                with pytest.raises(Unauthorized):
                    await accounts.authenticate(each)
        with pytest.raises(Unauthorized):
            await accounts.authenticate(tokens[4])
        fresh = await accounts.log_in("ada", PASSWORD)
        assert (await accounts.authenticate(fresh.token)).actor.gen == 1


def test_a_stream_in_anothers_name_is_refused(bob: Someone) -> None:
    for query in (f"?user={bob.name}", "?user=ada", "?user="):
        answer = httpx.get(f"{bob.server.url}/events{query}")
        assert answer.status_code == 401
    assert bob.ask("GET", "/events?user=ada").status_code == 401
    bob.stream(query=f"?user={bob.name}").close()


def test_info_and_the_body_of_a_sign_up_give_no_right(server: ServerProcess) -> None:
    body = {"username": f"u{uuid4().hex[:12]}", "password": PASSWORD, "info": {"roles": ["admin"], "admin": True}}
    answer = httpx.post(f"{server.url}/users", json=body)
    me = httpx.get(f"{server.url}/users/me", headers={"Authorization": f"Bearer {answer.json()['jwt']}"}).json()
    assert me["roles"] == []
    refused = httpx.post(f"{server.url}/users", json=body | {"username": "another", "roles": ["admin"]})
    assert (refused.status_code, "roles" in refused.text) == (400, True)


@pytest.mark.postgres
def test_a_session_ends_on_another_node_and_a_role_reaches_it(
    tmp_path_factory: pytest.TempPathFactory, postgres: str
) -> None:
    database = a_database(postgres)
    folders = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    with (
        ServerProcess(folders[0], "--database", database) as here,
        ServerProcess(folders[1], "--database", database) as there,
    ):
        bob, eve = Someone(here), Someone(here)
        elsewhere = Someone(there)
        elsewhere.name, elsewhere.token = bob.name, bob.token
        apply_rules(here, 'roles = ["r"]\n[[event]]\nname = "a"\nread = "@r"\ninsert = "user"\n')
        reader = elsewhere.stream()
        assert eve.ask("POST", "/insert", json={"event": "a", "data": 1}).status_code == 201
        give_roles(here, bob.name, "r")
        reader.wait("a")
        assert [frame.event for frame in reader.frames if frame.event != "$ready"] == ["$reset", "a"]
        operate(here, "POST", f"/users/{bob.id}/disable")
        ended(reader, "disabled")
        assert elsewhere.ask("GET", "/users/me").status_code == 401


@pytest.mark.postgres
def test_a_new_token_is_valid_on_another_node_at_once(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> None:
    database = a_database(postgres)
    folders = tmp_path_factory.mktemp("c"), tmp_path_factory.mktemp("d")
    with (
        ServerProcess(folders[0], "--database", database, user_age_max_s=60) as here,
        ServerProcess(folders[1], "--database", database, user_age_max_s=60) as there,
    ):
        bob, elsewhere = Someone(here), Someone(there)

        def works_there(token: str) -> None:
            # The other node has this user in its cache, and what changes reaches it a moment later.
            assert elsewhere.ask("GET", "/users/me", token).status_code == 200
            reader = elsewhere.stream(token)
            assert not reader.ended
            reader.close()

        works_there(bob.token)
        password = PASSWORD
        for n in range(3):
            body = {"old": password, "password": (password := f"battery staple {n}")}
            bob.token = bob.ask("POST", "/users/me/password", json=body).json()["jwt"]
            works_there(bob.token)
        operate(here, "POST", f"/users/{bob.id}/disable")
        wait_for(lambda: elsewhere.ask("GET", "/users/me", bob.token).status_code == 401)
        operate(here, "POST", f"/users/{bob.id}/enable")
        login = httpx.post(f"{there.url}/login", json={"username": bob.name, "password": password})
        works_there(login.json()["jwt"])
        assert elsewhere.ask("GET", "/users/me", bob.token).status_code == 401
