"""What is for administrators is refused to everybody else, on each route and for each role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.postgres import options_of
from tests.support.rules import apply_rules, give_roles
from tests.support.servers import ServerProcess

RULES = 'roles = ["editor"]\n[[event]]\nname = "a/*"\nread = "@editor"\ninsert = "user"\n'
CALLS = [
    ("GET", "/users"),
    ("GET", "/users?name=bob"),
    ("POST", "/users/{id}/roles"),
    ("POST", "/users/{id}/disable"),
    ("POST", "/users/{id}/enable"),
    ("POST", "/users/{id}/reset"),
    ("POST", "/rules/check"),
    ("GET", "/collections/$rules"),
    ("GET", "/collections/$user/{id}"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("administration")) as running:
        for name in ("bob", "editor", "admin"):
            running.token(name)
        apply_rules(running, RULES)
        give_roles(running, "admin", "admin")
        give_roles(running, "editor", "editor")
        yield running


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client("admin") as client:
        yield client


def user_id(admin: httpx.Client, name: str) -> str:
    return str(admin.get(f"/users?name={name}").json()[0]["id"])


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("bob", 403), ("editor", 403)])
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_nobody_else_does_what_is_for_administrators(
    server: ServerProcess, admin: httpx.Client, method: str, path: str, who: str | None, status: int
) -> None:
    own = user_id(admin, who or "bob")
    with server.client(who) as client:
        answer = client.request(method, path.format(id=own), json={"roles": ["admin"]} if method == "POST" else None)
        assert answer.status_code == status, answer.text
    assert admin.get(f"/users?name={who or 'bob'}").json()[0]["roles"] == (["editor"] if who == "editor" else [])


BODIES = {
    "/users/{id}/roles": {"roles": ["editor"]},
    "/rules/check": {"who": "victim", "operation": "read", "event": "a/1"},
}


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[tuple[httpx.Client, httpx.Client, str]]:
    """An administrator and a user of a server of their own, and the user's id."""
    with ServerProcess(tmp_path) as running, running.client("victim") as victim, running.client("admin") as admin:
        apply_rules(running, RULES)
        give_roles(running, "admin", "admin")
        yield admin, victim, user_id(admin, "victim")


def test_an_administrator_does_each_of_it(victim: tuple[httpx.Client, httpx.Client, str]) -> None:
    admin, _, own = victim
    for method, path in CALLS:
        answer = admin.request(method, path.format(id=own).replace("bob", "victim"), json=BODIES.get(path))
        assert answer.status_code == 200, answer.text


def test_a_role_that_is_taken_away_is_gone_at_once_also_from_open_sessions(
    victim: tuple[httpx.Client, httpx.Client, str],
) -> None:
    admin, deputy, own = victim
    for roles, status in ((["admin"], 200), ([], 403)):
        assert admin.post(f"/users/{own}/roles", json={"roles": roles}).status_code == 200
        assert {
            deputy.get(path.format(id=own)).status_code
            for method, path in CALLS
            if method == "GET" and "bob" not in path
        } == {status}


def test_an_administrator_finds_users_by_name_and_in_pages(admin: httpx.Client) -> None:
    page = admin.get("/users?limit=2")
    assert [user["username"] for user in page.json()] == ["admin", "bob"]
    after = page.links["next"]["url"]
    assert [user["username"] for user in admin.get(f"/users{after}").json()] == ["editor"]
    assert admin.get("/users?name=none").status_code == 404
    assert "hash" not in admin.get("/users").text


def test_only_roles_of_the_rules_are_given(admin: httpx.Client) -> None:
    path = f"/users/{user_id(admin, 'bob')}/roles"
    assert admin.post(path, json={"roles": ["writer"]}).status_code == 400
    assert admin.post(path, json={"roles": ["editor", "admin"]}).json()["roles"] == ["admin", "editor"]
    assert admin.post(path, json={"roles": []}).json()["roles"] == []
    assert admin.post("/users/none/roles", json={"roles": []}).status_code == 404


def test_what_somebody_may_do_comes_with_the_rule_that_decides(admin: httpx.Client) -> None:
    def check(who: str, operation: str, event: str) -> object:
        return admin.post("/rules/check", json={"who": who, "operation": operation, "event": event}).json()

    assert check("editor", "read", "a/1") == {"allowed": True, "rule": "a/*", "line": 3, "disabled": False}
    assert check("public", "read", "a/1") == {"allowed": False, "rule": "a/*", "line": 3, "disabled": False}
    assert check("bob", "read", "b") == {"allowed": False, "rule": None, "line": None, "disabled": False}


def test_everybody_is_told_the_own_rights(server: ServerProcess) -> None:
    with server.client("bob") as bob, server.client() as stranger:
        assert bob.get("/rights?event=a/1").json() == {
            "read": False, "insert": True, "remove": True, "cancel": "own", "log": False,
        }  # fmt: skip
        assert set(stranger.get("/rights?event=a/1").json().values()) == {False}
        assert bob.get("/rights").status_code == 400


def test_while_sign_up_is_closed_an_administrator_creates_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("closed")
    body = {"username": "carol", "password": "correct horse"}
    with ServerProcess(folder) as server:
        server.token("admin")
        give_roles(server, "admin", "admin")
    with ServerProcess(folder, signup="no") as server:
        assert httpx.post(f"{server.url}/users", json=body).status_code == 403
        login = httpx.post(f"{server.url}/login", json=body | {"username": "admin"}).json()
        headers = {"Authorization": f"Bearer {login['jwt']}"}
        assert httpx.post(f"{server.url}/users", json=body, headers=headers).status_code == 201


@pytest.mark.parametrize("store", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def test_what_no_name_and_no_id_can_be_is_refused_and_no_error_of_the_server(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    with ServerProcess(tmp_path, *options_of(store, request)) as server, server.client("admin") as admin:
        give_roles(server, "admin", "admin")
        for path in ("/users?after=%00", "/users?name=%00", "/collections/$user/%00", "/collections/$user/%1b"):
            assert admin.get(path).status_code == 400, path
        for path in ("/users/%00/disable", "/users/%1b/enable", "/users/%00/reset", "/users/none/disable"):
            assert admin.post(path).status_code == 404, path
        assert admin.post("/users/%00/roles", json={"roles": []}).status_code == 404
        assert not any("ERROR" in line for line in server.log)
