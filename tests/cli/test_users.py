"""``broker user``: by the operator, over the socket of a running server, in the command's own process, or on
PostgreSQL; and by an administrator over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker.cli import users
from tests.support.commands import done, refused, run
from tests.support.postgres import a_database
from tests.support.servers import ServerProcess, wait_for

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server at which nobody signs up. Use user names of your own."""
    with ServerProcess(tmp_path_factory.mktemp("closed") / "data", signup="no") as server:
        yield server


def add(name: str, *where: object) -> None:
    done("user", "add", name, "--password", PASSWORD, *where)


def log_in(server: ServerProcess, name: str, password: str = PASSWORD) -> httpx.Response:
    with server.client() as client:
        return client.post("/login", json={"username": name, "password": password})


@pytest.fixture(params=["over the socket", "in process", "on PostgreSQL", "over HTTP"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[object]]:
    """The options of each way to reach Broker."""
    match request.param:
        case "over the socket":
            yield ["--data", request.getfixturevalue("closed").data]
        case "in process":
            add("nobody.yet", "--data", tmp_path / "data")
            yield ["--data", tmp_path / "data"]
        case "on PostgreSQL":
            yield ["--database", a_database(request.getfixturevalue("postgres"))]
        case _:
            server: ServerProcess = request.getfixturevalue("closed")
            if "boss" not in done("user", "list", "--data", server.data).stdout:
                add("boss", "--data", server.data)
                done("user", "role", "boss", "admin", "--data", server.data)
            yield ["--url", server.url, "--token", log_in(server, "boss").json()["jwt"]]


def test_every_command_works_in_every_way_to_reach_broker(where: list[object], request: pytest.FixtureRequest) -> None:
    name = f"way{abs(hash(request.node.name))}"
    add(name, *where)
    shown = json.loads(done("user", "show", name, *where).stdout)
    assert len(shown.pop("sessions")) == 1  # a sign-up is a login, too
    assert shown | {"id": ""} == {
        "id": "", "username": name, "info": None, "roles": [], "disabled": False, "program": False,
    }  # fmt: skip
    assert done("user", "role", name, "admin", *where).stdout == "admin\n"
    assert done("user", "role", name, *where).stdout == "admin\n"
    assert done("user", "role", name, "admin", "--remove", *where).stdout == "\n"
    assert len(done("user", "reset", name, *where).stdout.strip()) == 20
    done("user", "disable", name, *where)
    listed = [json.loads(line) for line in done("user", "list", *where).stdout.splitlines()]
    assert [user["disabled"] for user in listed if user["username"] == name] == [True]
    done("user", "enable", name, *where)
    assert "no user is called way.none (404)" in refused(run("user", "show", "way.none", *where))
    assert "there are admin (400)" in refused(run("user", "role", name, "editor", *where))


def test_nobody_else_creates_users_while_sign_up_is_closed(closed: ServerProcess) -> None:
    assert "sign-up is closed" in refused(run("user", "add", "x", "--password", PASSWORD, "--url", closed.url))


def test_a_user_who_is_disabled_is_out_until_enabled_and_logs_in_anew(closed: ServerProcess) -> None:
    add("out", "--data", closed.data)
    token = log_in(closed, "out").json()["jwt"]
    with closed.client() as client:
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/users/me").status_code == 200
        done("user", "disable", "out", "--data", closed.data)
        assert client.get("/users/me").status_code == 401
        assert log_in(closed, "out").status_code == 401
        done("user", "enable", "out", "--data", closed.data)
        assert client.get("/users/me").status_code == 401
    assert log_in(closed, "out").status_code == 200


def test_a_code_sets_a_new_password_once(closed: ServerProcess) -> None:
    add("forgot", "--data", closed.data)
    result = done("user", "reset", "forgot", "--data", closed.data)
    assert "valid until" in result.stderr
    body = {"username": "forgot", "password": "battery staple", "code": result.stdout.strip()}
    with closed.client() as client:
        assert client.post("/users/me/password", json=body).status_code == 200
        assert client.post("/users/me/password", json=body).status_code == 401
    assert log_in(closed, "forgot").status_code == 401
    assert log_in(closed, "forgot", "battery staple").status_code == 200


def test_a_list_of_several_pages_has_everybody_and_info_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_PAGE", 2)
    info = r'{"b":1e400,"c":"\ud800ä"}'
    for name in "Bob", "ada", "cyd", "dan", "eve":
        done("user", "add", name, "--password", PASSWORD, "--info", info, "--data", tmp_path)
    lines = done("user", "list", "--data", tmp_path).stdout.splitlines()
    assert [json.loads(line)["username"] for line in lines] == ["ada", "Bob", "cyd", "dan", "eve"]
    assert all(f'"info":{info}' in line for line in lines)


class TestSocket:
    """The operator's socket, in the data folder of a server that runs."""

    def test_only_its_user_can_connect_and_it_is_gone_after_the_stop(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path) as server:
            mode = (tmp_path / "control.sock").stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert server.stop() == 0
        assert not (tmp_path / "control.sock").exists()

    def test_that_of_a_server_that_was_killed_is_replaced(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path) as server:
            server.stop(signal.SIGKILL)
            assert (tmp_path / "control.sock").is_socket()
            add("between", "--data", tmp_path)  # in the command's own process
            server.start()
            assert "between" in done("user", "list", "--data", tmp_path).stdout

    def test_a_path_that_is_too_long_for_a_socket_is_none_for_broker(self, tmp_path: Path) -> None:
        data = tmp_path / ("x" * 120) / "data"
        with ServerProcess(data):
            add("long", "--data", data)
            assert "long" in done("user", "list", "--data", data).stdout
        assert not (data / "control.sock").exists()

    def test_its_operator_reaches_a_server_that_is_full(self, tmp_path: Path) -> None:
        with (
            ServerProcess(tmp_path, connections_per_address_max=1, connections_max=1) as server,
            socket.create_connection(("127.0.0.1", server.port)),
        ):
            wait_for(lambda: "refused" in _second_connection(server), what="a server that is full")
            add("still", "--data", tmp_path)

    def test_nothing_that_a_client_sends_makes_it_the_operator(self, closed: ServerProcess) -> None:
        with closed.client() as client:
            for headers in {"broker.operator": "true"}, {"X-Forwarded-For": ""}, {"Host": "control.sock"}:
                assert client.get("/users", headers=headers).status_code in (401, 403)
                body = {"event": "$rules", "data": {"format": 1, "toml": ""}}
                assert client.post("/insert", json=body, headers=headers).status_code in (401, 403)


def _second_connection(server: ServerProcess) -> str:
    with socket.create_connection(("127.0.0.1", server.port)) as second:
        second.settimeout(5)
        try:
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return "answered" if second.recv(1) else "refused"
        except OSError:
            return "refused"


def test_a_terminal_gets_no_control_characters_that_a_user_has_sent(tmp_path: Path) -> None:
    info = "\x7f\x80\x9b31m\x9f\xa0ü"
    add("ada", "--info", json.dumps(info, ensure_ascii=False), "--data", tmp_path)
    for command in ("show", "ada"), ("list",):
        shown = done("user", *command, "--data", tmp_path).stdout
        assert r'"info":"\u007f\u0080\u009b31m\u009f' in shown
        assert json.loads(shown)["info"] == info


def test_a_folder_without_a_log_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    message = refused(run("user", "list", "--data", tmp_path / "typo"))
    assert "typo: there is no log here; give the server's folder as --data" in message
    assert not (tmp_path / "typo").exists()


def test_two_servers_at_once_are_refused(tmp_path: Path) -> None:
    assert "give one of them" in refused(run("user", "list", "--data", tmp_path, "--url", "http://127.0.0.1:1"))


def test_the_folder_is_found_as_the_server_finds_it(tmp_path: Path) -> None:
    add("here", "--data", tmp_path / "data")
    (tmp_path / "broker.toml").write_text(f'data = "{tmp_path / "data"}"\n')
    assert "here" in done("user", "list", "--config", tmp_path / "broker.toml").stdout
    assert "here" in done("user", "list", BROKER_DATA=str(tmp_path / "data")).stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
def test_a_socket_of_somebody_else_is_refused_with_what_to_do(closed: ServerProcess) -> None:
    (closed.data / "control.sock").chmod(0)
    assert "run this as the user that Broker runs as" in refused(run("user", "list", "--data", closed.data))
