"""The commands that read, insert in large numbers, and remove."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from broker.cli import batches
from broker.cli.batches import Item, batches_of, with_uuid
from broker.cli.main import main
from tests.support.answers import insert
from tests.support.commands import command, refused
from tests.support.servers import BOUND_S, ServerProcess

Run = Callable[..., Result]
LATER = "9000000000"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """With limits that are lower than those that the command expects."""
    with ServerProcess(tmp_path_factory.mktemp("own"), batch_records_max=300, body_bytes_max=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def own_ada(own: ServerProcess) -> Iterator[httpx.Client]:
    with own.client("ada") as client:
        yield client


@pytest.fixture
def run(own: ServerProcess, own_ada: httpx.Client) -> Run:
    environment = {"BROKER_URL": own.url, "BROKER_TOKEN": own_ada.headers["Authorization"].removeprefix("Bearer ")}

    def run(*arguments: str, stdin: str | bytes | None = None, **more: str) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, env=environment | more)

    return run


def printed(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def log(client: httpx.Client, event: str) -> list[Any]:
    return [record["data"] for record in client.get(f"/collections/{event}").json()]


class TestReading:
    def test_snapshot_prints_the_latest_of_every_event(self, run: Run, own_ada: httpx.Client) -> None:
        for event in ("read/b", "read/a", "read/gone", "other/a"):
            insert(own_ada, event)
        insert(own_ada, "read/gone", b"null")
        whole = own_ada.get("/snapshot?event=read/*").json()
        assert printed(run("snapshot", "read/*")) == whole
        assert [each["event"] for each in printed(run("snapshot", "read/a", "read/b"))] == ["read/a", "read/b"]
        assert [each["event"] for each in printed(run("snapshot", "read/*", "--newest-first"))] == ["read/a", "read/b"]
        assert printed(run("snapshot", "read/*", "--limit", "1")) == whole[:1]
        assert [each["event"] for each in printed(run("snapshot", "--search", "ER/A"))] == ["other/a"]
        assert printed(run("snapshot", "none")) == []

    def test_control_characters_are_printed_as_escapes(self, run: Run) -> None:
        """JSON permits these as they are, and a terminal would obey them."""
        data = json.dumps(text := "\x9b31m\x7f", ensure_ascii=False)
        for arguments in ("insert", data), ("snapshot",), ("log",), ("listen", "--count", "1"):
            result = run(arguments[0], "controls", *arguments[1:])
            assert r'"data":"\u009b31m\u007f"' in result.stdout
            assert printed(result)[-1]["data"] == text

    def test_snapshot_prints_the_state_at_another_time(self, run: Run, own_ada: httpx.Client) -> None:
        before = insert(own_ada, "read/then", b"1").json()
        insert(own_ada, "read/then", b"2")
        insert(own_ada, "read/then", b"3", b',"timestamp":9000000009')
        for time, data in ((str(before["published_at"]), 1), ("2200-01-01T00:00:00Z", 2), ("9000000009", 3)):
            assert [each["data"] for each in printed(run("snapshot", "read/then", "--at", time))] == [data]
        assert [each["data"] for each in printed(run("snapshot", "read/then", "--at", "now"))] == [2]
        assert printed(run("snapshot", "read/then", "--at", "-10m")) == []
        assert "--at: expected a number of seconds" in refused(run("snapshot", "--at", "yesterday"))
        assert "--at: 2030-01-01 12:00 has no time zone" in refused(run("snapshot", "--at", "2030-01-01 12:00"))

    def test_snapshot_needs_no_token_where_events_are_public(self, run: Run, tmp_path: Path) -> None:
        result = run("snapshot", "read/a", BROKER_TOKEN="", BROKER_TOKEN_FILE=str(tmp_path / "none"))
        assert "user" not in printed(result)[0]

    def test_pending_prints_what_waits_by_due_time(self, run: Run, own_ada: httpx.Client) -> None:
        insert(own_ada, "wait/b", more=b',"timestamp":9000000002')
        insert(own_ada, "wait/a", more=b',"timestamp":9000000001')
        assert [each["event"] for each in printed(run("pending", "wait/*"))] == ["wait/a", "wait/b"]
        assert [each["event"] for each in printed(run("pending", "--limit", "1"))] == ["wait/a"]
        assert "no such" in refused(run("pending", "wait/*", "--limit", "1", "--newest-first")).lower()

    def test_listen_prints_whole_records_if_asked_to(self, run: Run, own_ada: httpx.Client) -> None:
        record = insert(own_ada, "whole", b'{"n":1.50}').json()
        result = run("listen", "whole", "--records", "--count", "1")
        assert '"data":{"n":1.50}' in result.stdout
        (line,) = printed(result)
        assert line == {name: record[name] for name in ("id", "uuid", "event", "user", "timestamp", "data")} | {
            "published_at": record["published_at"]
        }


class TestInsertOptions:
    def test_conditions_and_ends_are_sent(self, run: Run) -> None:
        first = printed(run("insert", "options", "1", "--if-latest", "none", "--until", LATER))[0]
        assert first["until"] == 9000000000
        second = printed(run("insert", "options", "2", "--if-latest", first["id"], "--late", "refuse"))[0]
        sentence = refused(run("insert", "options", "3", "--if-latest", first["uuid"]))
        assert f"; the newest version is {second['id']} (broker snapshot NAME) (412)" in sentence
        sentence = refused(run("insert", "options/none", "3", "--if-latest", first["id"]))
        assert "; the newest version is none " in sentence
        removal = printed(run("insert", "options", "--remove", "--if-latest", second["uuid"]))[0]
        assert removal["data"] is None
        assert printed(run("snapshot", "options")) == []

    def test_what_is_late_is_refused_if_asked_to(self, run: Run) -> None:
        assert "(409)" in refused(run("insert", "late", "1", "--at", "1000", "--late", "refuse"))
        assert "--late" in refused(run("insert", "late", "1", "--late", "perhaps"))

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--until", "tomorrow", "e", "1"], "--until: expected"),
            (["e", "1", "--remove"], "leave DATA out"),
            ([], "Missing argument 'EVENT'"),
            (["e", "1", "--file", "x"], "--file: each line has all fields"),
            (["--log-only", "--file", "x"], "--file: each line has all fields"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, run: Run, arguments: list[str], sentence: str) -> None:
        assert sentence in refused(run("insert", *arguments))


class TestInsertFile:
    def test_every_line_of_a_file_is_a_record_whatever_the_servers_limits(
        self, run: Run, own_ada: httpx.Client, tmp_path: Path
    ) -> None:
        lines = [b'{"event":"file","data":%d}' % n for n in range(2_000)]
        lines[7] = b' \t{ "data" : 1.50,"event":"file","uuid":"0190a5d0-ac96-774b-bcce-b302099a8057"}\r'
        file = tmp_path / "lines"
        file.write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(lines))
        result = run("insert", "--file", str(file))
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "carried out 2000 lines\n"
        assert log(own_ada, "file") == [1.5 if n == 7 else n for n in range(2_000)]
        # The records that have a uuid are not stored again.
        file.write_bytes(lines[7])
        assert run("insert", "--file", str(file)).exit_code == 0
        assert len(log(own_ada, "file")) == 2_000

    def test_large_records_are_divided_by_their_size(self, run: Run, own_ada: httpx.Client) -> None:
        lines = b"\n".join(b'{"event":"large","data":"%b"}' % (b"x" * 40_000) for _ in range(30))
        result = run("insert", "--file", "-", stdin=lines)
        assert result.stderr == "carried out 30 lines\n"
        assert len(log(own_ada, "large")) == 30

    def test_a_line_may_cancel(self, run: Run, own_ada: httpx.Client) -> None:
        pending = insert(own_ada, "moves", more=b',"timestamp":9e9').json()
        lines = json.dumps({"cancel": pending["uuid"]}) + '\n{"event":"moves","data":2,"timestamp":9000000001}\n'
        result = run("insert", "--file", "-", stdin=lines)
        assert (result.exit_code, result.stderr) == (0, "carried out 2 lines\n")
        assert [each["data"] for each in printed(run("pending", "moves"))] == [2]

    def test_a_bad_line_is_named_and_what_is_stored_is_said(
        self, run: Run, own_ada: httpx.Client, tmp_path: Path
    ) -> None:
        lines = [b'{"event":"bad","data":%d}' % n for n in range(1_500)]
        lines[1_100] = b'{"event":"*","data":1}'
        file = tmp_path / "lines"
        file.write_bytes(b"\n".join(lines))
        sentence = refused(run("insert", "--file", str(file)))
        assert f"{file}, line 1101: event: a name has no *" in sentence
        stored = log(own_ada, "bad")
        assert stored == list(range(len(stored)))
        assert 1_000 <= len(stored) < 1_100
        assert (
            f"; carried out before: {len(stored)} lines; {file}, line {len(stored) + 1} and the rest were not"
            in sentence
        )

    def test_a_line_that_is_not_json_is_named(self, run: Run) -> None:
        sentence = refused(run("insert", "--file", "-", stdin='{"event":"e","data":1}\n{"event":\n'))
        assert "standard input, line 2: " in sentence
        assert "carried out before: 0 lines" in sentence

    def test_a_line_that_is_too_large_is_refused(self, run: Run) -> None:
        lines = b'{"event":"e","data":"%b"}' % (b"x" * 200_000)
        assert "body_bytes_max" in refused(run("insert", "--file", "-", stdin=lines))

    def test_no_lines_are_no_error(self, run: Run, tmp_path: Path) -> None:
        assert run("insert", "--file", "-", stdin="\n \n").stderr == "carried out 0 lines\n"
        (tmp_path / "empty").write_text("")
        assert run("insert", "--file", str(tmp_path / "empty")).stderr == "carried out 0 lines\n"

    def test_a_file_that_is_not_there_is_named(self, run: Run, tmp_path: Path) -> None:
        assert str(tmp_path / "none") in refused(run("insert", "--file", str(tmp_path / "none")))

    def test_it_goes_on_across_a_restart_and_stores_every_record_once(self, tmp_path: Path) -> None:
        with ServerProcess(tmp_path / "data") as server:
            environment = {"BROKER_URL": server.url, "BROKER_TOKEN": server.token("ada")}
            with command("insert", "--file", "-", environment=environment, stdin=-1) as inserting:
                assert inserting.stdin is not None
                for n in range(1_001):
                    inserting.stdin.write(json.dumps({"event": "n", "data": n}) + "\n")
                server.stop(9)
                inserting.stdin.close()
                inserting.stdin = None
                server.start()
                _, told = inserting.communicate(timeout=BOUND_S)
            assert told == "carried out 1001 lines\n"
            with server.client("ada") as client:
                assert log(client, "n") == list(range(1_001))

    def test_a_server_that_stays_away_is_given_up(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batches, "_RETRY_S", 0.001)
        line = '{"event":"e","data":1}'
        sentence = refused(run("insert", "--file", "-", "--url", "http://127.0.0.1:1", stdin=line))
        assert "cannot reach http://127.0.0.1:1" in sentence
        assert "carried out before: 0 lines; standard input, line 1 and the rest were not" in sentence


def test_batches_are_limited_in_records_and_bytes() -> None:
    small = [Item(str(n), b"1") for n in range(2_500)]
    assert [len(batch) for batch in batches_of(small)] == [1_000, 1_000, 500]
    large = [Item(str(n), b"x" * size) for n, size in enumerate((400_000, 200_000, 900_000, 1))]
    assert [[item.name for item in batch] for batch in batches_of(large)] == [["0"], ["1"], ["2"], ["3"]]
    assert list(batches_of([])) == []


@pytest.mark.parametrize("line", ["", "{}", "[1]", "7", '{"cancel":"x"}', "{", '"{"', "[" * 5000])
def test_what_is_not_a_record_without_a_uuid_stays_as_it_is(line: str) -> None:
    assert with_uuid(line.encode()) == line.encode()


def test_a_uuid_that_is_null_is_one_that_is_missing() -> None:
    line = with_uuid(b' {"event":"a","uuid":null,"data":1.50} ')
    assert line.startswith(b' {"event":"a","uuid":null,"data":1.50,"uuid":"')
    assert json.loads(line)["uuid"]  # of two equal names the last counts, at the server as well


class TestRemove:
    def events(self, client: httpx.Client, prefix: str, count: int) -> None:
        content = b"\n".join(b'{"event":"%b/%d","data":1}' % (prefix.encode(), n) for n in range(count))
        headers = {"Content-Type": "application/x-ndjson"}
        assert client.post("/insert", content=content, headers=headers).status_code == 201

    def test_it_shows_what_it_would_remove_and_asks(self, run: Run, own_ada: httpx.Client) -> None:
        self.events(own_ada, "ask", 25)
        result = run("remove", "ask/*", stdin="n\n")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[:1] == ["ask/0"]
        assert "and 5 more\nremove 25 events? [y/N]" in result.stderr
        assert len(printed(run("snapshot", "ask/*"))) == 25
        removed = printed(run("remove", "ask/*", stdin="y\n"))
        assert [each["data"] for each in removed] == [None] * 25
        assert printed(run("snapshot", "ask/*")) == []
        assert printed(run("remove", "ask/*")) == []  # it does not ask about nothing

    def test_more_than_a_batch_is_removed(self, run: Run, own_ada: httpx.Client) -> None:
        for part in range(5):
            self.events(own_ada, f"many/{part}", 300)
        assert len(printed(run("remove", "many/*", "--yes"))) == 1_500
        assert printed(run("snapshot", "many/*")) == []

    def test_names_alone_are_removed(self, run: Run, own_ada: httpx.Client) -> None:
        self.events(own_ada, "names", 3)
        assert [each["event"] for each in printed(run("remove", "names/0", "names/2", "--yes"))] == [
            "names/0",
            "names/2",
        ]
        assert [each["event"] for each in printed(run("snapshot", "names/*"))] == ["names/1"]

    def test_nothing_is_removed_if_a_name_does_not_exist(self, run: Run, own_ada: httpx.Client) -> None:
        self.events(own_ada, "typed", 1)
        for names in (["typed/9"], ["typed/0", "typed/9"], ["typed/*", "typed/9"]):
            result = run("remove", *names, "--yes")
            assert (result.exit_code, result.stdout) == (1, "")
            assert "typed/9: there is no such event; nothing was removed" in result.stderr
        assert len(printed(run("snapshot", "typed/*"))) == 1

    def test_what_has_changed_while_it_asked_is_not_removed(
        self, run: Run, own_ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.events(own_ada, "race", 5)

        def confirm(*_: object, **__: object) -> bool:
            insert(own_ada, "race/1", b"2")
            insert(own_ada, "race/3", b"null")
            return True

        monkeypatch.setattr("click.confirm", confirm)
        result = run("remove", "race/*")
        assert result.exit_code == 1
        assert "2 of 5 events have changed meanwhile, and were not removed" in result.stderr
        assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == ["race/0", "race/2", "race/4"]
        assert log(own_ada, "race/1") == [1, 2]

    def test_it_needs_a_name_and_a_token(self, run: Run, own_ada: httpx.Client, tmp_path: Path) -> None:
        assert "Missing argument" in refused(run("remove"))
        self.events(own_ada, "token", 1)
        result = run("remove", "token/*", "--yes", BROKER_TOKEN="", BROKER_TOKEN_FILE=str(tmp_path / "none"))
        assert "broker login" in refused(result) or "(401)" in result.stderr
