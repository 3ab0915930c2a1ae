"""The command line against real server processes."""

from __future__ import annotations

import json
import signal
import stat
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from click.testing import CliRunner, Result

from broker import __version__
from broker.cli.client import parse
from broker.cli.main import main
from broker.records import make_uuid
from tests.support.commands import command, refused
from tests.support.servers import BOUND_S, ServerProcess

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def environment(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a person who has logged in as cli."""
    file = tmp_path_factory.mktemp("cli") / "below" / "token"
    environment = {"BROKER_URL": server.url, "BROKER_TOKEN_FILE": str(file)}
    with server.client("cli"):
        pass
    result = CliRunner().invoke(main, ["login", "cli", "--password", "correct horse"], env=environment)
    assert result.exit_code == 0, result.output
    return environment


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def run(*arguments: str, stdin: str | bytes | None = None, **more: str) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, env=environment | more)

    return run


class TestUsers:
    def test_user_add_prints_the_user(self, run: Run) -> None:
        result = run(
            "user", "add", "Cli.new", "--password", "correct horse", "--info", '{"big":12345678901234567890.10}'
        )
        assert result.exit_code == 0, result.output
        assert list(json.loads(result.stdout)) == ["id", "username", "info"]  # and not the token of the response
        assert json.loads(result.stdout)["username"] == "Cli.new"
        assert result.stdout.endswith('"info":{"big":12345678901234567890.10}}\n')

    def test_user_add_prints_the_info_as_it_was_given(self, run: Run) -> None:
        info = r'{"jwt":"\ud800","b":1e400,"b":1.0}'
        result = run("user", "add", "cli.odd", "--password", "correct horse", "--info", info)
        assert result.exit_code == 0, result.output
        assert result.stdout.endswith(f'"info":{info}}}\n')

    def test_a_password_is_asked_for_twice_and_not_shown(self, run: Run) -> None:
        result = run("user", "add", "cli.asked", stdin="correct horse\ncorrect horse\n")
        assert result.exit_code == 0, result.output
        assert "correct horse" not in result.output

    def test_a_name_that_is_taken_is_refused(self, run: Run) -> None:
        assert "CLI is taken" in refused(run("user", "add", "CLI", "--password", "correct horse"))

    def test_info_that_is_not_json_is_refused(self, run: Run) -> None:
        assert "--info is not JSON" in refused(run("user", "add", "x", "--password", "correct horse", "--info", "{"))


class TestLogin:
    def test_the_token_is_kept_in_a_file_for_its_owner_alone(
        self, environment: dict[str, str], ada: httpx.Client
    ) -> None:
        file = Path(environment["BROKER_TOKEN_FILE"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        answer = ada.get("/users/me", headers={"Authorization": f"Bearer {file.read_text().strip()}"})
        assert answer.json()["username"] == "cli"

    def test_a_file_that_others_could_read_is_replaced(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("old")
        file.chmod(0o644)
        result = run("login", "cli", "--token-file", str(file), stdin="correct horse\n")
        assert result.exit_code == 0, result.output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert result.stdout.strip() in ("", "Password:")  # the token is not shown
        assert str(file) in result.stderr

    def test_each_server_has_a_token_of_its_own(self, run: Run, server: ServerProcess, tmp_path: Path) -> None:
        """A server whose address somebody types by mistake does not receive the token of another one."""
        home = {"HOME": str(tmp_path), "BROKER_TOKEN_FILE": ""}
        assert run("login", "cli", "--password", "correct horse", **home).exit_code == 0
        (file,) = (tmp_path / ".config" / "broker" / "tokens").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert run("insert", "cli-home", "1", **home).exit_code == 0
        other = server.url.replace("127.0.0.1", "localhost")
        assert "needs a token" in refused(run("insert", "cli-home", "1", "--url", other, **home))

    def test_a_command_that_needs_no_token_continues_without_one_that_is_refused(
        self, run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text("x.y.z")
        expired = {"BROKER_TOKEN_FILE": str(tmp_path / "token")}
        result = run("snapshot", "cli-none", **expired)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "the token is not valid; log in again (401); continuing without a token\n"
        assert "not valid" in refused(run("log", "cli-none", **expired))
        assert "not valid" in refused(run("snapshot", "cli-none", "--token", "x.y.z"))

    def test_a_wrong_password_is_refused_and_writes_no_file(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "token"
        assert "wrong (401)" in refused(run("login", "cli", "--password", "battery", "--token-file", str(file)))
        assert not file.exists()

    def test_a_file_that_cannot_be_written_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = run("login", "cli", "--password", "correct horse", "--token-file", str(tmp_path / "file" / "token"))
        assert str(tmp_path / "file") in refused(result)


class TestInsert:
    # What a program that parses and writes JSON again would change.
    AS_GIVEN = '{"b":1.0,"a":[1e400,0.10,12345678901234567890123456789012],"c":"\\u00e9é\\ud83d\\ude00\u2028","b":-0}'

    def test_data_arrives_byte_for_byte(self, run: Run) -> None:
        assert run("insert", "cli-bytes", self.AS_GIVEN).exit_code == 0
        assert run("insert", "cli-bytes", stdin=f"  {self.AS_GIVEN}\r\n").exit_code == 0
        assert run("insert", "cli-bytes", "-", stdin=self.AS_GIVEN.encode()).exit_code == 0
        log = run("log", "cli-bytes").stdout.split("\n")
        assert [f'"data":{self.AS_GIVEN},' in line for line in log] == [True, True, True, False]

    def test_an_insert_prints_the_record(self, run: Run) -> None:
        record = json.loads(run("insert", "cli-record", '"text"').stdout)
        assert (record["event"], record["data"], record["user"]) == ("cli-record", "text", "cli")

    def test_at_makes_it_pending(self, run: Run) -> None:
        record = json.loads(run("insert", "cli-at", "1", "--at", "4102444800.5").stdout)
        assert (record["timestamp"], record["published"], record["id"]) == (4102444800.5, False, None)

    @pytest.mark.parametrize(("at", "from_now"), [("+90s", 90), ("+10m", 600), ("+2h", 7_200), ("+1d", 86_400)])
    def test_a_time_may_be_relative_to_now(self, run: Run, at: str, from_now: int) -> None:
        before = time.time()
        record = json.loads(run("insert", "cli-relative", "1", "--at", at, "--until", "+2d").stdout)
        assert before - 0.001 <= record["timestamp"] - from_now <= time.time()
        assert record["until"] - record["timestamp"] == pytest.approx(172_800 - from_now, abs=1)

    def test_log_only_keeps_it_from_the_stream(self, run: Run) -> None:
        record = json.loads(run("insert", "cli-log-only", "1", "--log-only").stdout)
        assert (record["published"], record["id"]) == (True, None)

    def test_the_same_uuid_twice_is_one_record(self, run: Run) -> None:
        uuid = str(make_uuid(0))
        records = [run("insert", "cli-twice", "1", "--uuid", uuid).stdout for _ in range(2)]
        assert records[0] == records[1]
        assert json.loads(records[0])["uuid"] == uuid

    def test_a_token_may_be_given(self, run: Run, environment: dict[str, str]) -> None:
        token = Path(environment["BROKER_TOKEN_FILE"]).read_text().strip()
        nowhere = {"BROKER_TOKEN_FILE": "/nonexistent"}
        assert run("insert", "cli-token", "1", "--token", token, **nowhere).exit_code == 0
        assert run("insert", "cli-token", "1", BROKER_TOKEN=token, **nowhere).exit_code == 0
        assert "needs a token" in refused(run("insert", "cli-token", "1", **nowhere))
        assert "not valid" in refused(run("insert", "cli-token", "1", "--token", "x.y.z"))

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ("{", "DATA is not JSON"),
            ("text", "needs its own quotes"),
            ("", "DATA is not JSON"),
            ('1,"published":true', "DATA is not JSON"),
            ("[" * 100_000, "nested too deep"),
            ("[" * 300 + "]" * 300, "nested"),
            ("NaN", "not JSON"),
        ],
    )
    def test_bad_data_is_refused(self, run: Run, data: str, says: str) -> None:
        assert says in refused(run("insert", "cli-bad", "-", stdin=data))

    def test_data_that_is_not_utf8_is_refused(self, run: Run) -> None:
        assert "not UTF-8" in refused(run("insert", "cli-bad", "-", stdin=b'"\xff"'))
        assert "not UTF-8" in refused(run("insert", "cli-bad", '"\udcff"'))
        assert "not UTF-8" in refused(run("log", "\udcff"))

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("cli-bad", "1", "--at", "soon"), "--at: expected"),
            (("cli-bad", "1", "--at", "1700000000000"), "milliseconds"),
            (("cli-bad", "1", "--uuid", "7"), "uuid"),
            (("$mine", "1"), "reserved"),
            (("", "1"), "empty"),
        ],
    )
    def test_a_refusal_of_the_server_is_a_sentence(self, run: Run, arguments: tuple[str, ...], says: str) -> None:
        assert says in refused(run("insert", *arguments))


class TestLogAndCancel:
    def test_log_prints_a_record_a_line(self, run: Run) -> None:
        for n in range(3):
            run("insert", "cli/log ü", str(n))
        assert [json.loads(line)["data"] for line in run("log", "cli/log ü").stdout.splitlines()] == [0, 1, 2]
        newest = run("log", "cli/log ü", "--newest-first", "--limit", "2").stdout.splitlines()
        assert [json.loads(line)["data"] for line in newest] == [2, 1]

    def test_the_log_of_an_unknown_event_is_nothing(self, run: Run) -> None:
        result = run("log", "cli-unknown")
        assert (result.exit_code, result.output) == (0, "")

    def test_a_limit_out_of_range_is_refused(self, run: Run) -> None:
        assert "--limit" in refused(run("log", "cli-unknown", "--limit", "1001"))

    def test_cancel_prints_the_record(self, run: Run) -> None:
        uuid = json.loads(run("insert", "cli-cancel", "1", "--at", "4102444800").stdout)["uuid"]
        result = run("cancel", uuid)
        assert json.loads(result.stdout)["cancelled"] is True

    def test_what_cannot_be_cancelled_is_refused(self, run: Run) -> None:
        uuid = json.loads(run("insert", "cli-cancel", "1").stdout)["uuid"]
        assert "(409)" in refused(run("cancel", uuid))
        assert "(404)" in refused(run("cancel", str(make_uuid(0))))
        assert "uuid: expected" in refused(run("cancel", "x/y"))

    def test_a_reader_that_has_enough_is_no_error(self, run: Run, environment: dict[str, str]) -> None:
        for _ in range(20):
            run("insert", "cli-head", json.dumps("x" * 50_000))
        with command("log", "cli-head", environment=environment) as logging:
            assert logging.stdout is not None
            assert logging.stderr is not None
            assert logging.stdout.readline().startswith('{"uuid":')
            logging.stdout.close()  # as `| head -1` does
            assert logging.stderr.read() == ""
            assert logging.wait(BOUND_S) == 0


class TestListen:
    def test_it_prints_an_object_a_line_and_stops_at_the_count(self, run: Run) -> None:
        run("insert", "cli-listen/a", '{"n":1.0}')
        run("insert", "cli-listen/b", "[2]")
        lines = run("listen", "cli-listen/*", "--count", "2").stdout.splitlines()
        assert [line.partition('"event":')[2] for line in lines] == [
            '"cli-listen/a","data":{"n":1.0}}',
            '"cli-listen/b","data":[2]}',
        ]
        first = json.loads(lines[0])["id"]
        (after,) = run("listen", "cli-listen/*", "--last-event-id", first, "--count", "1").stdout.splitlines()
        assert after == lines[1]

    def test_a_filter_that_makes_no_sense_is_refused(self, run: Run) -> None:
        assert "reserved" in refused(run("listen", "$mine"))

    def test_it_resumes_by_itself_across_a_restart(self, tmp_path: Path) -> None:
        with (
            ServerProcess(tmp_path, retry_ms=50) as server,
            command("listen", environment={"BROKER_URL": server.url}) as listening,
        ):
            assert listening.stdout is not None
            assert json.loads(listening.stdout.readline())["event"] == "$ready"
            with server.client("cli") as client:
                for n in range(2):
                    client.post("/insert", json={"event": "n", "data": n}).raise_for_status()
            heard = [json.loads(listening.stdout.readline()) for _ in range(2)]
            server.stop(signal.SIGKILL)
            server.start()
            with server.client("cli") as client:
                for n in range(2, 4):
                    client.post("/insert", json={"event": "n", "data": n}).raise_for_status()
            while len(heard) < 4:
                line = json.loads(listening.stdout.readline())
                if line["event"] != "$ready":
                    heard.append(line)
            listening.send_signal(signal.SIGINT)
            _, told = listening.communicate(timeout=BOUND_S)
        assert [line["data"] for line in heard] == [0, 1, 2, 3]
        assert [int(line["id"].rpartition("-")[2]) for line in heard] == [1, 2, 3, 4]
        assert listening.returncode == 130
        assert "connecting again in" in told
        assert "Traceback" not in told

    def test_it_waits_for_a_server_that_is_not_there_yet(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path) as server:
            server.stop()
            with command("listen", environment={"BROKER_URL": server.url}) as listening:
                assert listening.stdout is not None
                assert listening.stderr is not None
                assert "is the server running there?" in listening.stderr.readline()
                server.start()
                assert json.loads(listening.stdout.readline())["event"] == "$ready"


class Cutting(BaseHTTPRequestHandler):
    """Answers with half an answer, or each insert by what its event says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\n{}\n\r\n")
        self.close_connection = True

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["event"]
        if event == "silent":
            self.close_connection = True
            return
        self.send_response(503 if event == "away" else 200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"uuid":')
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class TestNoServer:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("user", "add", "x", "--password", "correct horse"),
            ("login", "x", "--password", "correct horse"),
            ("insert", "x", "1"),
            ("log", "x"),
            ("cancel", "x"),
        ],
    )
    def test_a_server_that_does_not_run_is_said(self, run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        with ServerProcess(tmp_path) as server:
            server.stop()
            said = refused(run(*arguments, "--url", server.url))
        assert f"cannot reach {server.url}" in said
        assert "is the server running there?" in said
        assert "may be stored" not in said

    @pytest.mark.parametrize("url", ["nonsense", "http://a b", "http://127.0.0.1:x"])
    def test_an_address_that_makes_no_sense_is_said(self, run: Run, url: str) -> None:
        assert url in refused(run("log", "x", "--url", url))

    @pytest.mark.parametrize("event", ["silent", "away", "half"])
    def test_an_insert_whose_answer_is_lost_can_be_sent_again(self, run: Run, event: str) -> None:
        uuid = str(make_uuid(0))
        with HTTPServer(("127.0.0.1", 0), Cutting) as cutting:
            thread = threading.Thread(target=cutting.handle_request)
            thread.start()
            url = f"http://127.0.0.1:{cutting.server_port}"
            said = refused(run("insert", event, "1", "--uuid", uuid, "--url", url))
            thread.join(BOUND_S)
        assert f"it may be stored: send it again with --uuid {uuid}" in said

    def test_a_log_that_is_cut_off_is_not_taken_for_a_whole_one(self, run: Run) -> None:
        with HTTPServer(("127.0.0.1", 0), Cutting) as cutting:
            thread = threading.Thread(target=cutting.handle_request)
            thread.start()
            result = run("log", "x", "--url", f"http://127.0.0.1:{cutting.server_port}")
            thread.join(BOUND_S)
        assert (result.exit_code, result.stdout) == (1, "{}\n")
        assert "cut off" in result.stderr


def test_a_certificate_of_ones_own_is_given_with_ca(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    pair = {"tls_certificate": tmp_path / "certificate.pem", "tls_key": tmp_path / "key.pem"}
    options = [part for name, file in pair.items() for part in ("--set", f"{name}={file}")]
    with ServerProcess(tmp_path, *options, scheme="https") as server:
        add = ["user", "add", "ada", "--password", "correct horse", "--url", server.url]
        assert "certificate verify failed" in refused(CliRunner().invoke(main, add))
        result = CliRunner().invoke(main, [*add, "--ca", str(tmp_path / "ca.pem")])
        assert json.loads(result.stdout)["username"] == "ada"
        missing = CliRunner().invoke(main, [*add, "--ca", str(tmp_path / "none.pem")])
        assert "none.pem" in refused(missing)


class TestServe:
    def test_a_wrong_setting_is_named(self, run: Run, tmp_path: Path) -> None:
        data = ("--data", str(tmp_path))
        assert "heartbeat_s" in refused(run("serve", *data, "--set", "heartbeat_s=often"))
        assert "unknown settings: colour" in refused(run("serve", *data, "--set", "colour=blue"))
        assert "expected NAME=VALUE" in refused(run("serve", *data, "--set", "colour"))
        assert "settings file" in refused(run("serve", *data, "--config", str(tmp_path / "none.toml")))

    def test_a_port_in_use_is_said(self, server: ServerProcess, tmp_path: Path) -> None:
        with command("serve", "--data", str(tmp_path), "--port", str(server.port), environment={}) as serving:
            _, said = serving.communicate(timeout=BOUND_S)
        assert f"cannot listen on 127.0.0.1 port {server.port}" in said
        assert "Traceback" not in said
        assert serving.returncode == 1

    def test_settings_come_from_options_then_the_environment_then_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "broker.toml").write_text('host = "127.0.0.1"\nport = 1\nsignup = false\nbody_bytes_max = 100\n')
        environment = {"BROKER_CONFIG": str(tmp_path / "broker.toml"), "BROKER_BODY_BYTES_MAX": "200"}
        options = ("--data", str(tmp_path), "--set", "port=0", "--verbose")
        with command("serve", *options, environment=environment) as serving:
            assert serving.stderr is not None
            line = next(line for line in serving.stderr if "serves on" in line)
            url = line.partition("serves on ")[2].split()[0]
            json_type = {"Content-Type": "application/json"}
            assert httpx.post(f"{url}/users", json={"username": "x", "password": "12345678"}).status_code == 403
            assert httpx.post(f"{url}/users", content=b" " * 150, headers=json_type).status_code == 400
            assert httpx.post(f"{url}/users", content=b" " * 250, headers=json_type).status_code == 413
            serving.send_signal(signal.SIGTERM)
            serving.communicate(timeout=BOUND_S)
        assert serving.returncode == 0


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.strip().endswith(__version__)


class TestParse:
    """WHATWG HTML, section 9.2.6."""

    def test_lines_are_put_together_to_events(self) -> None:
        lines = [": a comment", "id: 1", "event: x", "data: a", "data:b", "data", "", "data: c\r", ""]
        assert [(kind, *_values(message)) for kind, message in parse(iter(lines))] == [
            ("event", "1", "x", "a\nb\n"),
            ("event", "1", "message", "c"),
        ]

    def test_an_id_without_data_moves_the_last_id(self) -> None:
        lines = ["id: 1", "", "id: 2\0", "", "retry: 50", "retry: x", "unknown: 1", "event: y", ""]
        assert [(kind, *_values(message)) for kind, message in parse(iter(lines))] == [
            ("id", "1", "", ""),
            ("id", "1", "", ""),
            ("retry", "1", "", "50"),
            ("id", "1", "", ""),
        ]


def _values(message: Any) -> tuple[str, str, str]:
    return message.id, message.event, message.data


def test_a_connection_that_brings_no_id_keeps_the_last_one() -> None:
    """The stream begins with `retry:`, and may be cut off right behind it: the next connection resumes all the same."""
    assert [message.id for _, message in parse(iter(["retry: 5", "", ":", ""]), "e-7")] == ["e-7"] * 3
