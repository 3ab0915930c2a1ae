"""The operator's commands, on the files of a real server's log."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.errors import SettingsError
from broker.store.backup import backup
from broker.store.database import locked
from broker.store.transfer import import_log, read_head
from broker.store.verify import count, verify
from tests.servers import ServerProcess, open_stream, streaming, wait_for

LATER = 4_000_000_000


def broker(
    *arguments: object, stdin: bytes | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=before,
        # Coverage would write its file under the limits that ``before`` sets.
        env={name: value for name, value in os.environ.items() if not (before and name.startswith("COVERAGE"))},
    )


def told(done: subprocess.CompletedProcess[bytes], status: int = 0) -> str:
    assert done.returncode == status, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


def tamper(folder: Path, statement: str) -> None:
    database = sqlite3.connect(folder / "broker.db", isolation_level=None)
    assert database.execute(statement).rowcount > 0
    database.close()


def damage(file: Path, page: int) -> None:
    """Writes over a page of 4 KiB."""
    with file.open("r+b") as content:
        content.seek((page - 1) * 4096)
        content.write(b"\xff" * 4096)


def page_of(file: Path, table: str) -> int:
    database = sqlite3.connect(file)
    (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    database.close()
    return int(page)


def insert(client: httpx.Client, event: str, data: Any, **more: Any) -> dict[str, Any]:
    answer = client.post("/insert", json={"event": event, "data": data, **more})
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log that has records in every state; its server has stopped."""
    folder = tmp_path_factory.mktemp("log")
    with ServerProcess(folder) as server, server.client("ada") as client:
        for n in range(5):
            insert(client, "a", {"n": n})
        body = b'{"event":"a","data":{"number":1.50,"text":"\\u00fc"}}'
        client.post("/insert", content=body, headers={"Content-Type": "application/json"})
        insert(client, "b", "waits", timestamp=LATER)
        insert(client, "b", "goes out")
        insert(client, "only waits", "x" * 100, timestamp=LATER)
        insert(client, "c", "log only", published=True)
        client.post("/cancel/" + insert(client, "d", "cancelled", timestamp=LATER)["uuid"])
        half = b'{"event":"\xc3\xbc/e","data":"half a pair \\ud83d"}'
        assert client.post("/insert", content=half, headers={"Content-Type": "application/json"}).status_code == 201
        server.stop()
    return folder


@pytest.fixture(scope="module")
def exported(log: Path) -> bytes:
    return broker("export", "--data", log).stdout


@pytest.fixture
def copy(log: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(log, tmp_path / "copy"))


def test_verify_finds_nothing_wrong_in_a_log_that_is_right(log: Path) -> None:
    assert "12 records, no faults" in told(broker("verify", "--data", log))


@pytest.mark.parametrize(
    ("tampering", "complaint"),
    [
        ("DELETE FROM records WHERE number = 3", "records are missing before number: 4"),
        ("DELETE FROM publications WHERE position = 2", "positions are missing before: 3"),
        ("UPDATE publications SET position = 99 WHERE position = 8", "positions are missing before: 99"),
        ("UPDATE records SET data = '{\"n\":' WHERE number = 2", "record 2 cannot be read"),
        ("UPDATE records SET event = '$a' WHERE number = 2", "record 2 cannot be read"),
        ("UPDATE records SET data = data || ' ' WHERE number = 6", "latest has another length"),
        ("UPDATE records SET data = data || ' ' WHERE number = 2", "the sum of bytes is wrong at position: 2"),
        ("INSERT INTO cancellations VALUES (1, 'eve', 1)", "published and cancelled: 1"),
        ("INSERT INTO cancellations VALUES (10, 'eve', 1)", "log-only record is published or cancelled: 10"),
        ("DELETE FROM cancellations", "neither published, cancelled, log-only nor waiting"),
        ("DELETE FROM pending WHERE number = 7", "neither published, cancelled, log-only nor waiting: 7"),
        ("UPDATE pending SET due_us = due_us + 1 WHERE number = 7", "waits for another time than its own"),
        ("INSERT INTO pending SELECT due_us, number FROM records WHERE number = 1", "waits that was published"),
        ("UPDATE publications SET published_us = published_us - 1 WHERE number = 4", "before its time: 4"),
        ("UPDATE events SET position = 1 WHERE event = 'a'", "latest is not its record with the highest position: a"),
        ("UPDATE events SET pending = 5 WHERE event = 'b'", "another number of waiting records than it says: b"),
        ("DELETE FROM events WHERE event = 'ü/e'", "an event has records that go out, and no row: ü/e"),
        ("UPDATE epochs SET ended = 1", "not exactly one current epoch"),
        ("INSERT INTO epochs VALUES ('0000aaaa', 999)", "an epoch ended beyond the head: 0000aaaa"),
        ("UPDATE state SET head = head + 1", "the counters of the log are wrong"),
        ("UPDATE state SET reserved_bytes = 0", "the counters of the log are wrong"),
        ("DELETE FROM state", "not exactly one row of counters"),
        ("UPDATE records SET timestamp = 'banana' WHERE number = 7", "record 7 cannot be read: timestamp"),
        ("UPDATE records SET timestamp = '4_000_000_000' WHERE number = 7", "record 7 cannot be read: timestamp"),
        ("UPDATE records SET timestamp = '4000000001' WHERE number = 7", "record 7 cannot be read: timestamp"),
        ("UPDATE records SET due_us = due_us + 1 WHERE number = 1", "record 1 cannot be read: timestamp"),
        ("UPDATE records SET user = 'a b' WHERE number = 1", "record 1 cannot be read: username"),
        ("UPDATE cancellations SET user = ''", "record 11 cannot be read: username"),
        ("UPDATE records SET uuid = x'00' WHERE number = 1", "record 1 cannot be read"),
        ("UPDATE records SET event = CAST(x'ff' AS TEXT) WHERE number = 10", "record 10 cannot be read: event"),
        ("UPDATE users SET username = 'a b'", "cannot be used: username"),
        ("UPDATE users SET username_key = 'eve'", "cannot be used: username_key"),
        ("UPDATE users SET password_hash = 'plain'", "cannot be used: password_hash"),
        ("UPDATE users SET password_hash = password_hash || '!'", "cannot be used: password_hash"),
    ],
)  # fmt: skip
def test_verify_complains_of_a_log_that_was_tampered_with(copy: Path, tampering: str, complaint: str) -> None:
    tamper(copy, tampering)
    assert complaint in "\n".join(map(str, verify(copy / "broker.db", lambda _: None)))


def test_verify_prints_the_faults_and_counts_them(copy: Path) -> None:
    tamper(copy, "UPDATE records SET event = CAST(x'24ff' AS TEXT) WHERE number = 10")
    done = broker("verify", "--data", copy)
    assert (
        done.stdout == b"record 10 cannot be read: event: the name has a control character (or half a surrogate "
        b"pair); take it out\n"
    )
    assert "12 records, 1 fault\n" in told(done, 1)


def test_verify_tells_of_a_file_that_is_damaged(copy: Path) -> None:
    damage(copy / "broker.db", 3)
    done = broker("verify", "--data", copy)
    assert done.returncode == 1
    assert b"damaged" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


def test_verify_whose_reader_goes_away_still_says_that_there_are_faults(copy: Path) -> None:
    tamper(copy, "UPDATE records SET user = 'a b'")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "broker", "verify", "--data", str(copy)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("command", ["backup", "verify", "export"])
@pytest.mark.parametrize("content", [b"", b"a file of another kind" * 1000, "another database"])
def test_a_file_that_is_no_log_is_called_that_and_no_restore_is_advised(
    tmp_path: Path, command: str, content: bytes | str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "broker.db").write_bytes(content)
    else:
        database = sqlite3.connect(tmp_path / "broker.db")
        database.execute("CREATE TABLE records (number)")
        database.close()
    arguments = [tmp_path / "new.db"] if command == "backup" else []
    complaint = told(broker(command, *arguments, "--data", tmp_path), 1)
    assert "is no log of Broker" in complaint
    assert "restore" not in complaint
    assert not list(tmp_path.glob("new*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's file can be tried as root only")
def test_a_file_that_may_not_be_read_is_called_that_and_no_restore_is_advised(copy: Path) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(SettingsError, match=r"no permission to read .* as the user that Broker runs as") as refusal:
            count(copy / "broker.db")
    finally:
        os.seteuid(0)
    assert "restore" not in str(refusal.value)


def test_what_is_exported_is_imported_the_same(log: Path, exported: bytes, tmp_path: Path) -> None:
    assert "12 records and 1 user, in" in told(broker("import", "--data", tmp_path, stdin=exported))
    assert "12 records, no faults" in told(broker("verify", "--data", tmp_path))
    again = broker("export", "--data", tmp_path).stdout
    head, *lines = exported.splitlines()
    new_head, *new_lines = again.splitlines()
    assert new_lines == lines
    (epoch, ended), (_, current) = json.loads(new_head)["epochs"].items()
    assert ({epoch: None}, ended, current) == (json.loads(head)["epochs"], 8, None)


def test_every_derived_row_is_the_same_after_an_import(log: Path, exported: bytes, tmp_path: Path) -> None:
    read_in(tmp_path, exported)
    for table in ("records", "publications", "cancellations", "pending", "events", "state", "users"):
        before, after = (
            sqlite3.connect(folder / "broker.db").execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for folder in (log, tmp_path)
        )
        assert after == before, table


def changed(number: int, **fields: Any) -> Callable[[list[bytes]], list[bytes]]:
    """Replaces fields in line ``number`` (the first is 1)."""

    def change(lines: list[bytes]) -> list[bytes]:
        line = json.dumps(json.loads(lines[number - 1]) | fields).encode()
        return [*lines[: number - 1], line, *lines[number:]]

    return change


# The head is line 1, the user line 2, and record n line n + 2; 7 waits, 10 is log-only, 11 is cancelled.
BAD_IMPORTS: dict[str, tuple[Any, str]] = {
    "cut short": (lambda lines: lines[:-1], "after 11 of 12 records: it is cut short"),
    "no users": (lambda lines: lines[:1], "after 0 of 1 users: it is cut short"),
    "empty": (lambda lines: [], "the end of the file"),
    "a strange line": (lambda lines: [*lines[:4], b"{}", *lines[4:]], "line 5: "),
    "no JSON": (lambda lines: [*lines[:4], b"{", *lines[4:]], "line 5: it is not JSON"),
    "newer": (changed(1, broker=9), "line 1: this Broker reads format 1, and this is 9"),
    "an epoch": (changed(1, epochs={"x": None}), "line 1: "),
    "an epoch beyond the head": (changed(1, epochs={"0000aaaa": 99, "0000bbbb": None}), "beyond the head: 0000aaaa"),
    "no current epoch": (changed(1, epochs={}), "not exactly one current epoch"),
    "a record twice": (lambda lines: [*lines[:4], lines[3], *lines[4:]], "line 5: number: 2 in place of 3"),
    "a gap in the numbers": (lambda lines: [*lines[:4], *lines[5:]], "line 5: number: 4 in place of 3"),
    "one too many": (changed(1, records=11), "line 14: one line too many"),
    "a name": (changed(4, event="$b"), "line 4: event: "),
    "a timestamp": (changed(9, timestamp="banana"), "line 9: timestamp: "),
    "another timestamp": (changed(9, timestamp="5"), "line 9: timestamp: 5 is 5000000 in microseconds"),
    "a huge time": (changed(9, due_us=2**70), "line 9: due_us: "),
    "before its time": (changed(3, published_us=1), "line 3: published_us: 1 is before due_us"),
    "published and cancelled": (changed(3, cancelled_by="eve", cancelled_us=1), "line 3: a record is one of"),
    "log-only and cancelled": (changed(12, cancelled_by="eve", cancelled_us=1), "line 12: a record is one of"),
    "published never": (changed(3, published_us=None), "line 3: position and published_us"),
    "cancelled by nobody": (changed(13, cancelled_by=None), "line 13: cancelled_by and cancelled_us"),
    "cancelled by a bad name": (changed(13, cancelled_by="a b"), "line 13: username: "),
    "a gap in the positions": (changed(14, position=99), "positions are missing before: 99"),
    "a position twice": (changed(4, position=1), "line 4: another line has the same published.position"),
    "a user": (changed(2, user="a b"), "line 2: username: "),
    "a user's id": (changed(2, id="x"), "line 2: uuid: "),
    "a password": (changed(2, password_hash="plain"), "line 2: password_hash: this is no Argon2 hash"),
    "deep data": (changed(4, data=json.loads("[" * 256 + "]" * 256)), "line 4: the JSON is nested more than"),
}


def read_in(folder: Path, content: bytes) -> None:
    lines = iter(io.BytesIO(content))
    import_log(folder / "broker.db", read_head(lines), lines, lambda _: None)


@pytest.mark.parametrize("case", BAD_IMPORTS)
def test_a_bad_import_stores_nothing_and_names_the_line(exported: bytes, tmp_path: Path, case: str) -> None:
    change, complaint = BAD_IMPORTS[case]
    with pytest.raises(SettingsError, match=re.escape(complaint)):
        read_in(tmp_path, b"\n".join(change(exported.splitlines())))
    read_in(tmp_path, exported)


def test_an_import_names_the_line_of_a_uuid_that_is_there_twice(exported: bytes, tmp_path: Path) -> None:
    lines = exported.splitlines()
    content = b"\n".join(changed(5, uuid=json.loads(lines[2])["uuid"])(lines))
    complaint = told(broker("import", "--data", tmp_path, stdin=content), 1)
    assert complaint == "Error: line 5: another line has the same records.uuid already; nothing was stored\n"


def test_blank_lines_in_an_import_are_nothing_and_white_space_in_data_goes(exported: bytes, tmp_path: Path) -> None:
    spaced = exported.replace(b'"data":', b'"data":\r ').replace(b"\n", b"\r\n\n") + b"\n"
    read_in(tmp_path, spaced)
    assert broker("export", "--data", tmp_path).stdout.splitlines()[1:] == exported.splitlines()[1:]


def test_import_and_restore_are_refused_while_a_server_runs_on_the_folder(
    log: Path, exported: bytes, tmp_path: Path
) -> None:
    told(broker("backup", tmp_path / "copy.db", "--data", log))
    with ServerProcess(tmp_path / "data"):
        assert "another Broker works on" in told(broker("import", "--data", tmp_path / "data", stdin=exported), 1)
        for file in (tmp_path / "data").glob("broker.db*"):
            file.rename(tmp_path / file.name)
        copy = tmp_path / "copy.db"
        assert "another Broker works on" in told(broker("restore", copy, "--data", tmp_path / "data"), 1)
        assert not list((tmp_path / "data").glob("broker.db*"))


def test_an_import_or_restore_that_is_under_way_refuses_another(exported: bytes, tmp_path: Path) -> None:
    with locked(tmp_path / "broker.db"):
        assert "another Broker works on" in told(broker("import", "--data", tmp_path, stdin=exported), 1)
    assert "the files belong to" in told(broker("import", "--data", tmp_path, stdin=exported))


def test_an_import_is_not_mixed_into_a_log_that_has_something(exported: bytes, copy: Path) -> None:
    assert "is not empty" in told(broker("import", "--data", copy, stdin=exported), 1)


def test_a_backup_while_inserts_go_on_is_of_one_moment_and_nothing_waits(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as client:
        for _ in range(20):  # 18 MB: five steps
            insert(client, "large", "x" * 900_000)
        stop = threading.Event()
        acknowledged: list[int] = []

        def inserts() -> None:
            while not stop.is_set():
                insert(client, "a", len(acknowledged))
                acknowledged.append(len(acknowledged))

        steps: list[int] = []  # how many were acknowledged after each

        def step(done: int, total: int) -> None:
            seen = len(acknowledged)
            wait_for(lambda: len(acknowledged) > seen + 1, what="an insert between two steps")
            steps.append(len(acknowledged))

        thread = threading.Thread(target=inserts)
        thread.start()
        try:
            wait_for(lambda: acknowledged)
            before = len(acknowledged)
            records = backup(tmp_path / "data" / "broker.db", tmp_path / "copy.db", step)
        finally:
            stop.set()
            thread.join()
        server.stop()
    assert len(steps) >= 5
    assert before <= records - 20 <= steps[0]  # what came between the steps is not in it
    assert f"{records} records, no faults" in told(broker("verify", tmp_path / "copy.db"))
    assert f"{20 + len(acknowledged)} records, no faults" in told(broker("verify", "--data", tmp_path / "data"))
    assert not list(tmp_path.glob("*.part*"))
    assert (tmp_path / "copy.db").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("table", ["publications", "records", "records_of_event", "users", "state", "the first page"])
def test_a_damaged_log_is_not_backed_up_and_a_damaged_backup_is_not_restored(
    log: Path, copy: Path, tmp_path: Path, table: str
) -> None:
    backup(log / "broker.db", tmp_path / "good.db", lambda done, total: None)
    shutil.copy(tmp_path / "good.db", tmp_path / "bad.db")
    for file in (copy / "broker.db", tmp_path / "bad.db"):
        damage(file, 1 if table == "the first page" else page_of(file, table))
    refusal = told(broker("backup", tmp_path / "new.db", "--data", copy), 1)
    assert "is no log of Broker (or its beginning" in refusal or "is damaged: " in refusal
    assert ("no backup was made" in refusal) == (table != "the first page")
    assert not list(tmp_path.glob("new.db*"))
    refusal = told(broker("restore", tmp_path / "bad.db", "--data", tmp_path / "restored"), 1)
    assert "older backup" in refusal or table == "the first page"
    assert not list(tmp_path.glob("restored/broker.db*"))


def test_a_backup_that_cannot_be_written_says_why_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    assert "there is no folder" in told(broker("backup", tmp_path / "none" / "x.db", "--data", log), 1)

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # enough for SQLite's other files

    assert "cannot write" in told(broker("backup", tmp_path / "x.db", "--data", log, before=bound), 1)
    assert not list(tmp_path.iterdir())


def test_an_export_makes_a_new_private_file_or_none(copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.ndjson"
    told(broker("export", file, "--data", copy))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == broker("export", "--data", copy).stdout
    assert "is there already" in told(broker("export", file, "--data", copy), 1)
    assert "is there already" in told(broker("export", "/dev/full", "--data", copy), 1)
    tamper(copy, f"UPDATE records SET data = '\"{'x' * 100_000}\"' WHERE number = 5")

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = broker("export", tmp_path / "more.ndjson", "--data", copy, before=bound)
    assert told(done, 1) == f"Error: cannot write {tmp_path / 'more.ndjson'}: File too large\n"
    tamper(copy, "UPDATE records SET uuid = x'00' WHERE number = 5")
    done = broker("export", tmp_path / "more.ndjson", "--data", copy)
    assert "record 5 cannot be read" in told(done, 1)
    assert not list(tmp_path.glob("more*"))


def test_an_export_to_a_full_disk_is_one_line_and_to_head_is_quiet(log: Path) -> None:
    command = [sys.executable, "-m", "broker", "export", "--data", str(log)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"Error: cannot read or write: No space left on device\n")
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"Error: standard output is closed; give the name of a FILE\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_after_a_restore_an_id_of_the_lost_tail_is_reset_and_an_older_one_resumes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as client:
        kept = insert(client, "a", "kept")
        second = insert(client, "a", "kept, too")
        told(broker("backup", tmp_path / "copy.db", "--data", tmp_path / "data"))
        lost = insert(client, "a", "lost")
        server.stop()
    assert "move it away" in told(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "data"), 1)
    done = broker("restore", tmp_path / "copy.db", "--data", tmp_path / "restored")
    assert "2 records, in a new epoch; the files belong to" in told(done)
    with ServerProcess(tmp_path / "restored") as server, server.client("ada") as client:
        new = insert(client, "a", "another third")
        assert new["id"].split("-")[1] == lost["id"].split("-")[1]
        with streaming(server, last_id=lost["id"]) as reader:
            assert reader.wait("$ready")[0].event == "$reset"
        reader = open_stream(server, last_id=kept["id"])
        frames = reader.wait("$ready")
        reader.close()
        assert [(frame.event, json.loads(frame.data)) for frame in frames[:-1]] == [
            ("a", "kept, too"),
            ("a", "another third"),
        ]
        assert second["data"] == "kept, too"


@pytest.mark.parametrize("command", ["backup", "restore", "verify", "export"])
def test_without_a_log_they_say_which_file_they_miss(tmp_path: Path, command: str) -> None:
    arguments = {"backup": [tmp_path / "new"], "restore": [tmp_path / "none"]}.get(command, [])
    assert "is not there" in told(broker(command, *arguments, "--data", tmp_path / "empty"), 1)
