"""The operator's commands, on the files of a real server's log."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from broker.errors import SettingsError
from broker.operations.backup import backup
from broker.operations.verify import count, verify
from tests.support.operators import LATER, broker, insert, stderr_of, tamper
from tests.support.servers import ServerProcess, open_stream, streaming, wait_for


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


def test_verify_finds_nothing_wrong_in_a_log_that_is_right(log: Path) -> None:
    assert "12 records, no faults" in stderr_of(broker("verify", "--data", log))


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
        ("INSERT INTO cancellations VALUES (1, 'eve', 1, NULL)", "published and cancelled: 1"),
        ("INSERT INTO cancellations VALUES (10, 'eve', 1, NULL)", "log-only record is published or cancelled: 10"),
        ("DELETE FROM cancellations", "neither published, cancelled, log-only nor pending"),
        ("DELETE FROM pending WHERE number = 7", "neither published, cancelled, log-only nor pending: 7"),
        ("UPDATE pending SET due_us = due_us + 1 WHERE number = 7", "has another due time than the record says"),
        ("INSERT INTO pending SELECT due_us, 1, event, 0 FROM records WHERE number = 1", "pending that was published"),
        ("UPDATE publications SET published_us = published_us - 1 WHERE number = 4", "before its time: 4"),
        ("UPDATE events SET position = 1 WHERE event = 'a'", "of its records that changed its state: a"),
        ("UPDATE events SET pending = 5 WHERE event = 'b'", "another number of pending records than it says: b"),
        ("DELETE FROM events WHERE event = 'ü/e'", "pending records, but no row in the table events: ü/e"),
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
        ("UPDATE cancellations SET user = '?'", "record 11 cannot be read: username"),
        ("UPDATE records SET uuid = x'00' WHERE number = 1", "record 1 cannot be read"),
        ("UPDATE records SET event = CAST(x'ff' AS TEXT) WHERE number = 10", "record 10 cannot be read: event"),
        ("UPDATE users SET username = 'a b'", "cannot be used: username"),
        ("UPDATE users SET username_key = 'eve'", "cannot be used: username_key"),
        ("UPDATE users SET password_hash = 'plain'", "cannot be used: password_hash"),
        ("UPDATE users SET password_hash = password_hash || '!'", "cannot be used: password_hash"),
        ("UPDATE state SET total_bytes = total_bytes + 1", "the counters of the log are wrong"),
        ("INSERT INTO events VALUES ('ghost', NULL, 0, 0, 0, 0, NULL, 0, '')", "a latest nor a pending record: ghost"),
        ("UPDATE events SET bytes = 1 WHERE event = 'only waits'", "another length than it says: only waits"),
        ("UPDATE events SET reserved = 99 WHERE event = 'a'", "another number of bytes than its records may need: a"),
        ("UPDATE events SET reserved = 7 WHERE event = 'b'", "another number of bytes than its records may need: b"),
        ("UPDATE events SET reserved = 1000 WHERE event = 'b'", "another number of bytes than its records may need: b"),
        ("UPDATE epochs SET epoch = 'banana'", "an epoch is not 8 hexadecimal digits: banana"),
        ("UPDATE epochs SET epoch = upper('abcdef01')", "an epoch is not 8 hexadecimal digits: ABCDEF01"),
        ("UPDATE epochs SET epoch = epoch || char(0)", "an epoch is not 8 hexadecimal digits"),
        ("INSERT INTO epochs VALUES ('0000aaaa', -1)", "an epoch ended at what is no position: 0000aaaa"),
        ("INSERT INTO epochs VALUES ('0000aaaa', 'x')", "an epoch ended at what is no position: 0000aaaa"),
        ("UPDATE cancellations SET cancelled_us = 4000000000000000", "cancelled when it was due already: 11"),
        ("UPDATE records SET log_only = 2 WHERE number = 10", "log_only of a record is neither 0 nor 1: 10"),
        ("UPDATE users SET info = '{'", "cannot be used: info"),
        ("DROP INDEX records_of_event", "the schema lacks (a part of) the index: records_of_event (event, number)"),
        ("PRAGMA user_version = 0", "the schema's version is none that this Broker knows (1 to 7): 0"),
        ("INSERT INTO checkpoints VALUES (2, 1, 0, '[1]')", "checkpoint is not the state of the log at its position"),
        ("INSERT INTO checkpoints VALUES (2, 2, 0, '[')", "the checkpoint 2 cannot be read"),
    ],
)  # fmt: skip
def test_verify_complains_of_a_log_that_was_tampered_with(copy: Path, tampering: str, complaint: str) -> None:
    tamper(copy, tampering)
    assert complaint in "\n".join(map(str, verify(copy / "broker.db", lambda _: None)))


@pytest.mark.parametrize("command", ["backup", "export", "verify", "restore", "move", "serve"])
def test_a_log_of_a_newer_broker_is_refused_by_all_that_reads_it(copy: Path, tmp_path: Path, command: str) -> None:
    """What this one does not know of would be missing from a copy, and nobody would be told."""
    tamper(copy, "PRAGMA user_version = 99")
    arguments = {
        "backup": [tmp_path / "new.db", "--data", copy],
        "export": [tmp_path / "new.ndjson", "--data", copy],
        "restore": [copy / "broker.db", "--data", tmp_path / "new"],
        "move": ["--from", copy, "--to", tmp_path / "new"],
    }.get(command, ["--data", copy, *(["--port", 0] if command == "serve" else [])])
    status = stderr_of(broker(command, *arguments), 1)
    assert "was written by a newer Broker (schema 99, this one knows" in status
    assert not [each for each in tmp_path.glob("new*") if each.is_file() or list(each.iterdir())]


def test_what_a_cancelled_record_reserved_is_given_back_and_verify_takes_a_column_and_an_index_more(
    tmp_path: Path,
) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        large = insert(client, "a", "x" * 100, timestamp=LATER)
        insert(client, "a", "waits", timestamp=LATER)
        client.post("/cancel/" + large["uuid"])
        insert(client, "a", "goes out")
        server.stop()
    tamper(tmp_path, "ALTER TABLE users ADD COLUMN more")
    tamper(tmp_path, "CREATE INDEX users_of_time ON users (created_us)")
    database = sqlite3.connect(tmp_path / "broker.db")
    assert database.execute("SELECT bytes, pending, reserved FROM events").fetchall() == [(10, 1, 10)]
    database.close()
    assert list(verify(tmp_path / "broker.db", lambda _: None)) == []


@pytest.mark.parametrize("table", ["records", "cancellations", "epochs"])
def test_verify_refuses_a_log_without_one_of_its_tables(copy: Path, table: str) -> None:
    tamper(copy, f"DROP TABLE {table}")
    assert f"it has no table '{table}'" in stderr_of(broker("verify", "--data", copy), 1)


def test_verify_tells_of_a_table_that_lacks_a_column(copy: Path) -> None:
    tamper(copy, "ALTER TABLE users DROP COLUMN disabled")
    found = list(map(str, verify(copy / "broker.db", lambda _: None)))
    assert found == ["the schema lacks (a part of) the table: users (disabled)"]


def test_verify_prints_the_faults_and_counts_them(copy: Path) -> None:
    tamper(copy, "UPDATE records SET event = CAST(x'24ff' AS TEXT) WHERE number = 10")
    done = broker("verify", "--data", copy)
    assert (
        done.stdout == b"record 10 cannot be read: event: the name has a control character (or half a surrogate "
        b"pair); take it out\n"
    )
    assert "12 records, 1 fault\n" in stderr_of(done, 1)


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
    complaint = stderr_of(broker(command, *arguments, "--data", tmp_path), 1)
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
    assert f"{records} records, no faults" in stderr_of(broker("verify", tmp_path / "copy.db"))
    assert f"{20 + len(acknowledged)} records, no faults" in stderr_of(broker("verify", "--data", tmp_path / "data"))
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
    refusal = stderr_of(broker("backup", tmp_path / "new.db", "--data", copy), 1)
    assert "is no log of Broker (or its beginning" in refusal or "is damaged: " in refusal
    assert ("no backup was made" in refusal) == (table != "the first page")
    assert not list(tmp_path.glob("new.db*"))
    refusal = stderr_of(broker("restore", tmp_path / "bad.db", "--data", tmp_path / "restored"), 1)
    assert "older backup" in refusal or table == "the first page"
    assert not list(tmp_path.glob("restored/broker.db*"))


def test_a_backup_that_cannot_be_written_says_why_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    assert "there is no folder" in stderr_of(broker("backup", tmp_path / "none" / "x.db", "--data", log), 1)

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # enough for SQLite's other files

    assert "cannot write" in stderr_of(broker("backup", tmp_path / "x.db", "--data", log, before=bound), 1)
    assert not list(tmp_path.iterdir())


def test_after_a_restore_an_id_of_the_lost_tail_is_reset_and_an_older_one_resumes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server, server.client("ada") as client:
        kept = insert(client, "a", "kept")
        second = insert(client, "a", "kept, too")
        stderr_of(broker("backup", tmp_path / "copy.db", "--data", tmp_path / "data"))
        lost = insert(client, "a", "lost")
        server.stop()
    assert "move it away" in stderr_of(broker("restore", tmp_path / "copy.db", "--data", tmp_path / "data"), 1)
    done = broker("restore", tmp_path / "copy.db", "--data", tmp_path / "restored")
    assert "2 records, in a new epoch; the files belong to" in stderr_of(done)
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
    assert "is not there" in stderr_of(broker(command, *arguments, "--data", tmp_path / "empty"), 1)


def test_the_commands_find_the_folder_that_the_servers_settings_file_names(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(f'data = "{log}"\nport = 0\n')
    new = tmp_path / "new.toml"
    new.write_text(f'data = "{tmp_path / "restored"}"\n')
    backup = tmp_path / "backup.db"
    assert "12 records" in stderr_of(broker("backup", backup, "--config", config))
    assert f"{log / 'broker.db'}: 12 records, no faults" in stderr_of(broker("verify", "--config", config))
    assert broker("export", "--config", config).stdout.count(b"\n") == 14
    assert f"{tmp_path / 'restored' / 'broker.db'}: 12 records" in stderr_of(broker("restore", backup, "--config", new))
    # What is typed counts first.
    assert f"{log / 'broker.db'}: " in stderr_of(broker("verify", "--config", new, "--data", log))
    monkeypatch.setenv("BROKER_CONFIG", str(config))
    assert f"{log / 'broker.db'}: " in stderr_of(broker("verify"))
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "restored"))  # a variable counts before the file
    assert f"{tmp_path / 'restored' / 'broker.db'}: " in stderr_of(broker("verify"))
    monkeypatch.delenv("BROKER_DATA")
    new.write_text("data = 3\n")
    assert f"data ({new}, line 1): " in stderr_of(broker("import", "--config", new, stdin=b""), 1)
