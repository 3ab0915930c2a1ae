"""What happens to the disk: full, read-only, locked, gone, replaced, damaged. Streams stay open, nothing is lost."""

from __future__ import annotations

import base64
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import ServerProcess, StreamReader, streaming, wait_for

DATA = base64.b64encode(random.Random(1).randbytes(15_000)).decode()  # PostgreSQL would compress what repeats
may_mount = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount a small disk; a limit of file size is tried"
)


@contextmanager
def a_small_disk(disk: Path, megabytes: int) -> Iterator[Path]:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with a_small_disk(tmp_path / "disk", megabytes=4) as disk:
        yield disk


class Inserts:
    """Inserts one numbered record after the other, and keeps what was acknowledged."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.acknowledged: list[int] = []
        self._next = 0

    def one(self) -> httpx.Response:
        answer = self.client.post("/insert", json={"event": "e", "data": [self._next, DATA]})
        if answer.status_code == 201:
            self.acknowledged.append(self._next)
        self._next += 1
        return answer

    def until_refused(self) -> httpx.Response:
        for _ in range(1_000):
            if (answer := self.one()).status_code != 201:
                return answer
        raise AssertionError("nothing was refused")

    def until_stored(self) -> None:
        wait_for(lambda: self.one().status_code == 201, what="an insert is stored again")


def check_all_there(server: ServerProcess, client: httpx.Client, inserts: Inserts, reader: StreamReader) -> None:
    """What was acknowledged is in the log once, and was streamed once, in order; nothing refused went out before it."""
    logged = [record["data"][0] for record in client.get("/collections/e").json()]
    assert len(logged) == len(set(logged))
    assert set(inserts.acknowledged) <= set(logged)
    wait_for(lambda: len(reader.records()) >= len(logged))
    assert [json.loads(frame.data)[0] for frame in reader.records()] == logged
    assert [frame.position for frame in reader.records()] == list(range(1, len(logged) + 1))
    assert not reader.ended
    assert server.process.poll() is None


def told(server: ServerProcess, text: str) -> list[str]:
    return [line for line in server.log if text in line]


@contextmanager
def room_taken(disk: Path, left: int) -> Iterator[None]:
    """Takes all but so many bytes of the disk; gives them back at the end."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - left))
    try:
        yield
    finally:
        filler.unlink()


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


def check_full(server: ServerProcess, full: Callable[[], Any]) -> None:
    with server, server.client("ada") as client, streaming(server) as reader:
        inserts = Inserts(client)
        inserts.until_stored()
        with full():
            answer = inserts.until_refused()
            assert answer.status_code == 507
            assert "full" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert inserts.one().status_code == 507
            assert client.get("/collections/e").status_code == 200  # reading goes on
            with streaming(server) as newcomer:
                newcomer.wait("$ready")
        inserts.until_stored()
        check_all_there(server, client, inserts, reader)
        assert len(told(server, "the disk is full")) == 1  # one line, not one for each refusal
        wait_for(lambda: told(server, "it works again"))  # its log is read by a thread
        assert not told(server, "Traceback")


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
