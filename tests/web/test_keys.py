"""API keys: programs insert and read with them, until they expire or are revoked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.operators import insert
from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import ServerProcess, open_stream, streaming, wait_for

RULES = """
roles = ["ops"]

[[event]]
name = "sensor/{device}/*"
insert = "{device}"
read = "@ops"
log = "@ops"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("keys"), "--verbose", signups_per_address="999/minute") as running:
        apply_rules(running, RULES)
        running.token("admin")
        give_roles(running, "admin", "admin")
        yield running


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client("admin") as client:
        yield client


def add(admin: httpx.Client, name: str = "", **more: Any) -> dict[str, Any]:
    answer = admin.post("/keys", json={"name": name or f"p{uuid4().hex[:12]}", **more})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def program(server: ServerProcess, key: dict[str, Any]) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key['key']}"})


def listed(admin: httpx.Client, key: dict[str, Any]) -> dict[str, Any] | None:
    return next((each for each in admin.get("/keys").json() if each["id"] == key["id"]), None)


def test_a_program_inserts_and_reads_with_its_key_as_the_rules_permit(
    server: ServerProcess, admin: httpx.Client
) -> None:
    device, reader = add(admin), add(admin, roles=["ops"])
    event = f"sensor/{device['name']}/temperature"
    with program(server, device) as sensor, program(server, reader) as ops:
        record = insert(sensor, event, 21.5)
        assert record["user"] == device["name"]
        assert sensor.post("/insert", json={"event": f"sensor/{reader['name']}/x", "data": 1}).status_code == 403
        assert sensor.get(f"/collections/{event}").status_code == 403
        assert ops.get(f"/collections/{event}").json() == [record]
        with streaming(server, headers=f"Authorization: Bearer {reader['key']}\r\n") as stream:
            assert any(frame.event == event for frame in stream.wait("$ready"))
        me = sensor.get("/users/me").json()
        assert (me["username"], me["roles"]) == (device["name"], [])


def test_a_key_is_shown_once_and_only_its_digest_is_stored(server: ServerProcess, admin: httpx.Client) -> None:
    key = add(admin)
    assert key["key"].startswith(f"bk_{key['id']}_")
    secret = key["key"].split("_", 2)[2]
    assert len(secret) == 43  # 32 bytes in Base64
    assert secret not in admin.get("/keys").text + admin.get(f"/users?name={key['name']}").text
    for file in server.data.glob("broker.db*"):
        assert secret.encode() not in file.read_bytes()
    assert listed(admin, key) == {name: value for name, value in key.items() if name != "key"}


def test_the_day_of_the_last_use_is_noted(server: ServerProcess, admin: httpx.Client) -> None:
    key = add(admin)
    assert key["used_on"] is None
    with program(server, key) as client:
        assert client.get("/users/me").status_code == 200
    days = {time.strftime("%Y-%m-%d", time.gmtime(time.time() + s)) for s in (-60, 0)}
    wait_for(lambda: (found := listed(admin, key)) and found["used_on"] in days)


def test_two_keys_at_a_time_so_that_one_replaces_the_other(server: ServerProcess, admin: httpx.Client) -> None:
    old = add(admin)
    new = add(admin, old["name"])
    assert admin.post("/keys", json={"name": old["name"]}).status_code == 409
    with program(server, old) as first, program(server, new) as second:
        assert {first.get("/users/me").json()["id"], second.get("/users/me").json()["id"]} == {
            first.get("/users/me").json()["id"]
        }
        assert admin.post(f"/keys/{old['id']}/revoke").status_code == 200
        assert first.get("/users/me").status_code == 401
        assert second.get("/users/me").status_code == 200
    add(admin, old["name"])  # there is room again


def test_a_revoked_key_ends_its_streams_and_no_others(server: ServerProcess, admin: httpx.Client) -> None:
    old = add(admin)
    new = add(admin, old["name"])
    streams = [open_stream(server, headers=f"Authorization: Bearer {key['key']}\r\n") for key in (old, new)]
    for stream in streams:
        stream.wait("$ready")
    assert admin.post(f"/keys/{old['id']}/revoke").status_code == 200
    wait_for(lambda: streams[0].ended)
    assert (streams[0].frames[-1].event, streams[0].frames[-1].json()) == ("$login", {"reason": "ended"})
    assert not streams[1].ended
    for stream in streams:
        stream.close()
    assert admin.post(f"/keys/{old['id']}/revoke").status_code == 404
    assert listed(admin, old) is None


def test_a_key_expires_and_its_stream_with_it(server: ServerProcess, admin: httpx.Client) -> None:
    key = add(admin, expires_at=time.time() + 4)
    with streaming(server, headers=f"Authorization: Bearer {key['key']}\r\n") as stream:
        stream.wait("$login")
        assert stream.frames[-1].json() == {"reason": "expired"}
    with program(server, key) as client:
        assert client.get("/users/me").status_code == 401
    assert admin.post("/keys", json={"name": "late", "expires_at": 1}).status_code == 400


def test_an_expired_key_is_no_second_one(server: ServerProcess, admin: httpx.Client) -> None:
    first = add(admin)
    add(admin, first["name"], expires_at=time.time() + 1)
    wait_for(lambda: admin.post("/keys", json={"name": first["name"]}).status_code == 201)


def test_who_is_disabled_is_out_with_all_keys_until_enabled_again(server: ServerProcess, admin: httpx.Client) -> None:
    key = add(admin)
    user_id = admin.get(f"/users?name={key['name']}").json()[0]["id"]
    with program(server, key) as client:
        assert client.get("/users/me").status_code == 200
        with streaming(server, headers=f"Authorization: Bearer {key['key']}\r\n") as stream:
            stream.wait("$ready")
            assert admin.post(f"/users/{user_id}/disable").status_code == 200
            stream.wait("$login")
        assert client.get("/users/me").status_code == 401
        assert admin.post(f"/users/{user_id}/enable").status_code == 200
        assert client.get("/users/me").status_code == 200


def test_a_person_s_name_is_not_given_to_a_program_nor_the_other_way_round(
    server: ServerProcess, admin: httpx.Client
) -> None:
    person = f"u{uuid4().hex[:12]}"
    server.token(person)
    for name in (person, person.upper()):
        assert admin.post("/keys", json={"name": name}).status_code == 409
    key = add(admin)
    body = {"username": key["name"].upper(), "password": "correct horse"}
    assert httpx.post(f"{server.url}/users", json=body).status_code == 409
    for password in ("", "correct horse", key["key"]):
        answer = httpx.post(f"{server.url}/login", json={"username": key["name"], "password": password})
        assert answer.status_code == 401
    user_id = admin.get(f"/users?name={key['name']}").json()[0]["id"]
    assert admin.post(f"/users/{user_id}/reset").status_code == 409


@pytest.mark.parametrize("path", ["/token", "/logout", "/session", "/users/me/password", "/admin"])
def test_what_is_about_a_login_is_not_for_programs(server: ServerProcess, admin: httpx.Client, path: str) -> None:
    key = add(admin)
    bodies: dict[str, Any] = {"/users/me/password": {"old": "x", "password": "correct horse"}, "/admin": {"code": "x"}}
    with program(server, key) as client:
        assert client.post(path, json=bodies.get(path, {})).status_code == 403
        assert client.get("/users/me").status_code == 200


def test_only_roles_of_the_rules_are_given_and_admin_only_if_it_is_named(admin: httpx.Client) -> None:
    assert add(admin)["roles"] == []
    assert admin.post("/keys", json={"name": "other", "roles": ["writer"]}).status_code == 400
    assert add(admin, roles=["ops", "admin"])["roles"] == ["admin", "ops"]
    key = add(admin, roles=["ops"])
    assert add(admin, key["name"])["roles"] == ["ops"]  # as they are


def test_a_second_key_does_not_change_the_roles_of_the_one_in_use(admin: httpx.Client) -> None:
    key = add(admin, roles=["ops"])
    for roles in ([], ["admin"], ["ops", "admin"]):
        assert admin.post("/keys", json={"name": key["name"], "roles": roles}).status_code == 409
    assert add(admin, key["name"], roles=["ops"])["roles"] == ["ops"]


def test_a_disabled_program_gets_no_key(admin: httpx.Client) -> None:
    key = add(admin)
    user_id = admin.get(f"/users?name={key['name']}").json()[0]["id"]
    assert admin.post(f"/users/{user_id}/disable").status_code == 200
    assert "enable it first" in admin.post("/keys", json={"name": key["name"]}).json()["detail"]


@pytest.mark.parametrize("change", [
    lambda key: key[:-1], lambda key: key + "x", lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
    lambda key: "bk_" + "0" * 40 + key[43:], lambda key: key.upper(), lambda key: "bk_", lambda key: "bk_ä_" + key[44:],
    lambda key: key.replace("_", "-"), lambda key: key[:44] + key[44:].replace("_", "é")[:-1] + "é",
    lambda key: key[3:], lambda key: f"{key} ü",
])  # fmt: skip
def test_what_is_almost_a_key_is_none(server: ServerProcess, admin: httpx.Client, change: Any) -> None:
    key = add(admin)["key"]
    header = f"Bearer {change(key)}".encode()
    try:
        answer = httpx.get(f"{server.url}/users/me", headers={b"Authorization": header})
    except httpx.RemoteProtocolError:
        return  # the server closes the connection at once for what is no header
    assert answer.status_code in (400, 401)
    assert key not in answer.text


def test_a_key_in_the_url_is_refused_and_gives_no_right_on_any_route(
    server: ServerProcess, admin: httpx.Client
) -> None:
    key = add(admin, roles=["admin"])["key"]
    for name in ("token", "key", "api_key", "access_token", "ticket", "user"):
        for path in ("/events", "/snapshot", "/pending", "/collections/a", "/users", "/keys", "/types.d.ts"):
            answer = httpx.get(f"{server.url}{path}?{name}={key}")
            refused = answer.status_code in (400, 401, 403)
            assert refused or answer.text == httpx.get(f"{server.url}{path}").text  # what a stranger gets
            assert key not in answer.text
        answer = httpx.post(f"{server.url}/insert?{name}={key}", json={"event": "sensor/a/b", "data": 1})
        assert answer.status_code == 401
    assert not [line for line in server.log if key[44:] in line]


def test_two_administrators_who_add_a_key_at_once_make_two_at_most(server: ServerProcess, admin: httpx.Client) -> None:
    name = f"p{uuid4().hex[:12]}"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: admin.post("/keys", json={"name": name}).status_code, range(8)))
    assert answers.count(201) == 2  # also if neither has found the program
    assert sorted(set(answers)) == [201, 409]
    keys = [key for key in admin.get("/keys").json() if key["name"] == name]
    assert len(keys) == answers.count(201) <= 2


def test_keys_survive_a_restart_and_revoked_ones_do_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ServerProcess(tmp_path_factory.mktemp("restart")) as server:
        kept, revoked = (operate(server, "POST", "/keys", {"name": name}) for name in ("kept", "revoked"))
        operate(server, "POST", f"/keys/{revoked['id']}/revoke")
        server.stop()
        server.start()
        for key, status in ((kept, 200), (revoked, 401)):
            with program(server, key) as client:
                assert client.get("/users/me").status_code == status
        server.stop()
        with closing(sqlite3.connect(server.data / "broker.db")) as log:
            events = [event for (event,) in log.execute("SELECT event FROM events WHERE event GLOB '$user/*'")]
        assert len(events) == 1  # only the revocation is in the log


def test_an_erased_program_has_no_key_and_its_name_is_not_given_again(
    server: ServerProcess, admin: httpx.Client
) -> None:
    key = add(admin)
    user_id = admin.get(f"/users?name={key['name']}").json()[0]["id"]
    assert admin.post(f"/users/{user_id}/erase").status_code == 200
    with program(server, key) as client:
        assert client.get("/users/me").status_code == 401
    assert admin.post("/keys", json={"name": key["name"]}).status_code == 409
    assert listed(admin, key) is None
    for verb, body in (("roles", {"roles": ["admin"]}), ("reset", None), ("enable", None), ("erase", None)):
        assert admin.post(f"/users/{user_id}/{verb}", json=body).status_code == 404
