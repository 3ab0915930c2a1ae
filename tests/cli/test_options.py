"""What commands make of options, variables and files as people have them, and of the process that they run in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli.client import Client, silence_s
from broker.cli.main import main
from tests.support.commands import command, refused
from tests.support.servers import BOUND_S, ServerProcess

Run = Callable[..., Result]
NOWHERE = "/nonexistent/token"


@pytest.fixture
def run(server: ServerProcess) -> Run:
    def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        given = {"BROKER_URL": server.url, "BROKER_TOKEN_FILE": NOWHERE} | environment
        return CliRunner().invoke(main, arguments, input=stdin, env=given)

    return run


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> str:
    return server.token("options")


class TestSecrets:
    @pytest.mark.parametrize("end", ["\n", "\r\n", " \t"])
    def test_white_space_around_a_token_does_not_count(self, run: Run, token: str, tmp_path: Path, end: str) -> None:
        file = tmp_path / "token"
        file.write_bytes(b"\xef\xbb\xbf" + f" {token}{end}".encode())
        assert run("insert", "options", "1", BROKER_TOKEN=f" {token}{end}").exit_code == 0
        assert run("insert", "options", "1", "--token", f"{token}{end}").exit_code == 0
        assert run("insert", "options", "1", BROKER_TOKEN_FILE=f"{file}\n").exit_code == 0

    @pytest.mark.parametrize(
        "bad", ["eyJ.sesame\nX: y", "eyJ sesame", "eyJsesame\u00fc", "eyJ\x7fsesame", "sesame\udcff"]
    )
    def test_a_token_that_no_header_may_have_is_refused_and_not_shown(self, run: Run, tmp_path: Path, bad: str) -> None:
        file = tmp_path / "token"
        file.write_bytes(os.fsencode(bad))
        refusals = {
            "--token": run("log", "x", "--token", bad),
            "BROKER_TOKEN": run("log", "x", BROKER_TOKEN=bad),
            str(file): run("log", "x", "--token-file", str(file)),
        }
        for source, result in refusals.items():
            said = refused(result)
            assert source in said or "not UTF-8" in said
            assert "sesame" not in said

    @pytest.mark.parametrize(
        "url", ["http://ada:lovelace@127.0.0.1:1", "ada:lovelace@127.0.0.1", "http://a?t=lovelace"]
    )
    def test_the_password_of_an_address_is_never_shown(self, run: Run, url: str) -> None:
        for name, result in (("--url", run("log", "x", "--url", url)), ("BROKER_URL", run("log", "x", BROKER_URL=url))):
            said = refused(result)
            assert f"{name}: leave out" in said
            assert "lovelace" not in said

    @pytest.mark.parametrize("value", ["sesame", "token_secret sesame", "token_secret:sesame"])
    def test_a_setting_without_a_value_is_not_shown(self, run: Run, value: str) -> None:
        assert "sesame" not in refused(run("serve", "--set", value))

    def test_what_is_not_understood_is_not_shown_with_its_password(self, run: Run) -> None:
        url = "postgresql://ada:lovelace@127.0.0.1/x"
        for arguments in (
            ("serve", url),
            ("serve", "--set", f"{url}?a=b"),
            ("insert", "x", "1", url),
            ("log", "x", url),
        ):
            assert "lovelace" not in refused(run(*arguments))

    def test_a_folder_that_is_a_url_is_refused_without_its_password(self, run: Run, tmp_path: Path) -> None:
        url = "postgresql://ada:lovelace@127.0.0.1/x"
        for each in (
            run("verify", "--data", url), run("verify", BROKER_DATA=url), run("backup", url), run("export", url),
            run("restore", url), run("verify", url), run("serve", "--data", url),
            run("login", "x", "--token-file", url),
        ):  # fmt: skip
            said = refused(each)
            assert "a URL is no path" in said
            assert "lovelace" not in said

    @pytest.mark.usefixtures("token")  # whose user logs in
    def test_the_line_break_of_a_password_from_a_variable_is_not_of_it(self, run: Run, tmp_path: Path) -> None:
        file = str(tmp_path / "token")
        password = "correct horse"
        assert run("login", "options", "--token-file", file, BROKER_PASSWORD=f"{password}\r\n").exit_code == 0
        assert "wrong (401)" in refused(run("login", "options", "--password", f"{password}\n"))
        assert run("user", "add", "options.new", BROKER_PASSWORD=f"{password}\n").exit_code == 0
        assert run("login", "options.new", "--token-file", file, "--password", password).exit_code == 0


class TestSources:
    def test_an_address_is_refused_by_what_gave_it(self, run: Run) -> None:
        assert "--url: '127.0.0.1:8080' has no scheme; write" in refused(run("log", "x", "--url", "127.0.0.1:8080"))
        assert "BROKER_URL: 'ws://x' has the scheme ws" in refused(run("log", "x", BROKER_URL="ws://x\n"))

    def test_a_setting_is_refused_by_what_gave_it(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "broker.toml"
        file.write_text("heartbeat_s = 0\n")
        assert "port (argument): 'x': expected" in refused(run("serve", "--port", "x"))
        assert "workers (argument): 'x': expected" in refused(run("serve", "--workers", "x"))
        assert "data (argument): empty" in refused(run("serve", "--data", ""))
        assert f"heartbeat_s ({file}, line 1): " in refused(run("serve", BROKER_CONFIG=f"{file}\n"))
        file.unlink()
        assert f"settings file {file} (BROKER_CONFIG): " in refused(run("serve", BROKER_CONFIG=str(file)))
        assert f"settings file {file} (argument): " in refused(run("serve", "--config", str(file)))
        assert "BROKER_VERBOSE" in refused(run("serve", BROKER_VERBOSE="maybe"))

    def test_a_file_of_authorities_is_refused_by_what_gave_it(self, run: Run) -> None:
        url = "https://127.0.0.1:1"
        assert "BROKER_CA: /none.pem is not there" in refused(run("log", "x", BROKER_URL=url, BROKER_CA="/none.pem\n"))
        assert "--ca: /none.pem is not there" in refused(run("log", "x", "--ca", "/none.pem", BROKER_URL=url))

    @pytest.mark.parametrize("option", ["--url", "--token", "--token-file", "--ca"])
    def test_an_empty_argument_is_refused_and_an_empty_variable_is_not_set(
        self, run: Run, token: str, option: str
    ) -> None:
        assert f"{option}: empty" in refused(run("insert", "options", "1", option, ""))
        variable = f"BROKER_{option[2:].replace('-', '_').upper()}"
        for empty in ("", "\n"):
            result = run("insert", "options", "1", **{"BROKER_TOKEN": token, variable: empty})
            expected = {"--url": "cannot reach http://127.0.0.1:8080", "--token": "needs a token"}.get(option, '"uuid"')
            assert expected in result.output

    @pytest.mark.parametrize(
        "arguments",
        [
            ("backup", ""),
            ("verify", ""),
            ("move", "--from", "", "--to", "x"),
            ("export", "--data", ""),
            ("serve", "--origin", ""),
            ("serve", "--host", ""),
            ("serve", "--set", "allow_header="),
        ],
    )
    def test_an_empty_name_is_neither_the_current_folder_nor_nothing(
        self, run: Run, arguments: tuple[str, ...]
    ) -> None:
        assert "empty; " in refused(run(*arguments))

    def test_an_id_that_no_header_may_have_is_said(self, run: Run) -> None:
        for bad in ("a\nb", "\u00fc"):
            assert "--last-event-id: an id has no line break" in refused(run("listen", "--last-event-id", bad))


class TestArguments:
    @pytest.mark.parametrize("data", ["-5", "-0.5e3", "-1"])
    def test_a_negative_number_is_data(self, run: Run, token: str, data: str) -> None:
        for arguments in ((data, "--token", token), ("--token", token, data), ("--token", token, "--", data)):
            result = run("insert", "options/negative", *arguments)
            assert result.exit_code == 0, result.output
            assert f'"data":{data},' in result.stdout
        assert "--at: -1e400 is before the year 1" in refused(
            run("insert", "options/negative", data, "--token", token, "--at", "-1e400")
        )

    def test_a_misspelt_option_is_refused_with_how_a_value_is_given(self, run: Run) -> None:
        for arguments in (("insert", "x", "1", "--log-onyl"), ("insert", "x", "-x"), ("listen", "-x"), ("log", "--x")):
            assert "a value that begins with - needs -- before it" in refused(run(*arguments))
        assert "unexpected extra argument (-5)" in refused(run("insert", "x", "1", "-5"))

    def test_a_byte_order_mark_in_front_of_json_does_not_count(self, run: Run, token: str, tmp_path: Path) -> None:
        for stdin, arguments in (("\ufeff[1]", ("-",)), (None, ("\ufeff[1]",))):
            result = run("insert", "options/mark", *arguments, "--token", token, stdin=stdin)
            assert '"data":[1],' in result.stdout
        assert run("user", "add", "options.mark", "--password", "correct horse", "--info", "\ufeff1").exit_code == 0
        empty = b'\xef\xbb\xbf{"broker":1,"epochs":{"9f3a1c07":null},"users":0,"records":0}\n'
        result = run("import", "--data", str(tmp_path), stdin=empty)
        assert result.exit_code == 0, result.output


class TestHome:
    """A user without a home folder, as in a container: here it is that of a user who does not exist."""

    HOMELESS = "~no.such.user/token"

    def test_no_file_is_needed_when_a_token_is_given(self, run: Run, token: str) -> None:
        assert run("insert", "options", "1", "--token", token, BROKER_TOKEN_FILE=self.HOMELESS).exit_code == 0
        assert run("insert", "options", "1", BROKER_TOKEN=token, BROKER_TOKEN_FILE=self.HOMELESS).exit_code == 0

    def test_nor_where_none_is_needed(self, run: Run) -> None:
        given = ("user", "add", "options.homeless", "--password", "correct horse")
        assert run(*given, BROKER_TOKEN_FILE=self.HOMELESS).exit_code == 0

    def test_else_the_option_is_named(self, run: Run) -> None:
        for arguments in (("insert", "x", "1"), ("log", "x"), ("cancel", "x"), ("login", "x", "--password", "y")):
            said = refused(run(*arguments, BROKER_TOKEN_FILE=self.HOMELESS))
            assert "BROKER_TOKEN_FILE: ~no.such.user/token is below a home folder" in said
            assert "--token-file" in said


class TestProcess:
    def test_all_is_utf8_in_every_locale(self, server: ServerProcess, token: str, tmp_path: Path) -> None:
        posix = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
        given = {"BROKER_URL": server.url, "BROKER_TOKEN": token, **posix}
        with command("insert", "options/\u00fc", '"\u00e9"', environment=given, encoding="utf-8") as inserting:
            printed, told = inserting.communicate(timeout=BOUND_S)
        assert told == ""
        assert '"event":"options/\u00fc"' in printed
        assert '"data":"\u00e9"' in printed
        with command("verify", str(tmp_path / "\u00fc.db"), environment=posix, encoding="utf-8") as verifying:
            _, told = verifying.communicate(timeout=BOUND_S)
        assert f"{tmp_path}/\u00fc.db is not there" in told

    @pytest.mark.parametrize("closed", ["<&-", "<&- >&-"])
    def test_a_server_without_standard_files_ends_cleanly(self, tmp_path: Path, closed: str) -> None:
        arguments = [sys.executable, "-m", "broker", "serve", "--port", "0", "--data", str(tmp_path)]
        serving = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *arguments], stderr=subprocess.PIPE, text=True
        )
        with serving:
            assert serving.stderr is not None
            assert any("serves on" in line for line in serving.stderr)
            taken = {number: os.readlink(f"/proc/{serving.pid}/fd/{number}") for number in (0, 1)}
            assert taken[0] == "/dev/null"
            assert "<&- >&-" not in closed or taken[1] == "/dev/null"
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(BOUND_S) == 0

    def test_a_command_without_any_standard_file_says_what_it_can_by_its_status(self) -> None:
        for arguments, status in ((["insert", "x"], 1), (["--version"], 0), (["import", "--data", "/dev/null"], 1)):
            closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "broker", *arguments]
            assert subprocess.run(closed, timeout=BOUND_S, check=False).returncode == status


class Stream(BaseHTTPRequestHandler):
    """A stream that says nothing for a while, and then is closed without its last chunk."""

    protocol_version = "HTTP/1.1"
    ready = '{"id":"e-1"}'
    silence = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b"retry: 1\nid: e-1\nevent: $ready\ndata: %b\n\n" % self.ready.encode())
        self.silence.wait(0.6)
        self._chunk(b":\n")
        self._chunk(b"id: e-2\nevent: x\ndata: 1\n\n")
        self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        except OSError:  # the client did not wait
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def stream(ready: str, kind: type[Stream] = Stream) -> Iterator[str]:
    """The address of a server with one."""
    handler = type("Handler", (kind,), {"ready": ready})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(BOUND_S)


class TestSilence:
    @pytest.mark.parametrize(
        ("ready", "seconds"),
        [
            ('{"id":"e-1","heartbeat":60,"time":1.5}', 125), ('{"heartbeat":15}', 35), ('{"heartbeat":0.5}', 6),
            ('{"id":"e-1"}', 0), ("[]", 0), ("null", 0), ("{", 0), ('{"heartbeat":"60"}', 0), ('{"heartbeat":true}', 0),
            ('{"heartbeat":-1}', 0), ('{"heartbeat":1e400}', 0), ('{"heartbeat":null}', 0),
        ],
    )  # fmt: skip
    def test_a_stream_may_be_silent_for_two_heartbeats_and_a_bit(self, ready: str, seconds: float) -> None:
        assert silence_s(ready) == seconds

    def test_a_reader_waits_as_long_as_the_server_says(self) -> None:
        told: list[str] = []
        with stream('{"id":"e-1","heartbeat":0.5}') as url:
            messages = Client(url, timeout_s=0.1).listen((), "", told.append)
            assert [next(messages).event, next(messages).event] == ["$ready", "x"]
            assert next(messages).event == "$ready"
            assert told == ["the stream ended; connecting again in 0.0 s"]

    def test_a_server_that_says_nothing_of_heartbeats_is_waited_for_as_ever(self) -> None:
        told: list[str] = []
        with stream('{"id":"e-1"}') as url:
            messages = Client(url, timeout_s=0.1).listen((), "", told.append)
            assert [next(messages).event, next(messages).event] == ["$ready", "$ready"]
            assert "timed out" in told[0]


class Elsewhere(Stream):
    def do_POST(self) -> None:
        self.send_response(308)
        self.send_header("Location", "https://ada:lovelace@live.example/insert")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_server_that_sends_on_is_not_followed(run: Run) -> None:
    """The token is for whom it was given to, and an insert would become a GET without a body."""
    with stream("{}", Elsewhere) as url:
        said = refused(run("insert", "x", "1", BROKER_URL=url, BROKER_TOKEN="x.y.z"))
    assert "the server sends on to https://live.example (308); if that is right, give it as --url" in said


def test_a_server_that_cannot_be_reached_is_told_with_what_helps(run: Run) -> None:
    assert "there is no machine of that name" in refused(run("log", "x", BROKER_URL="http://no-such.invalid"))
    with stream("{}") as url:
        said = refused(run("log", "x", BROKER_URL=url.replace("http:", "https:")))
    assert "the server may not speak TLS" in said
    assert "is the server running" not in said


def test_the_old_name_of_a_command_works_and_says_the_new_one(run: Run, tmp_path: Path) -> None:
    result = run("copy", "--from", str(tmp_path / "none"), "--to", str(tmp_path / "new"))
    assert "`broker copy` is called `broker move` now" in result.stderr
    assert "is not there" in refused(result)
    assert "copy" not in run("--help").stdout
