from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import argon2
import httpx
import jwt
import pytest

from tests.support.answers import insert, post, problem
from tests.support.postgres import options_of
from tests.support.servers import BOUND_S, ServerProcess, wait_for

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def nobody(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client without a token."""
    with server.client() as client:
        yield client


def _new_name() -> str:
    return f"accounts-{uuid4()}"


def _body() -> dict[str, Any]:
    return {"username": _new_name(), "password": PASSWORD}


def _sign_up(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/users", json=_body() | changes)


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _check_login(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Checks the fields of a login that has just happened, and returns the claims of its token."""
    claims = _claims(answer["jwt"])
    assert answer["username"] == claims["username"] == name
    assert isinstance(answer["expires_at"], int)
    assert answer["expires_at"] == claims["exp"] == claims["iat"] + 86_400
    assert claims["auth_time"] == claims["iat"] == int(answer["time"])
    assert abs(time.time() - answer["time"]) < BOUND_S
    return claims


def run_command(*arguments: str, sent: bytes = b"") -> bytes:
    """What a command of `broker` prints."""
    command = [sys.executable, "-m", "broker", *arguments]
    return subprocess.run(command, input=sent, stdout=subprocess.PIPE, check=True).stdout


# Sign-up


def test_a_new_user_is_answered_without_the_password(nobody: httpx.Client) -> None:
    name = _new_name()
    answer = _sign_up(nobody, username=name, info={"colour": "red"})
    assert answer.status_code == 201
    assert list(answer.json()) == ["id", "username", "info", "jwt", "expires_at", "time"]
    assert (answer.json()["username"], answer.json()["info"]) == (name, {"colour": "red"})
    assert answer.headers["cache-control"] == "no-store"
    assert PASSWORD not in answer.text


def test_a_sign_up_is_a_login(nobody: httpx.Client) -> None:
    answer = _sign_up(nobody).json()
    _check_login(answer, answer["username"])
    me = nobody.get("/users/me", headers={"Authorization": f"Bearer {answer['jwt']}"})
    assert me.json() == {name: answer[name] for name in ("id", "username", "info")} | {"roles": []}


@pytest.mark.parametrize(
    "info", ["null", "7", "1e400", '"é"', r'"\ud800"', '[1,{"b":1,"a":2,"b":3}]', "123456789012345678901234567890"]
)
def test_info_is_any_json_and_kept_as_sent(nobody: httpx.Client, server: ServerProcess, info: str) -> None:
    name = _new_name()
    body = f'{{"username":"{name}","password":"{PASSWORD}","info": {info} }}'
    answer = post(nobody, "/users", body.encode())
    assert answer.status_code == 201
    user, separator, login = answer.text.partition(f'"info":{info},"jwt":')
    assert (separator, login.count(",")) == (f'"info":{info},"jwt":', 2)
    with server.client(name) as client:
        assert client.get("/users/me").text == f'{user}"info":{info},"roles":[]}}\n'


def test_without_info_it_is_null(nobody: httpx.Client) -> None:
    assert _sign_up(nobody).json()["info"] is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "é", "a/b", "a\n", "a\x00", "<b>", "a\u200b", "a:b", "a\u212a"])
def test_a_user_name_outside_the_grammar_is_refused(nobody: httpx.Client, name: str) -> None:
    assert "username: expected 1 to 64 of" in problem(_sign_up(nobody, username=name), 400)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_dot_or_two_are_refused_as_a_new_name_and_log_in_as_an_old_one(tmp_path: Path, name: str) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        assert "username: it must not be" in problem(_sign_up(client, username=name), 400)
        assert _sign_up(client, username="old").status_code == 201
        with closing(sqlite3.connect(tmp_path / "broker.db")) as db:  # as an older version stored it
            db.execute("UPDATE users SET username = ?, username_key = ?", (name, name))
            db.commit()
        token = client.post("/login", json={"username": name, "password": PASSWORD}).json()["jwt"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/users/me").json()["username"] == name
        assert insert(client, "dots").json()["user"] == name
        assert server.stop() == 0
    lines = run_command("export", "--data", str(tmp_path))
    assert run_command("import", "--data", str(tmp_path / "other"), sent=lines) == b""
    assert run_command("verify", "--data", str(tmp_path / "other")) == b""


@pytest.mark.parametrize("name", ["x", "A.b_c@d-9", "accounts" + "x" * 56])
def test_a_user_name_of_the_grammar_is_taken_as_written(nobody: httpx.Client, name: str) -> None:
    assert _sign_up(nobody, username=name).json()["username"] == name


@pytest.mark.parametrize(
    ("password", "sentence"),
    [("", "8 characters"), ("x" * 7, "8 characters"), ("é" * 7, "8 characters"), ("x" * 1025, "1024 bytes"),
     ("é" * 513, "1024 bytes"), ("x" * 500_000, "1024 bytes")],
)  # fmt: skip
def test_a_password_too_short_or_too_long_is_refused(nobody: httpx.Client, password: str, sentence: str) -> None:
    detail = problem(_sign_up(nobody, password=password), 400)
    assert detail.startswith("password: ")
    assert sentence in detail


@pytest.mark.parametrize("password", ["x" * 8, "é" * 512, "🦀" * 256, "\x00" * 8, '"\\\n\t    '])
def test_a_password_within_the_bounds_logs_in(nobody: httpx.Client, password: str) -> None:
    name = _new_name()
    assert _sign_up(nobody, username=name, password=password).status_code == 201
    body = {"username": name, "password": password}
    assert nobody.post("/login", json=body).status_code == 200
    problem(nobody.post("/login", json=body | {"password": password[:-1]}), 401)


@pytest.mark.parametrize("path", ["/users", "/login"])
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "not JSON"),
        (b"[]", "expected `object`, got `array`"),
        (b'{"password":"correct horse"}', "missing required field `username`"),
        (b'{"username":"a"}', "missing required field `password`"),
        (b'{"username":5,"password":"correct horse"}', "username: expected `str`, got `int`"),
        (b'{"username":"a","password":12345678}', "password: expected `str`, got `int`"),
        (b'{"username":"a","password":null}', "password: expected `str`, got `null`"),
        (b'{"username":"a","password":"correct horse","admin":true}', "unknown field `admin`"),
        (rb'{"username":"a","password":"correct horse\ud800"}', "password: half a surrogate pair"),
        (b'{"username":"a","password":"correct horse\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_body_is_refused_and_its_field_named(nobody: httpx.Client, path: str, body: bytes, sentence: str) -> None:
    answer = post(nobody, path, body)
    assert sentence in problem(answer, 400)
    assert "horse" not in answer.text
    assert "12345678" not in answer.text


def test_a_name_that_is_taken_is_refused_whatever_its_case(nobody: httpx.Client) -> None:
    name = _new_name()
    assert _sign_up(nobody, username=name).status_code == 201
    for same in (name, name.upper(), name.title()):
        assert "taken" in problem(_sign_up(nobody, username=same, password="other horse"), 409)


def test_of_sign_ups_at_the_same_moment_exactly_one_succeeds(nobody: httpx.Client, server: ServerProcess) -> None:
    threads_count = 8
    for _ in range(10):
        name = _new_name()
        together = threading.Barrier(threads_count)

        def ask(number: int, name: str = name, together: threading.Barrier = together) -> int:
            together.wait()
            written = name.upper() if number % 2 else name
            return _sign_up(nobody, username=written, password=f"horse number {number}").status_code

        with ThreadPoolExecutor(threads_count) as threads:
            statuses = list(threads.map(ask, range(threads_count)))
        assert sorted(statuses) == [201] + [409] * (threads_count - 1)
        winner = f"horse number {statuses.index(201)}"
        assert nobody.post("/login", json={"username": name, "password": winner}).status_code == 200


# Login


def test_a_login_answers_a_token_for_the_caller(nobody: httpx.Client) -> None:
    name = _new_name()
    user = _sign_up(nobody, username=name, info=[1]).json()
    answer = nobody.post("/login", json={"username": name.upper(), "password": PASSWORD})
    assert answer.status_code == 200
    assert list(answer.json()) == ["jwt", "username", "expires_at", "time"]
    assert answer.headers["cache-control"] == "no-store"
    claims = _check_login(answer.json(), name)
    assert claims.keys() == {"sub", "username", "gen", "iat", "exp", "auth_time", "jti", "sid"}
    assert claims["sub"] == user["id"]
    me = nobody.get("/users/me", headers={"Authorization": f"bEARER {answer.json()['jwt']}"})
    assert me.json() == {each: user[each] for each in ("id", "username", "info")} | {"roles": []}
    assert me.headers["cache-control"] == "no-store"


COMPOSED, DECOMPOSED = "p\u00e4sswort", "pa\u0308sswort"


@pytest.mark.parametrize("signed_up", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("typed", [COMPOSED, DECOMPOSED])
def test_a_password_is_right_in_whatever_unicode_form_it_is_typed(
    nobody: httpx.Client, signed_up: str, typed: str
) -> None:
    name = _new_name()
    assert _sign_up(nobody, username=name, password=signed_up).status_code == 201
    assert nobody.post("/login", json={"username": name, "password": typed}).status_code == 200
    problem(nobody.post("/login", json={"username": name, "password": "passwort"}), 401)


@pytest.mark.parametrize("path", ["/users", "/login"])
def test_a_long_password_of_combining_marks_holds_up_nobody(nobody: httpx.Client, path: str) -> None:
    """To normalise it would take minutes of the event loop. The server answers others within the client's timeout."""
    marks = "a" + "\u0315" * 150_000 + "\u0316" * 150_000
    answer = nobody.post(path, json={"username": _new_name(), "password": marks}, timeout=5.0)
    assert "longer than 1024 bytes" in problem(answer, 400)


@pytest.mark.parametrize("password", [unicodedata.normalize("NFD", "\u1ed9" * 200), "\u0344" * 400])
def test_a_password_whose_normal_form_has_another_size_is_taken_by_sign_up_and_login(
    nobody: httpx.Client, password: str
) -> None:
    name = _new_name()
    assert _sign_up(nobody, username=name, password=password).status_code == 201
    assert nobody.post("/login", json={"username": name, "password": password}).status_code == 200


def test_who_signed_up_with_another_form_before_it_was_normalised_may_log_in(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        assert client.post("/users", json={"username": "old", "password": PASSWORD}).status_code == 201
        old_hash = argon2.PasswordHasher().hash(DECOMPOSED)
        with closing(sqlite3.connect(tmp_path / "broker.db")) as db:
            db.execute("UPDATE users SET password_hash = ?", (old_hash,))
            db.commit()
        assert client.post("/login", json={"username": "old", "password": DECOMPOSED}).status_code == 200
        problem(client.post("/login", json={"username": "old", "password": COMPOSED}), 401)


@pytest.mark.parametrize("store", ["SQLite", "PostgreSQL"])
def test_a_name_that_nobody_can_have_is_wrong_and_no_outage(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    with ServerProcess(tmp_path, *options_of(store, request)) as server, server.client() as client:
        wrong = problem(client.post("/login", json={"username": "nobody", "password": PASSWORD}), 401)
        for name in ("a\0b", "\0", "", "a b", "\x7f", "\u2028", "\ufffe", "x" * 100_000, "' OR 1=1 --", "\U0010ffff"):
            assert problem(client.post("/login", json={"username": name, "password": PASSWORD}), 401) == wrong
        assert 'status="503"} 0' in client.get("/metrics").text
        assert not [line for line in server.log if "ERROR" in line or "WARNING" in line]


def test_an_unknown_user_and_a_wrong_password_get_the_same_answer(nobody: httpx.Client) -> None:
    name = _new_name()
    _sign_up(nobody, username=name)
    wrong = nobody.post("/login", json={"username": name, "password": "wrong horse"})
    unknown = [nobody.post("/login", json={"username": u, "password": PASSWORD}) for u in (_new_name(), "", "é\n", "$")]
    problem(wrong, 401)
    assert wrong.headers["www-authenticate"].startswith("Bearer")
    assert {answer.content for answer in unknown} == {wrong.content}
    assert {answer.status_code for answer in unknown} == {401}


def test_an_unknown_user_is_answered_no_sooner(nobody: httpx.Client) -> None:
    name = _new_name()
    _sign_up(nobody, username=name)

    def seconds(username: str) -> float:
        begun = time.perf_counter()
        problem(nobody.post("/login", json={"username": username, "password": "wrong horse"}), 401)
        return time.perf_counter() - begun

    ratio = statistics.median(seconds(_new_name()) / seconds(name) for _ in range(5))  # login_attempts_per_user
    assert 0.4 < ratio < 2.5  # without the hash it would be some 0.1


@pytest.mark.parametrize("password", ["", "x" * 1025, "é" * 513])
def test_a_password_that_cannot_be_right_is_refused(nobody: httpx.Client, password: str) -> None:
    answer = nobody.post("/login", json={"username": "ada", "password": password})
    assert answer.status_code == (400 if password else 401)


# Tokens


def _changed(server: ServerProcess, token: str, **changes: Any) -> str:
    """``token`` with other claims, signed with the server's own secret; None takes a claim out."""
    claims = jwt.decode(token, options={"verify_signature": False}) | changes
    secret = (server.data / "token-secret").read_text().strip()
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm="HS256")


def _resigned(server: ServerProcess, token: str, algorithm: str, secret: str | None = None) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    key = (server.data / "token-secret").read_text().strip() if secret is None else secret
    return jwt.encode(claims, key, algorithm=algorithm)


BAD_AUTHORIZATIONS: dict[str, Callable[[ServerProcess, str], str | None]] = {
    "no header": lambda server, token: None,
    "empty": lambda server, token: "",
    "no token": lambda server, token: "Bearer",
    "no scheme": lambda server, token: token,
    "basic": lambda server, token: "Basic YWRhOmNvcnJlY3QgaG9yc2U=",
    "malformed": lambda server, token: "Bearer x.y",
    "not ASCII": lambda server, token: "Bearer é.é.é",
    "two tokens": lambda server, token: f"Bearer {token} {token}",
    "cut off": lambda server, token: f"Bearer {token[:-4]}",
    "very long": lambda server, token: f"Bearer {'x' * 20_000}",
    "expired": lambda server, token: "Bearer " + _changed(server, token, exp=int(time.time())),
    "without exp": lambda server, token: "Bearer " + _changed(server, token, exp=None),
    "without sub": lambda server, token: "Bearer " + _changed(server, token, sub=None),
    "unknown user": lambda server, token: "Bearer " + _changed(server, token, sub=str(uuid4())),
    "later generation": lambda server, token: "Bearer " + _changed(server, token, gen=1),
    "other secret": lambda server, token: "Bearer " + _resigned(server, token, "HS256", "b" * 64),
    "alg none": lambda server, token: "Bearer " + _resigned(server, token, "none", ""),
    "HS512": lambda server, token: "Bearer " + _resigned(server, token, "HS512"),
}


@pytest.mark.parametrize("make", BAD_AUTHORIZATIONS.values(), ids=BAD_AUTHORIZATIONS)
def test_a_bad_token_is_unauthorized_everywhere(
    server: ServerProcess, ada: httpx.Client, nobody: httpx.Client, make: Callable[[ServerProcess, str], str | None]
) -> None:
    authorization = make(server, ada.headers["Authorization"].removeprefix("Bearer "))
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    calls = [("POST", "/insert"), ("POST", "/token"), ("GET", "/users/me"), ("GET", "/collections/a"),
             ("GET", "/collection/a"), ("GET", f"/cancel/{uuid4()}"), ("POST", f"/cancel/{uuid4()}")]  # fmt: skip
    for method, path in calls:
        answer = nobody.request(method, path, headers=headers)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="broker"'


def test_the_test_of_bad_tokens_would_pass_a_good_one(server: ServerProcess, ada: httpx.Client) -> None:
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    again = f"Bearer  {_changed(server, token, jti='another')}"
    assert ada.get("/users/me", headers={"Authorization": again}).status_code == 200


def test_a_token_ends_by_itself(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, token_ttl_s=4) as brief, brief.client("ada") as ada:
        expires = jwt.decode(ada.headers["Authorization"][7:], options={"verify_signature": False})["exp"]
        assert insert(ada, "a").status_code == 201
        wait_for(lambda: time.time() >= expires)
        assert "expired" in problem(insert(ada, "a"), 401)


@pytest.mark.parametrize("change", ["disabled = 1", "gen = gen + 1"])
def test_a_disabled_users_token_ends_within_the_users_age(tmp_path: Path, change: str) -> None:
    with ServerProcess(tmp_path, user_age_max_s=0.05) as strict, strict.client("ada") as ada:
        with closing(sqlite3.connect(tmp_path / "broker.db")) as db:
            db.execute(f"UPDATE users SET {change} WHERE username = 'ada'")
            db.commit()
        wait_for(lambda: ada.get("/users/me").status_code == 401)
        assert "not valid any more" in problem(ada.get("/users/me"), 401)
        relogin = ada.post("/login", json={"username": "ada", "password": PASSWORD})
        assert relogin.status_code == (401 if "disabled" in change else 200)


def test_a_secret_given_to_two_servers_makes_one_login_do_for_both(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "a", token_secret="s" * 32) as given, given.client("ada") as ada:
        token = ada.headers["Authorization"].removeprefix("Bearer ")
        assert jwt.decode(token, "s" * 32, algorithms=["HS256"])["username"] == "ada"
        assert not (tmp_path / "a" / "token-secret").exists()


# Renewal


def _renew(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/token", headers={"Authorization": f"Bearer {token}"})


def test_a_token_is_renewed_and_the_old_one_stays_valid(nobody: httpx.Client) -> None:
    name = _new_name()
    first = _sign_up(nobody, username=name).json()
    answer = _renew(nobody, first["jwt"])
    assert answer.status_code == 200
    assert list(answer.json()) == ["jwt", "username", "expires_at", "time"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["username"] == name
    assert answer.json()["time"] > first["time"]
    claims, old = _claims(answer.json()["jwt"]), _claims(first["jwt"])
    assert claims["exp"] == answer.json()["expires_at"] == int(answer.json()["time"]) + 86_400
    assert claims["jti"] != old["jti"]
    kept = ("sub", "username", "gen", "auth_time")
    assert [claims[each] for each in kept] == [old[each] for each in kept]
    for token in (first["jwt"], answer.json()["jwt"]):
        assert nobody.get("/users/me", headers={"Authorization": f"Bearer {token}"}).json()["username"] == name


def test_the_time_of_a_login_is_as_exact_as_the_servers_clock(nobody: httpx.Client) -> None:
    token = _sign_up(nobody).json()["jwt"]
    times = [_renew(nobody, token).json()["time"] for _ in range(5)]
    assert len({seconds % 1 for seconds in times}) > 1


@pytest.mark.parametrize("auth_time", ["with auth_time", "of an older version"])
def test_a_renewed_token_never_outlives_the_session(
    server: ServerProcess, nobody: httpx.Client, auth_time: str
) -> None:
    name = "iat" if auth_time == "of an older version" else "auth_time"
    made = _sign_up(nobody).json()["jwt"]
    now = int(time.time())

    def logged_in(ago_s: int) -> str:
        """A token that is still valid for an hour, of a login some seconds ago."""
        return _changed(server, made, **{"auth_time": None, name: now - ago_s, "exp": now + 3_600})

    session_s, ttl_s = 2_592_000, 86_400
    last = _renew(nobody, logged_in(session_s - 1_000)).json()
    assert last["expires_at"] == now + 1_000
    assert _claims(last["jwt"])["auth_time"] == now + 1_000 - session_s
    assert _renew(nobody, last["jwt"]).json()["expires_at"] == now + 1_000
    answer = _renew(nobody, logged_in(session_s - ttl_s - 1_000)).json()
    assert answer["expires_at"] == int(answer["time"]) + ttl_s
    for ago_s in (session_s, session_s + 1, 10 * session_s):
        answer = _renew(nobody, logged_in(ago_s))
        assert "log in again" in problem(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="broker"'


def test_the_setting_limits_the_session(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, token_ttl_s=60, session_max_s=60) as strict, strict.client() as client:
        first = _sign_up(client).json()
        begun = int(first["time"])
        assert first["expires_at"] == begun + 60
        wait_for(lambda: time.time() >= begun + 1)
        assert _renew(client, first["jwt"]).json()["expires_at"] == begun + 60


@pytest.mark.parametrize("change", ["disabled = 1", "gen = gen + 1", "id = 'another'"])
def test_a_token_whose_user_is_disabled_changed_or_gone_is_not_renewed(tmp_path: Path, change: str) -> None:
    with ServerProcess(tmp_path, user_age_max_s=0.05) as strict, strict.client() as client:
        token = _sign_up(client, username="ada").json()["jwt"]
        renewed = _renew(client, token).json()["jwt"]
        with closing(sqlite3.connect(tmp_path / "broker.db")) as db:
            db.execute(f"UPDATE users SET {change} WHERE username = 'ada'")
            db.commit()
        wait_for(lambda: _renew(client, token).status_code == 401)
        for each in (token, renewed):
            assert "not valid any more; log in again" in problem(_renew(client, each), 401)


# Access


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose sign-up and stream are closed, and that checks one password at a time."""
    data = tmp_path_factory.mktemp("closed")
    with ServerProcess(data, signup="no", events_public="no", password_hashes_max=1) as running:
        yield running


def test_a_closed_sign_up_is_forbidden(closed: ServerProcess) -> None:
    with closed.client() as nobody:
        assert "sign-up is closed" in problem(_sign_up(nobody), 403)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_closed_stream_needs_a_token(closed: ServerProcess, method: str) -> None:
    with closed.client() as nobody:
        answer = nobody.request(method, "/events")
        assert answer.status_code == 401
        assert "www-authenticate" in answer.headers


def _crowd(client: httpx.Client, path: str, *statuses: int) -> list[httpx.Response]:
    """Answers to many at a time, once all of ``statuses`` are among them."""

    answers: list[httpx.Response] = []

    def complete() -> bool:
        answers.extend(threads.map(lambda _: client.post(path, json=_body()), range(8)))
        return {answer.status_code for answer in answers} >= {*statuses}

    with ThreadPoolExecutor(8) as threads:
        wait_for(complete)
    assert {answer.status_code for answer in answers} == {*statuses}
    return answers


def test_too_many_logins_at_a_time_are_asked_to_come_again(closed: ServerProcess) -> None:
    with closed.client() as nobody:
        for answer in _crowd(nobody, "/login", 401, 429):
            problem(answer, answer.status_code)
            assert answer.headers.get("retry-after") == ("2" if answer.status_code == 429 else None)


def test_too_many_sign_ups_at_a_time_are_asked_to_come_again(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, password_hashes_max=1) as busy, busy.client() as nobody:
        for answer in _crowd(nobody, "/users", 201, 429):
            if answer.status_code == 429:
                problem(answer, 429)
                assert answer.headers["retry-after"] == "2"


# Secrets


def test_secrets_are_in_no_answer_and_in_no_log(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--origin", "*") as server, server.client("ada", "pass word 1234") as ada:
        token = ada.headers["Authorization"].removeprefix("Bearer ")
        secret = (tmp_path / "token-secret").read_text().strip()
        headers = {"Authorization": f"Bearer {token}x"}
        with closing(sqlite3.connect(tmp_path / "broker.db")) as db:
            ((password_hash,),) = db.execute("SELECT password_hash FROM users").fetchall()
            db.execute("UPDATE users SET password_hash = 'broken ' || password_hash")
            db.commit()
        answers = [
            ada.get("/users/me"),
            ada.get("/users/me", headers=headers),
            _sign_up(ada, username="ada", password="pass word 1234"),
            ada.post("/users", json={"username": "b", "password": ["pass word 1234"]}),
            ada.post("/users", json={"username": "b", "password": "pass word 1234" * 100}),
            ada.post("/login", json={"username": "ada", "password": "pass word 1234"}),
            ada.post("/login", content=b'{"username":"ada","password":"pass word 1234"'),
            ada.get(f"/cancel/{uuid4()}?token={token}"),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 409, 400, 400, 500, 415, 404]
        server.stop()
        wait_for(lambda: any("stopping" in line for line in server.log))
    written = "\n".join([*server.log, *(str(answer.headers) + answer.text for answer in answers)])
    assert "POST '/login' failed" in written
    for kept in ("pass word", token, secret, password_hash, "argon2id$"):
        assert kept not in written
    assert json.dumps(answers[0].json()) not in "".join(server.log)
