"""How a server starts with rules, without rules, and with rules that a backup brought back."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import Forbidden, SettingsError
from broker.names import RULES_EVENT
from broker.records import NewRecord, make_uuid
from broker.rules.rights import encode_rules
from broker.server.rules_file import apply_rules_file
from broker.settings import Settings
from broker.store.choice import wall_clock_us
from broker.users import OPERATOR, STRANGER_ACTOR, Actor
from broker.web.app import App
from tests.support.commands import done, refused, run
from tests.support.operators import broker, stderr_of, tamper
from tests.support.postgres import a_database
from tests.support.rules import NARROW, WIDE
from tests.support.servers import ServerProcess, wait_for
from tests.support.terminals import serving_in_a_terminal

ELSEWHERE = {"X-Forwarded-For": "203.0.113.7"}  # a client on another machine, behind a trusted proxy


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(NARROW)
    return file


@pytest.fixture(scope="module")
def without_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data")) as server:
        yield server


def refusal(data: Path, *options: object) -> str:
    """Why the server does not start."""
    command = [sys.executable, "-m", "broker", "serve", "--data", str(data), "--port", "0", *map(str, options)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not (data / "control.sock").exists()
    return result.stderr


def in_force(data: Path) -> str:
    return done("rules", "show", "--data", data).stdout


def versions(data: Path) -> int:
    return done("rules", "history", "--data", data).stdout.count("\n")


class TestRulesFile:
    """``broker serve --rules FILE``."""

    def test_the_first_start_applies_it_and_the_next_ones_do_nothing(self, data: Path, file: Path) -> None:
        with ServerProcess(data, "--rules", str(file)) as server:
            server.wait_for_log("are in force now")
            assert in_force(data) == NARROW
            server.stop()
            server.start()
            assert versions(data) == 1

    def test_it_is_recognised_however_its_text_was_written_into_the_log(self, data: Path, file: Path) -> None:
        file.write_text("# Grüße\n" + NARROW)
        with ServerProcess(data, rules_over_http="yes") as server, server.client("ada") as ada:
            done("user", "role", "ada", "admin", "--data", data)
            escaped = b'{"event":"$rules","data":{"format":1,"toml":"# Gr\\u00fc\\u00dfe\\n' + (
                NARROW.replace("\n", "\\n").replace('"', '\\"').encode() + b'"}}'
            )
            assert ada.post("/insert", content=escaped, headers={"Content-Type": "application/json"}).status_code == 201
        with ServerProcess(data, "--rules", str(file)):
            assert versions(data) == 1

    def test_an_older_version_is_not_applied(self, data: Path, file: Path) -> None:
        """A node that starts with last week's file changes nothing."""
        done("rules", "apply", file, "--data", data)
        (new := file.with_name("new.toml")).write_text(NARROW + "# changed\n")
        done("rules", "apply", new, "--data", data)
        with ServerProcess(data, "--rules", str(file)) as server:
            server.wait_for_log("are an older version of the rules of this log, and are not applied")
            assert in_force(data) == NARROW + "# changed\n"

    def test_a_scheduled_version_is_not_applied_before_its_time(self, data: Path, file: Path) -> None:
        done("rules", "apply", file, "--data", data)
        (next_ := file.with_name("next.toml")).write_text(WIDE)
        done("rules", "apply", next_, "--data", data, "--at", "+1h", "--yes")
        with ServerProcess(data, "--rules", str(next_), "--yes") as server:
            server.wait_for_log("are scheduled (`broker rules history`), and not in force yet")
            assert in_force(data) == NARROW

    def test_what_is_wider_needs_yes(self, data: Path, file: Path) -> None:
        done("rules", "apply", file, "--data", data)
        file.write_text(WIDE)
        assert "would make something wider: board/*: read by public (before: user); `broker rules diff" in (
            refusal(data, "--rules", file)
        )
        assert in_force(data) == NARROW
        with ServerProcess(data, "--rules", str(file), "--yes"):
            assert in_force(data) == WIDE

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("[[event]]\nname = 3\n", "line 2: "),
            (NARROW + '[[expect]]\nwho = "public"\ncan = "read board/1"\n', "line 5: it is not as expected"),
        ],
    )
    def test_a_wrong_one_keeps_the_server_from_starting(self, data: Path, file: Path, text: str, sentence: str) -> None:
        file.write_text(text)
        assert f"rules: {file}: {sentence}" in refusal(data, "--rules", file)

    def test_after_a_hangup_it_is_read_again_and_a_wrong_or_wider_one_changes_nothing(
        self, data: Path, file: Path
    ) -> None:
        narrower = NARROW.replace('"user"', '"nobody"')
        with ServerProcess(data, "--rules", str(file)) as server:
            for text, logged in (
                ("[[event", "the rules stay as they are"), (WIDE, "would make something wider"),
                (narrower, "are in force now"),
            ):  # fmt: skip
                server.log.clear()
                file.write_text(text)
                server.process.send_signal(signal.SIGHUP)
                server.wait_for_log(logged)
                assert in_force(data) == (narrower if text == narrower else NARROW)

    @pytest.mark.anyio
    async def test_nodes_that_start_at_once_make_one_version(self, data: Path, file: Path) -> None:
        settings = Settings(data=data, rules=file)
        async with (node := Broker(settings)).lifespan():
            await asyncio.gather(*(apply_rules_file(node, settings) for _ in range(4)))
            page = await node.store.log_end(RULES_EVENT, None, None, False)
            assert page.last is not None
            assert len(await node.store.log(RULES_EVENT, None, page.last, 1_000_000, False)) == 1
            assert not node.access.allows("read", "board/1", STRANGER_ACTOR)

    def test_workers_that_read_it_at_once_make_one_version(self, data: Path, file: Path, postgres: str) -> None:
        database = a_database(postgres)
        with ServerProcess(data, "--database", database, "--workers", "2", "--rules", str(file)) as server:
            file.write_text(NARROW + "# changed\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("are in force now")

            def shown() -> str:
                return done("rules", "show", "--database", database).stdout

            wait_for(lambda: shown() == NARROW + "# changed\n", what="the changed rules")
            history = done("rules", "history", "--database", database).stdout
            assert history.count("\n") == 2


class TestWithoutRules:
    """A server without rules serves its own machine."""

    def test_it_does_not_listen_elsewhere_and_says_the_two_ways_out(self, data: Path) -> None:
        message = refusal(data, "--host", "0.0.0.0")
        assert "host (argument): this log has no rules" in message
        assert "broker rules init" in message
        assert "--open" in message

    def test_it_does_with_rules_or_open(self, data: Path, file: Path) -> None:
        with ServerProcess(data, "--host", "0.0.0.0", "--open") as server:
            server.wait_for_log("this server has no rules, and is open: everybody who reaches it")
        with ServerProcess(data, "--host", "0.0.0.0", "--rules", str(file)) as server:
            assert not any("has no rules" in line for line in server.log)

    def test_it_refuses_requests_of_other_machines_until_it_has_rules(self, data: Path, file: Path) -> None:
        with ServerProcess(data) as server, server.client("ada") as ada:
            for method, path in ("GET", "/snapshot"), ("GET", "/events"), ("POST", "/insert"), ("GET", "/nothing"):
                answer = ada.request(method, path, headers=ELSEWHERE)
                assert answer.status_code == 403, path
                assert "has no rules yet" in answer.json()["detail"]
                assert "--open" in answer.json()["detail"]
            assert ada.get("/healthz", headers=ELSEWHERE).status_code == 200
            assert ada.get("/snapshot").status_code == 200
            done("rules", "apply", file, "--data", data)
            assert ada.get("/snapshot", headers=ELSEWHERE).status_code == 200

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("client", "status"),
        [
            (("127.0.0.1", 1), 200),
            (("::1", 1), 200),
            (("203.0.113.7", 1), 403),
            (("::ffff:203.0.113.7", 1), 403),
            (None, 403),
        ],
    )
    async def test_it_does_so_when_it_is_mounted_and_behind_a_unix_socket(
        self, data: Path, client: tuple[str, int] | None, status: int
    ) -> None:
        """Whoever has no address may be anywhere: a proxy has passed the request on over a Unix socket."""
        app = App(Broker(Settings(data=data)))
        host = Starlette(routes=[Mount("/live", app)])

        async def of_client(scope: Scope, receive: Receive, send: Send) -> None:
            await host({**scope, "client": client}, receive, send)

        async with app.broker.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(of_client)) as browser:
            assert (await browser.get("http://localhost/live/snapshot")).status_code == status
            assert (await browser.get("http://localhost/live/healthz")).status_code == 200

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"X-Forwarded-For": "127.0.0.1"}, 200),
            ({"X-Forwarded-For": "::ffff:127.0.0.1", "Via": "1.1 proxy"}, 200),
            ({"X-Forwarded-For": "::1, 127.0.0.1", "X-Real-IP": "127.0.0.1"}, 200),
            ({"X-Forwarded-For": "127.0.0.1, 203.0.113.7"}, 403),
            ({"X-Forwarded-For": "203.0.113.7, 127.0.0.1"}, 403),
            ({"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "203.0.113.7"}, 403),
            ({"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=203.0.113.7"}, 403),
            ({"X-Forwarded-For": "unknown"}, 403),
            ({"X-Real-IP": "203.0.113.7"}, 403),
            ({"Forwarded": "for=203.0.113.7"}, 403),
            ({"Via": "1.1 proxy"}, 403),
        ],
    )
    def test_what_a_proxy_reports_decides_and_metrics_are_for_no_proxy(
        self, without_rules: ServerProcess, headers: dict[str, str], status: int
    ) -> None:
        with without_rules.client("ada") as ada:
            assert ada.get("/snapshot", headers=headers).status_code == status
            assert ada.get("/metrics", headers=headers).status_code == 403

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost", 200), ("LocalHost:5173", 200), ("my-app.localhost:3000", 200), ("127.0.0.1:8080", 200),
            ("127.1.2.3", 200), ("[::1]:8080", 200), ("evil.example:8000", 403), ("localhost.evil.example", 403),
            ("evillocalhost", 403), ("127.0.0.1.evil.example:8080", 403), ("192.168.1.5:5173", 403), ("", 403),
        ],
    )  # fmt: skip
    def test_a_page_cannot_make_its_own_name_mean_this_machine(
        self, without_rules: ServerProcess, host: str, status: int
    ) -> None:
        """That is DNS rebinding: for the browser, such a page has the origin of the server."""
        headers = {"Host": host, "Origin": f"http://{host}"}
        with without_rules.client("ada") as ada:
            answer = ada.get("/snapshot", headers=headers)
            assert answer.status_code == status
            assert ada.get("/healthz", headers=headers).status_code == 200
            if status == 403:
                assert f"not as {host} (Host)" in answer.json()["detail"]
                assert "--open" in answer.json()["detail"]

    def test_the_name_on_which_it_was_told_to_listen_is_its_own(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path, "--host", "127.0.0.1") as server:
            assert httpx.get(f"{server.url}/openapi.json", headers={"Host": "my-name:1"}).status_code == 403
        app = App(Broker(Settings(data=tmp_path / "other", host="My-Name")))

        async def status() -> int:
            transport = httpx.ASGITransport(app)
            async with app.broker.lifespan(), httpx.AsyncClient(transport=transport) as client:
                return (await client.get("http://my-name:8080/openapi.json")).status_code

        assert asyncio.run(status()) == 200

    def test_any_name_will_do_with_rules_or_open(self, data: Path, file: Path) -> None:
        for options in ("--open",), ("--rules", str(file)):
            with ServerProcess(data, *options) as server, server.client("ada") as ada:
                assert ada.get("/snapshot", headers={"Host": "live.example"}).status_code == 200

    def test_open_serves_other_machines(self, data: Path) -> None:
        with ServerProcess(data, "--open") as server, server.client() as client:
            assert client.get("/snapshot", headers=ELSEWHERE).status_code == 200


class TestFirstAdministrator:
    """As long as there is no administrator, a server that is started in a terminal says how to become one."""

    @pytest.mark.parametrize("option", ["--no-console", "--verbose"])
    def test_the_code_makes_one_user_an_administrator_once(self, data: Path, option: str) -> None:
        with ServerProcess(data) as quiet:
            assert not any("administrator" in line for line in quiet.log)  # a log is no place for a secret
        request, link = r'POST (\S+)/admin {"code":"(\S+)"}', r"log in there: (\S+)/#/start\?admin=(\S+)"
        with serving_in_a_terminal(data, option, until="There is no administrator yet.") as said:
            assert f"broker user role NAME admin --data {data}" in said
            url, code = re.findall(request if option == "--no-console" else link, said)[0]
            assert len(re.findall(f"{request}|{link}", said)) == 1
            with httpx.Client(base_url=url, timeout=20) as client:
                tokens = [sign_up(client, name) for name in ("ada", "bob")]

                def claim(token: str, code: str) -> int:
                    headers = {"Authorization": f"Bearer {token}"}
                    return client.post("/admin", json={"code": code}, headers=headers).status_code

                assert client.post("/admin", json={"code": code}).status_code == 401
                assert [claim(tokens[0], "wrong"), claim(tokens[0], code), claim(tokens[1], code)] == [403, 200, 403]
            assert done("user", "role", "ada", "--data", data).stdout == "admin\n"

    def test_with_a_front_end_the_link_leads_to_where_the_console_is(self, data: Path, tmp_path: Path) -> None:
        (site := tmp_path / "site").mkdir()
        (site / "index.html").write_text("a front-end")
        with serving_in_a_terminal(data, "--static", str(site), until="There is no administrator yet.") as said:
            url = re.findall(r"log in there: (\S+)#/start\?admin=\S+\r", said)[0]
            assert url.endswith("/$console")
            assert "main.js" in httpx.get(url).text

    @pytest.mark.anyio
    async def test_no_code_counts_once_there_is_an_administrator(self, data: Path) -> None:
        async with (node := Broker(Settings(data=data))).lifespan():
            ada, bob = [await node.accounts.sign_up(name, "correct horse", b"null") for name in ("ada", "bob")]
            code = node.administration.invite_first()
            assert code is not None
            await node.administration.set_roles(ada.user.id, ["admin"], OPERATOR)
            assert node.administration.invite_first() is None
            with pytest.raises(Forbidden, match="wrong, was used, or is too old"):
                await node.administration.become_first(code.code, Actor(bob.user.id, "bob"))

    @pytest.mark.anyio
    async def test_a_code_is_valid_for_an_hour(self, data: Path) -> None:
        now = [1_700_000_000_000_000]
        async with (node := Broker(Settings(data=data), lambda: now[0])).lifespan():
            ada = await node.accounts.sign_up("ada", "correct horse", b"null")
            code = node.administration.invite_first()
            assert code is not None
            now[0] += 3_600_000_000
            with pytest.raises(Forbidden, match="too old"):
                await node.administration.become_first(code.code, Actor(ada.user.id, "ada"))


def sign_up(client: httpx.Client, username: str) -> str:
    return str(client.post("/users", json={"username": username, "password": "correct horse"}).json()["jwt"])


def test_rules_and_events_public_exclude_each_other(data: Path, file: Path) -> None:
    done("rules", "apply", file, "--data", data)
    message = refusal(data, "--set", "events_public=yes")
    assert "events_public (argument): this log has rules, and they say who may read; remove the setting" in message


def test_rules_that_this_version_cannot_use_keep_it_from_starting(data: Path, file: Path) -> None:
    done("rules", "apply", file, "--data", data)
    tamper(data, """UPDATE records SET data = '{"format":2,"toml":""}'""")
    assert "cannot use the rules of this log: $rules: the format 2 is not known" in refusal(data)


class TestRestore:
    """A backup brings back the rights of its time."""

    def test_the_server_waits_until_the_rules_are_confirmed_and_all_sessions_have_ended(
        self, data: Path, file: Path, tmp_path: Path
    ) -> None:
        file.write_text('roles = ["editor"]\n' + NARROW.replace('"user"', '["user", "@editor"]'))
        with ServerProcess(data, "--rules", str(file)) as server:
            token = server.token("ada")
            server.token("bob")
            done("user", "role", "ada", "admin", "--data", data)
            stderr_of(broker("backup", tmp_path / "copy.db", "--data", data))
        (data / "broker.db").unlink()
        message = stderr_of(broker("restore", tmp_path / "copy.db", "--data", data))
        assert "roles: editor; administrators: ada" in message
        assert "broker rules confirm" in message
        assert "token_secret" not in message
        assert "was restored, with the rights of that time" in refusal(data, "--rules", file)
        assert done("user", "show", "ada", "--data", data).exit_code == 0
        done("rules", "confirm", "--data", data)
        with ServerProcess(data) as server, server.client() as client:
            headers = {"Authorization": f"Bearer {token}"}
            assert client.get("/users/me", headers=headers).status_code == 401
            assert log_in_again(client).status_code == 200

    @pytest.mark.anyio
    async def test_what_is_due_waits_until_the_rules_are_confirmed(self, data: Path, file: Path) -> None:
        """The rights of a backup may be too wide, so its operator narrows them before anything is published by them."""
        restored = await restored_with_what_is_due(data, file)
        with pytest.raises(SettingsError, match="was restored, with the rights of that time"):
            await App(Broker(Settings(data=restored))).broker.start()
        assert "was restored, with the rights of that time" in refusal(restored)
        message = stderr_of(broker("move", "--from", restored, "--to", restored.with_name("moved")), 1)
        assert "was restored, with the rights of that time" in message
        (narrower := file.with_name("narrower.toml")).write_text(BOARD + CLOSED)
        for arguments in (
            ("rules", "show"), ("rules", "check", "ada", "insert", "board/1"), ("user", "list"),
            ("user", "disable", "ada"), ("rules", "apply", narrower, "--replace"),
        ):  # fmt: skip
            stderr_of(broker(*arguments, "--data", restored))
            assert states(restored) == DUE
        assert "no faults" in stderr_of(broker("verify", "--data", restored))
        stderr_of(broker("rules", "confirm", "--data", restored))
        with ServerProcess(restored):
            judged = ["board/1 of ada cancelled", "board/2 of bob published", "room/3 of bob cancelled"]
            wait_for(lambda: states(restored) == [WITH_STATE, WITH_STATE, *judged], what="what was due")
            assert in_force(restored) == BOARD + CLOSED
            assert [line.split()[3] for line in history(restored)] == ["superseded", "cancelled", "in"]
        assert "no faults" in stderr_of(broker("verify", "--data", restored))

    @pytest.mark.anyio
    async def test_what_is_due_is_published_by_the_rules_that_are_confirmed(self, data: Path, file: Path) -> None:
        restored = await restored_with_what_is_due(data, file)
        done("rules", "confirm", "--data", restored)
        with ServerProcess(restored):
            published = [WITH_STATE, *(state.replace("pending", "published") for state in DUE)]
            wait_for(lambda: states(restored) == published, what="what was due")
            assert in_force(restored) == LATER_RULES

    def test_all_sessions_have_ended_also_if_the_secret_is_a_setting(self, data: Path, tmp_path: Path) -> None:
        secret = "s" * 40
        with ServerProcess(data, token_secret=secret) as server:
            token = server.token("ada")
            stderr_of(broker("backup", tmp_path / "copy.db", "--data", data))
        restored = tmp_path / "restored"
        assert "all sessions have ended" in stderr_of(broker("restore", tmp_path / "copy.db", "--data", restored))
        assert json.loads(done("user", "show", "ada", "--data", restored).stdout)["sessions"] == []
        with ServerProcess(restored, token_secret=secret) as server, server.client() as client:
            assert client.get("/users/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
            again = log_in_again(client).json()["jwt"]
            server.stop()
        moved = tmp_path / "moved"  # takes what signs the tokens along
        stderr_of(broker("move", "--from", restored, "--to", moved))
        with ServerProcess(moved, token_secret=secret) as server, server.client() as client:
            for jwt, status in ((token, 401), (again, 200)):
                assert client.get("/users/me", headers={"Authorization": f"Bearer {jwt}"}).status_code == status

    def test_an_old_backup_brings_old_rights_back_and_the_operator_reads_which_and_takes_them_away(
        self, data: Path, file: Path, tmp_path: Path
    ) -> None:
        """Since the backup, eve was disabled, bob lost a role, a key was revoked, and the rules became narrower."""
        file.write_text('roles = ["editor"]\n[[event]]\nname = "board/*"\nread = "user"\ninsert = "@editor"\n')
        with ServerProcess(data, "--rules", str(file)) as server:
            for name in ("ada", "bob", "eve"):
                server.token(name)
            done("user", "role", "ada", "admin", "--data", data)
            done("user", "role", "bob", "editor", "--data", data)
            key = done("key", "add", "importer", "--role", "editor", "--data", data).stdout.strip()
            stderr_of(broker("backup", tmp_path / "copy.db", "--data", data))
            done("user", "disable", "eve", "--data", data)
            done("user", "role", "bob", "editor", "--remove", "--data", data)
            done("key", "revoke", key, "--data", data)
        restored = tmp_path / "restored"
        message = stderr_of(broker("restore", tmp_path / "copy.db", "--data", restored))
        key_id = key.split("_")[1]
        assert f"these API keys are valid again, also if they were revoked since: importer {key_id}\n" in message
        assert re.search(r"its rules are those of 20\S+ \S+ UTC; roles: editor; administrators: ada\n", message)
        for command in ("rules show", "user list", "key list", "rules confirm"):
            assert f"`broker {command} --data {restored}`" in message
        # Before: nobody may do anything, because it is not served; but the operator may look, and take rights away.
        assert f"`broker rules confirm --data {restored}`" in refusal(restored)
        assert key_id in done("key", "list", "--data", restored).stdout
        done("key", "revoke", key_id, "--data", restored)
        done("user", "disable", "eve", "--data", restored)
        assert "nothing to confirm" in refused(run("rules", "confirm", "--data", data))
        assert str(restored) in done("rules", "confirm", "--data", restored).stderr
        # After: what was taken away is gone, and what was not is back.
        with ServerProcess(restored) as server, server.client() as client:

            def insert(jwt: str) -> int:
                headers = {"Authorization": f"Bearer {jwt}"}
                return client.post("/insert", json={"event": "board/1", "data": 1}, headers=headers).status_code

            def log_in(name: str) -> httpx.Response:
                return client.post("/login", json={"username": name, "password": "correct horse"})

            assert insert(key) == 401
            assert log_in("eve").status_code == 401
            assert insert(log_in("bob").json()["jwt"]) == 201
            assert insert(log_in("ada").json()["jwt"]) == 201
        assert "nothing to confirm" in refused(run("rules", "confirm", "--data", restored))

    def test_keys_alone_have_to_be_confirmed_too(self, data: Path, tmp_path: Path) -> None:
        with ServerProcess(data):
            done("key", "add", "importer", "--data", data)
            stderr_of(broker("backup", tmp_path / "copy.db", "--data", data))
        message = stderr_of(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "restored"))
        assert "it has no rules; roles: none; administrators: none" in message
        assert "broker key list" in refusal(tmp_path / "restored")

    def test_a_log_without_rules_is_served_at_once(self, data: Path, tmp_path: Path) -> None:
        with ServerProcess(data) as server:
            server.token("ada")
            stderr_of(broker("backup", tmp_path / "copy.db", "--data", data))
        stderr_of(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "new"))
        with ServerProcess(tmp_path / "new") as server, server.client() as client:
            wait_for(lambda: log_in_again(client).status_code == 200, what="a login")


BOARD = '[[event]]\nname = "board/*"\nread = "user"\ninsert = "user"\n'
ROOM = '[[event]]\nname = "room/*"\nread = "user"\ninsert = "user"\n'
CLOSED = ROOM.replace('"user"', '"nobody"')
LATER_RULES = BOARD + ROOM + "# changed\n"
WITH_STATE = "board/0 of ada published"  # and a second time after its end
DUE = [WITH_STATE, "board/1 of ada pending", "board/2 of bob pending", "room/3 of bob pending"]
HOUR_US = 3_600_000_000


async def restored_with_what_is_due(data: Path, file: Path) -> Path:
    """A folder into which a backup was restored. The backup is an hour old, and has records and rules that were
    scheduled, and have become due since, and a version whose end has come since."""
    file.write_text(BOARD + ROOM)
    due_us = wall_clock_us() - HOUR_US // 2
    async with (node := Broker(Settings(data=data, rules=file), lambda: wall_clock_us() - HOUR_US)).lifespan():
        await apply_rules_file(node, node.settings)
        ada, bob = [(await node.accounts.sign_up(name, "correct horse", b"null")).user for name in ("ada", "bob")]
        ends = f"{due_us / 1e6:.6f}"
        await node.insert(
            [NewRecord(make_uuid(0), "board/0", b"0", "ada", until=ends, until_us=due_us)], Actor(ada.id, "ada")
        )
        for event, user in ("board/1", ada), ("board/2", bob), ("room/3", bob):
            await node.insert([scheduled(event, b"1", due_us, user.username)], Actor(user.id, user.username))
        await node.insert([scheduled(RULES_EVENT, encode_rules(LATER_RULES), due_us + 1_000_000, "")], OPERATOR)
    stderr_of(broker("backup", copy := data.with_name("copy.db"), "--data", data))
    stderr_of(broker("restore", copy, "--data", restored := data.with_name("restored")))
    return restored


def scheduled(event: str, content: bytes, due_us: int, username: str) -> NewRecord:
    return NewRecord(make_uuid(due_us // 1_000), event, content, username, f"{due_us / 1e6:.6f}", due_us)


def states(folder: Path) -> list[str]:
    """The records, but for rules and users, and what became of them."""
    with closing(sqlite3.connect(f"file:{folder / 'broker.db'}?mode=ro", uri=True)) as log:
        rows = log.execute(
            """SELECT event || ' of ' || user, number IN (SELECT number FROM publications),
                      number IN (SELECT number FROM cancellations) FROM records WHERE event NOT LIKE '$%' ORDER BY 1"""
        ).fetchall()
    return [
        f"{who} {'published' if published else 'cancelled' if cancelled else 'pending'}"
        for who, published, cancelled in rows
    ]


def history(folder: Path) -> list[str]:
    return done("rules", "history", "--data", folder).stdout.splitlines()


def log_in_again(client: httpx.Client) -> httpx.Response:
    return client.post("/login", json={"username": "ada", "password": "correct horse"})
