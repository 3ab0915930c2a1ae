"""`broker key`: in every way to reach Broker."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.commands import done, refused, run
from tests.support.postgres import a_database
from tests.support.rules import give_roles, operate
from tests.support.servers import ServerProcess


@pytest.fixture(params=["over the socket", "in process", "on PostgreSQL", "over HTTP"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[object]]:
    """The options of each way."""
    match request.param:
        case "in process":
            with ServerProcess(tmp_path):
                pass
            yield ["--data", tmp_path]
        case "on PostgreSQL":
            yield ["--database", a_database(request.getfixturevalue("postgres"))]
        case way:
            with ServerProcess(tmp_path) as server:
                token = server.token("boss")
                give_roles(server, "boss", "admin")
                yield ["--data", tmp_path] if way == "over the socket" else ["--url", server.url, "--token", token]


def test_keys_are_added_listed_and_revoked_in_every_way(where: list[object]) -> None:
    first = done("key", "add", "sensor", "--days", "30", *where)
    assert first.stdout.startswith("bk_")
    assert len(first.stdout.split()) == 1  # so that a script can take it
    assert "the program sensor has no role; this key expires on 20" in first.stderr
    second = done("key", "add", "sensor", *where)
    assert "does not expire" in second.stderr
    older = first.stdout.split("_")[1]
    assert f"sensor has 2 API keys already; revoke the older one first ({older}) (409)" in refused(
        run("key", "add", "sensor", *where)
    )
    listed = [json.loads(line) for line in done("key", "list", *where).stdout.splitlines()]
    assert [key["name"] for key in listed] == ["sensor", "sensor"]
    assert first.stdout.strip() not in json.dumps(listed)
    revoked = done("key", "revoke", first.stdout.strip(), *where)  # the key itself will do, and is not repeated
    assert first.stdout.strip() not in revoked.stdout + revoked.stderr
    done("key", "revoke", listed[1]["id"], *where)
    assert done("key", "list", *where).stdout == ""
    assert "no API key has this id" in refused(run("key", "revoke", listed[0]["id"], *where))
    assert "no API key has this id" in refused(run("key", "revoke", "x", *where))
    assert "there are admin (400)" in refused(run("key", "add", "other", "--role", "ops", *where))
    assert "admin" in done("key", "add", "root", "--role", "admin", *where).stderr


def test_a_key_works_in_place_of_a_token_on_the_command_line(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        key = done("key", "add", "importer", "--data", tmp_path).stdout.strip()
        record = json.loads(done("insert", "a", "1", "--url", server.url, BROKER_TOKEN=key).stdout)
        assert record["user"] == "importer"
        shown = json.loads(done("user", "show", "importer", "--data", tmp_path).stdout)
        assert (shown["program"], shown["sessions"]) == (True, [])


def test_an_account_is_erased_and_its_name_is_never_given_again(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("eve") as eve:
        eve.post("/insert", json={"event": "a", "data": 1}).raise_for_status()
        assert "add --yes" in refused(run("user", "erase", "eve", "--data", tmp_path))
        assert "nobody can get the name again" in done("user", "erase", "eve", "--data", tmp_path, "--yes").stderr
        assert eve.get("/users/me").status_code == 401
        body = {"username": "Eve", "password": "correct horse"}
        assert httpx.post(f"{server.url}/login", json=body).status_code == 401
        assert httpx.post(f"{server.url}/users", json=body).json()["detail"] == "the user name Eve is taken"
        assert "no user is called eve (404)" in refused(run("user", "show", "eve", "--data", tmp_path))
        assert done("user", "list", "--data", tmp_path).stdout == ""
        assert operate(server, "GET", "/collections/a")[0]["user"] == "eve"  # what eve has inserted stays
        server.stop()
    assert "no faults" in done("verify", "--data", tmp_path).stderr
    with contextlib.closing(sqlite3.connect(tmp_path / "broker.db")) as log:
        assert log.execute("SELECT username, info, password_hash FROM users").fetchall() == [("", "null", "")]
    done("export", tmp_path / "log.ndjson", "--data", tmp_path)
    done("import", tmp_path / "log.ndjson", "--data", tmp_path / "copy")
    with ServerProcess(tmp_path / "copy") as server:
        assert (
            httpx.post(f"{server.url}/users", json={"username": "eve", "password": "correct horse"}).status_code == 409
        )


def test_the_sessions_of_a_user_are_shown_until_they_end(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        first = server.token("ada")  # a sign-up and a login
        shown = json.loads(done("user", "show", "ada", "--data", tmp_path).stdout)["sessions"]
        assert len(shown) == 2
        assert all(each["expires_at"] - each["login_at"] == 86_400 for each in shown)
        httpx.post(f"{server.url}/logout", headers={"Authorization": f"Bearer {first}"}).raise_for_status()
        left = json.loads(done("user", "show", "ada", "--data", tmp_path).stdout)["sessions"]
        assert left == shown[:1]
        done("user", "disable", "ada", "--data", tmp_path)
        assert json.loads(done("user", "show", "ada", "--data", tmp_path).stdout)["sessions"] == []
