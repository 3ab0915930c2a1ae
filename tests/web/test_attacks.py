"""What somebody tries who wants to read or write what is not allowed. Forged tokens are in unit/test_tokens.py."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.rules import apply_rules, give_roles, operate
from tests.support.servers import BOUND_S, ServerProcess, open_stream, wait_for

PASSWORD = f"canary password {uuid4()}"
RULES = """
[[event]]
name = "inbox/{to}/*"
read = "{to}"
insert = "user"

[[event]]
name = "own/{who}/*"
read = "public"
insert = "{who}"

[[event]]
name = "club/{_}"
read = "nobody"

[[event]]
name = "minutes/*"
read = "if club/{me}"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("attacks")
    with ServerProcess(folder, "--verbose", signups_per_address="999/minute", rights_reset_s=0.5) as running:
        running.token("ada", PASSWORD)
        running.token("admin", PASSWORD)
        apply_rules(running, RULES)
        give_roles(running, "admin", "admin")
        yield running


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client("admin", PASSWORD) as client:
        yield client


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["*", "#", "+", "{to}", "{me}", "..", ".", "a/b", "%2F", "ada%2F", "", "\u0430da", "\uff41da"],
    )
    def test_no_user_name_is_a_pattern_or_looks_like_anothers(self, server: ServerProcess, name: str) -> None:
        answer = httpx.post(f"{server.url}/users", json={"username": name, "password": PASSWORD})
        if answer.status_code == 201:  # + is a character of names; it matches nobody else's
            with server.client(name, PASSWORD) as client:
                assert client.get("/rights?event=inbox/ada/1").json()["read"] is False
                assert client.post("/insert", json={"event": "own/ada/1", "data": 1}).status_code == 403
        else:
            assert answer.status_code == 400

    def test_upper_and_lower_case_are_one_name_in_sign_ups_and_two_in_events(self, server: ServerProcess) -> None:
        assert httpx.post(f"{server.url}/users", json={"username": "ADA", "password": PASSWORD}).status_code == 409
        with server.client("ada", PASSWORD) as ada:
            assert ada.get("/rights?event=inbox/ada/1").json()["read"] is True
            assert ada.get("/rights?event=inbox/ADA/1").json()["read"] is False

    @pytest.mark.parametrize(
        "event",
        [
            "own/ada",
            "own//1",
            "own/ada%2F1",
            "own/ada\u200b/1",
            "own/\u0430da/1",
            "Own/ada/1",
            "own/../ada/1",
        ],
    )
    def test_no_spelling_of_an_event_is_another_one(self, server: ServerProcess, event: str) -> None:
        with server.client("eve", PASSWORD) as eve:
            assert eve.post("/insert", json={"event": event, "data": 1}).status_code in (400, 403)

    def test_an_event_with_a_slash_in_its_percent_encoding_is_judged_by_what_it_is(
        self, server: ServerProcess, admin: httpx.Client
    ) -> None:
        admin.post("/insert", json={"event": "inbox/ada/1", "data": 1})
        with server.client("eve", PASSWORD) as eve:
            for path in ("inbox%2Fada%2F1", "inbox/ada%2f1", "./inbox/ada/1", "x/../inbox/ada/1", "inbox//ada/1"):
                assert eve.get(f"/schema/{path}").status_code in (400, 403, 404)
                assert eve.get(f"/collections/{path}").status_code in (400, 403, 404)


@pytest.mark.parametrize("query", ["token={}", "access_token={}", "jwt={}", "authorization=Bearer%20{}"])
def test_a_token_in_the_url_is_never_read_and_never_logged(server: ServerProcess, query: str) -> None:
    token = server.token("ada", PASSWORD)
    answer = httpx.get(f"{server.url}/snapshot?{query.format(token)}")
    assert answer.status_code in (400, 401)
    assert token not in answer.text
    assert not any(token in line for line in server.log)


@pytest.mark.parametrize("value", ["Bearer a\r\nX-Evil: 1", "Bearer \x00", "Basic YTpi", "Bearer", "bearer  x y"])
def test_a_malformed_header_is_no_token_and_injects_nothing(server: ServerProcess, value: str) -> None:
    raw = f"GET /users/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\nConnection: close\r\n\r\n".encode()
    reader = socket.create_connection(("127.0.0.1", server.port), 10)
    with reader:
        reader.sendall(raw)
        answer = b"".join(iter(lambda: reader.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"400", b"401")
    assert b"x-evil" not in answer.lower()


def test_a_name_with_line_breaks_reaches_no_line_of_the_log(server: ServerProcess) -> None:
    evil = "a\nERROR forged line"
    httpx.post(f"{server.url}/login", json={"username": evil, "password": PASSWORD})
    httpx.get(f"{server.url}/collections/a%0AERROR%20forged")
    assert not any(line.startswith("ERROR forged") for line in server.log)


def test_the_time_of_a_refusal_does_not_tell_whether_there_is_such_an_event(
    server: ServerProcess, admin: httpx.Client
) -> None:
    for n in range(20):
        admin.post("/insert", json={"event": "inbox/ada/there", "data": {"n": n, "text": "x" * 10_000}})
    with server.client("eve", PASSWORD) as eve:

        def seconds(path: str) -> float:
            began = time.perf_counter()
            assert eve.get(path).status_code == 403
            return time.perf_counter() - began

        for path in ("/collections/inbox/ada/{}", "/schema/inbox/ada/{}"):
            pairs = [(seconds(path.format("there")), seconds(path.format("not-there"))) for _ in range(60)]
            there, nowhere = (statistics.median(times) for times in zip(*pairs, strict=True))
            # Reading the log of this event takes several times as long as a refusal, so a difference would show.
            assert 0.5 < there / nowhere < 2


def test_a_membership_that_is_toggled_again_and_again_resets_a_stream_seldom_and_leaks_nothing(
    server: ServerProcess, admin: httpx.Client
) -> None:
    name = f"member-{uuid4().hex[:8]}"
    token = server.token(name, PASSWORD)
    reader = open_stream(server, headers=f"Authorization: Bearer {token}\r\n")
    reader.wait("$ready")
    began = time.monotonic()
    for n in range(60):
        items = [
            {"event": f"club/{name}", "data": True}, {"event": "minutes/1", "data": f"open {n}"},
            {"event": f"club/{name}", "data": None}, {"event": "minutes/1", "data": f"secret {n}"},
        ]  # fmt: skip
        assert admin.post("/insert", json=items).status_code == 201
    elapsed_s = time.monotonic() - began
    wait_for(lambda: reader.frames[-1].event == "$ready")
    resets = sum(frame.event == "$reset" for frame in reader.frames)
    assert 1 <= resets <= elapsed_s / 0.5 + 2
    assert not any("secret" in frame.data for frame in reader.frames)
    reader.close()


def test_floods_of_sign_ups_and_of_passwords_are_bounded(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, signups_per_address="5/minute", trusted_proxies="192.0.2.1") as server:
        body = {"username": "", "password": PASSWORD}
        answers = [httpx.post(f"{server.url}/users", json=body | {"username": f"u{n}"}) for n in range(8)]
        assert [answer.status_code for answer in answers] == [201] * 5 + [429] * 3
        codes = {"username": "u1", "code": "x", "password": PASSWORD}
        statuses = {httpx.post(f"{server.url}/users/me/password", json=codes).status_code for _ in range(12)}
        assert statuses == {401, 429}


def test_a_secret_is_in_no_line_of_the_log_no_metric_and_no_error(server: ServerProcess, admin: httpx.Client) -> None:
    canary = f"canary-{uuid4().hex}"
    token = server.token("ada", PASSWORD)
    said: list[str] = []
    with server.client("ada", PASSWORD) as ada, server.client("eve", PASSWORD) as eve:
        ada.post("/insert", json={"event": "inbox/ada/1", "data": canary})
        for client in (ada, eve):
            said += [
                client.post("/insert", content=f'{{"event":"inbox/ada/1","data":"{canary}",}}').text,
                client.post("/insert", json={"event": f"own/x/{canary}", "data": canary}).text,
                client.post("/users/me/password", json={"old": canary, "password": canary}).text,
                client.post("/login", json={"username": "ada", "password": canary}).text,
                client.post("/users", json={"username": "ada", "password": canary}).text,
                client.post("/users/me/password", json={"username": "ada", "code": canary, "password": canary}).text,
            ]
        said.append(httpx.get(f"{server.url}/users/me", headers={"Authorization": f"Bearer {token}x{canary}"}).text)
    code = operate(server, "POST", f"/users/{operate(server, 'GET', '/users?name=eve')[0]['id']}/reset")["code"]
    metrics = httpx.get(f"{server.url}/metrics").text
    for secret in (canary, token, PASSWORD, code):
        assert not any(secret in line for line in server.log)
        assert secret not in metrics
        assert secret not in json.dumps(said)
    database = b"".join(file.read_bytes() for file in server.data.glob("broker.db*"))
    for secret in (token, PASSWORD, code):
        assert secret.encode() not in database


# Where a request can carry a secret, which stands for %s.
HEADERS = (
    "Authorization: Bearer %s", "Authorization: Bearer eyJ%s.a.b", "Authorization: Basic %s", "Authorization: %s",
    "Cookie: a=%s", "X-Api-Key: %s", "User-Agent: %s", "Referer: http://x/%s", "Accept: %s", "If-None-Match: %s",
    "Last-Event-ID: %s", "Prefer: %s", "X-Forwarded-For: %s", "Forwarded: for=%s", "%s: 1", "Range: %s", "Expect: %s",
    "Upgrade: %s",
)  # fmt: skip
PATHS = (
    "/%s", "/#%s", "http://u:%s@x/users/me", "/users/%s", "/collections/%s", "/collections/own/%s/1",
    "/schema/own/%s/1", "/cancel/%s", "/snapshot?event=%s", "/snapshot?after=%s", "/snapshot?token=%s",
    "/snapshot?last_event_id=%s", "/events?user=%s", "/events?last_event_id=%s&frames=x", "/pending?after=%s",
    "/rights?event=%s", "/rights?x=%s", "/users?name=%s", "/login?password=%s", "/healthz?%s", "/metrics?%s",
    "/docs?%s",
)  # fmt: skip
BODIES = (
    ("/login", '{"username":"ada","password":"%s"}'), ("/login", '{"username":"ada","password":["%s"]}'),
    ("/login", '{"username":"%s","password":"x"}'), ("/login", "%s"), ("/token", "%s"),
    ("/users", '{"username":"ada","password":"%s"}'), ("/users", '{"username":"%s!","password":"12345678"}'),
    ("/users/me/password", '{"old":"%s","password":"%s"}'), ("/admin", '{"code":"%s"}'),
    ("/users/me/password", '{"username":"ada","code":"%s","password":"%s"}'),
    ("/insert", '{"event":"own/x/1","data":"%s"}'), ("/insert", '{"event":"own/ada/1","data":"%s",}'),
    ("/insert", '{"event":"own/%s/1","data":1}'), ("/insert", '{"event":"own/ada/1","data":1,"uuid":"%s"}'),
    ("/insert", '{"event":"own/ada/1","data":1,"if_latest":"%s"}'), ("/events", '{"event":"own/x","frames":"%s"}'),
    ("/rules/check", '{"who":"%s","operation":"read","event":"a"}'), ("/users/1/roles", '{"roles":["%s"]}'),
    ("/logout", "%s"),
)  # fmt: skip


@pytest.mark.parametrize("who", ["a stranger", "ada"])
def test_wherever_a_request_carries_a_secret_no_log_no_metric_and_no_answer_has_it(tmp_path: Path, who: str) -> None:
    secret = f"canary-{uuid4().hex}"
    often = "9999/minute"
    with ServerProcess(tmp_path, "--verbose", login_attempts_per_user=often, login_attempts_per_name=often) as server:
        auth = f"Authorization: Bearer {server.token('ada')}\r\n" if who == "ada" else ""
        apply_rules(server, RULES)
        rest = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        made = [(f"GET {path}{rest}{auth}", "") for path in PATHS]
        made += [(f"GET /snapshot{rest}{line}\r\n", "") for line in HEADERS]
        made += [("%s\r\n", ""), ("GET / %s\r\n", ""), (f"%s /insert{rest}", "")]
        made += [(f"POST {path}{rest}{auth}Content-Type: application/json\r\n", body) for path, body in BODIES]
        for head, body in made:
            sent = body.replace("%s", secret)
            length = f"Content-Length: {len(sent)}\r\n" if body else ""
            request = f"{head}{length}\r\n".replace("%s", secret) + sent
            with socket.create_connection(("127.0.0.1", server.port), BOUND_S) as connection:
                connection.sendall(request.encode())
                answer = b"".join(iter(partial(connection.recv, 65536), b""))
            assert answer.startswith(b"HTTP/1.1 "), head
            assert not answer.startswith(b"HTTP/1.1 500"), head
            assert secret.encode() not in answer, head
        assert secret not in httpx.get(f"{server.url}/metrics").text
        # What the server logs of this request comes after whatever it has logged before.
        httpx.get(f"{server.url}/healthz", headers={"Origin": "http://the-last.example"})
        server.wait_for_log("the-last.example")
        assert not any(secret in line for line in server.log)
