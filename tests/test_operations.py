"""The operator's commands, on the files of a real server's log."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ServerProcess, open_stream, streaming

LATER = 4_000_000_000


def broker(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def told(done: subprocess.CompletedProcess[bytes], status: int = 0) -> str:
    assert done.returncode == status, done.stderr.decode()
    return done.stderr.decode()


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
        insert(client, "ü/e", [1, 2])
        server.stop()
    return folder


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
    ],
)  # fmt: skip
def test_verify_complains_of_a_log_that_was_tampered_with(copy: Path, tampering: str, complaint: str) -> None:
    database = sqlite3.connect(copy / "broker.db", isolation_level=None)
    assert database.execute(tampering).rowcount > 0
    database.close()
    done = broker("verify", "--data", copy)
    assert complaint in done.stdout.decode()
    assert "fault" in told(done, 1)


def test_verify_tells_of_a_file_that_is_damaged(copy: Path) -> None:
    file = copy / "broker.db"
    content = file.read_bytes()
    file.write_bytes(content[:8192] + b"\xff" * 4096 + content[12288:])
    done = broker("verify", "--data", copy)
    assert done.returncode == 1
    assert b"damaged" in done.stdout or b"cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_is_exported_is_imported_the_same(log: Path, tmp_path: Path) -> None:
    exported = broker("export", "--data", log).stdout
    assert "12 records and 1 users" in told(broker("import", "--data", tmp_path, stdin=exported))
    assert "12 records, no faults" in told(broker("verify", "--data", tmp_path))
    again = broker("export", "--data", tmp_path).stdout
    head, *lines = exported.splitlines()
    new_head, *new_lines = again.splitlines()
    assert new_lines == lines
    (epoch, ended), (_, current) = json.loads(new_head)["epochs"].items()
    assert ({epoch: None}, ended, current) == (json.loads(head)["epochs"], 8, None)


def test_every_derived_row_is_the_same_after_an_import(log: Path, tmp_path: Path) -> None:
    told(broker("import", "--data", tmp_path, stdin=broker("export", "--data", log).stdout))
    for table in ("records", "publications", "cancellations", "pending", "events", "state", "users"):
        before, after = (
            sqlite3.connect(folder / "broker.db").execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for folder in (log, tmp_path)
        )
        assert after == before, table


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda lines: lines[:-1], "cut short"),
        (lambda lines: lines[:1], "the end of the file"),
        (lambda lines: [], "the end of the file"),
        (lambda lines: [*lines[:4], b"{}", *lines[4:]], "line 5"),
        (lambda lines: [lines[0].replace(b'"broker":1', b'"broker":9'), *lines[1:]], "format 1, and this is 9"),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], "UNIQUE"),
        (lambda lines: [line.replace(b'"event":"b"', b'"event":"$b"') for line in lines], "event"),
    ],
    ids=["cut short", "no users", "empty", "a strange line", "newer", "a record twice", "a bad name"],
)
def test_a_bad_import_stores_nothing_and_names_the_line(log: Path, tmp_path: Path, change: Any, complaint: str) -> None:
    lines = broker("export", "--data", log).stdout.splitlines()
    assert complaint in told(broker("import", "--data", tmp_path, stdin=b"\n".join(change(lines))), 1)
    told(broker("import", "--data", tmp_path, stdin=b"\n".join(lines)))


def test_an_import_is_not_mixed_into_a_log_that_has_something(log: Path, copy: Path) -> None:
    assert "is not empty" in told(broker("import", "--data", copy, stdin=broker("export", "--data", log).stdout), 1)


def test_a_backup_while_inserts_go_on_is_of_one_moment_and_nothing_waits(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as client:
        stop = threading.Event()
        inserted: list[int] = []

        def inserts() -> None:
            while not stop.is_set():
                insert(client, "a", len(inserted))
                inserted.append(len(inserted))

        thread = threading.Thread(target=inserts)
        thread.start()
        try:
            before = len(inserted)
            for n in range(3):
                told(broker("backup", tmp_path / f"{n}.db", "--data", tmp_path / "data"))
        finally:
            stop.set()
            thread.join()
        assert len(inserted) > before
    for n in range(3):
        assert "no faults" in told(broker("verify", tmp_path / f"{n}.db"))
    assert not list(tmp_path.glob("*.part*"))
    assert (tmp_path / "0.db").stat().st_mode & 0o77 == 0


def test_after_a_restore_an_id_of_the_lost_tail_is_reset_and_an_older_one_resumes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as client:
        kept = insert(client, "a", "kept")
        second = insert(client, "a", "kept, too")
        told(broker("backup", tmp_path / "copy.db", "--data", tmp_path / "data"))
        lost = insert(client, "a", "lost")
        server.stop()
    assert "move it away" in told(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "data"), 1)
    told(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "restored"))
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
