"""What happens to the disk: full, read-only, locked, gone, replaced, damaged. Streams stay open, nothing is lost."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.disk import Inserts, a_small_disk, check_all_there, check_full, may_mount, room_taken, told
from tests.support.servers import ServerProcess, streaming, wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with a_small_disk(tmp_path / "disk", megabytes=4) as disk:
        yield disk


@contextmanager
def files_limited(server: ServerProcess) -> Iterator[None]:
    """No file may grow by more than half a megabyte."""
    size = max(each.stat().st_size for each in server.data.glob("broker.db*"))
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size + 500_000, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


@may_mount
def test_a_full_disk_refuses_with_507_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    check_full(ServerProcess(small_disk), lambda: room_taken(small_disk, 400_000))


def test_a_limit_of_file_size_is_a_full_disk(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    check_full(server, lambda: files_limited(server))


@may_mount
def test_a_read_only_disk_is_refused_at_start(small_disk: Path) -> None:
    with ServerProcess(small_disk) as server, server.client("ada") as client:
        Inserts(client).until_stored()
        server.stop()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(AssertionError, match=r"cannot use .*broker\.db.*[Rr]ead-only"):
        ServerProcess(small_disk).start()


def check_refused_while(inserts: Inserts, trouble: Callable[[], Any], server: ServerProcess) -> None:
    with trouble():
        answer = inserts.until_refused()
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        with streaming(server) as newcomer:  # the snapshot is in memory
            newcomer.wait("$ready")
        with ThreadPoolExecutor(8) as readers:  # every thread of the server's
            answers = list(readers.map(lambda n: inserts.client.get("/collections/e").status_code, range(40)))
        assert set(answers) <= {200, 503}
    inserts.until_stored()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def moved_away(file: Path) -> Iterator[None]:
    file.rename(file.with_name("elsewhere"))
    try:
        yield
    finally:
        file.with_name("elsewhere").rename(file)


@contextmanager
def replaced(file: Path) -> Iterator[None]:
    with moved_away(file):
        file.write_bytes(file.with_name("elsewhere").read_bytes())  # a copy: not the file that the server has open
        yield


@contextmanager
def replaced_by_nothing(file: Path) -> Iterator[None]:
    with moved_away(file):
        file.touch()
        yield


@contextmanager
def replaced_by_garbage(file: Path) -> Iterator[None]:
    with moved_away(file):
        file.write_bytes(b"garbage" * 10_000)
        yield


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        (locked, "broker.db"),
        (moved_away, "broker.db"),
        (moved_away, "broker.db-wal"),
        (replaced, "broker.db"),
        (replaced_by_nothing, "broker.db"),
        (replaced_by_garbage, "broker.db"),
    ],
    ids=["locked by another program", "removed", "its write-ahead log removed", "replaced", "emptied", "overwritten"],
)
def test_a_database_out_of_reach_refuses_and_goes_on_when_it_is_back(
    tmp_path: Path, trouble: Callable[[Path], Any], name: str
) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client, streaming(server) as reader:
        inserts = Inserts(client)
        inserts.until_stored()
        check_refused_while(inserts, lambda: trouble(tmp_path / name), server)
        check_all_there(server, client, inserts, reader)
        wait_for(lambda: told(server, "it works again"))  # its log is read by a thread
        assert not told(server, "Traceback")


def test_a_database_that_was_removed_is_not_made_anew_by_a_running_server(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        Inserts(client).until_stored()
        with moved_away(tmp_path / "broker.db"):
            for _ in range(40):  # each of the reader threads, often
                answer = client.get("/collections/e")
                assert answer.status_code in (200, 503)
                assert answer.headers["content-type"].endswith("json")
            assert not (tmp_path / "broker.db").exists()


def test_once_damage_is_seen_nothing_more_is_acknowledged(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client, streaming(server) as reader:
        inserts = Inserts(client)
        for _ in range(300):  # more than the write-ahead log keeps
            inserts.until_stored()
        with (tmp_path / "broker.db").open("r+b") as file:
            file.seek(4_096)
            file.write(b"\xee" * 4_000_000)
        # The writer has the pages that it needs in its cache. A reader finds out, which is enough.
        try:
            assert client.get("/collections/e").status_code == 503
        except httpx.RemoteProtocolError:  # half an answer was cut off
            assert client.get("/collections/e").status_code == 503
        for _ in range(3):
            answer = inserts.one()
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert client.get("/readyz").status_code == 503
        with streaming(server) as newcomer:
            newcomer.wait("$ready")
        assert [json.loads(frame.data)[0] for frame in reader.records()] == inserts.acknowledged
        assert not reader.ended
        assert len(told(server, "broker verify")) == 1
        assert not told(server, "works again")
        assert not told(server, "Traceback")


@pytest.mark.parametrize("damage", ["no database", "a page", "the latest", "cut short"])
def test_a_damaged_database_is_refused_at_start_with_what_to_do(tmp_path: Path, damage: str) -> None:
    with ServerProcess(tmp_path) as server, server.client("ada") as client:
        inserts = Inserts(client)
        for _ in range(1 if damage != "the latest" else 300):
            inserts.until_stored()
        server.stop()
    file = tmp_path / "broker.db"
    content = file.read_bytes()
    if damage == "no database":
        file.write_bytes(b"not a database" * 1_000)
    elif damage == "a page":
        file.write_bytes(content[:4096] + bytes(4096 * 10) + content[4096 * 11 :])
    elif damage == "the latest":
        file.write_bytes(content[:-1_000_000] + b"\xee" * 1_000_000)
    else:
        file.write_bytes(content[: len(content) // 2])
    damaged = file.read_bytes()
    with pytest.raises(AssertionError, match=r"(?s)damaged.*broker verify.*broker restore"):
        ServerProcess(tmp_path).start()
    assert file.read_bytes() == damaged, "it is as it was, for those who look into it"
