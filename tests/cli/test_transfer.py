"""``broker export`` and ``broker import``, on the log of a real server."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.errors import SettingsError
from broker.operations.export import import_log, read_head
from broker.store.sqlite.file import locked
from tests.support.operators import broker, insert_state, stderr_of, tamper
from tests.support.servers import ServerProcess


@pytest.fixture(scope="module")
def exported(log: Path) -> bytes:
    return broker("export", "--data", log).stdout


def test_what_is_exported_is_imported_the_same(log: Path, exported: bytes, tmp_path: Path) -> None:
    assert "12 records and 1 user, in" in stderr_of(broker("import", "--data", tmp_path, stdin=exported))
    assert "12 records, no faults" in stderr_of(broker("verify", "--data", tmp_path))
    again = broker("export", "--data", tmp_path).stdout
    head, *lines = exported.splitlines()
    new_head, *new_lines = again.splitlines()
    assert new_lines == lines
    (epoch, ended), (_, current) = json.loads(new_head)["epochs"].items()
    assert ({epoch: None}, ended, current) == (json.loads(head)["epochs"], 8, None)


def test_every_derived_row_is_the_same_after_an_import(log: Path, exported: bytes, tmp_path: Path) -> None:
    read_in(tmp_path, exported)
    tables = ("records", "publications", "cancellations", "endings", "pending", "events", "state", "users", "usage")
    for table in tables:
        before, after = (
            sqlite3.connect(folder / "broker.db").execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for folder in (log, tmp_path)
        )
        if table == "users":  # without the sessions, which end with the server that has made their tokens
            before = [(*row[:-1], "[]") for row in before]
        assert after == before, table


def test_removals_and_endings_are_exported_and_imported_the_same(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "first") as server, server.client("ada") as client:
        insert_state(client)
        server.stop()
    folders = [tmp_path / "first", tmp_path / "second", tmp_path / "third"]
    exports: list[list[bytes]] = []
    for folder, target in itertools.pairwise(folders):
        exports.append(broker("export", "--data", folder).stdout.splitlines())
        assert "5 records and 1 user, in" in stderr_of(
            broker("import", "--data", target, stdin=b"\n".join(exports[-1]))
        )
        assert "5 records, no faults" in stderr_of(broker("verify", "--data", target))
    assert exports[0][1:] == exports[1][1:]
    lines = [json.loads(line) for line in exports[0]]
    assert lines[0]["broker"] == 4
    assert [line["data"] for line in lines[2:]] == [1, None, 2, 3, None]
    assert [line["until"] is not None for line in lines[2:]] == [False, False, True, True, False]
    assert [line["ends"] for line in lines[2:]] == [None, None, None, None, lines[4]["uuid"]]
    assert lines[6]["by"] == "ada"


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
    "newer": (changed(1, broker=9), "line 1: this Broker reads the formats 1 to 4, and this is 9"),
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
    complaint = stderr_of(broker("import", "--data", tmp_path, stdin=content), 1)
    assert complaint == "Error: line 5: another line has the same records.uuid already; nothing was stored\n"


def test_blank_lines_in_an_import_are_nothing_and_white_space_in_data_goes(exported: bytes, tmp_path: Path) -> None:
    spaced = exported.replace(b'"data":', b'"data":\r ').replace(b"\n", b"\r\n\n") + b"\n"
    read_in(tmp_path, spaced)
    assert broker("export", "--data", tmp_path).stdout.splitlines()[1:] == exported.splitlines()[1:]


def test_import_and_restore_are_refused_while_a_server_runs_on_the_folder(
    log: Path, exported: bytes, tmp_path: Path
) -> None:
    stderr_of(broker("backup", tmp_path / "copy.db", "--data", log))
    with ServerProcess(tmp_path / "data"):
        assert "another Broker works on" in stderr_of(broker("import", "--data", tmp_path / "data", stdin=exported), 1)
        for file in (tmp_path / "data").glob("broker.db*"):
            file.rename(tmp_path / file.name)
        copy = tmp_path / "copy.db"
        assert "another Broker works on" in stderr_of(broker("restore", copy, "--data", tmp_path / "data"), 1)
        assert not list((tmp_path / "data").glob("broker.db*"))


def test_an_import_or_restore_that_is_under_way_refuses_another(exported: bytes, tmp_path: Path) -> None:
    with locked(tmp_path / "broker.db"):
        assert "another Broker works on" in stderr_of(broker("import", "--data", tmp_path, stdin=exported), 1)
    assert "the files belong to" in stderr_of(broker("import", "--data", tmp_path, stdin=exported))


def test_an_import_is_not_mixed_into_a_log_that_has_something(exported: bytes, copy: Path) -> None:
    assert "is not empty" in stderr_of(broker("import", "--data", copy, stdin=exported), 1)


def test_an_export_makes_a_new_private_file_or_none(copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.ndjson"
    stderr_of(broker("export", file, "--data", copy))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == broker("export", "--data", copy).stdout
    assert "is there already" in stderr_of(broker("export", file, "--data", copy), 1)
    assert "is there already" in stderr_of(broker("export", "/dev/full", "--data", copy), 1)
    tamper(copy, f"UPDATE records SET data = '\"{'x' * 100_000}\"' WHERE number = 5")

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = broker("export", tmp_path / "more.ndjson", "--data", copy, before=bound)
    assert stderr_of(done, 1) == f"Error: cannot write {tmp_path / 'more.ndjson'}: File too large\n"
    tamper(copy, "UPDATE records SET uuid = x'00' WHERE number = 5")
    done = broker("export", tmp_path / "more.ndjson", "--data", copy)
    assert "record 5 cannot be read" in stderr_of(done, 1)
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
